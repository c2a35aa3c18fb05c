//! Results and dead letters to their topics, acknowledgements counted per epoch.

use std::{
    cell::RefCell,
    collections::VecDeque,
    ffi::{CString, c_void},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kilter_engine::{
    EpochNumber,
    epoch::{Cut, DeadLetter},
    result::{ResultRecord, ResultSink},
    wait::Waker,
};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message, bindings as ffi,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError as ClientError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use super::{
    client::{Voice, remind},
    dead_letter::{self, Names},
    error::{KafkaError, failed},
    receipts::Receipts,
    settings::KafkaSettings,
    unanswered::Reminder,
};
use crate::json::write_result;

/// How many epochs may wait for acknowledgements; more than a shard has parts.
const EPOCHS: usize = 16;

/// What the topic's largest record must have room for besides a dead letter's value.
const LETTER_MARGIN_BYTES: usize = 16 << 10;

/// How often the broker's answers are looked at while the producer's queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// librdkafka's RD_KAFKA_PARTITION_UA: the partitioner chooses.
const PARTITION_BY_KEY: i32 = -1;

/// Publishes to Kafka. Never waits for a broker, except while its queue is full.
pub struct KafkaSink {
    // Before the producer, which must outlive it.
    results_topic: TopicHandle,
    producer: BaseProducer<Deliveries>,
    names: Names,
    results: String,
    letter_max_bytes: usize,
    outage_limit: Duration,
    brokers: String,
    reminder: RefCell<Reminder>,
    line: Vec<u8>,
    letter: Vec<u8>,
    /// Epochs that have ended and are not durable, in order.
    ended: VecDeque<EpochNumber>,
    /// Which counter the present epoch has.
    counter: usize,
    durable: Option<EpochNumber>,
    _waker: Option<Box<Waker>>,
}

/// A topic of a producer. Producing by it saves a look-up by name, which takes locks, for each of
/// the many results; dead letters, which have headers, are rare.
struct TopicHandle(*mut ffi::rd_kafka_topic_t);

// SAFETY: librdkafka's topics may be used from any thread.
unsafe impl Send for TopicHandle {}

impl TopicHandle {
    /// The topic with the producer's own properties. The producer must outlive it.
    fn of(producer: &BaseProducer<Deliveries>, name: &str) -> Result<Self, KafkaError> {
        const WHAT: &str = "name the result topic";
        let name = CString::new(name).map_err(failed(WHAT))?;
        // SAFETY: client and name are alive; without a configuration the topic has that of the
        // client.
        let topic = unsafe {
            ffi::rd_kafka_topic_new(
                producer.client().native_ptr(),
                name.as_ptr(),
                std::ptr::null_mut(),
            )
        };
        if topic.is_null() {
            return Err(failed(WHAT)("librdkafka refuses it"));
        }
        Ok(Self(topic))
    }

    /// Hands a record over; key and value are copied.
    fn produce(&self, key: &[u8], value: &[u8], opaque: usize) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: the topic is alive; librdkafka copies both, and does not write to the value
        // although it takes it as mutable; the opaque is a number that comes back as it is.
        unsafe {
            let code = ffi::rd_kafka_produce(
                self.0,
                PARTITION_BY_KEY,
                ffi::RD_KAFKA_MSG_F_COPY,
                value.as_ptr().cast_mut().cast::<c_void>(),
                value.len(),
                key.as_ptr().cast::<c_void>(),
                key.len(),
                std::ptr::without_provenance_mut(opaque),
            );
            if code == 0 {
                Ok(())
            } else {
                Err(ffi::rd_kafka_last_error().into())
            }
        }
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: made in `of`, given back once, while the client is alive.
        unsafe { ffi::rd_kafka_topic_destroy(self.0) };
    }
}

/// Counts answers, called from within `poll`.
struct Deliveries {
    voice: Voice,
    receipts: Arc<Receipts>,
    outstanding: [AtomicU64; EPOCHS],
    failure: Mutex<Option<(bool, String)>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.voice.error(error, reason);
    }
}

