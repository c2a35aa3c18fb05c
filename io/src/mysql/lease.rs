//! Leases: one row a partition in `leader_locks`, with an owner, an expiry and a term that only
//! grows.
//!
//! Time is the database's. The term is the fence: every epoch compares it under a share lock just
//! before COMMIT, so a taker waits for the commit in flight, and a stale owner cannot commit.

use std::time::Duration;

use kilter_engine::{Partition, Term};
use mysql::prelude::Queryable;

use super::{
    connection::Db,
    error::{MysqlError, failed},
    rows::list,
};

/// How many writers a node may have; their named locks are asked for by number.
const WRITERS_MAX: usize = 256;

/// How long a taker waits for a killed connection to have rolled back.
const KILL_TRIES: u32 = 500;
const KILL_PAUSE: Duration = Duration::from_millis(10);

/// A name that no other start of any process has: which process, and 64 random bits.
pub fn owner_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hash keys are the random bits at hand without a dependency.
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    format!("{}-{random:016x}", std::process::id())
}

/// The named lock that a writer's connection holds, so that a taker can find and kill it.
pub(super) fn writer_lock(owner: &str, index: usize) -> String {
    format!("w:{owner}:{index}")
}

/// A row of `leader_locks`, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// The partition.
    pub partition: Partition,
    /// Who has it.
    pub owner: Option<String>,
    /// Its term.
    pub term: Term,
    /// Whether it can be taken.
    pub is_free: bool,
}

/// What a taker got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The partitions, in order; none if all are another's.
    pub partitions: Vec<Partition>,
    /// The term that all of them are at now.
    pub term: Term,
    /// Whether the last owner of each had flushed everything when it let go.
    pub clean: bool,
}

/// The lease of one node: taking, renewing, letting go. Uses a connection of its own.
#[derive(Debug)]
pub struct Lease {
    owner: String,
    ttl: Duration,
}

impl Lease {
    /// A lease under this name, that lasts so long when it is not renewed.
    pub fn new(owner: String, ttl: Duration) -> Self {
        Self { owner, ttl }
    }

