//! The start transaction: lease, identity of the log, offset rows; and what is kept beside them.

use kilter_engine::{
    EpochNumber, HashRange, Offset, Term,
    epoch::OffsetRow,
    hash::key_hash,
    notes::{Note, NoteKind},
    regroup::regroup,
};
use rusqlite::{OptionalExtension, params};

use super::{
    GENERATION, PARTITION,
    connection::{Db, Pages},
    dir::DataDir,
    error::EmbeddedError,
    log_reader::LogReader,
    rows,
    schema::{self, Kind},
};

/// The idempotency window unless something else was asked for: a day.
pub const WINDOW_DEFAULT_MS: u64 = 86_400_000;

/// What is stored with the offsets and holds for every replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a transaction id is remembered, in ms of record time.
    pub window_ms: u64,
}

/// What a node starts from.
#[derive(Clone, Debug)]
pub struct Started {
    /// The term that this start took.
    pub term: Term,
    /// The last epoch that was committed.
    pub last_epoch: EpochNumber,
    /// The offset rows of each writer.
    pub rows: Vec<Vec<OffsetRow>>,
    /// What holds for every replay.
    pub settings: Settings,
    /// Operators' notes.
    pub notes: Vec<Note>,
}

/// The store of a directory that is open exclusively.
#[derive(Debug)]
pub struct EmbeddedStore {
    pub(super) db: Db,
    owner: String,
}

impl EmbeddedStore {
    /// Opens the store.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn open(dir: &DataDir) -> Result<Self, EmbeddedError> {
        let db = Db::write(&dir.store_path(), Pages::STORE)?;
        schema::check(&db, Kind::Store)?;
        let owner = format!("process {}", std::process::id());
        Ok(Self { db, owner })
    }

    /// The settings, as they are or by default.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn settings(&self) -> Result<Settings, EmbeddedError> {
        settings(&self.db)
    }

    /// Sets the idempotency window. It holds from the end of the log on, so all of the log must
    /// be applied.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::OtherLog`] if something is left to apply, or when it cannot be written.
    pub fn set_window(&self, dir: &DataDir, window_ms: u64) -> Result<(), EmbeddedError> {
        let end = LogReader::open(dir, Offset::new(0))?.end()?;
        let rows = rows::read(&self.db)?;
        if let Some(behind) = rows.iter().find(|row| row.offset != end) {
            return Err(EmbeddedError::OtherLog {
                why: format!(
                    "it ends at {end} and is applied up to {} only, and a new window holds from \
                     the end of the log on",
                    behind.offset
                ),
            });
        }
        self.write_window(end, window_ms)
    }

    fn write_window(&self, from: Offset, window_ms: u64) -> Result<(), EmbeddedError> {
        self.db
            .connection
            .execute(
                "INSERT OR REPLACE INTO windows (from_offset, window_ms) VALUES (?1, ?2)",
                [from.get() as i64, window_ms as i64],
            )
            .map_err(self.db.failed("write the window"))?;
        Ok(())
    }

    /// Writes an operator's note about a record that is not committed yet.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::NoteBehind`], [`EmbeddedError::NoteBeyond`], or when it cannot be written.
    pub fn add_note(&self, dir: &DataDir, note: &Note, reason: &str) -> Result<(), EmbeddedError> {
        let failed = self.db.failed("write the note");
        let end = LogReader::open(dir, Offset::new(0))?.end()?;
        if note.offset >= end {
            return Err(EmbeddedError::NoteBeyond {
                offset: note.offset,
                end,
            });
        }
        let committed = rows::read(&self.db)?.iter().map(|row| row.offset).max();
        if let Some(committed) = committed
            && note.offset < committed
        {
            return Err(EmbeddedError::NoteBehind {
                offset: note.offset,
                committed,
            });
        }
        self.db
            .connection
            .execute(
                "INSERT OR REPLACE INTO operator_notes (generation, partition, offset, kind, reason)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    note.generation.get(),
                    note.partition.get(),
                    note.offset.get() as i64,
                    note_name(note.kind),
                    reason
                ],
            )
            .map_err(failed)?;
        Ok(())
    }

    /// Takes the lease with the next term, checks that the log is the one the store knows, and
    /// splits the offset rows at the borders of the writers' hash ranges: one transaction.
    ///
    /// # Errors
    ///
    /// When the log is another one, or the store cannot be written.
    pub fn start(&self, dir: &DataDir, ranges: &[HashRange]) -> Result<Started, EmbeddedError> {
        self.db.batch("begin", "BEGIN IMMEDIATE")?;
        let started = self.start_inside(dir, ranges);
        match &started {
            Ok(_) => self.db.batch("commit the start", "COMMIT")?,
            // The first error is the one to tell.
            Err(_) => drop(self.db.batch("roll back", "ROLLBACK")),
        }
        started
    }

    fn start_inside(&self, dir: &DataDir, ranges: &[HashRange]) -> Result<Started, EmbeddedError> {
        let term = self.take_lease()?;
        let mut rows = rows::read(&self.db)?;
        if rows.is_empty() {
            rows.push(OffsetRow::first(PARTITION, GENERATION));
        }
        check_log(dir, &rows)?;
        let last_epoch = rows.iter().map(|row| row.epoch).max().unwrap_or_default();
        let groups = regroup(&rows, ranges);
        self.db
            .batch("write its offsets", "DELETE FROM consumer_offsets")?;
        for row in groups.iter().flatten() {
            rows::write(&self.db, row)?;
        }
        let settings = self.settings()?;
        if windows(&self.db)?.is_empty() {
            self.write_window(Offset::new(0), settings.window_ms)?;
        }
        Ok(Started {
            term,
            last_epoch,
            rows: groups,
            settings,
            notes: self.notes()?,
        })
    }

    fn take_lease(&self) -> Result<Term, EmbeddedError> {
        let failed = self.db.failed("take the lease");
        let partition = PARTITION.get();
        let term: Option<i64> = self
            .db
            .connection
            .query_row(
                "SELECT term FROM leader_locks WHERE id = ?1",
                [partition],
                |row| row.get(0),
            )
            .optional()
            .map_err(&failed)?;
        let term = term.unwrap_or(0) + 1;
        self.db
            .connection
            .execute(
                "INSERT OR REPLACE INTO leader_locks (id, owner, term) VALUES (?1, ?2, ?3)",
                params![partition, self.owner, term],
            )
            .map_err(&failed)?;
        Ok(Term::new(term as u64))
    }

    fn notes(&self) -> Result<Vec<Note>, EmbeddedError> {
        let failed = self.db.failed("read the operators' notes");
        let mut statement = self
            .db
            .connection
            .prepare("SELECT offset, kind FROM operator_notes ORDER BY offset")
            .map_err(&failed)?;
        let notes = statement
            .query_map([], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, String>(1)?))
            })
            .map_err(&failed)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(&failed)?;
        notes
            .into_iter()
            .map(|(offset, name)| {
                let kind = [NoteKind::Refuse, NoteKind::IgnoreTime]
                    .into_iter()
                    .find(|kind| note_name(*kind) == name)
                    .ok_or_else(|| self.db.corrupt(format!("a note of the kind {name:?}")))?;
                Ok(Note {
                    generation: GENERATION,
                    partition: PARTITION,
                    offset: Offset::new(offset),
                    kind,
                })
            })
            .collect()
    }
}

