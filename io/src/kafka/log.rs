//! The command topic as the poller's log.

use std::{sync::Arc, time::Instant};

use kilter_engine::{
    Generation, Offset, Partition,
    clock::Clock,
    decode::may_be_open,
    log::{Log, Taken},
    notes::{Note, NoteKind},
    poller::PartitionStart,
    record::{Mark, NOT_ISSUED, Record},
    rules::Envelope,
    wait::Waker,
};
use parking_lot::Mutex;
use rdkafka::{TopicPartitionList, bindings as ffi, consumer::Consumer};

use super::{
    batch::{Batch, Fetched},
    claimer::Claimer,
    client::CommandConsumer,
    error::{KafkaError, failed},
};
use crate::{clock::SystemClock, mysql::Wish};

/// Where the log is read from.
pub struct LogStart {
    /// Each partition, from its offset.
    pub partitions: Vec<PartitionStart>,
    /// Operators' notes about records still to come.
    pub notes: Vec<Note>,
    /// Woken when records have come in.
    pub poller: Waker,
    /// What a watcher found wrong with the log.
    pub verdict: Arc<Mutex<Option<KafkaError>>>,
}

/// What is kept of a partition while its records are looked through.
struct Place {
    partition: Partition,
    generation: Generation,
    clock_ms: i64,
    /// Behind the last record that was looked at.
    behind: u64,
}

/// Offers the records of assigned partitions, in order, each OPEN with the verdict on its claim.
pub struct KafkaLog {
    // Before the consumer, which must outlive it.
    batch: Batch,
    consumer: Arc<CommandConsumer>,
    claimer: Claimer,
    places: Vec<Place>,
    notes: Vec<Note>,
    verdict: Arc<Mutex<Option<KafkaError>>>,
    /// The next record to be offered, and the first that was not looked through.
    next: usize,
    looked: usize,
    /// The marks of records looked through.
    marks: Vec<Mark>,
    /// Claims that the records looked through wait for: where in the batch, and what.
    waiting: Vec<(usize, Wish)>,
    headers: Vec<u8>,
    clock: SystemClock,
    /// When the watcher's verdict was asked for.
    asked: Instant,
    /// Whether a record came since then.
    has_come: bool,
}

impl KafkaLog {
    /// Assigns the partitions, each from its offset.
    ///
    /// # Errors
    ///
    /// When the client refuses.
    pub fn open(
        consumer: Arc<CommandConsumer>,
        claimer: Claimer,
        start: LogStart,
    ) -> Result<Self, KafkaError> {
        let mut list = TopicPartitionList::new();
        for at in &start.partitions {
            list.add_partition_offset(
                &consumer.topic,
                at.partition().get() as i32,
                rdkafka::Offset::Offset(at.offset().get() as i64),
            )
            .map_err(failed("assign partitions"))?;
        }
        let batch = Batch::of(&consumer);
        consumer.wake(batch.queue(), start.poller);
        consumer
            .consumer
            .assign(&list)
            .map_err(failed("assign partitions"))?;
        Ok(Self {
            batch,
            consumer,
            claimer,
            places: start
                .partitions
                .iter()
                .map(|at| Place {
                    partition: at.partition(),
                    generation: at.generation(),
                    clock_ms: at.clock_ms(),
                    behind: at.offset().get(),
                })
                .collect(),
            notes: start.notes,
            verdict: start.verdict,
            next: 0,
            looked: 0,
            marks: Vec::new(),
            waiting: Vec::new(),
            headers: Vec::new(),
            clock: SystemClock::new(),
            asked: Instant::now(),
            has_come: true,
        })
    }

    /// Looks through records that are new: errors, times, and what OPENs want to claim.
    ///
    /// Stops behind a record whose time may stop the poller.
    fn look_through(&mut self) -> Result<(), KafkaError> {
        let quarter_ms = (self.claimer.window_ms() / 4) as i64;
        let latest_ms = self.clock.wall_ms().saturating_add(quarter_ms);
        while self.looked < self.batch.len() {
            let fetched = self.batch.get(self.looked);
            if let Some((code, why)) = fetched.error() {
                self.judge(fetched, code, &why)?;
                self.marks.push(Mark::None);
                self.looked += 1;
                continue;
            }
            let (partition, offset) = (fetched.partition(), fetched.offset());
            let Some(place) = self
                .places
                .iter_mut()
                .find(|place| place.partition.get() == partition)
            else {
                return Err(KafkaError::Client {
                    what: "read the log",
                    why: format!("partition {partition} came and was never asked for"),
                });
            };
            place.behind = offset + 1;
            self.has_come = true;
            let Some(time_ms) = fetched.log_time_ms() else {
                return Err(KafkaError::ProducersTime {
                    topic: self.consumer.topic.clone(),
                    partition: place.partition,
                    offset: Offset::new(offset),
                });
            };
            let noted = |kind: NoteKind| {
                self.notes.iter().any(|note| {
                    (note.partition.get(), note.offset.get(), note.kind)
                        == (partition, offset, kind)
                        && note.generation == place.generation
                })
            };
            let counts = !noted(NoteKind::IgnoreTime);
            if counts {
                place.clock_ms = place.clock_ms.max(time_ms);
            }
            let value = fetched.value().unwrap_or_default();
            let mut mark = Mark::None;
            if may_be_open(value) {
                // Until there is a verdict; and for one that claims nothing, which is refused for
                // what it is before anybody looks at this.
                mark = Mark::ClaimRefused;
                let envelope = Envelope {
                    partition: place.partition,
                    key: fetched.key().unwrap_or_default(),
                    clock_ms: place.clock_ms,
                    issued_at_ms: fetched.write_headers(&mut self.headers),
                };
                if !noted(NoteKind::Refuse)
                    && let Some(wish) = self.claimer.wish(&envelope, value)
                {
                    self.waiting.push((self.looked, wish));
                }
            }
            self.marks.push(mark);
            self.looked += 1;
            if counts && time_ms > latest_ms {
                // The poller will stop here, or its clock says otherwise and it goes on; what
                // time it is behind this record is known then.
                break;
            }
        }
        Ok(())
    }

