//! How to reach Kafka, and which topics are whose.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::ClientConfig;

use super::error::KafkaError;

/// Brokers, topics, and whatever else librdkafka is told.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, several with commas between.
    pub brokers: String,
    /// How we call ourselves.
    pub client_id: String,
    /// The consumer group: it only hears of offsets.
    pub group: String,
    /// The command topic.
    pub commands: String,
    /// The result topic.
    pub results: String,
    /// The dead-letter topic.
    pub dead_letters: String,
    /// librdkafka's properties; they win over our defaults. `consumer.` or `producer.` in front
    /// of a name gives it to that client only.
    pub properties: BTreeMap<String, String>,
    /// How long a broker that does not acknowledge is waited for.
    pub outage_limit: Duration,
}

/// What exactness rests on, and nobody may set otherwise.
const FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("request.required.acks", "-1"),
    ("enable.gapless.guarantee", "false"),
    ("enable.partition.eof", "true"),
];

/// For latency: an empty fetch waits at the broker, where a record ends the wait at once; after a
/// full queue fetching goes on at once. A little linger saves the broker so much work that the
/// tail gets shorter.
const CONSUMER: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("enable.partition.eof", "true"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.queue.backoff.ms", "1"),
    ("fetch.error.backoff.ms", "50"),
    ("queued.max.messages.kbytes", "32768"),
    ("max.poll.interval.ms", "86400000"),
];

const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("linger.ms", "1"),
    ("queue.buffering.max.messages", "500000"),
    ("queue.buffering.max.kbytes", "131072"),
    ("partitioner", "murmur2_random"),
    ("retry.backoff.ms", "20"),
    ("retry.backoff.max.ms", "500"),
];

const COMMON: &[(&str, &str)] = &[
    ("allow.auto.create.topics", "false"),
    ("enable.metrics.push", "false"),
    ("reconnect.backoff.ms", "20"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.nagle.disable", "true"),
    ("topic.metadata.refresh.interval.ms", "5000"),
];

impl KafkaSettings {
    /// Settings for these brokers, with the topics' own names.
    pub fn new(brokers: &str) -> Self {
        Self {
            brokers: brokers.into(),
            client_id: "kilter".into(),
            group: "balance-consumer-group".into(),
            commands: "balance-changes".into(),
            results: "balance-results".into(),
            dead_letters: "balance-changes-dlq".into(),
            properties: BTreeMap::new(),
            outage_limit: Duration::from_secs(600),
        }
    }

    /// Refuses properties that exactness rests on.
    ///
    /// # Errors
    ///
    /// [`KafkaError::FixedProperty`].
    pub fn check(&self) -> Result<(), KafkaError> {
        for (name, value) in &self.properties {
            let bare = bare(name);
            let fixed = FIXED.iter().find(|(fixed, _)| *fixed == bare);
            if let Some((_, only)) = fixed
                && value != only
                && !(bare == "acks" && value == "-1")
            {
                return Err(KafkaError::FixedProperty {
                    name: name.clone(),
                    value: value.clone(),
                    only,
                });
            }
            if ["bootstrap.servers", "group.id", "client.id"].contains(&bare) {
                return Err(KafkaError::OwnProperty { name: name.clone() });
            }
        }
        Ok(())
    }

    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = self.common("consumer.", CONSUMER);
        config.set("group.id", &self.group);
        config
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.common("producer.", PRODUCER);
        // A message that is given up was not acknowledged for as long as an outage may last.
        config.set(
            "message.timeout.ms",
            self.outage_limit.as_millis().to_string(),
        );
        config
    }

    pub(super) fn admin(&self) -> ClientConfig {
        self.common("admin.", &[])
    }

    fn common(&self, own: &str, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", &self.client_id);
        for (name, value) in COMMON.iter().chain(defaults) {
            config.set(*name, *value);
        }
        self.overlay(&mut config, own);
        config
    }

    fn overlay(&self, config: &mut ClientConfig, own: &str) {
        for (name, value) in &self.properties {
            let bare = bare(name);
            if bare == name {
                // librdkafka warns of the other client's properties; only a few are at home in one.
                let elsewhere = match own {
                    "producer." => is_consumers(bare),
                    "consumer." => is_producers(bare),
                    _ => is_consumers(bare) || is_producers(bare),
                };
                if !elsewhere {
                    config.set(bare, value);
                }
            } else if name.starts_with(own) {
                config.set(bare, value);
            }
        }
    }
}

fn bare(name: &str) -> &str {
    name.strip_prefix("consumer.")
        .or_else(|| name.strip_prefix("producer."))
        .or_else(|| name.strip_prefix("admin."))
        .unwrap_or(name)
}

fn is_consumers(name: &str) -> bool {
    [
        "fetch.",
        "queued.",
        "check.crcs",
        "max.partition.fetch",
        "session.",
        "heartbeat.",
        "max.poll",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

fn is_producers(name: &str) -> bool {
    [
        "linger.",
        "batch.",
        "queue.buffering",
        "compression",
        "message.timeout",
        "delivery.",
        "partitioner",
        "request.timeout",
        "retries",
        "message.send",
        "sticky.",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Properties may hold passwords.
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("commands", &self.commands)
            .field("results", &self.results)
            .field("dead_letters", &self.dead_letters)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}
