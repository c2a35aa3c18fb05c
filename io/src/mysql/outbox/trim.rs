//! Payloads that nobody needs any more are dropped in small bites; keys stay for ever.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};

const WHAT: &str = "trim payloads";

/// Trims rows by id, and remembers in the store how far it is.
#[derive(Debug)]
pub(crate) struct Trimmer {
    age: Duration,
    bite: u32,
}

impl Trimmer {
    /// Trims what was accepted longer ago than `age`, so many rows at once.
    pub(crate) fn new(age: Duration, bite: u32) -> Self {
        Self { age, bite }
    }

    /// One bite; how many rows were looked at, and how many payloads dropped.
    pub(crate) fn bite(&self, db: &mut Db) -> Result<(u64, u64), MysqlError> {
        let failed = failed(WHAT);
        let after: Option<u64> = db
            .conn
            .query_first(
                "SELECT CAST(CAST(value AS CHAR) AS UNSIGNED) FROM kilter_settings \
                 WHERE name = 'outbox_trimmed'",
            )
            .map_err(failed)?;
        let after = after.unwrap_or(0);
        let age_s = self.age.as_secs();
        // Ids are not quite in the order of time: the first that is too young ends the bite.
        let rows: Vec<(u64, bool, bool)> = db
            .conn
            .query(format!(
                "SELECT id, created_at < UTC_TIMESTAMP(3) - INTERVAL {age_s} SECOND, \
                 status = 'SENT' AND late = 0 FROM outbox_events FORCE INDEX (PRIMARY) \
                 WHERE id > {after} ORDER BY id LIMIT {}",
                self.bite
            ))
            .map_err(failed)?;
        let old: Vec<_> = rows.iter().take_while(|(_, is_old, _)| *is_old).collect();
        let Some((last, ..)) = old.last() else {
            return Ok((0, 0));
        };
        // A row that is still open is looked at again: no bite goes past it.
        let end = old.iter().position(|(.., is_done)| !is_done);
        let done = &old[..end.unwrap_or(old.len())];
        let to = match end {
            Some(0) => return Ok((0, 0)),
            Some(_) => done.last().map_or(after, |(id, ..)| *id),
            None => *last,
        };
        let ids: Vec<String> = done.iter().map(|(id, ..)| id.to_string()).collect();
        db.run(
            WHAT,
            &format!(
                "UPDATE outbox_events SET payload = NULL WHERE id IN ({}) \
                 AND status = 'SENT' AND late = 0 AND payload IS NOT NULL",
                ids.join(",")
            ),
        )?;
        let trimmed = db.conn.affected_rows();
        db.conn
            .exec_drop(
                "INSERT INTO kilter_settings (name, value) VALUES ('outbox_trimmed', ?) \
                 ON DUPLICATE KEY UPDATE value = VALUES(value)",
                (to.to_string(),),
            )
            .map_err(failed)?;
        Ok((done.len() as u64, trimmed))
    }
}
