//! The consumer of the command topic, and what its threads have to say.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_void},
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_engine::{Offset, Partition, wait::Waker};
use rdkafka::{
    ClientContext, TopicPartitionList, bindings as ffi,
    client::Client,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError as ClientError, RDKafkaErrorCode},
};

use super::{
    error::{KafkaError, failed},
    settings::KafkaSettings,
};

/// The longest wait for a broker's answer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a client says at most that all brokers are away.
const AWAY_INTERVAL: Duration = Duration::from_secs(60);

/// Tells a client of its brokers once more, which changes nothing for one that knows them.
pub(super) fn remind<C: ClientContext>(client: &Client<C>, brokers: &str) {
    // A name with a NUL was refused when the client was made.
    let Ok(brokers) = CString::new(brokers) else {
        return;
    };
    // SAFETY: client and text are alive; librdkafka copies the text.
    unsafe { ffi::rd_kafka_brokers_add(client.native_ptr(), brokers.as_ptr()) };
}

/// A client of these brokers that asks and reads, apart from all others.
pub(super) fn another(settings: &KafkaSettings) -> Result<BaseConsumer<Voice>, KafkaError> {
    BaseConsumer::from_config_and_context(&settings.consumer(), Voice::default())
        .map_err(failed("make a consumer"))
}

/// What librdkafka's threads say goes to the log of the program.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// When it was told last that all brokers are away.
    away: parking_lot::Mutex<Option<Instant>>,
}

impl ClientContext for Voice {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // Ours, and asked for.
            _ if facility == "CONFWARN" && message.contains("enable.gapless.guarantee") => {}
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        let code = error.rdkafka_error_code();
        // What a reader asked to be told when there is nothing more for now.
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            let mut told = self.away.lock();
            if told.is_some_and(|told| told.elapsed() < AWAY_INTERVAL) {
                return;
            }
            *told = Some(Instant::now());
        }
        tracing::warn!("Kafka: {error}: {reason}");
    }
}

impl ConsumerContext for Voice {
    fn commit_callback(&self, result: Result<(), ClientError>, _offsets: &TopicPartitionList) {
        // Only lag tools read them; the next commit says the same.
        if let Err(error) = result {
            tracing::debug!("the group's offsets were not taken: {error}");
        }
    }
}

/// How far a partition was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Behind the last record that was handed over.
    record: u64,
    /// Where the log ended when there was nothing left to hand over.
    end: u64,
}

/// Where whoever reads stands, when he asked last and got nothing.
#[derive(Debug)]
struct Hungry {
    asked: Instant,
    at: Vec<(Partition, u64)>,
}

/// How long ago he may have asked: one who is held back does not.
const ASKED_LAST: Duration = Duration::from_secs(2);

/// A consumer of the command topic: shared by the poller and by whoever watches.
pub struct CommandConsumer {
    pub(super) consumer: BaseConsumer<Voice>,
    pub(super) topic: String,
    settings: KafkaSettings,
    topic_c: CString,
    /// How far each partition was seen, markers of transactions included.
    seen: parking_lot::Mutex<BTreeMap<u32, Seen>>,
    hungry: parking_lot::Mutex<Option<Hungry>>,
    /// Boxed, because librdkafka's threads keep its address until the client is gone.
    waker: parking_lot::Mutex<Option<Box<Waker>>>,
}

impl CommandConsumer {
    /// A client that knows the brokers; it reads nothing yet.
    ///
    /// # Errors
    ///
    /// When a property is refused.
    pub fn new(settings: &KafkaSettings) -> Result<Arc<Self>, KafkaError> {
        settings.check()?;
        Ok(Arc::new(Self {
            consumer: another(settings)?,
            topic: settings.commands.clone(),
            settings: settings.clone(),
            topic_c: CString::new(settings.commands.as_str())
                .map_err(failed("name the command topic"))?,
            seen: parking_lot::Mutex::new(BTreeMap::new()),
            hungry: parking_lot::Mutex::new(None),
            waker: parking_lot::Mutex::new(None),
        }))
    }

    /// Another client of the same brokers. Assigning and unassigning one again and again trips over
    /// librdkafka's own threads (2.12: an assertion on `rktp_started`), so what is read apart is
    /// read by a client of its own.
    pub(super) fn another(&self) -> Result<BaseConsumer<Voice>, KafkaError> {
        another(&self.settings)
    }

    /// What it was made with.
    pub(super) fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    /// How long brokers may be away.
    pub(super) fn outage_limit(&self) -> std::time::Duration {
        self.settings.outage_limit
    }

    /// Whether brokers tell a new client of the topic.
    pub(super) fn is_there_for_another(&self) -> bool {
        self.another().is_ok_and(|another| {
            another
                .fetch_metadata(Some(&self.topic), REQUEST_TIMEOUT)
                .is_ok_and(|found| {
                    let mut topics = found.topics().iter();
                    topics.any(|topic| topic.error().is_none() && !topic.partitions().is_empty())
                })
        })
    }

