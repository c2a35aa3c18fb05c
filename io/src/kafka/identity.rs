//! Which log this is, and whether it is the one that the offsets count in.

use std::{
    ffi::{CStr, CString},
    time::{Duration, Instant},
};

use kilter_engine::{Offset, Partition, epoch::LastRecord, hash::key_hash};
use rdkafka::{Message, Timestamp, TopicPartitionList, bindings as ffi, consumer::Consumer};

use super::{
    client::{CommandConsumer, REQUEST_TIMEOUT},
    error::{KafkaError, failed},
};

/// The longest wait for one record.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);

/// What tells one log from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster_id: String,
    /// The topic: one that was deleted and made again has another id.
    pub topic_id: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// What a partition holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRange {
    /// The first record that is still there.
    pub first: u64,
    /// The offset of the next record.
    pub end: u64,
}

impl CommandConsumer {
    /// The identity of the command topic, asked of the brokers.
    ///
    /// # Errors
    ///
    /// [`KafkaError::NoTopic`], or when no broker answers.
    pub fn identity(&self) -> Result<LogIdentity, KafkaError> {
        let cluster_id = self.cluster_id()?;
        let (topic_id, partitions) = self.describe_topic()?;
        Ok(LogIdentity {
            cluster_id,
            topic_id,
            partitions,
        })
    }

    /// First offset and end of a partition, asked of its leader.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn range(&self, partition: Partition) -> Result<PartitionRange, KafkaError> {
        let (first, end) = self
            .consumer
            .fetch_watermarks(&self.topic, partition.get() as i32, REQUEST_TIMEOUT)
            .map_err(failed("ask where the log begins and ends"))?;
        Ok(PartitionRange {
            first: first.max(0) as u64,
            end: end.max(0) as u64,
        })
    }

    /// The record at an offset: its offset, which is higher if that one is gone, and what it is
    /// known by.
    ///
    /// # Errors
    ///
    /// When it does not come in time.
    pub fn record_at(
        &self,
        partition: Partition,
        offset: u64,
    ) -> Result<(u64, LastRecord), KafkaError> {
        const WHAT: &str = "read the record by which the log is known";
        let failed = failed(WHAT);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(
            &self.topic,
            partition.get() as i32,
            rdkafka::Offset::Offset(offset as i64),
        )
        .map_err(failed)?;
        let consumer = self.another()?;
        consumer.assign(&list).map_err(failed)?;
        let deadline = Instant::now() + RECORD_TIMEOUT;
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.partition() == partition.get() as i32 => {
                    let timestamp_ms = match message.timestamp() {
                        Timestamp::LogAppendTime(ms) | Timestamp::CreateTime(ms) => ms,
                        Timestamp::NotAvailable => 0,
                    };
                    let last = LastRecord {
                        key_hash: key_hash(message.key().unwrap_or_default()),
                        timestamp_ms,
                    };
                    break Ok((message.offset() as u64, last));
                }
                Some(Err(error))
                    if matches!(
                        error.rdkafka_error_code(),
                        Some(rdkafka::types::RDKafkaErrorCode::AutoOffsetReset)
                    ) =>
                {
                    break Err(failed(error));
                }
                _ if Instant::now() >= deadline => {
                    break Err(KafkaError::Client {
                        what: WHAT,
                        why: format!(
                            "partition {partition} offset {offset} did not come within {} s",
                            RECORD_TIMEOUT.as_secs()
                        ),
                    });
                }
                _ => {}
            }
        }
    }

    /// The topic's id and how many partitions it has.
    fn describe_topic(&self) -> Result<(String, u32), KafkaError> {
        let name =
            CString::new(self.topic.as_str()).map_err(failed("describe the command topic"))?;
        let client = self.native();
        let mut names = [name.as_ptr()];
        // SAFETY: client and names are alive; each thing made here is destroyed below, the event
        // last, because the description borrows from it.
        unsafe {
            let topics = ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
            let options = ffi::rd_kafka_AdminOptions_new(
                client,
                ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            );
            let timeout_ms = REQUEST_TIMEOUT.as_millis() as i32;
            ffi::rd_kafka_AdminOptions_set_request_timeout(
                options,
                timeout_ms,
                std::ptr::null_mut(),
                0,
            );
            let queue = ffi::rd_kafka_queue_new(client);
            ffi::rd_kafka_DescribeTopics(client, topics, options, queue);
            ffi::rd_kafka_AdminOptions_destroy(options);
            ffi::rd_kafka_TopicCollection_destroy(topics);
            let event = ffi::rd_kafka_queue_poll(queue, timeout_ms + 1000);
            let described = if event.is_null() {
                Err(KafkaError::Client {
                    what: "describe the command topic",
                    why: format!("no broker answered within {} s", REQUEST_TIMEOUT.as_secs()),
                })
            } else {
                read_description(&self.topic, event)
            };
            if !event.is_null() {
                ffi::rd_kafka_event_destroy(event);
            }
            ffi::rd_kafka_queue_destroy(queue);
            described
        }
    }
}

