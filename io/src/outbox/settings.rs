//! How the outbox of a MySQL store behaves.

use std::time::Duration;

use crate::{kafka::KafkaSettings, mysql::MysqlSettings};

/// Everything that the outbox's threads are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// The store.
    pub mysql: MysqlSettings,
    /// The log; its group is the one whose offsets the store has.
    pub kafka: KafkaSettings,
    /// How many partitions the command topic has, while the store does not know.
    pub partitions: u32,
    /// The idempotency window, in ms, while the store does not know.
    pub window_ms: u64,
    /// Whether the ledger is in the store. Without, nothing is issued anew: nobody could tell
    /// whether it took effect.
    pub ledger: bool,
    /// The most requests in one transaction.
    pub batch_max: usize,
    /// The most memory of one transaction's requests, in bytes; well below the server's
    /// `max_allowed_packet`.
    pub batch_bytes: usize,
    /// About how many accounts are remembered with their users.
    pub accounts_max: usize,
    /// How long a request waits for the store before it is answered that it is unavailable.
    pub answer_limit: Duration,
    /// The most events that are handed to the log and not acknowledged, by each thread.
    pub in_flight_max: usize,
    /// How old an event is before a relay of another process than its door's looks after it; twice as
    /// old behind one that the relay has under way.
    pub relay_delay: Duration,
    /// How often it is asked whether the log is still the same.
    pub guard_interval: Duration,
    /// How often the relay looks for events.
    pub look_interval: Duration,
    /// How long a relay's lease lasts when it is not renewed.
    pub lease_ttl: Duration,
    /// The most ranges, of 8, that this process relays.
    pub ranges_max: u32,
    /// How long the relay waits for an acknowledgement before it notes a failed try, and how long an
    /// event is left to its door by the relay of the same process.
    pub ack_limit: Duration,
    /// After how many failed tries an event shows as FAILED. It is still tried.
    pub tries: u32,
    /// How often the fate of an event that may have expired is looked up.
    pub judge_interval: Duration,
    /// How old payloads are before they are dropped; never less than the window.
    pub trim_age: Duration,
    /// How often a bite of payloads is dropped, and how many rows it has.
    pub trim_interval: Duration,
    /// How many rows a bite has.
    pub trim_bite: u32,
    /// How long after one round over all rows the next one begins, at what the last one had to
    /// leave behind.
    pub trim_round: Duration,
}

impl OutboxSettings {
    /// The defaults for a store and a log.
    pub fn new(mysql: MysqlSettings, kafka: KafkaSettings, partitions: u32) -> Self {
        Self {
            mysql,
            kafka,
            partitions,
            window_ms: 86_400_000,
            ledger: true,
            batch_max: 1000,
            batch_bytes: 4 << 20,
            accounts_max: 1 << 18,
            answer_limit: Duration::from_secs(5),
            in_flight_max: 10_000,
            relay_delay: Duration::from_millis(500),
            guard_interval: Duration::from_secs(2),
            look_interval: Duration::from_millis(25),
            lease_ttl: Duration::from_secs(5),
            ranges_max: 8,
            ack_limit: Duration::from_secs(30),
            tries: 10,
            judge_interval: Duration::from_secs(1),
            trim_age: Duration::from_secs(7 * 86_400),
            trim_interval: Duration::from_secs(1),
            trim_bite: 500,
            trim_round: Duration::from_secs(86_400),
        }
    }

    /// The store's settings for a thread that somebody waits for.
    pub(super) fn impatient(&self) -> MysqlSettings {
        MysqlSettings {
            connect_timeout: self.mysql.connect_timeout.min(self.answer_limit),
            statement_timeout: self.mysql.statement_timeout.min(self.answer_limit),
            lock_timeout: Duration::from_secs(1),
            ..self.mysql.clone()
        }
    }
}

/// Why a thread of the outbox ended.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The store refuses, and will refuse again.
    #[error(transparent)]
    Mysql(#[from] crate::mysql::MysqlError),
    /// The log's client refuses.
    #[error(transparent)]
    Kafka(#[from] crate::kafka::KafkaError),
    /// The data directory.
    #[error(transparent)]
    Embedded(#[from] crate::embedded::EmbeddedError),
}
