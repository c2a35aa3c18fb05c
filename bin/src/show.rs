//! Prints what log and store hold: tables for people, JSON lines for comparisons.

use std::io::{BufWriter, Stdout, Write};

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};
use kilter_engine::AccountId;
use kilter_io::{
    embedded::{
        AccountRow, BalanceRow, DataDir, DeadLetterRow, EmbeddedError, LedgerRow, StoreReader,
    },
    json::{self, AccountJson, BalanceJson, DeadLetterJson, LedgerJson},
};
use serde::Serialize;

use crate::{Answer, cli};

/// How many rows a table for people is laid out over at once; a longer list comes in several.
const TABLE_ROWS: usize = 1000;

/// How much of a long text a table shows.
const CELL_CHARS: usize = 60;

/// Runs `kilter balance`.
///
/// # Errors
///
/// When the directory cannot be read or the account id cannot be one.
pub fn balance(args: &cli::Balance) -> anyhow::Result<Answer> {
    let reader = open(&args.show)?;
    let account_id = account(args.account)?;
    let Some(row) = reader.balance(account_id, &args.currency)? else {
        eprintln!(
            "account {} has no {} balance in {}",
            args.account,
            args.currency,
            args.show.data.data.display()
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
/// When the directory cannot be read.
pub fn balances(args: &cli::Show) -> anyhow::Result<Answer> {
    let reader = open(args)?;
    let mut list = List::new(args.json, "balances", BALANCE_COLUMNS);
    reader.balances(|row| list.balance(&row))?;
    list.finish()
}

/// Runs `kilter accounts`.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn accounts(args: &cli::Show) -> anyhow::Result<Answer> {
    let reader = open(args)?;
    let mut list = List::new(
        args.json,
        "accounts",
        &["account>", "user", "state", "shard>", "opened"],
    );
    reader.accounts(|row: AccountRow| {
        list.row(&AccountJson(&row), || {
            vec![
                row.account_id.to_string(),
                row.user_id.clone(),
                row.state.clone(),
                row.shard_id.to_string(),
                json::rfc3339(row.created_at_ms),
            ]
        })
    })?;
    list.finish()
}

/// Runs `kilter ledger`.
///
/// # Errors
///
/// When the directory cannot be read or the account id cannot be one.
pub fn ledger(args: &cli::Ledger) -> anyhow::Result<Answer> {
    let reader = open(&args.show)?;
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
    reader.ledger(account_id, |row: LedgerRow| {
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
    })?;
    list.finish()
}

/// Runs `kilter dead-letters`.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn dead_letters(args: &cli::Show) -> anyhow::Result<Answer> {
    let reader = open(args)?;
    let mut list = List::new(
        args.json,
        "dead letters",
        &["offset>", "time", "code", "why", "record"],
    );
    reader.dead_letters(|row: DeadLetterRow| {
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

fn open(args: &cli::Show) -> anyhow::Result<StoreReader> {
    let dir = DataDir::open_for_reading(&args.data.data)?;
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

/// A list being printed, in one of the two ways.
struct List {
    json: bool,
    name: &'static str,
    columns: &'static [&'static str],
    out: BufWriter<Stdout>,
    rows: Vec<Vec<String>>,
    printed: usize,
}

/// Why a list broke off.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Store(#[from] EmbeddedError),
    #[error("cannot print")]
    Print(#[from] std::io::Error),
}

impl List {
    /// Columns whose name ends in `>` are numbers.
    fn new(json: bool, name: &'static str, columns: &'static [&'static str]) -> Self {
        Self {
            json,
            name,
            columns,
            out: BufWriter::new(std::io::stdout()),
            rows: Vec::new(),
            printed: 0,
        }
    }

    fn balance(&mut self, row: &BalanceRow) -> Result<(), ListError> {
        self.row(&BalanceJson(row), || {
            vec![
                row.account_id.to_string(),
                row.currency_code.clone(),
                row.available.clone(),
                row.frozen.clone(),
                row.version.to_string(),
            ]
        })
    }

    fn row(
        &mut self,
        value: &impl Serialize,
        cells: impl FnOnce() -> Vec<String>,
    ) -> Result<(), ListError> {
        if self.json {
            json::line(value, &mut self.out)?;
            return Ok(());
        }
        self.rows.push(cells());
        if self.rows.len() == TABLE_ROWS {
            self.print_table()?;
        }
        Ok(())
    }

    fn print_table(&mut self) -> Result<(), ListError> {
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_header(self.columns.iter().map(|name| name.trim_end_matches('>')));
        for (index, name) in self.columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index)
                && name.ends_with('>')
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.printed += self.rows.len();
        table.add_rows(self.rows.drain(..));
        writeln!(self.out, "{table}")?;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Answer> {
        if !self.json {
            if !self.rows.is_empty() {
                self.print_table()?;
            } else if self.printed == 0 {
                writeln!(self.out, "no {}", self.name).context("cannot print")?;
            }
        }
        self.out.flush().context("cannot print")?;
        Ok(Answer::Yes)
    }
}

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
