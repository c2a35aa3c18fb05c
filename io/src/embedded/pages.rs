//! Single rows and pages of a store, for whoever asks now.

use kilter_engine::AccountId;
use rusqlite::{OptionalExtension, params};

use super::{
    error::EmbeddedError,
    reader::{StoreReader, entries, entry, text_of},
};
use crate::rows::LedgerRow;

/// The offset and the posting of an entry.
pub type Place = (u64, u16);

/// A record that was refused, as far as those who watch results need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// Its offset.
    pub offset: u64,
    /// Why it was refused.
    pub code: String,
    /// Why, in words.
    pub message: String,
    /// Its time, in ms since 1970.
    pub failed_at_ms: i64,
    /// The record's value.
    pub value: Vec<u8>,
}

impl StoreReader {
    /// The user of an account: bound in the log, before the account is in the store.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn owner(&self, id: AccountId) -> Result<Option<String>, EmbeddedError> {
        self.db
            .connection
            .prepare_cached("SELECT user_id FROM log.claims WHERE account_id = ?1")
            .and_then(|mut select| {
                select
                    .query_row([id.get() as i64], |row| text_of(row, 0))
                    .optional()
            })
            .map_err(self.db.failed("read an account claim"))
    }

    /// The first ledger entries behind a place and below an offset, at most `most`, of one account
    /// or of all. There is no index over accounts: a page of one account reads what lies between
    /// its entries.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn entries(
        &self,
        of: Option<AccountId>,
        behind: Option<Place>,
        below: Option<u64>,
        most: usize,
    ) -> Result<Vec<LedgerRow>, EmbeddedError> {
        let failed = self.db.failed("read the ledger");
        let mut statement = self
            .db
            .connection
            .prepare_cached(concat!(
                entries!(),
                " WHERE (generation, partition, offset, posting) > (1, 0, ?1, ?2)
                 AND (generation, partition, offset, posting) < (1, 0, ?3, 0)
                 AND (?4 IS NULL OR account_id = ?4)
                 ORDER BY generation, partition, offset, posting LIMIT ?5"
            ))
            .map_err(&failed)?;
        // Before the first of all is nothing.
        let (offset, posting) = behind.map_or((-1, 0), |(offset, posting)| {
            (offset as i64, i64::from(posting))
        });
        let below = below.map_or(i64::MAX, |offset| offset as i64);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let of = of.map(|account| account.get() as i64);
        let rows = statement
            .query_map(params![offset, posting, below, of, most], entry)
            .map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// The refused records behind an offset and below another one.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn refused(
        &self,
        behind: Option<u64>,
        below: u64,
    ) -> Result<Vec<RefusedRow>, EmbeddedError> {
        let failed = self.db.failed("read dead letters");
        let mut statement = self
            .db
            .connection
            .prepare_cached(
                "SELECT offset, code, message, failed_at, value FROM dead_letters
                 WHERE generation = 1 AND partition = 0 AND offset > ?1 AND offset < ?2
                 ORDER BY offset",
            )
            .map_err(&failed)?;
        let behind = behind.map_or(-1, |offset| offset as i64);
        let rows = statement
            .query_map(params![behind, below as i64], |row| {
                Ok(RefusedRow {
                    offset: row.get::<_, i64>(0)? as u64,
                    code: row.get(1)?,
                    message: row.get(2)?,
                    failed_at_ms: row.get(3)?,
                    value: row.get(4)?,
                })
            })
            .map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }
}
