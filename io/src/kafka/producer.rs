//! Commands to the log, for demos, loads and tools: what a client of the log does.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kilter_engine::{Offset, Partition};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError as ClientError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use super::{
    client::Voice,
    error::{KafkaError, failed},
    settings::KafkaSettings,
};

#[derive(Default)]
struct Answers {
    voice: Voice,
    answered: AtomicU64,
    /// The last offset of each partition that was given to a command.
    last: Mutex<BTreeMap<i32, i64>>,
    failure: Mutex<Option<String>>,
}

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.voice.error(error, reason);
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let mut last = self.last.lock();
                let held = last.entry(message.partition()).or_default();
                *held = message.offset().max(*held);
                drop(last);
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.failure.lock().get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Produces to the command topic: idempotent, in order, each key to its partition.
pub struct CommandProducer {
    producer: Arc<BaseProducer<Answers>>,
    topic: String,
    limit: Duration,
    sent: u64,
}

impl CommandProducer {
    /// A producer of its own.
    ///
    /// # Errors
    ///
    /// When a property is refused.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        settings.check()?;
        let producer =
            BaseProducer::from_config_and_context(&settings.producer(), Answers::default())
                .map_err(failed("make a producer"))?;
        Ok(Self {
            producer: Arc::new(producer),
            topic: settings.commands.clone(),
            limit: settings.outage_limit,
            sent: 0,
        })
    }

    /// Hands a command over; while the queue is full, waits for answers.
    ///
    /// # Errors
    ///
    /// When it, or one before it, is not taken.
    pub fn send(&mut self, key: &[u8], value: &[u8]) -> Result<(), KafkaError> {
        let mut record = BaseRecord::to(&self.topic).key(key).payload(value);
        let since = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((error, same)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !full || since.elapsed() >= self.limit {
                        return Err(failed("produce a command")(error));
                    }
                    record = same;
                    self.producer.poll(Duration::from_millis(5));
                }
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(64) {
            self.poll()?;
        }
        Ok(())
    }

    /// Looks at answers, without waiting.
    ///
    /// # Errors
    ///
    /// When a command was not taken.
    pub fn poll(&self) -> Result<(), KafkaError> {
        self.producer.poll(Duration::ZERO);
        match self.producer.context().failure.lock().take() {
            Some(why) => Err(failed("produce a command")(why)),
            None => Ok(()),
        }
    }

    /// How many were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.producer.context().answered.load(Ordering::Relaxed)
    }

    /// Behind the last command of each partition that was acknowledged.
    pub fn ends(&self) -> Vec<(Partition, Offset)> {
        let last = self.producer.context().last.lock();
        last.iter()
            .map(|(partition, offset)| {
                (
                    Partition::new(*partition as u32),
                    Offset::new(*offset as u64 + 1),
                )
            })
            .collect()
    }

    /// Waits until all that was handed over is acknowledged.
    ///
    /// # Errors
    ///
    /// When one was not taken, or it takes too long.
    pub fn finish(&mut self, limit: Duration) -> Result<(), KafkaError> {
        let since = Instant::now();
        while self.acknowledged() < self.sent {
            self.producer.poll(Duration::from_millis(10));
            self.poll()?;
            if since.elapsed() >= limit {
                return Err(KafkaError::Client {
                    what: "produce commands",
                    why: format!(
                        "{} of {} were acknowledged within {} s",
                        self.acknowledged(),
                        self.sent,
                        limit.as_secs()
                    ),
                });
            }
        }
        Ok(())
    }
}
