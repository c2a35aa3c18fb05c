//! Reads log and store beside a running node: what people and comparisons look at.

use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, params};

use kilter_engine::{AccountId, Offset, epoch::OffsetRow};

use super::{
    connection::Db,
    dir::{DataDir, LogEnd},
    error::EmbeddedError,
    rows,
    schema::{self, Kind},
    start::{self, Settings},
};
use crate::rows::{AccountRow, BalanceRow, DeadLetterRow, LedgerRow};

/// Ledger entries with their users, in the columns that [`entry`] reads.
macro_rules! entries {
    () => {
        "SELECT generation, partition, offset, posting, account_id,
                coalesce(leg_user, user_id), currency_code,
                transaction_id, type, amount, available_before, available_after,
                frozen_before, frozen_after, version, error_code,
                t.created_at, remembered_at, leg
         FROM balance_transactions AS t LEFT JOIN accounts AS a ON a.id = t.account_id"
    };
}

pub(super) use entries;

/// A store, for reading. Each method sees one consistent state.
#[derive(Debug)]
pub struct StoreReader {
    pub(super) db: Db,
    /// What lies behind it in the log is not durable.
    pub(super) durable: Arc<LogEnd>,
}

impl StoreReader {
    /// Opens the store of a directory, and the log beside it.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open(dir: &DataDir) -> Result<Self, EmbeddedError> {
        let db = Db::read(&dir.store_path())?;
        schema::check(&db, Kind::Store)?;
        let log = dir.log_path();
        db.connection
            .execute(
                "ATTACH DATABASE ?1 AS log",
                [log.to_string_lossy().as_ref()],
            )
            .map_err(db.failed("attach the log"))?;
        Ok(Self {
            db,
            durable: Arc::clone(dir.log_end()),
        })
    }

    /// Balances by account and currency.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or `each` fails.
    pub fn balances<E: From<EmbeddedError>>(
        &self,
        each: impl FnMut(BalanceRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.every(
            "SELECT account_id, currency_code, available, frozen, version
             FROM account_balances ORDER BY account_id, currency_code",
            None,
            balance,
            each,
        )
    }

    /// One balance.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn balance(
        &self,
        account_id: AccountId,
        currency: &str,
    ) -> Result<Option<BalanceRow>, EmbeddedError> {
        self.db
            .connection
            .query_row(
                "SELECT account_id, currency_code, available, frozen, version
                 FROM account_balances WHERE account_id = ?1 AND currency_code = ?2",
                params![account_id.get() as i64, currency],
                balance,
            )
            .optional()
            .map_err(self.db.failed("read a balance"))
    }

    /// One balance, and the log's time of the epoch that changed it last, in ms since 1970.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn timed_balance(
        &self,
        account_id: AccountId,
        currency: &str,
    ) -> Result<Option<(BalanceRow, i64)>, EmbeddedError> {
        self.db
            .connection
            .query_row(
                "SELECT account_id, currency_code, available, frozen, version, updated_at
                 FROM account_balances WHERE account_id = ?1 AND currency_code = ?2",
                params![account_id.get() as i64, currency],
                |row| Ok((balance(row)?, row.get(5)?)),
            )
            .optional()
            .map_err(self.db.failed("read a balance"))
    }

    /// Accounts by id.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or `each` fails.
    pub fn accounts<E: From<EmbeddedError>>(
        &self,
        each: impl FnMut(AccountRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.every(
            "SELECT id, user_id, shard_id, state, created_at FROM accounts ORDER BY id",
            None,
            account,
            each,
        )
    }

    /// Ledger entries by partition and offset, of one account or of all.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or `each` fails.
    pub fn ledger<E: From<EmbeddedError>>(
        &self,
        account_id: Option<AccountId>,
        each: impl FnMut(LedgerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.every(
            concat!(
                entries!(),
                " WHERE ?1 IS NULL OR account_id = ?1
                 ORDER BY generation, partition, offset, posting"
            ),
            account_id.map(|account| account.get() as i64),
            entry,
            each,
        )
    }

    /// The ledger entries of the record at an offset, by posting.
    pub(super) fn ledger_at(&self, offset: u64) -> Result<Vec<LedgerRow>, EmbeddedError> {
        let mut entries = Vec::new();
        self.every::<_, EmbeddedError>(
            concat!(
                entries!(),
                " WHERE generation = 1 AND partition = 0 AND offset = ?1 ORDER BY posting"
            ),
            Some(offset as i64),
            entry,
            |entry| {
                entries.push(entry);
                Ok(())
            },
        )?;
        Ok(entries)
    }

    /// Dead letters by partition and offset.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or `each` fails.
    pub fn dead_letters<E: From<EmbeddedError>>(
        &self,
        each: impl FnMut(DeadLetterRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.every(
            "SELECT partition, d.offset, code, message, failed_at, issued_at, d.key, d.value,
                    full_bytes, full_sha256
             FROM dead_letters AS d LEFT JOIN log.records AS r ON r.offset = d.offset
             ORDER BY generation, partition, d.offset",
            None,
            |row| {
                let bytes: Option<i64> = row.get(8)?;
                let sha256: Option<Vec<u8>> = row.get(9)?;
                Ok(DeadLetterRow {
                    partition: row.get(0)?,
                    offset: row.get::<_, i64>(1)? as u64,
                    code: row.get(2)?,
                    message: row.get(3)?,
                    failed_at_ms: row.get(4)?,
                    issued_at_ms: row.get(5)?,
                    key: row.get(6)?,
                    value: row.get(7)?,
                    full: bytes.map(|bytes| bytes as u64).zip(sha256),
                })
            },
            each,
        )
    }

    /// How far each hash range is applied.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn offsets(&self) -> Result<Vec<OffsetRow>, EmbeddedError> {
        rows::read(&self.db)
    }

    /// The offset behind the last durable record of the log.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log_end(&self) -> Result<Offset, EmbeddedError> {
        let last: Option<i64> = self
            .db
            .connection
            .query_row("SELECT max(offset) FROM log.records", [], |row| row.get(0))
            .map_err(self.db.failed("find the log's end"))?;
        let last = Offset::new(last.map_or(0, |last| last as u64 + 1));
        Ok(last.min(self.durable.get()))
    }

    /// What holds for every replay.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn settings(&self) -> Result<Settings, EmbeddedError> {
        start::settings(&self.db)
    }

    fn every<T, E: From<EmbeddedError>>(
        &self,
        sql: &str,
        parameter: Option<i64>,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        mut each: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = self.db.failed("read it");
        let mut statement = self.db.connection.prepare(sql).map_err(&failed)?;
        if statement.parameter_count() > 0 {
            statement
                .raw_bind_parameter(1, parameter)
                .map_err(&failed)?;
        }
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(&failed)? {
            each(read(row).map_err(&failed)?)?;
        }
        Ok(())
    }
}

