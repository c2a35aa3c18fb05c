//! Payloads that nobody needs any more are dropped in small bites; keys stay for ever.
//!
//! A payload is needed until the outcome of its event is certain, and a leg's until it has landed:
//! then the place of what was answered is kept instead. What is not that far is left behind, and
//! looked at again in the next round, so that nothing stands in the way of what is behind it.

use std::time::{Duration, Instant};

use mysql::{Row, prelude::Queryable};

use super::{
    fate::{Judge, Window, account_in},
    place::{Place, Wanted, find},
    sent::generation,
};
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};
use crate::outbox::event::OPEN_LEG;

const WHAT: &str = "trim payloads";

/// Up to which id the present round is.
const CURSOR: &str = "outbox_trimmed";
/// The first id that the present round left behind; 0 is none.
const LEFT: &str = "outbox_left";

/// Trims rows by id, and remembers in the store how far it is.
#[derive(Debug)]
pub(crate) struct Trimmer {
    age: Duration,
    bite: u32,
    /// Whether the ledger is in the store.
    ledger: bool,
    /// How long after one round the next one begins.
    round: Duration,
    next_round: Instant,
}

/// How far a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its outcome is not certain.
    Open,
    /// Its record was answered where it lies.
    Answered,
    /// Its record is behind us, and has no entry of its own.
    Passed,
}

struct Looked {
    id: u64,
    is_old: bool,
    stage: Stage,
    leg: Vec<u8>,
}

/// Up to which id every row has its outcome.
pub(crate) fn settled_up_to(db: &mut Db) -> Result<u64, MysqlError> {
    let (cursor, left) = (number(db, CURSOR)?, number(db, LEFT)?);
    Ok(match left {
        0 => cursor,
        left => cursor.min(left - 1),
    })
}

fn number(db: &mut Db, name: &str) -> Result<u64, MysqlError> {
    let found: Option<u64> = db
        .conn
        .exec_first(
            "SELECT CAST(CAST(value AS CHAR) AS UNSIGNED) FROM kilter_settings WHERE name = ?",
            (name,),
        )
        .map_err(failed(WHAT))?;
    Ok(found.unwrap_or(0))
}

impl Trimmer {
    /// Trims what was accepted longer ago than `age`, so many rows at once, and begins again at
    /// what it left behind after `round`.
    pub(crate) fn new(age: Duration, bite: u32, ledger: bool, round: Duration) -> Self {
        Self {
            age,
            bite,
            ledger,
            round,
            next_round: Instant::now() + round,
        }
    }

    /// One bite; how many rows were looked at, and how many payloads dropped.
    pub(crate) fn bite(
        &mut self,
        db: &mut Db,
        judge: &Judge,
        window: &Window,
    ) -> Result<(u64, u64), MysqlError> {
        let (cursor, left) = (number(db, CURSOR)?, number(db, LEFT)?);
        let rows = self.look(db, judge, cursor)?;
        // Ids are not quite in the order of time: the first that is too young ends the bite.
        let old: Vec<&Looked> = rows.iter().take_while(|row| row.is_old).collect();
        let Some(last) = old.last() else {
            if left > 0 && Instant::now() >= self.next_round {
                self.next_round = Instant::now() + self.round;
                put(db, left - 1, 0)?;
            }
            return Ok((0, 0));
        };
        let mut done = Vec::new();
        let mut first_left = left;
        for row in &old {
            let is_done = match row.stage {
                Stage::Open => false,
                Stage::Answered => true,
                Stage::Passed => self.is_certain(db, judge, window, row)?,
            };
            if is_done {
                done.push(row.id.to_string());
            } else if first_left == 0 {
                first_left = row.id;
            }
        }
        let mut trimmed = 0;
        if !done.is_empty() {
            db.run(
                WHAT,
                &format!(
                    "UPDATE outbox_events SET payload = NULL WHERE id IN ({}) \
                     AND status = 'SENT' AND late = 0 AND payload IS NOT NULL",
                    done.join(",")
                ),
            )?;
            trimmed = db.conn.affected_rows();
        }
        put(db, last.id, first_left)?;
        Ok((old.len() as u64, trimmed))
    }

