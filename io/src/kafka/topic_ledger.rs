//! The ledger where it is the result topic: sorted, each record's last word only.

use std::time::Duration;

use kilter_engine::{AccountId, Generation, Partition, epoch::OffsetRow, hash::key_hash};
use rusqlite::{Connection, params};

use super::{
    error::{KafkaError, failed},
    results::{ResultsReader, SeenResult},
    settings::KafkaSettings,
};
use crate::rows::LedgerRow;

/// The longest wait for a result while there are more.
const PATIENCE: Duration = Duration::from_secs(60);

const TABLE: &str = "
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE results (
    generation INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    posting INTEGER NOT NULL,
    term INTEGER NOT NULL,
    account_id INTEGER NOT NULL,    -- 0 of what is no entry
    entry BLOB NOT NULL,            -- JSON, as it came
    PRIMARY KEY (generation, partition, offset, posting)
) STRICT, WITHOUT ROWID;
BEGIN;
";

const INSERT: &str = "
INSERT INTO results VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT DO UPDATE SET term = excluded.term, account_id = excluded.account_id,
    entry = excluded.entry
WHERE excluded.term >= term";

/// A refusal has one result: should a note have refused what had several, they fall with it.
const DROP_OVERRULED: &str = "
DELETE FROM results WHERE posting > 0 AND term < (
    SELECT first.term FROM results AS first
    WHERE first.generation = results.generation AND first.partition = results.partition
    AND first.offset = results.offset AND first.posting = 0);";

/// The ledger entries of the result topic, as far as they are committed. Results come in about
/// any order and may come again, under a higher term with another answer: so they are sorted in a
/// temporary file of the system's (SQLite removes it), however many there are.
pub struct TopicLedger {
    db: Connection,
    is_whole: bool,
}

impl TopicLedger {
    /// Reads the topic from its first result to its end. Only what lies below the offset of its
    /// user's hash range counts.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read, or the temporary file not written.
    pub fn read(settings: &KafkaSettings, offsets: &[OffsetRow]) -> Result<Self, KafkaError> {
        let db = Connection::open("").map_err(failed(SORT))?;
        db.execute_batch(TABLE).map_err(failed(SORT))?;
        let mut reader = ResultsReader::from_start(settings)?;
        {
            let mut insert = db.prepare(INSERT).map_err(failed(SORT))?;
            reader.read_all(PATIENCE, |result: SeenResult| {
                if !is_committed(offsets, &result) {
                    return Ok(());
                }
                let account = match result.is_entry() {
                    true => result.account_id.unwrap_or(0),
                    // It stays all the same: its term may be the higher one.
                    false => 0,
                };
                let entry = serde_json::to_vec(&result).map_err(failed(SORT))?;
                insert
                    .execute(params![
                        result.generation,
                        result.partition,
                        result.offset as i64,
                        result.posting,
                        result.term as i64,
                        account as i64,
                        entry
                    ])
                    .map_err(failed(SORT))?;
                Ok::<(), KafkaError>(())
            })?;
        }
        db.execute_batch(&format!(
            "{DROP_OVERRULED} COMMIT; CREATE INDEX account ON results (account_id);"
        ))
        .map_err(failed(SORT))?;
        Ok(Self {
            db,
            is_whole: reader.is_whole(),
        })
    }

    /// Whether the topic still holds all that was ever published; else the ledger begins
    /// somewhere.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Entries by generation, partition, offset and posting, of one account or of all.
    ///
    /// # Errors
    ///
    /// When the temporary file cannot be read, or `each` fails.
    pub fn ledger<E: From<KafkaError>>(
        &self,
        account_id: Option<AccountId>,
        each: impl FnMut(LedgerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let (first, last) = account_id.map_or((1, i64::MAX), |id| {
            let id = id.get() as i64;
            (id, id)
        });
        let chosen = "account_id BETWEEN ?1 AND ?2 ORDER BY";
        self.every(chosen, (first, last), each)
    }

    /// The entries of the accounts `first ..= last`, by account and then as in
    /// [`ledger`](Self::ledger).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn ledger_of<E: From<KafkaError>>(
        &self,
        (first, last): (i64, i64),
        each: impl FnMut(LedgerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let chosen = "account_id BETWEEN ?1 AND ?2 ORDER BY account_id,";
        self.every(chosen, (first.max(1), last), each)
    }

    /// The entries of one partition in one life of the log, from one offset to another.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn ledger_at<E: From<KafkaError>>(
        &self,
        (generation, partition): (Generation, Partition),
        (first, last): (u64, u64),
        each: impl FnMut(LedgerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let chosen = format!(
            "generation = {generation} AND partition = {partition} AND account_id > 0
             AND offset BETWEEN ?1 AND ?2 ORDER BY"
        );
        self.every(&chosen, (first as i64, last as i64), each)
    }

    fn every<E: From<KafkaError>>(
        &self,
        chosen: &str,
        (first, last): (i64, i64),
        mut each: impl FnMut(LedgerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = failed(SORT);
        let mut statement = self
            .db
            .prepare(&format!(
                "SELECT entry FROM results WHERE {chosen}
                 generation, partition, offset, posting"
            ))
            .map_err(&failed)?;
        let mut rows = statement.query(params![first, last]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let entry: Vec<u8> = row.get(0).map_err(&failed)?;
            let result: SeenResult =
                serde_json::from_slice(&entry).map_err(super::error::failed(SORT))?;
            each(as_row(result))?;
        }
        Ok(())
    }
}

const SORT: &str = "sort the results in a temporary file";

fn is_committed(offsets: &[OffsetRow], result: &SeenResult) -> bool {
    let hash = key_hash(result.user_id.as_bytes());
    offsets.iter().any(|row| {
        row.partition.get() == result.partition
            && row.range.contains(hash)
            && (result.generation, result.offset) < (row.generation.get(), row.offset.get())
    })
}

fn as_row(result: SeenResult) -> LedgerRow {
    LedgerRow {
        generation: result.generation,
        partition: result.partition,
        offset: result.offset,
        posting: result.posting,
        account_id: result.account_id.unwrap_or(0),
        user_id: result.user_id,
        currency_code: result.currency_code.unwrap_or_default(),
        transaction_id: result.transaction_id,
        kind: result.kind.unwrap_or_default(),
        amount: result.amount.unwrap_or_default(),
        available_before: result.available_before.unwrap_or_default(),
        available_after: result.available_after.unwrap_or_default(),
        frozen_before: result.frozen_before.unwrap_or_default(),
        frozen_after: result.frozen_after.unwrap_or_default(),
        version: result.version.unwrap_or(0),
        error_code: result.error_code,
        created_at_ms: result.timestamp,
        remembered_at_ms: result.remembered_at,
        leg: result.leg_name,
    }
}