fn account(row: &Row<'_>) -> rusqlite::Result<AccountRow> {
    Ok(AccountRow {
        account_id: row.get::<_, i64>(0)? as u64,
        user_id: text_of(row, 1)?,
        shard_id: row.get(2)?,
        state: row.get(3)?,
        created_at_ms: row.get(4)?,
    })
}

fn balance(row: &Row<'_>) -> rusqlite::Result<BalanceRow> {
    Ok(BalanceRow {
        account_id: row.get::<_, i64>(0)? as u64,
        currency_code: row.get(1)?,
        available: row.get(2)?,
        frozen: row.get(3)?,
        version: row.get::<_, i64>(4)? as u64,
    })
}

pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<LedgerRow> {
    Ok(LedgerRow {
        generation: row.get(0)?,
        partition: row.get(1)?,
        offset: row.get::<_, i64>(2)? as u64,
        posting: row.get(3)?,
        account_id: row.get::<_, i64>(4)? as u64,
        user_id: text_of(row, 5)?,
        currency_code: row.get(6)?,
        transaction_id: row.get(7)?,
        kind: row.get(8)?,
        amount: row.get(9)?,
        available_before: row.get(10)?,
        available_after: row.get(11)?,
        frozen_before: row.get(12)?,
        frozen_after: row.get(13)?,
        version: row.get::<_, i64>(14)? as u64,
        error_code: row.get(15)?,
        created_at_ms: row.get(16)?,
        remembered_at_ms: row.get(17)?,
        leg: row.get(18)?,
    })
}

/// Text that is kept as bytes, because it is compared byte by byte.
pub(super) fn text_of(row: &Row<'_>, index: usize) -> rusqlite::Result<String> {
    let bytes: Option<Vec<u8>> = row.get(index)?;
    String::from_utf8(bytes.unwrap_or_default()).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Blob,
            Box::new(error),
        )
    })
}