    fn look(&self, db: &mut Db, judge: &Judge, after: u64) -> Result<Vec<Looked>, MysqlError> {
        let failed = failed(WHAT);
        let newest = generation(db)?;
        let (age_s, bite) = (self.age.as_secs(), self.bite);
        let rows: Vec<Row> = db
            .conn
            .exec(
                format!(
                    "SELECT e.id, e.is_old, e.leg, e.is_sent AND (e.g < {newest} OR EXISTS \
                     (SELECT 1 FROM consumer_offsets AS c WHERE c.consumer_group = ? \
                     AND c.topic = ? AND c.`partition` = e.p AND c.generation = e.g \
                     AND e.key_hash BETWEEN c.first_hash AND c.last_hash AND c.`offset` > e.o)), \
                     EXISTS (SELECT 1 FROM balance_transactions AS t WHERE t.generation = e.g \
                     AND t.`partition` = e.p AND t.`offset` = e.o \
                     AND t.transaction_id = e.transaction_id AND COALESCE(t.leg, '') = e.leg) \
                     FROM (SELECT id, created_at < UTC_TIMESTAMP(3) - INTERVAL {age_s} SECOND \
                     AS is_old, status = 'SENT' AND late = 0 AS is_sent, transaction_id, leg, \
                     key_hash, sent_generation AS g, sent_partition AS p, sent_offset AS o \
                     FROM outbox_events FORCE INDEX (PRIMARY) WHERE id > {after} ORDER BY id \
                     LIMIT {bite}) AS e ORDER BY e.id"
                ),
                (&judge.group, &judge.topic),
            )
            .map_err(failed)?;
        rows.into_iter()
            .map(|row| {
                type Cells = (u64, bool, Vec<u8>, Option<bool>, bool);
                let (id, is_old, leg, is_past, is_entered): Cells = mysql::from_row_opt(row)
                    .map_err(mysql::Error::from)
                    .map_err(failed)?;
                let stage = match (is_past, is_entered) {
                    (Some(true), true) => Stage::Answered,
                    (Some(true), false) => Stage::Passed,
                    _ => Stage::Open,
                };
                Ok(Looked {
                    id,
                    is_old,
                    stage,
                    leg,
                })
            })
            .collect()
    }

    /// Whether a row whose record has no entry of its own has an outcome: that of an earlier copy,
    /// whose place is written down, or that it was refused. A leg that was is still in flight.
    fn is_certain(
        &self,
        db: &mut Db,
        judge: &Judge,
        window: &Window,
        row: &Looked,
    ) -> Result<bool, MysqlError> {
        let is_leg = !row.leg.is_empty() && row.leg != OPEN_LEG.as_bytes();
        if !self.ledger || row.leg == OPEN_LEG.as_bytes() {
            return Ok(!is_leg);
        }
        match earlier(db, judge, window, row)? {
            Some((generation, partition, offset)) => {
                db.conn
                    .exec_drop(
                        "UPDATE outbox_events SET sent_generation = ?, sent_partition = ?, \
                         sent_offset = ? WHERE id = ? AND status = 'SENT' AND late = 0",
                        (generation, partition, offset, row.id),
                    )
                    .map_err(failed(WHAT))?;
                Ok(true)
            }
            None => Ok(!is_leg),
        }
    }
}

/// Where an earlier copy of a row was answered.
fn earlier(
    db: &mut Db,
    judge: &Judge,
    window: &Window,
    row: &Looked,
) -> Result<Option<Place>, MysqlError> {
    type Cells = (Vec<u8>, Vec<u8>, Option<String>, i64);
    let found: Option<Cells> = db
        .conn
        .exec_first(
            "SELECT partition_key, transaction_id, payload, issued_at_ms FROM outbox_events \
             WHERE id = ?",
            (row.id,),
        )
        .map_err(failed(WHAT))?;
    let Some((user, transaction_id, payload, issued_at_ms)) = found else {
        return Ok(None);
    };
    let Some(account_id) = payload.as_deref().and_then(account_in) else {
        return Ok(None);
    };
    let wanted = Wanted {
        account_id,
        user: &user,
        transaction_id: &transaction_id,
        leg: &row.leg,
        issued_at_ms,
    };
    find(db, window, Some(judge.partitions), &wanted)
}

fn put(db: &mut Db, cursor: u64, left: u64) -> Result<(), MysqlError> {
    db.conn
        .exec_drop(
            "INSERT INTO kilter_settings (name, value) VALUES (?, ?), (?, ?) \
             ON DUPLICATE KEY UPDATE value = VALUES(value)",
            (CURSOR, cursor.to_string(), LEFT, left.to_string()),
        )
        .map_err(failed(WHAT))
}
