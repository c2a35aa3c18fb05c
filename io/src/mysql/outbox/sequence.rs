//! New account ids: a sequence of our own, because one foreign id can use an AUTO_INCREMENT up.

use std::collections::VecDeque;

use kilter_engine::AccountId;
use mysql::prelude::Queryable;

use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};

const WHAT: &str = "take new account ids";

/// How many ids are taken at once at first, and at most when all of a block were taken by others.
const BLOCK: u64 = 64;
const BLOCK_MAX: u64 = 1 << 16;

/// How many blocks are tried.
const TRIES: u32 = 64;

/// Where foreign ids begin to count as strange: the sequence begins behind the last one below.
const STRANGE: u64 = 1_000_000_000_000;

/// Ids that were taken out of the sequence and not used. They are lost with the process.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    free: VecDeque<u64>,
}

impl Sequence {
    /// The next id that nobody had when it was looked for. Outside of a transaction only.
    pub(super) fn next(&mut self, db: &mut Db) -> Result<AccountId, MysqlError> {
        let mut size = BLOCK;
        for _ in 0..TRIES {
            if let Some(id) = self.free.pop_front() {
                return AccountId::new(id).ok_or_else(used_up);
            }
            self.take(db, size)?;
            size = (size * 2).min(BLOCK_MAX);
        }
        Err(MysqlError::Corrupt {
            what: format!("{TRIES} blocks of account ids in a row belong to others"),
        })
    }

    fn take(&mut self, db: &mut Db, size: u64) -> Result<(), MysqlError> {
        let failed = failed(WHAT);
        db.run(
            WHAT,
            &format!(
                "INSERT INTO kilter_settings (name, value) \
                 SELECT 'account_sequence', COALESCE(MAX(id), 0) + 1 FROM accounts \
                 WHERE id BETWEEN 1 AND {STRANGE} \
                 ON DUPLICATE KEY UPDATE name = kilter_settings.name"
            ),
        )?;
        db.run(WHAT, "START TRANSACTION")?;
        let first = match Self::advance(db, size) {
            Ok(first) => first,
            Err(error) => {
                db.roll_back();
                return Err(error);
            }
        };
        db.run(WHAT, "COMMIT")?;
        let end = first + size;
        let taken: Vec<u64> = db
            .conn
            .query(format!(
                "SELECT id FROM accounts WHERE id >= {first} AND id < {end} ORDER BY id"
            ))
            .map_err(failed)?;
        let free = (first..end).filter(|id| taken.binary_search(id).is_err());
        self.free.extend(free);
        Ok(())
    }

    fn advance(db: &mut Db, size: u64) -> Result<u64, MysqlError> {
        let value: Option<Vec<u8>> = db
            .conn
            .query_first(
                "SELECT value FROM kilter_settings WHERE name = 'account_sequence' FOR UPDATE",
            )
            .map_err(failed(WHAT))?;
        let text = String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
        let first: u64 = text.parse().map_err(|_| MysqlError::Corrupt {
            what: format!("the setting account_sequence is {text:?}"),
        })?;
        if first == 0 || first > AccountId::MAX.get() - size {
            return Err(used_up());
        }
        db.conn
            .exec_drop(
                "UPDATE kilter_settings SET value = ? WHERE name = 'account_sequence'",
                ((first + size).to_string(),),
            )
            .map_err(failed(WHAT))?;
        Ok(first)
    }
}

fn used_up() -> MysqlError {
    MysqlError::Corrupt {
        what: "the account ids are used up".into(),
    }
}
