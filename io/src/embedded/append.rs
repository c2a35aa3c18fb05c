//! The log's writing end: group commit, one transaction a batch.

use std::sync::Arc;

use kilter_engine::{
    Body, Offset,
    decode::{decode, decode_key, may_be_open},
    record::Mark,
};
use rusqlite::{Transaction, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use super::{
    OVERSIZE_KEPT_BYTES, RECORD_MAX_BYTES,
    checkpoint::{BEGIN_PAGES, Checkpointer},
    claims,
    connection::{Db, Pages},
    dir::DataDir,
    error::EmbeddedError,
    input::{Input, InputLine},
    log_sync::LogSync,
    mover::PendingLeg,
    owners::Owners,
    schema,
};

/// What is known of a value that is too large to keep whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullSize {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// The command, as JSON; or the beginning of it, if `full` is there.
    pub value: &'a [u8],
    /// When the front door issued it, in ms since 1970.
    pub issued_at_ms: Option<i64>,
    /// Length and digest of the whole value, if `value` is only its beginning.
    pub full: Option<FullSize>,
}

impl<'a> NewRecord<'a> {
    /// A record that no front door issued.
    pub fn new(value: &'a [u8]) -> Self {
        Self {
            value,
            issued_at_ms: None,
            full: None,
        }
    }
}

/// Where a batch came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The first record's offset.
    pub first: Offset,
    /// The offset behind the last record.
    pub end: Offset,
}

/// The writing end of the command log. One a directory, under its lock.
#[derive(Debug)]
pub struct CommandLog {
    db: Db,
    sync: Arc<LogSync>,
    /// Behind the connection, with which it ends.
    _checkpointer: Checkpointer,
    end: Offset,
    last_ms: i64,
    window_ms: i64,
    /// Whose accounts are, as far as that was asked.
    pub(super) owners: Owners,
}

