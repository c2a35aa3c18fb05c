//! What can go wrong with the log.

use kilter_engine::{Offset, Partition};

use crate::mysql::MysqlError;

/// Why the log cannot be used. What stops a node names the command that gets on.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// librdkafka refuses or cannot.
    #[error("Kafka: cannot {what}: {why}")]
    Client {
        /// What was tried.
        what: &'static str,
        /// Its reason.
        why: String,
    },
    /// A property that exactness rests on.
    #[error("kafka.properties.{name} is {value:?}, but must be {only:?}: exactness rests on it")]
    FixedProperty {
        /// The property.
        name: String,
        /// The value asked for.
        value: String,
        /// The only one that there is.
        only: &'static str,
    },
    /// A property that has a setting of its own.
    #[error("kafka.properties.{name}: set kafka.brokers, kafka.group or kafka.client_id instead")]
    OwnProperty {
        /// The property.
        name: String,
    },
    /// A topic is not there.
    #[error("the topic {topic:?} is not there; make it with: kilter init")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// A topic is not set up as it must be.
    #[error("the topic {topic:?} has {setting}={found}, but must have {setting}={needed}: {why}")]
    TopicSetting {
        /// The topic.
        topic: String,
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        needed: &'static str,
        /// Why.
        why: &'static str,
    },
    /// The log is not the one that the offsets count in.
    #[error(
        "this is not the log that the store's offsets count in: {what}. If the broker or topic is \
         wrong, mend the configuration. If this log is to be read from now on, adopt it from a \
         stated offset, as a new generation: kilter log adopt --from OFFSET|earliest|latest \
         --reason TEXT"
    )]
    OtherLog {
        /// What differs.
        what: String,
    },
    /// Records that were not applied are gone.
    #[error(
        "partition {partition}: the next record to be applied is offset {offset}, but the log \
         {what}: records that were never applied may be lost. Restore them, or go on without \
         them: kilter log adopt --from OFFSET|earliest|latest --reason TEXT"
    )]
    OutOfRange {
        /// The partition.
        partition: Partition,
        /// The next offset to apply.
        offset: Offset,
        /// Where the log begins or ends.
        what: String,
    },
    /// A record whose time is its producer's.
    #[error(
        "partition {partition} offset {offset}: its time was set by its producer. Only the log's \
         own time can be relied on: set message.timestamp.type=LogAppendTime for the topic \
         {topic:?}. Records that lie there already keep their time: adopt the log behind them, or \
         have each refused (kilter log refuse)"
    )]
    ProducersTime {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
    },
    /// A result or dead letter was not taken.
    #[error("{what} to {topic:?} was not acknowledged: {why}; its epoch is not committed")]
    NotAcknowledged {
        /// A result or a dead letter.
        what: &'static str,
        /// The topic.
        topic: String,
        /// Why.
        why: String,
    },
    /// The store, while accounts were claimed.
    #[error("accounts cannot be claimed")]
    Claims(#[source] MysqlError),
    /// Something on the result topic is not what this program writes.
    #[error(
        "the topic {topic:?} holds something else than results at partition {partition} offset {offset}: {why}"
    )]
    NotAResult {
        /// The topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// Why.
        why: String,
    },
}

/// For `map_err`: what was tried.
pub(super) fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> KafkaError + Copy {
    move |error| KafkaError::Client {
        what,
        why: error.to_string(),
    }
}
