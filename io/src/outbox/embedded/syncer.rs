//! The thread that waits for the disk, and then answers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crossbeam::channel::{Receiver, TryRecvError};
use kilter_engine::{agent::Agent, wait::Waker};

use crate::{
    embedded::{Accepted, EmbeddedError, LogSync},
    outbox::{Admitted, DoorError, OutboxCounters, OutboxError, Submitted, acceptor::answer_all},
};

/// Requests that are committed, and what they are to be answered.
pub(super) struct Batch {
    pub(super) requests: Vec<Submitted>,
    pub(super) accepted: Accepted,
}

/// Makes batches durable and answers them, on whatever thread.
#[derive(Clone)]
pub(super) struct Finisher {
    sync: Arc<LogSync>,
    counters: Arc<OutboxCounters>,
    /// Reads the log.
    poller: Waker,
    /// Batches that a syncer was given and has not answered.
    open: Arc<AtomicUsize>,
}

impl Finisher {
    pub(super) fn new(sync: Arc<LogSync>, counters: Arc<OutboxCounters>, poller: Waker) -> Self {
        Self {
            sync,
            counters,
            poller,
            open: Arc::default(),
        }
    }

    /// Whether the syncer has nothing. Relaxed, here and below: nothing is ordered by it.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// The syncer is given a batch.
    pub(super) fn expect(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    fn done(&self, batches: usize) {
        self.open.fetch_sub(batches, Ordering::Relaxed);
    }

    /// Waits for the disk, for all of them together, and answers.
    pub(super) fn finish(&self, batches: Vec<Batch>) -> Result<(), OutboxError> {
        let end = batches.iter().map(|batch| batch.accepted.end).max();
        if let Some(Err(error)) = end.map(|end| self.sync.sync(end)) {
            for batch in batches {
                refuse(batch.requests, &error);
            }
            return Err(error.into());
        }
        self.poller.wake();
        for Batch { requests, accepted } in batches {
            let made = self.count(&accepted.answers);
            answer_all(
                requests
                    .into_iter()
                    .zip(accepted.answers.into_iter().map(Ok)),
            );
            if made > 0 {
                self.counters.batches.fetch_add(1, Ordering::Relaxed);
                self.counters.last_batch.store(made, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn count(&self, answers: &[Admitted]) -> u64 {
        let counters = &self.counters;
        let mut made = 0;
        for answer in answers {
            let counter = match answer {
                Admitted::Accepted { .. } => {
                    made += 1;
                    &counters.created
                }
                Admitted::Duplicate { .. } => &counters.duplicates,
                Admitted::Conflict { .. } => &counters.conflicts,
                _ => &counters.account_refusals,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        made
    }
}

/// Answers that the log cannot be written.
pub(super) fn refuse(requests: Vec<Submitted>, error: &EmbeddedError) {
    let why = error.to_string();
    for submitted in requests {
        submitted.answer(Err(DoorError::Unavailable { why: why.clone() }));
    }
}

/// Waits for the disk while the acceptor commits the next batch.
pub struct EmbeddedSyncer {
    batches: Receiver<Batch>,
    finisher: Finisher,
    acceptor: Waker,
    done: bool,
}

impl EmbeddedSyncer {
    pub(super) fn new(batches: Receiver<Batch>, finisher: Finisher, acceptor: Waker) -> Self {
        Self {
            batches,
            finisher,
            acceptor,
            done: false,
        }
    }
}

impl Agent for EmbeddedSyncer {
    type Error = OutboxError;

    fn role(&self) -> &str {
        "outbox-sync"
    }

    fn do_work(&mut self) -> Result<usize, OutboxError> {
        let mut taken = Vec::new();
        loop {
            match self.batches.try_recv() {
                Ok(batch) => taken.push(batch),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.done = true;
                    break;
                }
            }
        }
        let count = taken.len();
        if count > 0 {
            // There is room now.
            self.acceptor.wake();
            self.finisher.finish(taken)?;
            self.finisher.done(count);
        }
        Ok(count)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