/// The settings of a store, as they are or by default.
pub(super) fn settings(db: &Db) -> Result<Settings, EmbeddedError> {
    let window_ms = windows(db)?
        .last()
        .map_or(WINDOW_DEFAULT_MS, |(_, window_ms)| *window_ms);
    Ok(Settings { window_ms })
}

/// The windows that held, each from its offset on.
pub(super) fn windows(db: &Db) -> Result<Vec<(Offset, u64)>, EmbeddedError> {
    let failed = db.failed("read its windows");
    let mut statement = db
        .connection
        .prepare_cached("SELECT from_offset, window_ms FROM windows ORDER BY from_offset")
        .map_err(&failed)?;
    let rows = statement
        .query_map([], |row| {
            let (offset, window_ms): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok((Offset::new(offset as u64), window_ms as u64))
        })
        .map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

fn note_name(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::Refuse => "REFUSE",
        NoteKind::IgnoreTime => "IGNORE_TIME",
    }
}

/// The record below each committed offset must be there, and be the same one.
fn check_log(dir: &DataDir, rows: &[OffsetRow]) -> Result<(), EmbeddedError> {
    let log = Db::read(&dir.log_path())?;
    let failed = log.failed("look for the last known record");
    for row in rows.iter().filter(|row| row.offset.get() > 0) {
        let offset = row.offset.get() - 1;
        let found: Option<(i64, Vec<u8>)> = log
            .connection
            .query_row(
                "SELECT timestamp_ms, key FROM records WHERE offset = ?1",
                [offset as i64],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(&failed)?;
        let why = match found {
            None => format!("the store is at offset {}, the log ends before", row.offset),
            Some((timestamp_ms, key))
                if timestamp_ms != row.last.timestamp_ms || key_hash(&key) != row.last.key_hash =>
            {
                format!("the record at offset {offset} is another one than was applied")
            }
            Some(_) => continue,
        };
        return Err(EmbeddedError::OtherLog { why });
    }
    Ok(())
}