    /// What an error among the records means.
    fn judge(
        &self,
        fetched: Fetched<'_>,
        code: ffi::rd_kafka_resp_err_t,
        why: &str,
    ) -> Result<(), KafkaError> {
        use ffi::rd_kafka_resp_err_t as Code;
        match code {
            Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                let own = |place: &&Place| place.partition.get() == fetched.partition();
                let behind = self.places.iter().find(own).map_or(0, |place| place.behind);
                self.consumer
                    .saw_end(fetched.partition(), behind, fetched.offset());
                Ok(())
            }
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
            | Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => Err(KafkaError::OutOfRange {
                partition: Partition::new(fetched.partition()),
                offset: Offset::new(fetched.offset()),
                what: format!("does not have it any more or yet ({why})"),
            }),
            Code::RD_KAFKA_RESP_ERR__FATAL
            | Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
            | Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => Err(KafkaError::Client {
                what: "read the log",
                why: why.to_owned(),
            }),
            // Brokers come back; whether a topic is gone for good is found out by the watcher.
            _ => {
                tracing::warn!(partition = fetched.partition(), "Kafka: {why}");
                Ok(())
            }
        }
    }

    /// Whether all that was looked through may be offered.
    fn claims_are_settled(&mut self) -> Result<bool, KafkaError> {
        if self.waiting.is_empty() {
            return Ok(true);
        }
        let wishes: Vec<Wish> = self.waiting.iter().map(|(_, wish)| wish.clone()).collect();
        let Some(verdicts) = self.claimer.settle(&wishes)? else {
            return Ok(false);
        };
        for ((index, _), mark) in self.waiting.drain(..).zip(verdicts) {
            self.marks[index] = mark;
        }
        Ok(true)
    }

    /// Tells the watcher whether anything comes, and hears what he has found.
    fn heed_the_watcher(&mut self) -> Result<(), KafkaError> {
        if self.asked.elapsed().as_millis() < 50 {
            return Ok(());
        }
        self.asked = Instant::now();
        let places = self.places.iter();
        let behind = || {
            places
                .map(|place| (place.partition, place.behind))
                .collect()
        };
        self.consumer.asked((!self.has_come).then(behind));
        self.has_come = false;
        match self.verdict.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Log for KafkaLog {
    type Error = KafkaError;

    fn poll(
        &mut self,
        max: usize,
        take: &mut dyn FnMut(Record<'_>) -> Taken,
    ) -> Result<usize, KafkaError> {
        if self.next == self.looked {
            if self.looked == self.batch.len() {
                self.heed_the_watcher()?;
                self.batch.refill();
                self.next = 0;
                self.looked = 0;
                self.marks.clear();
            }
            self.look_through()?;
        }
        if !self.claims_are_settled()? {
            return Ok(0);
        }
        let mut taken = 0;
        while self.next < self.looked && taken < max {
            let fetched = self.batch.get(self.next);
            if fetched.error().is_some() {
                self.next += 1;
                continue;
            }
            let partition = Partition::new(fetched.partition());
            let generation = self
                .places
                .iter()
                .find(|place| place.partition == partition)
                .map_or(Generation::default(), |place| place.generation);
            let issued_at_ms = fetched.write_headers(&mut self.headers);
            debug_assert!(issued_at_ms == NOT_ISSUED || issued_at_ms >= 0);
            let record = Record {
                generation,
                partition,
                offset: Offset::new(fetched.offset()),
                timestamp_ms: fetched.log_time_ms().unwrap_or_default(),
                issued_at_ms,
                mark: self.marks[self.next],
                key: fetched.key().unwrap_or_default(),
                value: fetched.value().unwrap_or_default(),
                headers: &self.headers,
            };
            if take(record) == Taken::NotNow {
                break;
            }
            self.next += 1;
            taken += 1;
        }
        Ok(taken)
    }
}