    /// The owner's name.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// How long it lasts.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The rows as they are, without waiting for anybody.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn look(db: &mut Db, partitions: u32) -> Result<Vec<LeaseRow>, MysqlError> {
        let rows: Vec<(u32, Option<Vec<u8>>, u64, bool)> = db
            .conn
            .exec(
                "SELECT id, consumer_id, term, \
                 consumer_id IS NULL OR expires_at < UTC_TIMESTAMP(6) \
                 FROM leader_locks FORCE INDEX (PRIMARY) WHERE id < ? ORDER BY id",
                (partitions,),
            )
            .map_err(failed("read the leases"))?;
        Ok(rows
            .into_iter()
            .map(|(id, owner, term, is_free)| LeaseRow {
                partition: Partition::new(id),
                owner: owner.map(|owner| String::from_utf8_lossy(&owner).into_owned()),
                term: Term::new(term),
                is_free,
            })
            .collect())
    }

    /// Takes free and expired rows, at most `most` of them, all with the same next term. The
    /// writers of owners that are gone are killed first, and have rolled back when this returns.
    ///
    /// # Errors
    ///
    /// When the store cannot be used.
    pub fn take(&self, db: &mut Db, partitions: u32, most: usize) -> Result<Taken, MysqlError> {
        self.make_rows(db, partitions)?;
        let free: Vec<LeaseRow> = Self::look(db, partitions)?
            .into_iter()
            .filter(|row| row.is_free)
            .take(most)
            .collect();
        // A stopped owner can still hold row locks, and would have us wait for it.
        let mut gone: Vec<&str> = free.iter().filter_map(|row| row.owner.as_deref()).collect();
        gone.sort_unstable();
        gone.dedup();
        for owner in gone {
            kill_writers(db, owner)?;
        }
        let ids: Vec<u32> = free.iter().map(|row| row.partition.get()).collect();
        let taken = self.take_rows(db, &ids);
        if taken.is_err() {
            db.roll_back();
        }
        taken
    }

    fn make_rows(&self, db: &mut Db, partitions: u32) -> Result<(), MysqlError> {
        let known: Option<u32> = db
            .conn
            .exec_first(
                "SELECT count(*) FROM leader_locks WHERE id < ?",
                (partitions,),
            )
            .map_err(failed("read the leases"))?;
        if known == Some(partitions) {
            return Ok(());
        }
        let values: Vec<String> = (0..partitions).map(|id| format!("({id})")).collect();
        db.run(
            "make the rows of the leases",
            &format!(
                "INSERT IGNORE INTO leader_locks (id) VALUES {}",
                values.join(",")
            ),
        )
    }

    fn take_rows(&self, db: &mut Db, ids: &[u32]) -> Result<Taken, MysqlError> {
        let failed = failed("take the lease");
        let none = Taken {
            partitions: Vec::new(),
            term: Term::default(),
            clean: false,
        };
        if ids.is_empty() {
            return Ok(none);
        }
        db.run("begin to take the lease", "START TRANSACTION")?;
        let in_list = list(ids.iter().copied());
        let locked: Vec<(u32, u64)> = db
            .conn
            .query(format!(
                "SELECT id, term FROM leader_locks FORCE INDEX (PRIMARY) \
                 WHERE id IN ({in_list}) ORDER BY id FOR UPDATE"
            ))
            .map_err(failed)?;
        // A statement of its own: time stands still within a statement that waited for a lock.
        let free: Vec<(u32, bool)> = db
            .conn
            .query(format!(
                "SELECT id, clean FROM leader_locks FORCE INDEX (PRIMARY) WHERE id IN ({in_list}) \
                 AND (consumer_id IS NULL OR expires_at < UTC_TIMESTAMP(6)) ORDER BY id"
            ))
            .map_err(failed)?;
        if free.is_empty() {
            db.run("end taking the lease", "ROLLBACK")?;
            return Ok(none);
        }
        let is_free = |id: u32| free.iter().any(|(free, _)| *free == id);
        let term = locked
            .iter()
            .filter(|(id, _)| is_free(*id))
            .map(|(_, term)| *term)
            .max()
            .unwrap_or(0)
            + 1;
        db.conn
            .exec_drop(
                format!(
                    "UPDATE leader_locks FORCE INDEX (PRIMARY) SET consumer_id = ?, term = ?, \
                     clean = 0, acquired_at = UTC_TIMESTAMP(6), \
                     expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE id IN ({})",
                    list(free.iter().map(|(id, _)| *id))
                ),
                (&self.owner, term, self.ttl.as_micros() as u64),
            )
            .map_err(failed)?;
        let changed = db.conn.affected_rows();
        if changed != free.len() as u64 {
            return Err(MysqlError::Corrupt {
                what: format!(
                    "{changed} lease rows changed where {} were locked",
                    free.len()
                ),
            });
        }
        db.run("commit the lease", "COMMIT")?;
        Ok(Taken {
            partitions: free.iter().map(|(id, _)| Partition::new(*id)).collect(),
            term: Term::new(term),
            clean: free.iter().all(|(_, clean)| *clean),
        })
    }

    /// Renews in one statement; when the lease had expired, looks under lock whether it is still
    /// ours, and goes on if so.
    ///
    /// # Errors
    ///
    /// [`MysqlError::LeaseLost`], or when the store cannot be used.
    pub fn renew(&self, db: &mut Db, taken: &Taken) -> Result<(), MysqlError> {
        let ids = list(taken.partitions.iter().map(|p| p.get()));
        let ttl_us = self.ttl.as_micros() as u64;
        db.conn
            .exec_drop(
                format!(
                    "UPDATE leader_locks FORCE INDEX (PRIMARY) \
                     SET expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
                     WHERE id IN ({ids}) AND consumer_id = ? AND expires_at > UTC_TIMESTAMP(6)"
                ),
                (ttl_us, &self.owner),
            )
            .map_err(failed("renew the lease"))?;
        if db.conn.affected_rows() == taken.partitions.len() as u64 {
            return Ok(());
        }
        let regained = self.regain(db, taken, &ids, ttl_us);
        if regained.is_err() {
            db.roll_back();
        }
        regained
    }

    fn regain(&self, db: &mut Db, taken: &Taken, ids: &str, ttl_us: u64) -> Result<(), MysqlError> {
        db.run("begin to renew the lease", "START TRANSACTION")?;
        check(db, &self.owner, taken.term, &taken.partitions, "FOR UPDATE")?;
        db.conn
            .exec_drop(
                format!(
                    "UPDATE leader_locks FORCE INDEX (PRIMARY) \
                     SET expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE id IN ({ids})"
                ),
                (ttl_us,),
            )
            .map_err(failed("renew the lease"))?;
        db.run("commit the lease", "COMMIT")
    }

    /// Lets go, so that the next node need not wait for the expiry. `clean` says that everything
    /// applied is committed.
    ///
    /// # Errors
    ///
    /// When the store cannot be used; the lease expires by itself then.
    pub fn release(&self, db: &mut Db, taken: &Taken, clean: bool) -> Result<(), MysqlError> {
        db.conn
            .exec_drop(
                format!(
                    "UPDATE leader_locks FORCE INDEX (PRIMARY) \
                     SET consumer_id = NULL, expires_at = NULL, clean = ? \
                     WHERE id IN ({}) AND consumer_id = ? AND term = ?",
                    list(taken.partitions.iter().map(|p| p.get()))
                ),
                (clean, &self.owner, taken.term.get()),
            )
            .map_err(failed("let go of the lease"))
    }
}

