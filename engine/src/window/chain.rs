//! A line and what it overflowed into.

use super::clock::Expired;
use super::line::{ENTRIES, Line, Mark};
use super::{Window, WindowFull};

/// Where a line is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Head(u64),
    Spill(u32),
}

impl Window {
    /// Moves what belongs to the head `new` there from the head `old`, which was split.
    pub(super) fn halve(&mut self, old: u64, new: u64) {
        let expired = self.clock.expired(0);
        let mut line = *self.lines.head(old);
        if line.next().is_some() {
            return self.rebuild(old, expired);
        }
        self.held -= line.sweep(expired);
        let base = self.base(old);
        let mut other = Line::default();
        let mut moved = 0;
        for entry in 0..ENTRIES {
            let (mark, code) = (line.mark(entry), line.code(entry));
            if code != 0 && self.home(base, mark) == new {
                other.put(moved, mark, code);
                line.remove(entry);
                moved += 1;
            }
        }
        *self.lines.head_mut(old) = line;
        *self.lines.head_mut(new) = other;
    }

    /// The bits of a head that its entries do not store.
    fn base(&self, head: u64) -> u64 {
        head & ((1 << self.base_bits) - 1)
    }

    /// The head of an entry.
    fn home(&self, base: u64, mark: Mark) -> u64 {
        self.lines.head_of(base | mark.growth() << self.base_bits)
    }

    /// Puts every entry of a chain that has not expired where it belongs now: back into the chain,
    /// or into that of the line's other half.
    pub(super) fn rebuild(&mut self, head: u64, expired: Expired) {
        let base = self.base(head);
        let mut line = core::mem::take(self.lines.head_mut(head));
        loop {
            let next = line.next();
            self.held -= line.len() as u64;
            line.sweep(expired);
            for entry in 0..ENTRIES {
                let code = line.code(entry);
                if code != 0 {
                    let mark = line.mark(entry);
                    let home = self.home(base, mark);
                    self.push(home, mark, code);
                }
            }
            // Given back before its entries are put: n entries need no more spill lines in two
            // chains than they did in one, so there is always one to spare.
            match next {
                Some(spill) => line = self.lines.give_back(spill),
                None => return,
            }
        }
    }

    /// Puts a mark that is not there into a chain. There is a spill line for it.
    fn push(&mut self, head: u64, mark: Mark, code: u8) {
        let line = self.lines.head_mut(head);
        if let (Some(entry), None) = (line.vacant(), line.next()) {
            line.put(entry, mark, code);
            self.held += 1;
            return;
        }
        let remembered = self.remember(head, mark, code);
        assert!(remembered.is_ok(), "a spill line was given back before");
    }

    /// Remembers a mark in the chain of a head.
    pub(super) fn remember(&mut self, head: u64, mark: Mark, code: u8) -> Result<(), WindowFull> {
        let mut room = None;
        let mut at = Place::Head(head);
        loop {
            let line = self.line(at);
            if let Some(entry) = line.find(mark) {
                let (before, clock) = (line.code(entry), self.clock);
                if !clock.is_alive(before) || clock.age(code) < clock.age(before) {
                    self.line_mut(at).put(entry, mark, code);
                }
                return Ok(());
            }
            if room.is_none() {
                room = line.vacant().map(|entry| (at, entry));
            }
            match line.next() {
                Some(spill) => at = Place::Spill(spill),
                None => break,
            }
        }
        if let Some((at, entry)) = room {
            self.line_mut(at).put(entry, mark, code);
            self.held += 1;
            return Ok(());
        }
        self.squeeze(head, at, mark, code)
    }

    /// Puts a mark into a chain without a vacant entry, whose last line is `last`.
    fn squeeze(&mut self, head: u64, last: Place, mark: Mark, code: u8) -> Result<(), WindowFull> {
        let expired = self.clock.expired(0);
        let mut at = Place::Head(head);
        loop {
            let line = self.line(at);
            if let Some(entry) = line.expired(expired) {
                self.line_mut(at).put(entry, mark, code);
                return Ok(());
            }
            match line.next() {
                Some(spill) => at = Place::Spill(spill),
                None => break,
            }
        }
        if self.lines.spare_spills() == 0 {
            self.add_spills()?;
        }
        let spill = self.lines.take_spill();
        let (moved, moved_code) = self.line_mut(last).link(spill);
        let line = self.lines.spill_mut(spill);
        assert!(line.len() == 0, "a spill line comes empty");
        line.put(0, moved, moved_code);
        line.put(1, mark, code);
        self.held += 1;
        Ok(())
    }

    #[inline]
    fn line(&self, at: Place) -> &Line {
        match at {
            Place::Head(head) => self.lines.head(head),
            Place::Spill(spill) => self.lines.spill(spill),
        }
    }

    #[inline]
    fn line_mut(&mut self, at: Place) -> &mut Line {
        match at {
            Place::Head(head) => self.lines.head_mut(head),
            Place::Spill(spill) => self.lines.spill_mut(spill),
        }
    }
}
