//! Where the ledger has an event: which record of it was answered.
//!
//! A record of the log lies in time order in its partition, so the search is bounded by time. An
//! issue takes effect only while its partition's clock is less than half a window past it and no
//! more than a quarter before it, and it is a duplicate of what was answered at most a window
//! before that. Whatever lies outside of that is another command's.

use kilter_engine::partitioner::Partitioner;
use mysql::prelude::Queryable;

use super::fate::Window;
use crate::hex::hex;
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
    start::known_logs,
};

/// Generation, partition and offset of a record.
pub(crate) type Place = (u32, u32, u64);

/// Up to so many entries of an account are looked through without asking where the time begins.
const FEW: u64 = 1000;

const WHAT: &str = "look for an event in the ledger";

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) account_id: u64,
    /// By whose hash the partition is chosen.
    pub(crate) user: &'a [u8],
    pub(crate) transaction_id: &'a [u8],
    /// The leg's name, or empty.
    pub(crate) leg: &'a [u8],
    pub(crate) issued_at_ms: i64,
}

/// A stretch of the log.
#[derive(Clone, Copy)]
struct Stretch {
    generation: u32,
    /// All of them where it is not known how many there are.
    partition: Option<u32>,
}

impl Stretch {
    fn sql(self) -> String {
        let Self { generation, .. } = self;
        match self.partition {
            Some(partition) => format!("generation = {generation} AND `partition` = {partition}"),
            None => format!("generation = {generation}"),
        }
    }
}

/// Where an event's ledger entry is, if there is one. `partitions` counts while no node has written
/// down how many the topic has.
pub(crate) fn find(
    db: &mut Db,
    window: &Window,
    partitions: Option<u32>,
    wanted: &Wanted<'_>,
) -> Result<Option<Place>, MysqlError> {
    let partition = |count| Partitioner::Murmur2.partition(wanted.user, count);
    let mut stretches: Vec<Stretch> = known_logs(db)?
        .into_iter()
        .map(|log| Stretch {
            generation: log.generation.get(),
            partition: Some(partition(log.partitions)),
        })
        .collect();
    if stretches.is_empty() {
        stretches.push(Stretch {
            generation: 1,
            partition: partitions.map(partition),
        });
    }
    for stretch in stretches {
        if let Some(place) = find_in(db, window, stretch, wanted)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn find_in(
    db: &mut Db,
    window: &Window,
    stretch: Stretch,
    wanted: &Wanted<'_>,
) -> Result<Option<Place>, MysqlError> {
    let (from, to) = window.around(wanted.issued_at_ms);
    let (from, to) = (time(from), time(to));
    let stretch_sql = stretch.sql();
    let account = format!("account_id = {} AND {stretch_sql}", wanted.account_id);
    let many: Option<u64> = db
        .conn
        .query_first(format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM balance_transactions FORCE INDEX (account) \
             WHERE {account} LIMIT {}) AS few",
            FEW + 1
        ))
        .map_err(failed(WHAT))?;
    // The index has the account's entries by their places.
    let between = match stretch.partition {
        Some(_) if many.unwrap_or(0) > FEW => {
            let first = offset_at(db, &stretch_sql, &from)?;
            let end = offset_at(db, &stretch_sql, &to)?;
            format!(" AND `offset` >= {first} AND `offset` < {end}")
        }
        _ => String::new(),
    };
    let which = match wanted.leg {
        // Legs carry the client's id, too.
        [] => "type NOT IN ('CREDIT', 'REFUND')".into(),
        leg => format!("leg = x'{}'", hex(leg)),
    };
    db.conn
        .query_first(format!(
            "SELECT generation, `partition`, `offset` FROM balance_transactions \
             FORCE INDEX (account) WHERE {account}{between} AND transaction_id = x'{}' AND {which} \
             AND created_at >= {from} AND created_at < {to} \
             ORDER BY generation, `partition`, `offset` LIMIT 1",
            hex(wanted.transaction_id)
        ))
        .map_err(failed(WHAT))
}

/// The first offset at or past a time; behind the last entry if there is none.
fn offset_at(db: &mut Db, stretch: &str, time: &str) -> Result<u64, MysqlError> {
    let entry = "FROM balance_transactions FORCE INDEX (PRIMARY) WHERE";
    let last: Option<u64> = db
        .conn
        .query_first(format!(
            "SELECT `offset` {entry} {stretch} ORDER BY `offset` DESC LIMIT 1"
        ))
        .map_err(failed(WHAT))?;
    let (mut low, mut high) = (0, last.map_or(0, |last| last + 1));
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(u64, bool)> = db
            .conn
            .query_first(format!(
                "SELECT `offset`, created_at >= {time} {entry} {stretch} \
                 AND `offset` >= {middle} ORDER BY `offset` LIMIT 1"
            ))
            .map_err(failed(WHAT))?;
        match found {
            Some((offset, false)) => low = offset + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// A time in ms since 1970, as SQL.
fn time(ms: i64) -> String {
    const YEAR_9000_MS: i64 = 221_845_392_000_000;
    let us = ms.clamp(0, YEAR_9000_MS) * 1000;
    format!("TIMESTAMP'1970-01-01 00:00:00' + INTERVAL {us} MICROSECOND")
}
