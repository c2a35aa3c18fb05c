//! A list on standard output: a table for people, or a line of JSON for each row.

use std::io::{BufWriter, Stdout, Write};

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use kilter_io::{
    embedded::EmbeddedError,
    json::{self, BalanceJson},
    kafka::KafkaError,
    mysql::MysqlError,
    rows::BalanceRow,
};
use serde::Serialize;

use crate::Answer;

/// How many rows a table for people is laid out over at once; a longer list comes in several.
const TABLE_ROWS: usize = 1000;

/// A list being printed, in one of the two ways.
pub(super) struct List {
    json: bool,
    name: &'static str,
    columns: &'static [&'static str],
    out: BufWriter<Stdout>,
    rows: Vec<Vec<String>>,
    printed: usize,
}

/// Why a list broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error(transparent)]
    Directory(#[from] EmbeddedError),
    #[error(transparent)]
    Store(#[from] MysqlError),
    #[error(transparent)]
    Log(#[from] KafkaError),
    #[error("cannot print")]
    Print(#[from] std::io::Error),
}

impl List {
    /// Columns whose name ends in `>` are numbers.
    pub(super) fn new(json: bool, name: &'static str, columns: &'static [&'static str]) -> Self {
        Self {
            json,
            name,
            columns,
            out: BufWriter::new(std::io::stdout()),
            rows: Vec::new(),
            printed: 0,
        }
    }

    pub(super) fn balance(&mut self, row: &BalanceRow) -> Result<(), ListError> {
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

    pub(super) fn row(
        &mut self,
        value: &impl Serialize,
        cells: impl FnOnce() -> Vec<String>,
    ) -> Result<(), ListError> {
        if self.json {
            json::line(value, &mut self.out)?;
            return Ok(());
        }
        self.add(cells())
    }

    /// A row that is JSON already.
    pub(super) fn text(
        &mut self,
        value: &[u8],
        cells: impl FnOnce() -> Vec<String>,
    ) -> Result<(), ListError> {
        if self.json {
            json::text_line(value, &mut self.out)?;
            return Ok(());
        }
        self.add(cells())
    }

    fn add(&mut self, cells: Vec<String>) -> Result<(), ListError> {
        self.rows.push(cells);
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

    pub(super) fn finish(mut self) -> anyhow::Result<Answer> {
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
