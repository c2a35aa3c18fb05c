//! Which process resends which users' events: a lease on each range of hashes.
//!
//! Two relays of one range would only send copies, which are harmless: each sends a user's events
//! in order, and marking compares the issue. The lease saves that work.

use std::time::{Duration, Instant};

use kilter_engine::HashRange;
use mysql::prelude::Queryable;

use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};

/// How many ranges there are.
pub(crate) const RANGES: u32 = 8;

const WHAT: &str = "take the outbox's lease";

/// The leases of one process.
#[derive(Debug)]
pub(crate) struct Leases {
    owner: String,
    ttl: Duration,
    /// The most ranges to hold.
    most: u32,
    held: Vec<u32>,
    /// Until when they are ours by our own clock.
    until: Instant,
}

impl Leases {
    pub(crate) fn new(owner: String, ttl: Duration, most: u32) -> Self {
        Self {
            owner,
            ttl,
            most,
            held: Vec::new(),
            until: Instant::now(),
        }
    }

    /// The ranges held, neighbours joined; none once the time is up.
    pub(crate) fn ranges(&self) -> Vec<HashRange> {
        if Instant::now() >= self.until {
            return Vec::new();
        }
        let mut joined: Vec<HashRange> = Vec::new();
        for id in &self.held {
            let range = HashRange::of_shard(*id, RANGES);
            match joined.last_mut() {
                Some(last) if last.last().checked_add(1) == Some(range.first()) => {
                    if let Some(both) = HashRange::new(last.first(), range.last()) {
                        *last = both;
                    }
                }
                _ => joined.push(range),
            }
        }
        joined
    }

    /// How many ranges are held.
    pub(crate) fn count(&self) -> u64 {
        self.held.len() as u64
    }

    /// Whether this process has the first range, whose holder also trims.
    pub(crate) fn has_first(&self) -> bool {
        self.held.first() == Some(&0) && Instant::now() < self.until
    }

    /// Renews what is held and takes what is free or expired.
    pub(crate) fn keep(&mut self, db: &mut Db) -> Result<(), MysqlError> {
        let since = Instant::now();
        let ttl_us = self.ttl.as_micros() as u64;
        db.conn
            .exec_drop(
                "UPDATE outbox_leases FORCE INDEX (PRIMARY) \
                 SET expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
                 WHERE id < ? AND owner = ? AND expires_at > UTC_TIMESTAMP(6)",
                (ttl_us, RANGES, &self.owner),
            )
            .map_err(failed(WHAT))?;
        type Lease = (u32, Option<Vec<u8>>, bool);
        let rows: Vec<Lease> = db
            .conn
            .query(format!(
                "SELECT id, owner, owner IS NULL OR expires_at < UTC_TIMESTAMP(6) \
                 FROM outbox_leases FORCE INDEX (PRIMARY) WHERE id < {RANGES} ORDER BY id"
            ))
            .map_err(failed(WHAT))?;
        if rows.len() < RANGES as usize {
            let values: Vec<String> = (0..RANGES).map(|id| format!("({id})")).collect();
            db.run(
                WHAT,
                &format!(
                    "INSERT IGNORE INTO outbox_leases (id) VALUES {}",
                    values.join(",")
                ),
            )?;
            return self.keep(db);
        }
        let is_ours = |(_, owner, is_free): &&Lease| {
            !is_free && owner.as_deref() == Some(self.owner.as_bytes())
        };
        self.held = rows.iter().filter(is_ours).map(|(id, ..)| *id).collect();
        for (id, _, is_free) in rows {
            if is_free && (self.held.len() as u32) < self.most && self.take(db, id, ttl_us)? {
                self.held.push(id);
            }
        }
        self.held.sort_unstable();
        self.until = since + self.ttl;
        Ok(())
    }

    fn take(&self, db: &mut Db, id: u32, ttl_us: u64) -> Result<bool, MysqlError> {
        db.conn
            .exec_drop(
                "UPDATE outbox_leases FORCE INDEX (PRIMARY) SET owner = ?, term = term + 1, \
                 expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
                 WHERE id = ? AND (owner IS NULL OR expires_at < UTC_TIMESTAMP(6))",
                (&self.owner, ttl_us, id),
            )
            .map_err(failed(WHAT))?;
        Ok(db.conn.affected_rows() == 1)
    }

    /// Lets go, so that the next process need not wait.
    pub(crate) fn release(&mut self, db: &mut Db) -> Result<(), MysqlError> {
        self.held.clear();
        db.conn
            .exec_drop(
                "UPDATE outbox_leases SET owner = NULL, expires_at = NULL WHERE owner = ?",
                (&self.owner,),
            )
            .map_err(failed("let go of the outbox's lease"))
    }
}