/// The opaque of a message: the counter of its epoch, and whether it is a dead letter.
fn opaque(counter: usize, is_letter: bool) -> usize {
    counter << 1 | usize::from(is_letter)
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        match result {
            Ok(_) => {
                // Relaxed: only the polling thread, which sent it, counts.
                self.outstanding[opaque >> 1].fetch_sub(1, Ordering::Relaxed);
                self.receipts.acknowledged();
            }
            Err((error, message)) => {
                let mut failure = self.failure.lock();
                failure.get_or_insert_with(|| {
                    let key = message.key().map(String::from_utf8_lossy);
                    let why = format!("{error} (user {})", key.as_deref().unwrap_or("unknown"));
                    (opaque & 1 == 1, why)
                });
            }
        }
    }
}

impl KafkaSink {
    /// A producer of its own. `letter_topic_max_bytes` is the largest record that the dead-letter
    /// topic takes. `publisher` is woken when answers have come in. Whoever keeps `receipts`, too,
    /// can find that none will come any more.
    ///
    /// # Errors
    ///
    /// When a property is refused.
    pub fn new(
        settings: &KafkaSettings,
        letter_topic_max_bytes: usize,
        publisher: Option<Waker>,
        receipts: Arc<Receipts>,
    ) -> Result<Self, KafkaError> {
        settings.check()?;
        let mut config = settings.producer();
        // The topic has the last word, and a letter is cut to it; librdkafka's own limit must
        // only not be lower.
        if config.get("message.max.bytes").is_none() {
            config.set(
                "message.max.bytes",
                (letter_topic_max_bytes.clamp(1_000_000, 100_000_000)).to_string(),
            );
        }
        let deliveries = Deliveries {
            voice: Voice::default(),
            receipts,
            outstanding: Default::default(),
            failure: Mutex::default(),
        };
        let producer: BaseProducer<Deliveries> =
            BaseProducer::from_config_and_context(&config, deliveries)
                .map_err(failed("make a producer"))?;
        let waker = publisher.map(Box::new);
        if let Some(waker) = &waker {
            let address = std::ptr::from_ref::<Waker>(waker)
                .cast_mut()
                .cast::<c_void>();
            // SAFETY: the client is alive; the waker's address stays the same and it is dropped
            // behind the producer, by the order of the fields, so that no thread calls it then.
            unsafe {
                let queue = ffi::rd_kafka_queue_get_main(producer.client().native_ptr());
                ffi::rd_kafka_queue_cb_event_enable(queue, Some(ring), address);
                ffi::rd_kafka_queue_destroy(queue);
            }
        }
        Ok(Self {
            results_topic: TopicHandle::of(&producer, &settings.results)?,
            producer,
            names: Names {
                commands: settings.commands.clone(),
                dead_letters: settings.dead_letters.clone(),
            },
            results: settings.results.clone(),
            letter_max_bytes: letter_topic_max_bytes
                .saturating_sub(LETTER_MARGIN_BYTES)
                .max(LETTER_MARGIN_BYTES),
            outage_limit: settings.outage_limit,
            brokers: settings.brokers.clone(),
            reminder: RefCell::default(),
            line: Vec::new(),
            letter: Vec::new(),
            ended: VecDeque::new(),
            counter: 0,
            durable: None,
            _waker: waker,
        })
    }

    fn publish_letter(&mut self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let mut bytes = std::mem::take(&mut self.letter);
        let cut = dead_letter::spell(&self.names, letter, self.letter_max_bytes, &mut bytes);
        let headers = dead_letter::headers(&self.names, letter, !cut);
        let mut record =
            BaseRecord::with_opaque_to(&self.names.dead_letters, opaque(self.counter, true))
                .key(&letter.key[..])
                .payload(&bytes[..])
                .headers(headers);
        if kilter_engine::headers::Headers(&letter.headers).has_no_key() {
            record.key = None;
        }
        let sent = self.send_letter(record);
        self.letter = bytes;
        sent?;
        self.count();
        Ok(())
    }

