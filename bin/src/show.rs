//! Prints what log and store hold: tables for people, JSON lines for comparisons.

mod list;

use std::path::Path;

use anyhow::bail;
use kilter_engine::AccountId;
use kilter_io::{
    embedded::{DataDir, StoreReader},
    json::{self, AccountJson, DeadLetterJson, LedgerJson},
    kafka::TopicValue,
    rows::{AccountRow, DeadLetterRow, LedgerRow},
};
use serde_json::Value;

use crate::{Answer, cli, config::Config, servers::read, source::Place};
use list::{List, ListError};

/// How much of a long text a table shows.
const CELL_CHARS: usize = 60;

/// Runs `kilter balance`.
///
/// # Errors
///
/// When the store cannot be read or the account id cannot be one.
pub fn balance(args: &cli::Balance) -> anyhow::Result<Answer> {
    let place = args.show.source.place()?;
    let account_id = account(args.account)?;
    let (row, name) = match &place {
        Place::Directory(path) => (
            open(path)?.balance(account_id, &args.currency)?,
            path.display().to_string(),
        ),
        Place::Servers(config) => (
            read::store(config)?.balance(account_id, &args.currency)?,
            format!("the database {}", config.mysql.database),
        ),
    };
    let Some(row) = row else {
        eprintln!(
            "account {} has no {} balance in {name}",
            args.account, args.currency
        );
        return Ok(Answer::No);
    };
    let mut list = List::new(args.show.json, "balances", BALANCE_COLUMNS);
    list.balance(&row)?;
    list.finish()
}

/// Runs `kilter balances`.
///
/// # Errors
///
/// When the store cannot be read.
pub fn balances(args: &cli::Show) -> anyhow::Result<Answer> {
    let place = args.source.place()?;
    let mut list = List::new(args.json, "balances", BALANCE_COLUMNS);
    match place {
        Place::Directory(path) => open(&path)?.balances(|row| list.balance(&row))?,
        Place::Servers(config) => read::store(&config)?.balances(|row| list.balance(&row))?,
    }
    list.finish()
}

/// Runs `kilter accounts`.
///
/// # Errors
///
/// When the store cannot be read.
pub fn accounts(args: &cli::Show) -> anyhow::Result<Answer> {
    let place = args.source.place()?;
    let mut list = List::new(
        args.json,
        "accounts",
        &["account>", "user", "state", "shard>", "opened"],
    );
    let each = |row: AccountRow| {
        list.row(&AccountJson(&row), || {
            vec![
                row.account_id.to_string(),
                row.user_id.clone(),
                row.state.clone(),
                row.shard_id.to_string(),
                json::rfc3339(row.created_at_ms),
            ]
        })
    };
    match place {
        Place::Directory(path) => open(&path)?.accounts(each)?,
        Place::Servers(config) => read::store(&config)?.accounts(each)?,
    }
    list.finish()
}

/// Runs `kilter ledger`.
///
/// # Errors
///
/// When the store cannot be read or the account id cannot be one.
pub fn ledger(args: &cli::Ledger) -> anyhow::Result<Answer> {
    let place = args.show.source.place()?;
    let account_id = args.account.map(account).transpose()?;
    let mut list = List::new(
        args.show.json,
        "ledger entries",
        &[
            "offset>",
            "account>",
            "currency",
            "type",
            "amount>",
            "available>",
            "frozen>",
            "version>",
            "outcome",
            "transaction id",
        ],
    );
    let each = |row: LedgerRow| {
        list.row(&LedgerJson(&row), || {
            vec![
                row.offset.to_string(),
                row.account_id.to_string(),
                row.currency_code.clone(),
                row.kind.clone(),
                row.amount.clone(),
                row.available_after.clone(),
                row.frozen_after.clone(),
                row.version.to_string(),
                row.error_code
                    .clone()
                    .unwrap_or_else(|| "SUCCESS".to_owned()),
                row.transaction_id.clone(),
            ]
        })
    };
    match place {
        Place::Directory(path) => open(&path)?.ledger(account_id, each)?,
        Place::Servers(config) => {
            let mut store = read::store(&config)?;
            read::ledger::<ListError>(&config, &mut store, account_id, each)?;
        }
    }
    list.finish()
}

/// Runs `kilter dead-letters`.
///
/// # Errors
///
/// When the store cannot be read.
pub fn dead_letters(args: &cli::Show) -> anyhow::Result<Answer> {
    let place = args.source.place()?;
    let path = match place {
        Place::Directory(path) => path,
        Place::Servers(config) => return dead_letters_of_topic(&config, args.json),
    };
    let mut list = List::new(
        args.json,
        "dead letters",
        &["offset>", "time", "code", "why", "record"],
    );
    open(&path)?.dead_letters(|row: DeadLetterRow| {
        list.row(&DeadLetterJson(&row), || {
            vec![
                row.offset.to_string(),
                json::rfc3339(row.failed_at_ms),
                row.code.clone(),
                row.message.clone(),
                cut(&String::from_utf8_lossy(&row.value)),
            ]
        })
    })?;
    list.finish()
}

/// The dead letters of servers: each its JSON, as it lies in the topic.
fn dead_letters_of_topic(config: &Config, as_json: bool) -> anyhow::Result<Answer> {
    let mut list = List::new(
        as_json,
        "dead letters",
        &["partition>", "offset>", "time", "code", "why", "record"],
    );
    read::dead_letters(config, |found: TopicValue| {
        list.text(&found.value, || {
            let letter: Value = serde_json::from_slice(&found.value).unwrap_or_default();
            let cell = |value: &Value| match value {
                Value::Null => String::new(),
                Value::String(text) => cut(text),
                other => cut(&other.to_string()),
            };
            let original = match &letter["originalValue"] {
                Value::Null => &letter["originalValueBase64"],
                text => text,
            };
            vec![
                cell(&letter["originalPartition"]),
                cell(&letter["originalOffset"]),
                cell(&letter["failedAt"]),
                cell(&letter["error"]["name"]),
                cell(&letter["error"]["message"]),
                cell(original),
            ]
        })
    })?;
    list.finish()
}

fn open(path: &Path) -> anyhow::Result<StoreReader> {
    let dir = DataDir::open_for_reading(path)?;
    Ok(StoreReader::open(&dir)?)
}

fn account(number: u64) -> anyhow::Result<AccountId> {
    match AccountId::new(number) {
        Some(account_id) => Ok(account_id),
        None => bail!(
            "account {number}: account ids go from 1 to {}",
            AccountId::MAX
        ),
    }
}

const BALANCE_COLUMNS: &[&str] = &["account>", "currency", "available>", "frozen>", "version>"];

/// The beginning of a text, on one line.
fn cut(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(CELL_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(CELL_CHARS).is_some() {
        short.push('…');
    }
    short
}
