//! What the reading commands read on servers.

use std::time::Duration;

use anyhow::Context;
use kilter_engine::{AccountId, epoch::OffsetRow};
use kilter_io::{
    kafka::{KafkaError, TopicLedger, TopicReader, TopicValue},
    mysql::{MysqlError, MysqlReader},
    rows::LedgerRow,
};

use super::settings::{kafka_settings, mysql_settings, store_settings};
use crate::config::{Config, Ledger};

/// The longest wait for a record while there are more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A snapshot of the store.
///
/// # Errors
///
/// When it cannot be reached, or is not ours.
pub fn store(config: &Config) -> anyhow::Result<MysqlReader> {
    let settings = mysql_settings(config);
    MysqlReader::open(&settings)
        .with_context(|| format!("the store {}/{}", settings.address(), settings.database))
}

/// The offset rows of this configuration's group and topic.
///
/// # Errors
///
/// When they cannot be read.
pub fn offsets(config: &Config, store: &mut MysqlReader) -> Result<Vec<OffsetRow>, MysqlError> {
    let own = (&config.kafka.group, &config.kafka.commands);
    let rows = store.offsets()?.into_iter();
    Ok(rows
        .filter(|held| (&held.group, &held.topic) == own)
        .map(|held| held.row)
        .collect())
}

/// Ledger entries by position, of one account or of all, from wherever the ledger is.
///
/// # Errors
///
/// When it cannot be read, or `each` fails.
pub fn ledger<E: From<MysqlError> + From<KafkaError>>(
    config: &Config,
    store: &mut MysqlReader,
    account_id: Option<AccountId>,
    each: impl FnMut(LedgerRow) -> Result<(), E>,
) -> Result<(), E> {
    store.expect(&store_settings(config))?;
    match config.engine.ledger {
        Ledger::Mysql => store.ledger(account_id, each),
        Ledger::Topic => {
            let offsets = offsets(config, store)?;
            let results = &config.kafka.results;
            eprintln!("the ledger is the topic {results}, as far as it is kept there");
            TopicLedger::read(&kafka_settings(config), &offsets)?.ledger(account_id, each)
        }
    }
}

/// The dead letters, as they lie in their topic.
///
/// # Errors
///
/// When the topic cannot be read, or `each` fails.
pub fn dead_letters<E: From<KafkaError>>(
    config: &Config,
    each: impl FnMut(TopicValue) -> Result<(), E>,
) -> Result<(), E> {
    let topic = &config.kafka.dead_letters;
    TopicReader::from_start(&kafka_settings(config), topic)?.read_in_order(PATIENCE, each)
}
