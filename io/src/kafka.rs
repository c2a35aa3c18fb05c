//! The log in Kafka: commands in, results and dead letters out.
//!
//! librdkafka does the talking; its consumer hands over whole batches with borrowed payloads, and
//! its idempotent producer counts acknowledgements per epoch. Offsets live in the store; the
//! group's offsets in Kafka are for lag tools only.

mod admin;
#[allow(unsafe_code, reason = "CPU masks are the C library's")]
mod affinity;
#[allow(unsafe_code, reason = "records are borrowed from librdkafka")]
mod batch;
mod claimer;
#[allow(
    unsafe_code,
    reason = "librdkafka is asked what its Rust interface does not ask"
)]
mod client;
mod dead_letter;
mod error;
mod events;
#[allow(unsafe_code, reason = "as in `client`")]
mod identity;
mod log;
mod producer;
mod receipts;
mod results;
mod settings;
#[allow(unsafe_code, reason = "as in `client`")]
mod sink;
mod topic_ends;
mod topic_ledger;
mod topic_reader;
mod unanswered;
mod watch;

pub use admin::{Admin, TopicReport};
pub use affinity::off_cores;
pub use claimer::Claimer;
pub use client::CommandConsumer;
pub use error::KafkaError;
pub use events::{Acknowledged, Event, EventProducer, NotHanded};
pub use identity::{LogIdentity, PartitionRange, is_known};
pub use log::{KafkaLog, LogStart};
pub use producer::CommandProducer;
pub use receipts::Receipts;
pub use results::{ResultsReader, SeenResult};
pub use settings::KafkaSettings;
pub use sink::KafkaSink;
pub use topic_ends::TopicEnds;
pub use topic_ledger::TopicLedger;
pub use topic_reader::{TopicReader, TopicValue};
pub use watch::LogWatch;