    pub(super) fn native(&self) -> *mut ffi::rd_kafka_t {
        self.consumer.client().native_ptr()
    }

    /// Has `waker` woken whenever records have come in.
    pub(super) fn wake(&self, queue: *mut ffi::rd_kafka_queue_t, waker: Waker) {
        let mut held = self.waker.lock();
        let waker = held.insert(Box::new(waker));
        let address = std::ptr::from_ref::<Waker>(waker)
            .cast_mut()
            .cast::<c_void>();
        // SAFETY: the queue is the client's; the waker lives as long as `self`, which outlives
        // the callback: `drop` takes it back first.
        unsafe { ffi::rd_kafka_queue_cb_event_enable(queue, Some(ring), address) };
    }

    /// The log's first offset and its end, as of the last answer that came in; `None` before the
    /// first one. Asks nobody.
    pub fn cached_range(&self, partition: Partition) -> Option<(u64, u64)> {
        let (mut low, mut high) = (0, 0);
        // SAFETY: client and topic are alive, and the numbers are ours.
        let code = unsafe {
            ffi::rd_kafka_get_watermark_offsets(
                self.native(),
                self.topic_c.as_ptr(),
                partition.get() as i32,
                &mut low,
                &mut high,
            )
        };
        let known = code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        match (u64::try_from(low), u64::try_from(high)) {
            (Ok(low), Ok(high)) if known => Some((low, high)),
            _ => None,
        }
    }

    /// There is nothing left to hand over from `record`, behind the last one, up to `end`.
    pub(super) fn saw_end(&self, partition: u32, record: u64, end: u64) {
        self.seen.lock().insert(partition, Seen { record, end });
    }

    /// Where a partition is that is committed up to `offset`: past what holds no record, such as
    /// the markers of transactions, if nothing else lies between.
    pub fn effective(&self, partition: Partition, offset: Offset) -> u64 {
        let seen = self.seen.lock().get(&partition.get()).copied();
        let seen = seen.unwrap_or_default();
        if offset.get() >= seen.record {
            offset.get().max(seen.end)
        } else {
            offset.get()
        }
    }

    /// Whoever reads asked for more and got nothing, or something.
    pub(super) fn asked(&self, nothing_behind: Option<Vec<(Partition, u64)>>) {
        *self.hungry.lock() = nothing_behind.map(|at| Hungry {
            asked: Instant::now(),
            at,
        });
    }

    /// Up to where each partition is read, if whoever reads asks for more and gets nothing.
    pub(super) fn hungry(&self) -> Option<Vec<(Partition, u64)>> {
        let hungry = self.hungry.lock();
        let hungry = hungry.as_ref()?;
        let effective = |&(partition, at)| (partition, self.effective(partition, Offset::new(at)));
        (hungry.asked.elapsed() < ASKED_LAST).then(|| hungry.at.iter().map(effective).collect())
    }

    /// Tells Kafka how far the group is, for lag tools. Does not wait.
    pub fn commit_for_lag(&self, offsets: &[(Partition, Offset)]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            let at = rdkafka::Offset::Offset(offset.get() as i64);
            let added = list.add_partition_offset(&self.topic, partition.get() as i32, at);
            debug_assert!(added.is_ok(), "an offset below 2^63");
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!("the group's offsets were not taken: {error}");
        }
    }

    /// The cluster's id; waits for a broker.
    pub(super) fn cluster_id(&self) -> Result<String, KafkaError> {
        let timeout = REQUEST_TIMEOUT.as_millis() as i32;
        // SAFETY: the client is alive; the text is freed below.
        let text = unsafe { ffi::rd_kafka_clusterid(self.native(), timeout) };
        if text.is_null() {
            return Err(KafkaError::Client {
                what: "ask for the cluster's id",
                why: format!("no broker answered within {} s", REQUEST_TIMEOUT.as_secs()),
            });
        }
        // SAFETY: a text that ends with 0, as documented.
        let id = unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned();
        // SAFETY: given by this client, and not used any more.
        unsafe { ffi::rd_kafka_mem_free(self.native(), text.cast()) };
        Ok(id)
    }
}

impl Drop for CommandConsumer {
    fn drop(&mut self) {
        if self.waker.lock().is_some() {
            // SAFETY: the client is alive; a queue that was got is given back.
            unsafe {
                let queue = ffi::rd_kafka_queue_get_consumer(self.native());
                if !queue.is_null() {
                    ffi::rd_kafka_queue_cb_event_enable(queue, None, std::ptr::null_mut());
                    ffi::rd_kafka_queue_destroy(queue);
                }
            }
        }
    }
}

/// Called by librdkafka's threads when the queue is not empty any more.
unsafe extern "C" fn ring(_client: *mut ffi::rd_kafka_t, waker: *mut c_void) {
    // SAFETY: the address given when this was enabled, which is alive until it is disabled.
    let waker = unsafe { &*waker.cast::<Waker>() };
    waker.wake();
}