impl CommandLog {
    /// Opens the log of a directory that is open exclusively. `window_ms` is the idempotency
    /// window, by which an OPEN that has expired is told before it claims anything.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn open(dir: &DataDir, window_ms: u64) -> Result<Self, EmbeddedError> {
        let mut db = Db::write(&dir.log_path(), Pages::LOG)?;
        schema::check(&db, schema::Kind::Log)?;
        // Commits do not wait for the disk; checkpoints do.
        db.batch("open", "PRAGMA synchronous = NORMAL")?;
        let last: Option<(i64, i64)> = db
            .connection
            .query_row(
                "SELECT offset, timestamp_ms FROM records ORDER BY offset DESC LIMIT 1",
                [],
                |row| Ok(Some((row.get(0)?, row.get(1)?))),
            )
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(None),
                error => Err(error),
            })
            .map_err(db.failed("find its end"))?;
        let (end, last_ms) = last.map_or((0, 0), |(offset, ms)| (offset as u64 + 1, ms));
        let checkpointer = Checkpointer::follow(&mut db, &dir.log_path(), BEGIN_PAGES)?;
        let sync = LogSync::open(&dir.log_path(), Arc::clone(dir.log_end()))?;
        dir.log_end().set(Offset::new(end));
        Ok(Self {
            db,
            sync: Arc::new(sync),
            _checkpointer: checkpointer,
            end: Offset::new(end),
            last_ms,
            window_ms: window_ms as i64,
            owners: Owners::default(),
        })
    }

    /// The offset that the next record gets.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The time of the last record, in ms since 1970.
    pub(super) fn last_ms(&self) -> i64 {
        self.last_ms
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// What makes durable what is committed here.
    pub fn sync(&self) -> &Arc<LogSync> {
        &self.sync
    }

    /// Appends a batch in one transaction: when this returns, all of it is durable.
    ///
    /// The records' time is `now_ms`, or that of the last record if that is later. A record's key
    /// is its user, if that can be read. An OPEN claims its (account, user) pair in the same
    /// transaction, and the verdict lies beside the record.
    ///
    /// # Errors
    ///
    /// When it cannot be written; then nothing of the batch is in the log. Or when the disk fails; then
    /// nobody in this process reads it, and whether it is in the log is open until the next start.
    pub fn append(
        &mut self,
        batch: &[NewRecord<'_>],
        now_ms: i64,
    ) -> Result<Appended, EmbeddedError> {
        self.append_with(batch.iter().copied(), now_ms, |_| Ok(()))
    }

    /// Appends lines of an input, and in the same transaction notes how far the input is known.
    ///
    /// # Errors
    ///
    /// When it cannot be written; then nothing of the batch is in the log. Or when the disk fails; then
    /// nobody in this process reads it, and whether it is in the log is open until the next start.
    pub fn append_input(
        &mut self,
        input: &mut Input,
        lines: &[InputLine<'_>],
        now_ms: i64,
    ) -> Result<Appended, EmbeddedError> {
        let records = lines.iter().map(|line| NewRecord {
            value: line.value,
            issued_at_ms: None,
            full: line.full,
        });
        let mut row = None;
        let progress = input.progress();
        let appended = self.append_with(records, now_ms, |transaction| {
            row = Some(progress.write(transaction)?);
            Ok(())
        })?;
        input.appended(row);
        Ok(appended)
    }

    /// Appends legs, each at most once ever: its name is kept in the same transaction. Those that
    /// are in the log already are passed over.
    ///
    /// # Errors
    ///
    /// When it cannot be written; then nothing of the batch is in the log. Or when the disk fails; then
    /// nobody in this process reads it, and whether it is in the log is open until the next start.
    pub fn append_legs(
        &mut self,
        legs: &[PendingLeg],
        now_ms: i64,
    ) -> Result<Appended, EmbeddedError> {
        let failed = self.db.failed("look for legs in the log");
        let mut fresh = Vec::with_capacity(legs.len());
        {
            let mut known = self
                .db
                .connection
                .prepare_cached(
                    "SELECT 1 FROM outbox_events
                     WHERE user_id = ?1 AND transaction_id = ?2 AND leg = ?3",
                )
                .map_err(&failed)?;
            for leg in legs {
                let id = leg.transaction_id.as_bytes();
                if !known
                    .exists(params![leg.user_id, id, leg.name])
                    .map_err(&failed)?
                {
                    fresh.push(leg);
                }
            }
        }
        if fresh.is_empty() {
            // They may be as young as that.
            self.sync.sync(self.end)?;
            return Ok(Appended {
                first: self.end,
                end: self.end,
            });
        }
        // It is issued when it comes into the log: so it never expires on its way.
        let issued_at_ms = now_ms.max(self.last_ms);
        let records = fresh.iter().map(|leg| NewRecord {
            value: &leg.payload,
            issued_at_ms: Some(issued_at_ms),
            full: None,
        });
        let first = self.end.get();
        let names = fresh.clone();
        self.append_with(records, now_ms, move |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO outbox_events
                 (user_id, transaction_id, leg, event_id, record_offset, issued_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (offset, leg) in (first..).zip(names) {
                insert.execute(params![
                    leg.user_id,
                    leg.transaction_id.as_bytes(),
                    leg.name,
                    format!("leg:{}", leg.name),
                    offset as i64,
                    issued_at_ms,
                ])?;
            }
            Ok(())
        })
    }

    /// Appends what `work` does, in one transaction; it is durable once the log is synchronised up to
    /// its [end](Self::end).
    pub(super) fn transact<T>(
        &mut self,
        now_ms: i64,
        work: impl FnOnce(&mut Appending<'_>) -> Result<T, EmbeddedError>,
    ) -> Result<T, EmbeddedError> {
        // Dropping the transaction rolls it back.
        let transaction =
            Transaction::new_unchecked(&self.db.connection, TransactionBehavior::Immediate)
                .map_err(self.db.failed(APPEND))?;
        let mut appending = Appending {
            db: &self.db,
            transaction,
            timestamp_ms: now_ms.max(self.last_ms),
            window_ms: self.window_ms,
            next: self.end.get(),
        };
        let done = work(&mut appending)?;
        let Appending {
            transaction,
            timestamp_ms,
            next,
            ..
        } = appending;
        transaction.commit().map_err(self.db.failed(APPEND))?;
        if next > self.end.get() {
            self.end = Offset::new(next);
            self.last_ms = timestamp_ms;
        }
        Ok(done)
    }

    /// As [`CommandLog::transact`], for records and something that goes with them. When this returns,
    /// all of it is durable.
    pub(super) fn append_with<'a>(
        &mut self,
        records: impl Iterator<Item = NewRecord<'a>>,
        now_ms: i64,
        besides: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<Appended, EmbeddedError> {
        let first = self.end;
        self.transact(now_ms, |appending| {
            for record in records {
                appending.append(&record)?;
            }
            besides(&appending.transaction).map_err(appending.db.failed(APPEND))
        })?;
        self.sync.sync(self.end)?;
        Ok(Appended {
            first,
            end: self.end,
        })
    }
}

/// For messages.
const APPEND: &str = "append records";

/// A batch on its way into the log.
pub(super) struct Appending<'a> {
    db: &'a Db,
    transaction: Transaction<'a>,
    timestamp_ms: i64,
    window_ms: i64,
    next: u64,
}

impl Appending<'_> {
    /// The offset that the next record gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn db(&self) -> &Db {
        self.db
    }

    pub(super) fn append(&mut self, record: &NewRecord<'_>) -> Result<(), EmbeddedError> {
        self.insert(record)
            .map_err(|error| self.db.failed(APPEND)(error))?;
        self.next += 1;
        Ok(())
    }

    fn insert(&self, record: &NewRecord<'_>) -> rusqlite::Result<()> {
        let (value, full) = kept(record);
        let mark = match full {
            Some(_) => Mark::Oversize,
            None => mark(&self.transaction, record, self.timestamp_ms, self.window_ms)?,
        };
        let key = match mark {
            Mark::Oversize => None,
            _ => decode_key(value),
        };
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO records
             (offset, timestamp_ms, issued_at_ms, mark, key, value, full_bytes, full_sha256)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        insert.execute(params![
            self.next as i64,
            self.timestamp_ms,
            record.issued_at_ms,
            mark as u8,
            key.as_deref().unwrap_or_default().as_bytes(),
            value,
            full.map(|full| full.bytes as i64),
            full.as_ref().map(|full| &full.sha256[..]),
        ])?;
        Ok(())
    }
}

