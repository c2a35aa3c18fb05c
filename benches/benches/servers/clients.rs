//! Plain clients of the brokers, with the properties that a node's have.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use kilter_io::kafka::KafkaSettings;
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList, bindings as ffi,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A reader of the only partition of `topic`, from its beginning or its end.
pub fn consumer(kafka: &KafkaSettings, topic: &str, from_end: bool) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", format!("{topic}-bare"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "1")
        .set("queued.max.messages.kbytes", "32768")
        .set("enable.metrics.push", "false")
        .set("socket.nagle.disable", "true")
        .create()
        .unwrap();
    let (low, high) = consumer.fetch_watermarks(topic, 0, TIMEOUT).unwrap();
    let mut list = TopicPartitionList::new();
    let from = if from_end { high } else { low };
    list.add_partition_offset(topic, 0, Offset::Offset(from))
        .unwrap();
    consumer.assign(&list).unwrap();
    consumer
}

/// Takes what has come in, without waiting, and calls `each` with keys and values.
#[allow(unsafe_code, reason = "whole batches are librdkafka's own call")]
pub fn take_batch(
    consumer: &BaseConsumer,
    room: &mut Vec<*mut ffi::rd_kafka_message_t>,
    mut each: impl FnMut(&[u8], &[u8]),
) -> usize {
    // SAFETY: the consumer is alive, and there is room for as many as are asked for; each message
    // is read before it is given back, once, and each queue is given back.
    unsafe {
        let queue = ffi::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        let count = ffi::rd_kafka_consume_batch_queue(queue, 0, room.as_mut_ptr(), room.capacity());
        room.set_len(usize::try_from(count).unwrap_or_default());
        ffi::rd_kafka_queue_destroy(queue);
        for message in room.drain(..) {
            let one = &*message;
            assert_eq!(
                one.err,
                ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            );
            each(
                std::slice::from_raw_parts(one.key.cast::<u8>(), one.key_len),
                std::slice::from_raw_parts(one.payload.cast::<u8>(), one.len),
            );
            ffi::rd_kafka_message_destroy(message);
        }
        usize::try_from(count).unwrap_or_default()
    }
}

#[derive(Default)]
struct Answers(AtomicU64);

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "not delivered");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An idempotent producer that counts what the brokers acknowledged.
pub struct Sender {
    producer: BaseProducer<Answers>,
    topic: String,
    sent: u64,
}

impl Sender {
    pub fn new(kafka: &KafkaSettings, topic: &str) -> Self {
        Self {
            producer: ClientConfig::new()
                .set("bootstrap.servers", &kafka.brokers)
                .set("enable.idempotence", "true")
                .set("acks", "all")
                .set("linger.ms", "1")
                .set("queue.buffering.max.messages", "500000")
                .set("queue.buffering.max.kbytes", "131072")
                .set("partitioner", "murmur2_random")
                .set("enable.metrics.push", "false")
                .set("socket.nagle.disable", "true")
                .create_with_context(Answers::default())
                .unwrap(),
            topic: topic.to_owned(),
            sent: 0,
        }
    }

    pub fn send(&mut self, key: &[u8], value: &[u8]) {
        let mut record = BaseRecord::to(&self.topic).key(key).payload(value);
        while let Err((error, same)) = self.producer.send(record) {
            assert_eq!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::QueueFull)
            );
            record = same;
            self.producer.poll(Duration::from_millis(5));
        }
        self.sent += 1;
    }

    /// Looks at answers without waiting.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until all is acknowledged.
    pub fn finish(&self) {
        let begin = Instant::now();
        while self.producer.context().0.load(Ordering::Relaxed) < self.sent {
            assert!(begin.elapsed() < TIMEOUT * 3, "brokers do not acknowledge");
            self.producer.poll(Duration::from_millis(5));
        }
    }
}
