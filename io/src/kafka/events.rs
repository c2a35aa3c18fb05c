//! Events of the outbox to the command topic, and what the brokers say to each.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use kilter_engine::{Offset, Partition};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError as ClientError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use super::{
    client::{Voice, remind},
    error::{KafkaError, failed},
    settings::KafkaSettings,
    unanswered::{Reminder, Unanswered, are_led},
};

/// An event as it goes to the log.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its row's id, by which the answer is known.
    pub id: u64,
    /// Its name for ever.
    pub event_id: &'a str,
    /// The user.
    pub key: &'a [u8],
    /// The client's id.
    pub transaction_id: &'a [u8],
    /// When it was issued, in ms since 1970.
    pub issued_at_ms: i64,
    /// The command.
    pub payload: &'a str,
}

/// The log has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The event's row.
    pub id: u64,
    /// The partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
    /// The log's time of the record, if it tells one, in ms since 1970.
    pub timestamp_ms: Option<i64>,
}

/// Why an event was not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHanded {
    /// The queue is full: brokers are away or slow.
    Full,
    /// The client does not take it.
    Refused(String),
}

#[derive(Default)]
struct Answers {
    voice: Voice,
    acknowledged: Mutex<Vec<Acknowledged>>,
    answered: AtomicU64,
    /// Rows that were not taken, and why; the first is the one at fault, if any is.
    failed: Mutex<Vec<(u64, String)>>,
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
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, id: usize) {
        match result {
            // A retry whose first try the broker had, and whose place it does not tell any more.
            Ok(message) if message.offset() < 0 => {
                let why = "acknowledged without its offset".to_owned();
                self.failed.lock().push((id as u64, why));
            }
            Ok(message) => self.acknowledged.lock().push(Acknowledged {
                id: id as u64,
                partition: Partition::new(message.partition() as u32),
                offset: Offset::new(message.offset() as u64),
                timestamp_ms: message.timestamp().to_millis().filter(|ms| *ms >= 0),
            }),
            Err((error, _)) => self.failed.lock().push((id as u64, error.to_string())),
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Produces events: idempotent, acknowledged by all replicas, never given up, and without gaps: an
/// event that is not taken ends this producer, so that nothing behind it overtakes it.
pub struct EventProducer {
    producer: BaseProducer<Answers>,
    settings: KafkaSettings,
    handed: u64,
    reminder: Reminder,
    unanswered: Unanswered,
}

impl EventProducer {
    /// A producer of its own, with room for so many events that are not acknowledged.
    ///
    /// # Errors
    ///
    /// When a property is refused.
    pub fn new(settings: &KafkaSettings, in_flight_max: usize) -> Result<Self, KafkaError> {
        settings.check()?;
        let mut config = settings.producer();
        config.set("message.timeout.ms", "0");
        config.set("enable.gapless.guarantee", "true");
        config.set("queue.buffering.max.messages", in_flight_max.to_string());
        let producer = BaseProducer::from_config_and_context(&config, Answers::default())
            .map_err(failed("make a producer"))?;
        Ok(Self {
            producer,
            settings: settings.clone(),
            handed: 0,
            reminder: Reminder::default(),
            unanswered: Unanswered::default(),
        })
    }

    /// Hands an event over; never waits.
    ///
    /// # Errors
    ///
    /// [`NotHanded`]: nothing comes of this call.
    pub fn produce(&mut self, event: &Event<'_>) -> Result<(), NotHanded> {
        let issued_at = event.issued_at_ms.to_string();
        let header = |key, value| Header {
            key,
            value: Some(value),
        };
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(header("eventId", event.event_id.as_bytes()))
            .insert(header("transactionId", event.transaction_id))
            .insert(header("issuedAt", issued_at.as_bytes()));
        let record = BaseRecord::with_opaque_to(&self.settings.commands, event.id as usize)
            .key(event.key)
            .payload(event.payload)
            .headers(headers);
        match self.producer.send(record) {
            Ok(()) => {
                self.handed += 1;
                Ok(())
            }
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                Err(NotHanded::Full)
            }
            Err((error, _)) => Err(NotHanded::Refused(error.to_string())),
        }
    }

    /// Lets answers come in, waiting at most so long for the first.
    pub fn poll(&self, timeout: Duration) {
        self.producer.poll(timeout);
    }

    /// How many events have no answer.
    pub fn in_flight(&self) -> u64 {
        self.handed - self.producer.context().answered.load(Ordering::Relaxed)
    }

    /// Moves the acknowledgements that came in behind those in `to`.
    pub fn acknowledged(&self, to: &mut Vec<Acknowledged>) {
        to.append(&mut self.producer.context().acknowledged.lock());
    }

    /// The rows that were not taken, and why; no row has the id 0. If there are any, this producer is
    /// of no use any more, and what it has in flight is unknown. Waits a few seconds for brokers if
    /// they have not answered for long.
    pub fn failures(&mut self) -> Vec<(u64, String)> {
        let mut failed = std::mem::take(&mut *self.producer.context().failed.lock());
        if failed.is_empty() {
            let fatal = self.producer.client().fatal_error();
            let why = fatal.map(|(_, why)| why).or_else(|| self.silence());
            failed.extend(why.map(|why| (0, why)));
        }
        failed
    }

    /// Why nothing more is to be expected of the brokers, if that is so.
    fn silence(&mut self) -> Option<String> {
        let (now, handed) = (Instant::now(), self.handed);
        let answered = self.producer.context().answered.load(Ordering::Relaxed);
        if self.reminder.is_due(now, handed, answered) {
            remind(self.producer.client(), &self.settings.brokers);
        }
        let are_there = || are_led(&self.settings, &[&self.settings.commands]);
        self.unanswered.look(now, handed, answered, are_there)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[test]
    fn one_that_has_no_broker_is_told_where_they_are() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("commands", 1, 1).unwrap();
        let mut settings = KafkaSettings::new("127.0.0.1:1");
        settings.commands = "commands".into();
        let mut producer = EventProducer::new(&settings, 10).unwrap();
        let event = Event {
            id: 7,
            event_id: "e",
            key: b"ann",
            transaction_id: b"t",
            issued_at_ms: 1,
            payload: "{}",
        };
        producer.produce(&event).unwrap();
        // All that it knows by itself is an address where nobody is.
        producer.settings.brokers = cluster.bootstrap_servers();
        let since = Instant::now();
        while producer.in_flight() > 0 {
            assert!(since.elapsed() < Duration::from_secs(60), "it was not told");
            producer.poll(Duration::from_millis(50));
            assert_eq!(producer.failures(), []);
        }
        let mut acknowledged = Vec::new();
        producer.acknowledged(&mut acknowledged);
        assert_eq!(acknowledged.iter().map(|it| it.id).collect::<Vec<_>>(), [7]);
    }
}
