//! A topic read back from some point to some other: values as they lie there.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
};

use super::{
    client::{REQUEST_TIMEOUT, Voice},
    error::{KafkaError, failed},
    settings::KafkaSettings,
};

/// A value, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicValue {
    /// The topic's partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The value; empty if there is none.
    pub value: Vec<u8>,
}

/// Reads a topic from some point to some other.
pub struct TopicReader {
    consumer: BaseConsumer<Voice>,
    topic: String,
    /// Where each partition ends for this reading.
    ends: BTreeMap<i32, i64>,
    next: BTreeMap<i32, i64>,
    /// The first record of each partition that is still there.
    firsts: BTreeMap<i32, i64>,
    /// Whether reading has begun. Not before the first record is asked for: librdkafka 2.12 aborts
    /// the process (`rktp_started`) when a client goes whose partitions have not started yet.
    is_assigned: bool,
}

impl TopicReader {
    /// A reader that begins where the topic ends now.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_end(settings: &KafkaSettings, topic: &str) -> Result<Self, KafkaError> {
        Self::open(settings, topic, |(_, end)| end)
    }

    /// A reader from the first record that is still there.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_start(settings: &KafkaSettings, topic: &str) -> Result<Self, KafkaError> {
        Self::open(settings, topic, |(first, _)| first)
    }

    /// A reader from the first record of this time or later, in ms since 1970.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_time(
        settings: &KafkaSettings,
        topic: &str,
        time_ms: i64,
    ) -> Result<Self, KafkaError> {
        let mut reader = Self::from_start(settings, topic)?;
        reader.begin_at_time(time_ms)?;
        Ok(reader)
    }

    /// Has the reading begin with the first record of this time or later, in ms since 1970; not
    /// once a record was asked for. Whether all of those are there still: false if some may have
    /// been thrown away.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn begin_at_time(&mut self, time_ms: i64) -> Result<bool, KafkaError> {
        assert!(!self.is_assigned, "the reading has begun");
        let failed = failed("look for records by their time");
        let mut asked = TopicPartitionList::new();
        for partition in self.ends.keys() {
            asked
                .add_partition_offset(
                    &self.topic,
                    *partition,
                    rdkafka::Offset::Offset(time_ms.max(0)),
                )
                .map_err(failed)?;
        }
        let found = self
            .consumer
            .offsets_for_times(asked, REQUEST_TIMEOUT)
            .map_err(failed)?;
        for element in found.elements() {
            element.error().map_err(failed)?;
            let at = match element.offset() {
                rdkafka::Offset::Offset(at) => at,
                // Nothing is as late, so what comes is behind the end.
                _ => self.ends.get(&element.partition()).copied().unwrap_or(0),
            };
            self.next.insert(element.partition(), at);
        }
        // What lay before the first record that is left may have been of that time, too. A partition
        // that is empty may have been quiet for long; all of them are not, if any of it is wanted.
        let ranges = || {
            let firsts = self.firsts.iter();
            firsts.filter_map(|(partition, first)| {
                Some((*partition, *first, *self.ends.get(partition)?))
            })
        };
        let is_cut = |(partition, first, end): (i32, i64, i64)| {
            first > 0 && first < end && self.next.get(&partition) == Some(&first)
        };
        let are_empty = ranges().all(|(_, first, end)| first == end);
        let are_all_there = !ranges().any(is_cut) && (self.is_whole() || !are_empty);
        Ok(are_all_there)
    }

    /// Has the reading begin with the first record that is still there; not once a record was
    /// asked for.
    pub fn begin_at_start(&mut self) {
        assert!(!self.is_assigned, "the reading has begun");
        self.next.clone_from(&self.firsts);
    }

    /// Whether everything below these ends, one a partition, was read; `None` if one is of a
    /// partition that this reader does not know.
    pub fn is_past(&self, ends: &[(i32, i64)]) -> Option<bool> {
        let mut is_past = true;
        for (partition, end) in ends {
            is_past &= self.next.get(partition)? >= end;
        }
        Some(is_past)
    }

    fn open(
        settings: &KafkaSettings,
        topic: &str,
        begin: impl Fn((i64, i64)) -> i64,
    ) -> Result<Self, KafkaError> {
        settings.check()?;
        let failed = failed("read a topic");
        let mut config = settings.consumer();
        config.set("group.id", format!("{}-reader", settings.group));
        let consumer =
            BaseConsumer::from_config_and_context(&config, Voice::default()).map_err(failed)?;
        let metadata = consumer
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .map_err(failed)?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|found| found.name() == topic && found.error().is_none())
            .flat_map(|found| found.partitions().iter().map(|p| p.id()))
            .collect();
        if partitions.is_empty() {
            return Err(KafkaError::NoTopic {
                topic: topic.to_owned(),
            });
        }
        let mut reader = Self {
            consumer,
            topic: topic.to_owned(),
            ends: BTreeMap::new(),
            next: BTreeMap::new(),
            firsts: BTreeMap::new(),
            is_assigned: false,
        };
        for partition in partitions {
            let range = reader
                .consumer
                .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
                .map_err(failed)?;
            reader.firsts.insert(partition, range.0);
            reader.ends.insert(partition, range.1);
            reader.next.insert(partition, begin(range));
        }
        Ok(reader)
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether nothing of the topic was thrown away yet.
    pub fn is_whole(&self) -> bool {
        self.firsts.values().all(|first| *first == 0)
    }

    fn assign_those(&mut self, which: impl Fn(i32) -> bool) -> Result<(), KafkaError> {
        let failed = failed("read a topic");
        let mut list = TopicPartitionList::new();
        for (partition, at) in self.next.iter().filter(|(partition, _)| which(**partition)) {
            list.add_partition_offset(&self.topic, *partition, rdkafka::Offset::Offset(*at))
                .map_err(failed)?;
        }
        self.is_assigned = true;
        self.consumer.assign(&list).map_err(failed)
    }

    /// The next record, if one comes within `wait`.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read.
    pub fn next(&mut self, wait: Duration) -> Result<Option<TopicValue>, KafkaError> {
        if !self.is_assigned {
            self.assign_those(|_| true)?;
        }
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    self.next.insert(message.partition(), message.offset() + 1);
                    return Ok(Some(TopicValue {
                        partition: message.partition(),
                        offset: message.offset(),
                        value: message.payload().unwrap_or_default().to_vec(),
                    }));
                }
                Some(Err(error))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) =>
                {
                    return Err(failed("read a topic")(error));
                }
                Some(Err(error)) => tracing::debug!(topic = self.topic, "reading: {error}"),
                None => {}
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Asks a broker something, because nothing comes: a client may have lost its brokers for good.
    ///
    /// # Errors
    ///
    /// When none answers.
    pub fn ask(&self) -> Result<(), KafkaError> {
        let found = self
            .consumer
            .fetch_metadata(Some(&self.topic), REQUEST_TIMEOUT);
        found.map(drop).map_err(failed("find a broker"))
    }

    /// Calls `each` with every record up to where the topic ended when the reader was made.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read, no record comes for `patience`, or `each` says so.
    pub fn read_all<E: From<KafkaError>>(
        &mut self,
        patience: Duration,
        mut each: impl FnMut(TopicValue) -> Result<(), E>,
    ) -> Result<(), E> {
        self.read_those(patience, |_| true, &mut each)
    }

    /// As [`read_all`](Self::read_all), one partition after the other, so that the order is always
    /// the same.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read_in_order<E: From<KafkaError>>(
        &mut self,
        patience: Duration,
        mut each: impl FnMut(TopicValue) -> Result<(), E>,
    ) -> Result<(), E> {
        for partition in self.ends.keys().copied().collect::<Vec<_>>() {
            let only = |other: i32| other == partition;
            if self.is_behind(only) {
                self.assign_those(only)?;
                self.read_those(patience, only, &mut each)?;
            }
        }
        Ok(())
    }

    fn read_those<E: From<KafkaError>>(
        &mut self,
        patience: Duration,
        which: impl Fn(i32) -> bool,
        each: &mut impl FnMut(TopicValue) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.is_behind(&which) {
            match self.next(patience)? {
                // What came in since is of a later reading.
                Some(found) if self.is_beyond(&found) => {}
                Some(found) => each(found)?,
                // Markers of transactions take offsets and are never seen.
                None if self.is_at_markers(&which)? => break,
                None => {
                    return Err(KafkaError::Client {
                        what: "read a topic to its end",
                        why: format!("nothing came from {} for {patience:?}", self.topic),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    fn is_beyond(&self, found: &TopicValue) -> bool {
        let end = self.ends.get(&found.partition);
        end.is_none_or(|end| found.offset >= *end)
    }

    fn is_behind(&self, which: impl Fn(i32) -> bool) -> bool {
        self.ends
            .iter()
            .filter(|(partition, _)| which(**partition))
            .any(|(partition, end)| self.next.get(partition).is_none_or(|next| next < end))
    }

    fn is_at_markers(&self, which: impl Fn(i32) -> bool) -> Result<bool, KafkaError> {
        let position = self
            .consumer
            .position()
            .map_err(failed("ask how far a topic is read"))?;
        let mut ends = self.ends.iter().filter(|(partition, _)| which(**partition));
        Ok(ends.all(|(partition, end)| {
            position
                .find_partition(&self.topic, *partition)
                .is_some_and(|at| matches!(at.offset(), rdkafka::Offset::Offset(at) if at >= *end))
        }))
    }
}