/// What the answer says.
///
/// # Safety
///
/// The event must be alive.
unsafe fn read_description(
    topic: &str,
    event: *mut ffi::rd_kafka_event_t,
) -> Result<(String, u32), KafkaError> {
    use ffi::rd_kafka_resp_err_t as Code;
    let failed = failed("describe the command topic");
    // SAFETY: everything below borrows from the event, and each pointer is looked at before it is
    // used.
    unsafe {
        let code = ffi::rd_kafka_event_error(event);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            let text = CStr::from_ptr(ffi::rd_kafka_err2str(code));
            return Err(failed(text.to_string_lossy().into_owned()));
        }
        let result = ffi::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(failed("another answer came".to_owned()));
        }
        let mut count = 0;
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count != 1 {
            return Err(failed(format!("{count} topics were described")));
        }
        let description = *topics;
        let error = ffi::rd_kafka_TopicDescription_error(description);
        let code = ffi::rd_kafka_error_code(error);
        match code {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID => {
                return Err(KafkaError::NoTopic {
                    topic: topic.to_owned(),
                });
            }
            code => {
                let text = CStr::from_ptr(ffi::rd_kafka_err2str(code));
                return Err(failed(text.to_string_lossy().into_owned()));
            }
        }
        let id = ffi::rd_kafka_TopicDescription_topic_id(description);
        let id = CStr::from_ptr(ffi::rd_kafka_Uuid_base64str(id));
        let mut partitions = 0;
        ffi::rd_kafka_TopicDescription_partitions(description, &mut partitions);
        Ok((id.to_string_lossy().into_owned(), partitions as u32))
    }
}

/// Checks that a partition's next record follows the last one that was applied.
///
/// # Errors
///
/// [`KafkaError::OutOfRange`], [`KafkaError::OtherLog`], or when it cannot be found out.
pub fn is_known(
    consumer: &CommandConsumer,
    partition: Partition,
    offset: Offset,
    last: LastRecord,
) -> Result<(), KafkaError> {
    let range = consumer.range(partition)?;
    let out = |what: String| KafkaError::OutOfRange {
        partition,
        offset,
        what,
    };
    if offset.get() > range.end {
        return Err(out(format!("ends at {}", range.end)));
    }
    if offset.get() < range.first {
        return Err(out(format!("begins at {} (retention)", range.first)));
    }
    // Nothing applied yet, or the record that was applied last is gone by its age.
    if offset.get() == 0 || offset.get() == range.first || last == LastRecord::default() {
        return Ok(());
    }
    let (found_at, found) = consumer.record_at(partition, offset.get() - 1)?;
    if found_at != offset.get() - 1 {
        return Err(KafkaError::OtherLog {
            what: format!(
                "partition {partition} has no record at offset {}, which was applied last",
                offset.get() - 1
            ),
        });
    }
    if found != last {
        return Err(KafkaError::OtherLog {
            what: format!(
                "partition {partition} offset {found_at} is another record than the one that was \
                 applied: its time is {} ms, it was {} ms{}",
                found.timestamp_ms,
                last.timestamp_ms,
                if found.key_hash == last.key_hash {
                    ""
                } else {
                    ", and its key is another"
                }
            ),
        });
    }
    Ok(())
}