    /// Hands a letter to the producer; while its queue is full, waits for answers, up to the limit.
    /// Counting comes after: answers are looked at by this thread only, in `poll`, and a full queue
    /// holds nothing of what was not handed over.
    fn send_letter(&self, record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), KafkaError> {
        let mut record = record;
        let mut since: Option<Instant> = None;
        loop {
            let Err((error, same)) = self.producer.send(record) else {
                return Ok(());
            };
            let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            let since = *since.get_or_insert_with(Instant::now);
            if !full || since.elapsed() >= self.outage_limit {
                return Err(KafkaError::NotAcknowledged {
                    what: "a dead letter",
                    topic: self.names.dead_letters.clone(),
                    why: error.to_string(),
                });
            }
            record = same;
            self.listen(FULL_PAUSE)?;
        }
    }

    fn publish_result(&mut self, result: &ResultRecord) -> Result<(), KafkaError> {
        self.line.clear();
        write_result(result, &mut self.line);
        let opaque = opaque(self.counter, false);
        let mut since: Option<Instant> = None;
        loop {
            let key = result.user_id.as_str().as_bytes();
            let Err(error) = self.results_topic.produce(key, &self.line, opaque) else {
                break;
            };
            let since = *since.get_or_insert_with(Instant::now);
            if error != RDKafkaErrorCode::QueueFull || since.elapsed() >= self.outage_limit {
                return Err(KafkaError::NotAcknowledged {
                    what: "a result",
                    topic: self.results.clone(),
                    why: error.to_string(),
                });
            }
            self.listen(FULL_PAUSE)?;
        }
        self.count();
        Ok(())
    }

    fn count(&self) {
        let context = self.producer.context();
        context.outstanding[self.counter].fetch_add(1, Ordering::Relaxed);
        context.receipts.handed();
    }

    /// Lets answers come in, waiting at most so long for the first.
    fn listen(&self, wait: Duration) -> Result<(), KafkaError> {
        self.producer.poll(wait);
        let (handed, acknowledged) = self.producer.context().receipts.counts();
        if handed > acknowledged {
            let now = Instant::now();
            let mut reminder = self.reminder.borrow_mut();
            if reminder.is_due(now, handed, acknowledged) {
                remind(self.producer.client(), &self.brokers);
            }
        }
        self.heed_failures()
    }

    fn heed_failures(&self) -> Result<(), KafkaError> {
        if let Some((is_letter, why)) = self.producer.context().failure.lock().take() {
            let (what, topic) = if is_letter {
                ("a dead letter", &self.names.dead_letters)
            } else {
                ("a result", &self.results)
            };
            return Err(KafkaError::NotAcknowledged {
                what,
                topic: topic.clone(),
                why,
            });
        }
        let fatal = self.producer.client().fatal_error();
        let fatal = fatal.map(|(code, why)| format!("{code}: {why}"));
        match fatal.or_else(|| self.producer.context().receipts.lost()) {
            Some(why) => Err(KafkaError::Client {
                what: "produce any more",
                why,
            }),
            None => Ok(()),
        }
    }
}

impl ResultSink for KafkaSink {
    type Error = KafkaError;

    fn result(&mut self, result: &ResultRecord) -> Result<(), KafkaError> {
        if let Some(letter) = &result.dead_letter {
            self.publish_letter(letter)?;
        }
        // What cannot be addressed has a dead letter only.
        if result.addressed {
            self.publish_result(result)?;
        }
        Ok(())
    }

    fn end(&mut self, cut: &Cut) -> Result<(), KafkaError> {
        self.ended.push_back(cut.epoch);
        assert!(
            self.ended.len() < EPOCHS,
            "more epochs than shards have parts"
        );
        self.counter = (self.counter + 1) % EPOCHS;
        Ok(())
    }

    fn durable(&mut self) -> Result<Option<EpochNumber>, KafkaError> {
        self.listen(Duration::ZERO)?;
        while let Some(epoch) = self.ended.front() {
            let counter = (self.counter + EPOCHS - self.ended.len()) % EPOCHS;
            if self.producer.context().outstanding[counter].load(Ordering::Relaxed) > 0 {
                break;
            }
            self.durable = Some(*epoch);
            self.ended.pop_front();
        }
        Ok(self.durable)
    }
}

/// Called by librdkafka's threads when the queue is not empty any more.
unsafe extern "C" fn ring(_client: *mut ffi::rd_kafka_t, waker: *mut c_void) {
    // SAFETY: the address given when this was enabled; the waker outlives the client.
    let waker = unsafe { &*waker.cast::<Waker>() };
    waker.wake();
}