/// Compares owner and term of lease rows, which stay locked as `locking` says.
///
/// # Errors
///
/// [`MysqlError::LeaseLost`], or when they cannot be read.
pub(super) fn check(
    db: &mut Db,
    owner: &str,
    term: Term,
    partitions: &[Partition],
    locking: &str,
) -> Result<(), MysqlError> {
    let rows: Vec<(u32, Option<Vec<u8>>, u64)> = db
        .conn
        .query(format!(
            "SELECT id, consumer_id, term FROM leader_locks FORCE INDEX (PRIMARY) \
             WHERE id IN ({}) ORDER BY id {locking}",
            list(partitions.iter().map(|p| p.get()))
        ))
        .map_err(failed("compare the lease"))?;
    for partition in partitions {
        let row = rows.iter().find(|(id, ..)| *id == partition.get());
        let (held, theirs) = match row {
            Some((_, held, theirs)) => (held.as_deref(), *theirs),
            None => (None, 0),
        };
        if held != Some(owner.as_bytes()) || theirs != term.get() {
            return Err(MysqlError::LeaseLost {
                partition: *partition,
                ours: term,
                theirs: Term::new(theirs),
                owner: held.map_or_else(
                    || "nobody".to_owned(),
                    |owner| String::from_utf8_lossy(owner).into_owned(),
                ),
            });
        }
    }
    Ok(())
}

/// Kills all writers of an owner, and waits until they have rolled back.
fn kill_writers(db: &mut Db, owner: &str) -> Result<(), MysqlError> {
    let asked: Vec<String> = (0..WRITERS_MAX)
        .map(|index| {
            let name = writer_lock(owner, index).replace(['\\', '\''], "");
            format!("SELECT IS_USED_LOCK('{name}') AS id")
        })
        .collect();
    let sql = format!(
        "SELECT id FROM ({}) AS used WHERE id IS NOT NULL",
        asked.join(" UNION ALL ")
    );
    let ids: Vec<u64> = db
        .conn
        .query(sql)
        .map_err(failed("look for the last owner's writers"))?;
    if ids.is_empty() {
        return Ok(());
    }
    for id in ids {
        tracing::warn!(owner, connection = id, "killing a writer of the last owner");
        kill(db, id)?;
    }
    wait_until_none(db, &asked)
}

fn wait_until_none(db: &mut Db, asked: &[String]) -> Result<(), MysqlError> {
    let sql = format!(
        "SELECT count(*) FROM ({}) AS used WHERE id IS NOT NULL",
        asked.join(" UNION ALL ")
    );
    for _ in 0..KILL_TRIES {
        let left: Option<u64> = db
            .conn
            .query_first(&sql)
            .map_err(failed("wait for the last owner's writers"))?;
        if left == Some(0) {
            return Ok(());
        }
        std::thread::sleep(KILL_PAUSE);
    }
    Err(MysqlError::Corrupt {
        what: "a writer of the last owner does not end although it was killed".into(),
    })
}

/// Kills a connection; one that is gone already is fine.
pub(super) fn kill(db: &mut Db, id: u64) -> Result<(), MysqlError> {
    match db.conn.query_drop(format!("KILL {id}")) {
        Ok(()) => Ok(()),
        // 1094: no such thread.
        Err(mysql::Error::MySqlError(error)) if error.code == 1094 => Ok(()),
        Err(error) => Err(failed("kill a stale connection")(error)),
    }
}

/// Takes a writer's named lock; a stale connection of the same writer is killed for it.
pub(super) fn hold_writer_lock(db: &mut Db, owner: &str, index: usize) -> Result<(), MysqlError> {
    let name = writer_lock(owner, index);
    let failed = failed("take the writer's name");
    for _ in 0..KILL_TRIES {
        let got: Option<Option<i64>> = db
            .conn
            .exec_first("SELECT GET_LOCK(?, 0)", (&name,))
            .map_err(failed)?;
        if got.flatten() == Some(1) {
            return Ok(());
        }
        let holder: Option<Option<u64>> = db
            .conn
            .exec_first("SELECT IS_USED_LOCK(?)", (&name,))
            .map_err(failed)?;
        if let Some(id) = holder.flatten() {
            kill(db, id)?;
        }
        std::thread::sleep(KILL_PAUSE);
    }
    Err(MysqlError::Corrupt {
        what: format!("the named lock {name} is held by a connection that does not end"),
    })
}
