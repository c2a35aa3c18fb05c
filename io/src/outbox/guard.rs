//! Whether the log that a process produces to is still the one that the store knows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use kilter_engine::agent::Agent;

use super::{OutboxError, OutboxSettings};
use crate::{
    kafka::{CommandConsumer, KafkaError, LogIdentity},
    mysql::{Db, KnownLog, MysqlError, known_log},
};

/// Ends with the reason when what is produced would go to another log than the store's offsets
/// count in. On a thread of its own: it waits for brokers.
pub struct LogGuard {
    settings: OutboxSettings,
    consumer: Arc<CommandConsumer>,
    db: Option<Db>,
    /// The log as it was first seen, while the store knows none.
    first: Option<LogIdentity>,
    generation: Option<u32>,
    next: Instant,
    stop: Arc<AtomicBool>,
    done: bool,
}

impl LogGuard {
    /// A guard of the log of these settings. It ends when `stop` is set.
    ///
    /// # Errors
    ///
    /// When a property of the log's client is refused.
    pub fn new(settings: OutboxSettings, stop: Arc<AtomicBool>) -> Result<Self, OutboxError> {
        Ok(Self {
            consumer: CommandConsumer::new(&settings.kafka)?,
            settings,
            db: None,
            first: None,
            generation: None,
            next: Instant::now(),
            stop,
            done: false,
        })
    }

    /// Asks brokers and store now. One that does not answer says nothing.
    ///
    /// # Errors
    ///
    /// [`KafkaError::OtherLog`] and [`MysqlError::Adopted`]: nothing more may be produced.
    pub fn check(&mut self) -> Result<(), OutboxError> {
        let found = match self.consumer.identity() {
            Ok(found) => found,
            Err(KafkaError::NoTopic { topic }) => {
                return Err(other(format!("the topic {topic:?} was deleted")));
            }
            Err(error) => {
                tracing::debug!("which log it is cannot be asked: {error}");
                return Ok(());
            }
        };
        let known = match self.known() {
            Ok(known) => known,
            Err(error) if error.is_passing() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Before the first node starts there is none, and the first one has the number 1.
        let theirs = known.as_ref().map_or(1, |log| log.generation.get());
        let ours = *self.generation.get_or_insert(theirs);
        if ours != theirs {
            return Err(MysqlError::Adopted { ours, theirs }.into());
        }
        let known = match known {
            Some(log) => LogIdentity {
                cluster_id: log.cluster_id,
                topic_id: log.topic_id,
                partitions: log.partitions,
            },
            None => self.first.get_or_insert_with(|| found.clone()).clone(),
        };
        Ok(known.expect(&found)?)
    }

    fn known(&mut self) -> Result<Option<KnownLog>, MysqlError> {
        let mut db = match self.db.take() {
            Some(db) => db,
            None => Db::open(&self.settings.impatient())?,
        };
        let known = known_log(&mut db);
        if !known.as_ref().is_err_and(MysqlError::is_lost) {
            self.db = Some(db);
        }
        known
    }
}

fn other(what: String) -> OutboxError {
    KafkaError::OtherLog { what }.into()
}

impl Agent for LogGuard {
    type Error = OutboxError;

    fn role(&self) -> &str {
        "outbox-guard"
    }

    fn do_work(&mut self) -> Result<usize, OutboxError> {
        self.done = self.stop.load(Ordering::Acquire);
        if self.done || Instant::now() < self.next {
            return Ok(0);
        }
        self.check()?;
        self.next = Instant::now() + self.settings.guard_interval;
        Ok(0)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
