//! Forgetting in step with the clock.

use super::Window;
use super::clock::{Expired, SWEEP};
use crate::prefetch::prefetch;

/// How many lines ahead of the sweep a line is fetched: slices are short, and a processor's own
/// prefetching starts anew with each.
const FAR_LINES: u64 = 24;
/// How many lines ahead of the sweep a line is read, for the line it overflowed into.
const NEAR_LINES: u64 = 8;

impl Window {
    /// Moves the clock to another time.
    pub(super) fn advance_to(&mut self, now_ms: u64) {
        let before_ms = self.clock.now_ms();
        assert!(
            now_ms > before_ms,
            "the clock went back from {before_ms} to {now_ms} ms"
        );
        let jump = self.clock.generations_to(now_ms);
        let sweep_ms = self.clock.sweep_ms();
        if self.held == 0 || jump >= SWEEP {
            // Entries are decoded by the clock before the jump, which knows their generations.
            if self.held != 0 {
                self.swept = 0;
                self.sweep_to(self.lines.heads(), jump);
            }
            self.swept = 0;
            self.pass_start_ms = now_ms;
        } else {
            // A jump of less than 8 generations ends one pass, or two if it is just below.
            while now_ms - self.pass_start_ms >= sweep_ms {
                self.sweep_to(self.lines.heads(), jump);
                self.swept = 0;
                self.pass_start_ms += sweep_ms;
            }
            let elapsed = u128::from(now_ms - self.pass_start_ms);
            let due = u128::from(self.lines.heads()) * elapsed / u128::from(sweep_ms);
            self.sweep_to(due as u64, jump);
        }
        self.clock.set(now_ms);
    }

    /// Sweeps the lines from where the sweep is to `end`, of what will be dead `jump` generations
    /// from now.
    fn sweep_to(&mut self, end: u64, jump: u64) {
        let expired = self.clock.expired(jump);
        while self.swept < end {
            let head = self.swept;
            self.swept += 1;
            self.look_ahead(head);
            let line = self.lines.head_mut(head);
            match line.next() {
                None => self.held -= line.sweep(expired),
                Some(_) if self.has_expired(head, expired) => self.rebuild(head, expired),
                Some(_) => {}
            }
        }
    }

    /// Brings near what the sweep comes to soon: in this slice, or in the next one.
    #[inline]
    fn look_ahead(&self, head: u64) {
        let heads = self.lines.heads();
        if head + FAR_LINES < heads {
            prefetch(self.lines.head(head + FAR_LINES));
        }
        if head + NEAR_LINES < heads
            && let Some(spill) = self.lines.head(head + NEAR_LINES).next()
        {
            prefetch(self.lines.spill(spill));
        }
    }

    /// Whether anything in a chain has expired.
    fn has_expired(&self, head: u64, expired: Expired) -> bool {
        let mut line = self.lines.head(head);
        loop {
            if line.expired(expired).is_some() {
                return true;
            }
            match line.next() {
                Some(spill) => line = self.lines.spill(spill),
                None => return false,
            }
        }
    }
}