/// What the log keeps of a value.
fn kept<'a>(record: &NewRecord<'a>) -> (&'a [u8], Option<FullSize>) {
    match record.full {
        Some(full) => (record.value, Some(full)),
        None if record.value.len() > RECORD_MAX_BYTES => {
            let full = FullSize {
                bytes: record.value.len() as u64,
                sha256: Sha256::digest(record.value).into(),
            };
            (&record.value[..OVERSIZE_KEPT_BYTES], Some(full))
        }
        None => (record.value, None),
    }
}

/// Claims for an OPEN that passes every check that needs no account.
fn mark(
    transaction: &Transaction<'_>,
    record: &NewRecord<'_>,
    clock_ms: i64,
    window_ms: i64,
) -> rusqlite::Result<Mark> {
    if !may_be_open(record.value) {
        return Ok(Mark::None);
    }
    let Ok(command) = decode(record.value) else {
        return Ok(Mark::None);
    };
    if !matches!(command.body, Body::Open) {
        return Ok(Mark::None);
    }
    let expired = record.issued_at_ms.is_some_and(|issued_ms| {
        clock_ms > issued_ms.saturating_add(window_ms / 2)
            || issued_ms > clock_ms.saturating_add(window_ms / 4)
    });
    // The shard refuses it for its time before it looks at the verdict.
    let bound =
        !expired && claims::claim(transaction, command.account_id, command.user_id.as_bytes())?;
    Ok(if bound {
        Mark::Claimed
    } else {
        Mark::ClaimRefused
    })
}
