//! Topics: made, and checked. What exists is never changed.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::Thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    config::FromClientConfigAndContext,
    types::RDKafkaErrorCode,
};

use super::{
    client::{REQUEST_TIMEOUT, Voice},
    error::{KafkaError, failed},
    settings::KafkaSettings,
};

/// A dead letter holds a whole record and its description.
const DEAD_LETTER_MAX_BYTES: &str = "4194304";

/// The longest wait for a topic that was made to be known.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What was found of a topic, or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReport {
    /// The topic.
    pub topic: String,
    /// Whether it was made just now.
    pub made: bool,
    /// How many partitions it has.
    pub partitions: u32,
    /// The largest record it takes, in bytes.
    pub max_message_bytes: usize,
}

/// Makes and checks topics.
pub struct Admin {
    client: AdminClient<Voice>,
    settings: KafkaSettings,
}

impl Admin {
    /// A client that knows the brokers.
    ///
    /// # Errors
    ///
    /// When a property is refused.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        settings.check()?;
        let client = AdminClient::from_config_and_context(&settings.admin(), Voice::default())
            .map_err(failed("make an admin client"))?;
        Ok(Self {
            client,
            settings: settings.clone(),
        })
    }

    /// Makes the three topics where they are missing, and checks those that are there.
    ///
    /// # Errors
    ///
    /// When a topic cannot be made, or one that is there is not as it must be.
    pub fn init(&self, partitions: u32, replication: u32) -> Result<Vec<TopicReport>, KafkaError> {
        let mut reports = Vec::new();
        for topic in self.topics() {
            let made = match self.partitions(&topic)? {
                Some(_) => false,
                None => {
                    self.make(&topic, partitions, replication)?;
                    true
                }
            };
            let mut report = self.check(&topic)?;
            report.made = made;
            reports.push(report);
        }
        Ok(reports)
    }

    /// Checks the three topics.
    ///
    /// # Errors
    ///
    /// When one is missing, or not as it must be.
    pub fn check_all(&self) -> Result<Vec<TopicReport>, KafkaError> {
        self.topics()
            .iter()
            .map(|topic| self.check(topic))
            .collect()
    }

    fn topics(&self) -> [String; 3] {
        [
            self.settings.commands.clone(),
            self.settings.results.clone(),
            self.settings.dead_letters.clone(),
        ]
    }

    fn options() -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(REQUEST_TIMEOUT))
            .operation_timeout(Some(REQUEST_TIMEOUT))
    }

    fn make(&self, topic: &str, partitions: u32, replication: u32) -> Result<(), KafkaError> {
        let mut new = NewTopic::new(
            topic,
            partitions as i32,
            TopicReplication::Fixed(replication as i32),
        )
        .set("message.timestamp.type", "LogAppendTime")
        .set("cleanup.policy", "delete");
        if topic == self.settings.commands {
            // What was never applied must not be thrown away by age; the operator decides.
            new = new.set("retention.ms", "-1").set("retention.bytes", "-1");
        }
        if topic == self.settings.dead_letters {
            new = new.set("max.message.bytes", DEAD_LETTER_MAX_BYTES);
        }
        let made = block_on(self.client.create_topics([&new], &Self::options()))
            .map_err(failed("make a topic"))?;
        for result in made {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(KafkaError::Client {
                        what: "make a topic",
                        why: format!("{name}: {code}"),
                    });
                }
            }
        }
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while self.partitions(topic)?.is_none() {
            if Instant::now() >= deadline {
                return Err(KafkaError::Client {
                    what: "make a topic",
                    why: format!("{topic} was made and is still not there"),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How many partitions a topic has; `None` if it is not there.
    fn partitions(&self, topic: &str) -> Result<Option<u32>, KafkaError> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .map_err(failed("read which topics there are"))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(found
            .filter(|found| found.error().is_none())
            .map(|found| found.partitions().len() as u32)
            .filter(|count| *count > 0))
    }

    fn check(&self, topic: &str) -> Result<TopicReport, KafkaError> {
        let Some(partitions) = self.partitions(topic)? else {
            return Err(KafkaError::NoTopic {
                topic: topic.to_owned(),
            });
        };
        let resource = ResourceSpecifier::Topic(topic);
        let described = block_on(self.client.describe_configs([&resource], &Self::options()))
            .map_err(failed("read a topic's settings"))?;
        let mut values: HashMap<String, String> = HashMap::new();
        for result in described {
            let config = result.map_err(failed("read a topic's settings"))?;
            for entry in config.entries {
                values.insert(entry.name, entry.value.unwrap_or_default());
            }
        }
        if topic == self.settings.commands {
            self.require(
                topic,
                &values,
                "message.timestamp.type",
                "LogAppendTime",
                "the idempotency window goes by the log's time, and a producer's time can be any",
            )?;
            self.require(
                topic,
                &values,
                "cleanup.policy",
                "delete",
                "compaction throws away commands that were never applied",
            )?;
        }
        let max = values
            .get("max.message.bytes")
            .and_then(|text| text.parse().ok());
        Ok(TopicReport {
            topic: topic.to_owned(),
            made: false,
            partitions,
            max_message_bytes: max.unwrap_or(1_000_000),
        })
    }

    fn require(
        &self,
        topic: &str,
        values: &HashMap<String, String>,
        setting: &'static str,
        needed: &'static str,
        why: &'static str,
    ) -> Result<(), KafkaError> {
        match values.get(setting) {
            Some(found) if found == needed => Ok(()),
            found => Err(KafkaError::TopicSetting {
                topic: topic.to_owned(),
                setting,
                found: found.cloned().unwrap_or_else(|| "unknown".into()),
                needed,
                why,
            }),
        }
    }
}

/// Waits for a future on this thread. librdkafka's own threads complete it, within the timeouts of
/// the request.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
}
