//! The result topic, read back: by whoever waits for outcomes, and as the ledger that a window is
//! loaded from.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
};
use serde::Deserialize;

use super::{
    client::{REQUEST_TIMEOUT, Voice},
    error::{KafkaError, failed},
    settings::KafkaSettings,
};

/// A result as far as readers need it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SeenResult {
    /// The client's id.
    pub transaction_id: String,
    /// The account, if it could be read.
    pub account_id: Option<u64>,
    /// The user.
    pub user_id: String,
    /// The currency.
    pub currency_code: Option<String>,
    /// What was asked.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// How much.
    pub amount: Option<String>,
    /// Whether it took effect.
    pub success: bool,
    /// The balances around it.
    pub available_before: Option<String>,
    /// See above.
    pub available_after: Option<String>,
    /// See above.
    pub frozen_before: Option<String>,
    /// See above.
    pub frozen_after: Option<String>,
    /// The balance's version after it.
    pub version: Option<u64>,
    /// Why not.
    pub error_code: Option<String>,
    /// The partition's clock at the command, in ms since 1970.
    pub timestamp: i64,
    /// From when its id is remembered, if that is later.
    pub remembered_at: Option<i64>,
    /// The command's place in the log.
    pub generation: u32,
    /// See above.
    pub partition: u32,
    /// See above.
    pub offset: u64,
    /// See above.
    pub posting: u16,
    /// The term it was answered under.
    pub term: u64,
}

/// Reads the result topic from some point to some other.
pub struct ResultsReader {
    consumer: BaseConsumer<Voice>,
    topic: String,
    /// Where each partition ends for this reading, and whether it was reached.
    ends: HashMap<i32, i64>,
    next: HashMap<i32, i64>,
}

impl ResultsReader {
    /// A reader that begins where the topic ends now.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_end(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        Self::open(settings, |_, (_, end)| Ok(end))
    }

    /// A reader from the first result that is still there.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_start(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        Self::open(settings, |_, (first, _)| Ok(first))
    }

    /// A reader from the first result that was published at this time or later, in ms since 1970.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_time(settings: &KafkaSettings, time_ms: i64) -> Result<Self, KafkaError> {
        let mut reader = Self::from_start(settings)?;
        let failed = failed("look for results by their time");
        let mut asked = TopicPartitionList::new();
        for partition in reader.ends.keys() {
            asked
                .add_partition_offset(
                    &reader.topic,
                    *partition,
                    rdkafka::Offset::Offset(time_ms.max(0)),
                )
                .map_err(failed)?;
        }
        let found = reader
            .consumer
            .offsets_for_times(asked, REQUEST_TIMEOUT)
            .map_err(failed)?;
        for element in found.elements() {
            let end = reader.ends.get(&element.partition()).copied().unwrap_or(0);
            let at = match element.offset() {
                rdkafka::Offset::Offset(at) => at,
                _ => end,
            };
            reader.next.insert(element.partition(), at);
        }
        reader.assign()?;
        Ok(reader)
    }

    fn open(
        settings: &KafkaSettings,
        begin: impl Fn(i32, (i64, i64)) -> Result<i64, KafkaError>,
    ) -> Result<Self, KafkaError> {
        settings.check()?;
        let failed = failed("read the results");
        let mut config = settings.consumer();
        config.set("group.id", format!("{}-reader", settings.group));
        let consumer =
            BaseConsumer::from_config_and_context(&config, Voice::default()).map_err(failed)?;
        let topic = settings.results.clone();
        let metadata = consumer
            .fetch_metadata(Some(&topic), REQUEST_TIMEOUT)
            .map_err(failed)?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|found| found.name() == topic && found.error().is_none())
            .flat_map(|found| found.partitions().iter().map(|p| p.id()))
            .collect();
        if partitions.is_empty() {
            return Err(KafkaError::NoTopic { topic });
        }
        let mut reader = Self {
            consumer,
            topic,
            ends: HashMap::new(),
            next: HashMap::new(),
        };
        for partition in partitions {
            let range = reader.range(partition)?;
            reader.ends.insert(partition, range.1);
            reader.next.insert(partition, begin(partition, range)?);
        }
        reader.assign()?;
        Ok(reader)
    }

    fn range(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer
            .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)
            .map_err(failed("ask where the results begin and end"))
    }

    fn assign(&self) -> Result<(), KafkaError> {
        let failed = failed("read the results");
        let mut list = TopicPartitionList::new();
        for (partition, at) in &self.next {
            list.add_partition_offset(&self.topic, *partition, rdkafka::Offset::Offset(*at))
                .map_err(failed)?;
        }
        self.consumer.assign(&list).map_err(failed)
    }

    /// The next result, if one comes within `wait`.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read, or holds something else.
    pub fn next(&mut self, wait: Duration) -> Result<Option<SeenResult>, KafkaError> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    self.next.insert(message.partition(), message.offset() + 1);
                    let value = message.payload().unwrap_or_default();
                    return serde_json::from_slice(value).map(Some).map_err(|error| {
                        KafkaError::NotAResult {
                            topic: self.topic.clone(),
                            partition: message.partition(),
                            offset: message.offset(),
                            why: error.to_string(),
                        }
                    });
                }
                Some(Err(error))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) =>
                {
                    return Err(failed("read the results")(error));
                }
                Some(Err(error)) => tracing::debug!("results: {error}"),
                None => {}
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Calls `each` with every result up to where the topic ended when the reader was made.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read, holds something else, no result comes for `patience`, or
    /// `each` says so.
    pub fn read_all<E: From<KafkaError>>(
        &mut self,
        patience: Duration,
        mut each: impl FnMut(SeenResult) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.is_behind() {
            match self.next(patience)? {
                Some(result) => each(result)?,
                // Markers of transactions take offsets and are never seen.
                None if self.is_at_markers()? => break,
                None => {
                    return Err(KafkaError::Client {
                        what: "read the results to their end",
                        why: format!("none came for {} s", patience.as_secs()),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    fn is_behind(&self) -> bool {
        self.ends
            .iter()
            .any(|(partition, end)| self.next.get(partition).is_none_or(|next| next < end))
    }

    fn is_at_markers(&self) -> Result<bool, KafkaError> {
        let position = self
            .consumer
            .position()
            .map_err(failed("ask how far the results are read"))?;
        Ok(self.ends.iter().all(|(partition, end)| {
            position
                .find_partition(&self.topic, *partition)
                .is_some_and(|at| matches!(at.offset(), rdkafka::Offset::Offset(at) if at >= *end))
        }))
    }
}
