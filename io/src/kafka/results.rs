//! The result topic, read back: by whoever waits for outcomes, and as the ledger that a window is
//! loaded from.

use std::time::Duration;

use kilter_engine::{Class, Code, CommandKind};
use serde::{Deserialize, Serialize};

use super::{
    error::KafkaError,
    settings::KafkaSettings,
    topic_reader::{TopicReader, TopicValue},
};

/// A result as far as readers need it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
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
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
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
    /// The name of the leg that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg_name: Option<String>,
}

impl SeenResult {
    /// Whether it answered a command, SUCCESS or FAILED, and so used up its id and has a ledger entry.
    pub fn is_entry(&self) -> bool {
        let kind = self.kind.as_deref().and_then(CommandKind::parse);
        let code = self.error_code.as_deref().and_then(Code::parse);
        match (kind, code) {
            (None | Some(CommandKind::Open), _) => false,
            (Some(_), None) => self.success,
            (Some(kind), Some(code)) => code.class_for(kind) == Class::Failed,
        }
    }
}

/// Reads the result topic from some point to some other.
pub struct ResultsReader(TopicReader);

impl ResultsReader {
    /// A reader that begins where the topic ends now.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_end(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        TopicReader::from_end(settings, &settings.results).map(Self)
    }

    /// A reader from the first result that is still there.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_start(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        TopicReader::from_start(settings, &settings.results).map(Self)
    }

    /// A reader from the first result that was published at this time or later, in ms since 1970.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn from_time(settings: &KafkaSettings, time_ms: i64) -> Result<Self, KafkaError> {
        TopicReader::from_time(settings, &settings.results, time_ms).map(Self)
    }

    /// As [`TopicReader::begin_at_time`].
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn begin_at_time(&mut self, time_ms: i64) -> Result<bool, KafkaError> {
        self.0.begin_at_time(time_ms)
    }

    /// As [`TopicReader::begin_at_start`].
    pub fn begin_at_start(&mut self) {
        self.0.begin_at_start();
    }

    /// As [`TopicReader::ask`].
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub fn ask(&self) -> Result<(), KafkaError> {
        self.0.ask()
    }

    /// As [`TopicReader::is_past`].
    pub fn is_past(&self, ends: &[(i32, i64)]) -> Option<bool> {
        self.0.is_past(ends)
    }

    /// Whether nothing of the topic was thrown away yet.
    pub fn is_whole(&self) -> bool {
        self.0.is_whole()
    }

    /// The next result, if one comes within `wait`.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read, or holds something else.
    pub fn next(&mut self, wait: Duration) -> Result<Option<SeenResult>, KafkaError> {
        match self.0.next(wait)? {
            Some(found) => read(self.0.topic(), &found).map(Some),
            None => Ok(None),
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
        let topic = self.0.topic().to_owned();
        self.0
            .read_all(patience, |found| each(read(&topic, &found)?))
    }
}

fn read(topic: &str, found: &TopicValue) -> Result<SeenResult, KafkaError> {
    serde_json::from_slice(&found.value).map_err(|error| KafkaError::NotAResult {
        topic: topic.to_owned(),
        partition: found.partition,
        offset: found.offset,
        why: error.to_string(),
    })
}
