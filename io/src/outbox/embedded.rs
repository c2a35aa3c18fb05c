//! The thread that makes requests durable in the embedded log.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use kilter_engine::{agent::Agent, clock::Clock, wait::Waker};
use parking_lot::Mutex;

use super::{
    Admitted, Door, DoorError, DoorLimits, Intake, OutboxError, acceptor::answer_all, door,
};
use crate::embedded::{CommandLog, DataDir, StoreReader};

/// The most requests in one transaction, and their memory in bytes.
const BATCH_MAX: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// Accepts into the log: what is answered lies where the poller reads.
pub struct EmbeddedAcceptor<C> {
    intake: Intake,
    log: Arc<Mutex<CommandLog>>,
    store: StoreReader,
    /// Reads the log.
    poller: Waker,
    clock: C,
    done: bool,
}

/// The front door of a directory: where requests go in, and the thread behind it. Once the door is
/// closed the thread ends, and what waits is answered.
///
/// `accepts` wakes the thread that runs the acceptor, `poller` the one that reads the log.
///
/// # Errors
///
/// When the store cannot be read.
pub fn embedded_door<C: Clock>(
    dir: &DataDir,
    log: Arc<Mutex<CommandLog>>,
    limits: DoorLimits,
    clock: C,
    accepts: Waker,
    poller: Waker,
) -> Result<(Door, EmbeddedAcceptor<C>), OutboxError> {
    let (door, intake) = door(limits, accepts);
    let acceptor = EmbeddedAcceptor {
        intake,
        log,
        store: StoreReader::open(dir)?,
        poller,
        clock,
        done: false,
    };
    Ok((door, acceptor))
}

impl<C: Clock> Agent for EmbeddedAcceptor<C> {
    type Error = OutboxError;

    fn role(&self) -> &str {
        "outbox-accept"
    }

    fn do_work(&mut self) -> Result<usize, OutboxError> {
        let batch = self.intake.take(BATCH_MAX, BATCH_BYTES);
        if batch.is_empty() {
            self.done = self.intake.is_finished();
            return Ok(0);
        }
        let count = batch.len();
        let since = Instant::now();
        let requests = batch.iter().map(|submitted| &submitted.request);
        let accepted = self
            .log
            .lock()
            .accept(&self.store, requests, self.clock.wall_ms());
        let answers = match accepted {
            Ok(answers) => answers,
            Err(error) => {
                let why = error.to_string();
                for submitted in batch {
                    submitted.answer(Err(DoorError::Unavailable { why: why.clone() }));
                }
                return Err(error.into());
            }
        };
        self.poller.wake();
        tracing::trace!(
            count,
            took_us = since.elapsed().as_micros() as u64,
            "accepted"
        );
        let counters = self.intake.counters();
        let mut made = 0;
        for answer in &answers {
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
        answer_all(batch.into_iter().zip(answers.into_iter().map(Ok)));
        if made > 0 {
            counters.batches.fetch_add(1, Ordering::Relaxed);
            counters.last_batch.store(made, Ordering::Relaxed);
        }
        Ok(count)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
