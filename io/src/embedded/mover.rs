//! The mover: takes the legs of transfers from the store to the log.
//!
//! A leg is written by the epoch that makes it, PENDING. The mover appends it to the log, and its
//! name with it in one transaction, and then marks it SENT. Killed at any step, it does the rest
//! next time: what is in the log already is known by its name.

use rusqlite::params;

use super::{
    append::CommandLog,
    connection::{Db, Pages},
    dir::DataDir,
    error::EmbeddedError,
    schema::{self, Kind},
};

/// How many legs are taken at once.
const BATCH: usize = 1000;

/// A leg that is to become a record.
#[derive(Clone, Debug)]
pub struct PendingLeg {
    id: i64,
    /// Its name.
    pub(super) name: String,
    /// Whom it pays.
    pub(super) user_id: Vec<u8>,
    /// The client's id.
    pub(super) transaction_id: String,
    /// The record's value.
    pub(super) payload: Vec<u8>,
}

/// Takes legs from the store to the log. Whoever has the [`CommandLog`] calls it now and then.
#[derive(Debug)]
pub struct LegMover {
    db: Db,
}

impl LegMover {
    /// Opens a connection to the store of a directory that is open exclusively.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(dir: &DataDir) -> Result<Self, EmbeddedError> {
        let db = Db::write(&dir.store_path(), Pages::STORE)?;
        schema::check(&db, Kind::Store)?;
        Ok(Self { db })
    }

    /// Takes what is there, at most a batch, and returns how many. Once everything in the log is
    /// committed and this returns 0, no leg is on its way.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written; the same again is safe.
    pub fn step(&mut self, log: &mut CommandLog, now_ms: i64) -> Result<usize, EmbeddedError> {
        let legs = self.pending()?;
        if legs.is_empty() {
            return Ok(0);
        }
        log.append_legs(&legs, now_ms)?;
        self.mark_sent(&legs)?;
        Ok(legs.len())
    }

    fn pending(&self) -> Result<Vec<PendingLeg>, EmbeddedError> {
        let failed = self.db.failed("read the legs of transfers");
        let mut statement = self
            .db
            .connection
            .prepare_cached(
                "SELECT id, name, user_id, transaction_id, payload FROM legs
                 WHERE status = 'PENDING' ORDER BY id LIMIT ?1",
            )
            .map_err(&failed)?;
        let legs = statement
            .query_map([BATCH as i64], |row| {
                Ok(PendingLeg {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    user_id: row.get(2)?,
                    transaction_id: row.get(3)?,
                    payload: row.get(4)?,
                })
            })
            .map_err(&failed)?;
        legs.collect::<Result<_, _>>().map_err(&failed)
    }

    fn mark_sent(&self, legs: &[PendingLeg]) -> Result<(), EmbeddedError> {
        let failed = self.db.failed("mark legs as sent");
        self.db.batch("mark legs as sent", "BEGIN IMMEDIATE")?;
        let mut update = self
            .db
            .connection
            .prepare_cached("UPDATE legs SET status = 'SENT' WHERE id = ?1 AND status = 'PENDING'")
            .map_err(&failed)?;
        for leg in legs {
            let marked = update.execute(params![leg.id]).map_err(&failed);
            if !matches!(marked, Ok(1)) {
                // The first error is the one to tell.
                drop(self.db.batch("roll back", "ROLLBACK"));
                marked?;
                return Err(self
                    .db
                    .corrupt(format!("the leg {} is not there", leg.name)));
            }
        }
        self.db.batch("mark legs as sent", "COMMIT")
    }
}
