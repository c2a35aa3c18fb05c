//! Producers and consumers that are not ours.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{DeliveryResult, Header, Headers, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use super::DEADLINE;

#[derive(Default)]
struct Acknowledged(AtomicU64);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("not delivered: {error}");
        }
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client of the log that is not ours.
pub struct Client {
    producer: Arc<BaseProducer<Acknowledged>>,
    topic: String,
    sent: u64,
}

impl Client {
    pub fn new(brokers: &str, topic: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            // As the Java client and kafkajs.
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", "10000000")
            .set("queue.buffering.max.messages", "1000000")
            .create_with_context(Acknowledged::default())
            .unwrap();
        Self {
            producer: Arc::new(producer),
            topic: topic.to_owned(),
            sent: 0,
        }
    }

    pub fn send_json(&mut self, line: &str) {
        let json: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let key = json["userId"].as_str().unwrap_or_default().to_owned();
        self.send(Some(key.as_bytes()), Some(line.as_bytes()), &[]);
    }

    pub fn send(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) {
        let mut own = OwnedHeaders::new();
        for (key, value) in headers {
            own = own.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
        record.key = key;
        record.payload = value;
        if !headers.is_empty() {
            record = record.headers(own);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((error, same)) => {
                    let code = error.rdkafka_error_code();
                    assert_eq!(
                        code,
                        Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                        "{error}"
                    );
                    record = same;
                    self.producer.poll(Duration::from_millis(10));
                }
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(256) {
            self.producer.poll(Duration::ZERO);
        }
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn finish(&self) {
        let start = Instant::now();
        while self.producer.context().0.load(Ordering::Relaxed) < self.sent {
            self.producer.poll(Duration::from_millis(20));
            assert!(start.elapsed() < DEADLINE, "brokers do not acknowledge");
        }
    }
}

/// A record as a consumer sees it.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

pub fn read_topic(brokers: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-test-reader"))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.message.max.bytes", "20000000")
        .create()
        .unwrap();
    let timeout = Duration::from_secs(20);
    let metadata = consumer.fetch_metadata(Some(topic), timeout).unwrap();
    let partitions: Vec<i32> = metadata.topics()[0]
        .partitions()
        .iter()
        .map(|p| p.id())
        .collect();
    let mut list = TopicPartitionList::new();
    let mut left = BTreeMap::new();
    for partition in partitions {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, timeout)
            .unwrap();
        if high > low {
            list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(low))
                .unwrap();
            left.insert(partition, high);
        }
    }
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    let start = Instant::now();
    while !left.is_empty() {
        assert!(
            start.elapsed() < DEADLINE,
            "{topic} cannot be read to its end"
        );
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| {
                    (
                        header.key.to_owned(),
                        header.value.unwrap_or_default().to_vec(),
                    )
                })
                .collect()
        });
        records.push(Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        });
        if left
            .get(&message.partition())
            .is_some_and(|end| message.offset() + 1 >= *end)
        {
            left.remove(&message.partition());
        }
    }
    records
}

/// Drops topics, as far as they are there and brokers are: what is left over makes a broker that was
/// killed slow to come back.
pub fn delete_topics(brokers: &str, topics: &[String]) {
    let client: Result<AdminClient<DefaultClientContext>, _> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create();
    if let Ok(client) = client {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let _ = block_on(client.delete_topics(&names, &options));
    }
}

/// Waits for a future on this thread; the admin client's own thread completes it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut future = std::pin::pin!(future);
    let start = Instant::now();
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(start.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(10));
    }
}
