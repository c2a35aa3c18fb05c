//! Looks after the log while it is read: whether it is still the same, and how far behind we are.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_engine::{Offset, Partition};
use parking_lot::Mutex;

use super::{client::CommandConsumer, error::KafkaError, identity::LogIdentity};

/// How long a client may hear of no broker before another one is tried in its place.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// To be asked now and then from a thread of its own: it waits for brokers.
pub struct LogWatch {
    consumer: Arc<CommandConsumer>,
    identity: LogIdentity,
    verdict: Arc<Mutex<Option<KafkaError>>>,
    /// Since when no broker answers.
    away: Mutex<Option<Instant>>,
}

impl LogWatch {
    /// A watcher over the log of this identity. What it finds wrong it leaves in `verdict`, where
    /// [`KafkaLog`](super::KafkaLog) meets it.
    pub fn new(
        consumer: Arc<CommandConsumer>,
        identity: LogIdentity,
        verdict: Arc<Mutex<Option<KafkaError>>>,
    ) -> Self {
        Self {
            consumer,
            identity,
            verdict,
            away: Mutex::new(None),
        }
    }

    /// Asks whether the log is still the same. A broker that does not answer says nothing, for as
    /// long as an outage may last. A client that has lost its brokers for good is of no use sooner:
    /// librdkafka 2.12 does so when the only broker leaves the cluster for a moment.
    pub fn check(&self) {
        let found = match self.consumer.identity() {
            Ok(found) => found,
            Err(KafkaError::NoTopic { topic }) => {
                *self.verdict.lock() = Some(KafkaError::OtherLog {
                    what: format!("the topic {topic:?} was deleted while it was read"),
                });
                return;
            }
            Err(error) => {
                if let Some(why) = self.is_lost() {
                    *self.verdict.lock() = Some(KafkaError::Client {
                        what: "read the log any more",
                        why: format!("{why}: {error}"),
                    });
                }
                return;
            }
        };
        *self.away.lock() = None;
        if let Some(what) = difference(&self.identity, &found) {
            *self.verdict.lock() = Some(KafkaError::OtherLog { what });
        }
    }

    /// Why this client is of no use any more, if that is so.
    fn is_lost(&self) -> Option<String> {
        let away = self.away.lock().get_or_insert_with(Instant::now).elapsed();
        if away >= self.consumer.outage_limit() {
            return Some(format!("no broker has answered for {} s", away.as_secs()));
        }
        let is_found = away >= LOST_AFTER && self.consumer.is_there_for_another();
        is_found.then(|| "this client has lost its brokers, which answer another one".to_owned())
    }

    /// Tells Kafka how far the group is, for lag tools.
    pub fn commit(&self, offsets: &[(Partition, Offset)]) {
        self.consumer.commit_for_lag(offsets);
    }

    /// Where a partition is that is committed up to `offset`: past what holds no record.
    pub fn effective(&self, partition: Partition, offset: Offset) -> u64 {
        self.consumer.effective(partition, offset)
    }

    /// The log's end, as last heard.
    pub fn end(&self, partition: Partition) -> Option<u64> {
        self.consumer.cached_range(partition).map(|(_, end)| end)
    }
}

/// What tells one log from another, in words.
pub(super) fn difference(known: &LogIdentity, found: &LogIdentity) -> Option<String> {
    if known.cluster_id != found.cluster_id {
        return Some(format!(
            "it is in the cluster {:?}, the offsets count in {:?}",
            found.cluster_id, known.cluster_id
        ));
    }
    if known.topic_id != found.topic_id {
        return Some(format!(
            "the topic was deleted and made again: its id is {:?}, it was {:?}",
            found.topic_id, known.topic_id
        ));
    }
    if known.partitions != found.partitions {
        return Some(format!(
            "the topic has {} partitions, it had {}: users would move to other partitions",
            found.partitions, known.partitions
        ));
    }
    None
}

impl LogIdentity {
    /// Refuses another log than this one.
    ///
    /// # Errors
    ///
    /// [`KafkaError::OtherLog`].
    pub fn expect(&self, found: &Self) -> Result<(), KafkaError> {
        match difference(self, found) {
            Some(what) => Err(KafkaError::OtherLog { what }),
            None => Ok(()),
        }
    }
}
