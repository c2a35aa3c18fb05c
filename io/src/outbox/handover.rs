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
