//! What was made durable, on its way to the thread that produces it.

use std::{collections::VecDeque, sync::Arc};

use kilter_engine::wait::Waker;
use parking_lot::Mutex;

use super::hands::Hands;
use crate::mysql::outbox::Made;

/// The most rows that wait, and their memory in bytes; past it nothing more is accepted.
const ROWS_MAX: usize = 2_000;
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Vec<Made>>,
    rows: usize,
    bytes: usize,
    closed: bool,
}

/// A queue of batches, in the order of their transactions. Losing what is in it loses nothing: the
/// relay finds it in the store.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    waiting: Arc<Mutex<Waiting>>,
    hands: Hands,
    waker: Waker,
}

impl Handover {
    /// `waker` wakes whoever takes.
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            waiting: Arc::default(),
            hands: Hands::default(),
            waker,
        }
    }

    /// Has what is put in, until whoever takes is done with it.
    pub(super) fn hands(&self) -> &Hands {
        &self.hands
    }

    /// Whether whoever accepts has to wait.
    pub(super) fn is_full(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.rows >= ROWS_MAX || waiting.bytes >= BYTES_MAX
    }

    pub(super) fn put(&self, batch: Vec<Made>) {
        if batch.is_empty() {
            return;
        }
        self.hands
            .take(batch.iter().map(|made| made.event_id.as_str()));
        let mut waiting = self.waiting.lock();
        waiting.rows += batch.len();
        waiting.bytes += bytes(&batch);
        waiting.batches.push_back(batch);
        drop(waiting);
        self.waker.wake();
    }

    pub(super) fn take(&self) -> Option<Vec<Made>> {
        self.take_up_to(usize::MAX)
    }

    /// As [`Handover::take`], if it has no more rows than this.
    pub(super) fn take_up_to(&self, rows: usize) -> Option<Vec<Made>> {
        let mut waiting = self.waiting.lock();
        let batch = waiting.batches.pop_front_if(|batch| batch.len() <= rows)?;
        waiting.rows -= batch.len();
        waiting.bytes -= bytes(&batch);
        Some(batch)
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.waker.wake();
    }

    /// Whether nothing more will come and nothing waits.
    pub(super) fn is_finished(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.closed && waiting.batches.is_empty()
    }
}

fn bytes(batch: &[Made]) -> usize {
    batch.iter().map(Made::bytes).sum()
}

#[cfg(test)]
mod tests {
    use kilter_engine::wait::{WaitStrategy, waiter};

    use super::*;

    fn batch(rows: usize, payload_bytes: usize) -> Vec<Made> {
        let made = |number| Made {
            event_id: format!("e-{number}"),
            user: "u-1".into(),
            transaction_id: format!("t-{number}"),
            payload: "x".repeat(payload_bytes),
            issued_at_ms: 0,
        };
        (0..rows).map(made).collect()
    }

    #[test]
    fn whoever_accepts_waits_for_number_and_memory() {
        for (rows, payload_bytes) in [(ROWS_MAX / 2, 10), (4, BYTES_MAX / 8)] {
            let (_idle, waker) = waiter(WaitStrategy::Park);
            let handover = Handover::new(waker);
            handover.put(batch(rows, payload_bytes));
            assert!(!handover.is_full());
            handover.put(batch(rows, payload_bytes));
            assert!(handover.is_full());
            assert!(handover.take_up_to(rows - 1).is_none());
            assert_eq!(handover.take().map(|taken| taken.len()), Some(rows));
            assert!(!handover.is_full());
            handover.close();
            assert!(!handover.is_finished());
            assert!(handover.take_up_to(rows).is_some());
            assert!(handover.is_finished());
        }
    }
}
