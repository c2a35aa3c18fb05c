//! The threads that make requests durable in the embedded log: one decides and commits, and while the
//! disk has that, it commits what came meanwhile.

mod syncer;

use std::{sync::Arc, time::Instant};

use crossbeam::channel::{Sender, bounded};
use kilter_engine::{agent::Agent, clock::Clock, wait::Waker};
use parking_lot::Mutex;

pub use self::syncer::EmbeddedSyncer;
use self::syncer::{Batch, Finisher};
use super::{Door, DoorLimits, Intake, OutboxError, door};
use crate::embedded::{CommandLog, DataDir, StoreReader};

/// The most requests in one transaction, and their memory in bytes.
const BATCH_MAX: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// How many batches may be committed and not durable, besides those that the disk has.
const COMMITTED_MAX: usize = 1;

/// Accepts into the log.
pub struct EmbeddedAcceptor<C> {
    intake: Intake,
    log: Arc<Mutex<CommandLog>>,
    store: StoreReader,
    committed: Sender<Batch>,
    syncer: Waker,
    finisher: Finisher,
    clock: C,
    done: bool,
}

/// Whom the threads of a door wake.
#[derive(Clone, Debug)]
pub struct Wakers {
    /// The thread that runs the acceptor.
    pub acceptor: Waker,
    /// The one that runs the syncer.
    pub syncer: Waker,
    /// The one that reads the log.
    pub poller: Waker,
}

/// The front door of a directory: where requests go in, and the two threads behind it. Once the door
/// is closed they end, and what waits is answered. What is answered lies where the poller reads, and
/// on the disk.
///
/// # Errors
///
/// When the store cannot be read.
pub fn embedded_door<C: Clock>(
    dir: &DataDir,
    log: Arc<Mutex<CommandLog>>,
    limits: DoorLimits,
    clock: C,
    wakers: Wakers,
) -> Result<(Door, EmbeddedAcceptor<C>, EmbeddedSyncer), OutboxError> {
    let (door, intake) = door(limits, wakers.acceptor.clone());
    let (committed, batches) = bounded(COMMITTED_MAX);
    let finisher = Finisher::new(
        Arc::clone(log.lock().sync()),
        Arc::clone(door.counters()),
        wakers.poller,
    );
    let syncer = EmbeddedSyncer::new(batches, finisher.clone(), wakers.acceptor);
    let acceptor = EmbeddedAcceptor {
        intake,
        log,
        store: StoreReader::open(dir)?,
        committed,
        syncer: wakers.syncer,
        finisher,
        clock,
        done: false,
    };
    Ok((door, acceptor, syncer))
}

impl<C: Clock> Agent for EmbeddedAcceptor<C> {
    type Error = OutboxError;

    fn role(&self) -> &str {
        "outbox-accept"
    }

    fn do_work(&mut self) -> Result<usize, OutboxError> {
        // What waits goes together; it is taken when there is room for what comes of it.
        if self.committed.is_full() {
            return Ok(0);
        }
        let requests = self.intake.take(BATCH_MAX, BATCH_BYTES);
        if requests.is_empty() {
            self.done = self.intake.is_finished();
            return Ok(0);
        }
        let count = requests.len();
        let since = Instant::now();
        let accepted = self.log.lock().accept(
            &self.store,
            requests.iter().map(|submitted| &submitted.request),
            self.clock.wall_ms(),
        );
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                syncer::refuse(requests, &error);
                return Err(error.into());
            }
        };
        tracing::trace!(
            count,
            took_us = since.elapsed().as_micros() as u64,
            "accepted"
        );
        let batch = Batch { requests, accepted };
        if self.intake.is_empty() && self.finisher.is_idle() {
            // Nobody else would use the time.
            self.finisher.finish(vec![batch])?;
            return Ok(count);
        }
        self.finisher.expect();
        if self.committed.send(batch).is_err() {
            // The syncer failed, and has told why; the batch's end answers its requests.
            self.done = true;
        }
        self.syncer.wake();
        Ok(count)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
