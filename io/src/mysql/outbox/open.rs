//! Rows that somebody has to look after.

use std::time::Duration;

use kilter_engine::HashRange;
use mysql::{Row, prelude::Queryable};

use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};

/// A row that has not reached the log, as far as order is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) id: u64,
    pub(crate) user: Vec<u8>,
    /// Its name, while the first issue is the only one. Who accepted it knows no other one's time.
    pub(crate) event_id: String,
}

/// The rows of these users (and of those that share a hash with one) that have not reached the log,
/// by hash and id; at most `most`, so that a hash near the end may lack its later ones.
pub(crate) fn look(db: &mut Db, hashes: &[u64], most: usize) -> Result<Vec<Unsent>, MysqlError> {
    let rows: Vec<(u64, Vec<u8>, String)> = db
        .conn
        .query(format!(
            "SELECT id, partition_key, IF(issues = 1, event_id, '') \
             FROM outbox_events FORCE INDEX (open_events) WHERE {} AND status <> 'SENT' \
             AND sent_offset IS NULL ORDER BY open_hash, id LIMIT {most}",
            among(hashes)
        ))
        .map_err(failed("look for older events"))?;
    let unsent = |(id, user, event_id)| Unsent { id, user, event_id };
    Ok(rows.into_iter().map(unsent).collect())
}

/// The condition that a row is of one of these hashes. In two lists, because one of some below 2⁶³ and
/// some above is compared as decimals, by a walk over the whole index; and by bare numbers, because to
/// cast each takes as long as to find its rows.
fn among(hashes: &[u64]) -> String {
    let (small, large): (Vec<u64>, Vec<u64>) = hashes
        .iter()
        .partition(|&&hash| i64::try_from(hash).is_ok());
    let lists = [small, large].into_iter().filter(|list| !list.is_empty());
    let lists = lists.map(|list| {
        let numbers: Vec<String> = list.iter().map(u64::to_string).collect();
        format!("open_hash IN ({})", numbers.join(","))
    });
    match lists.collect::<Vec<_>>() {
        lists if lists.is_empty() => "FALSE".to_owned(),
        lists => format!("({})", lists.join(" OR ")),
    }
}

/// A number that the server takes for unsigned.
fn unsigned(number: u64) -> String {
    format!("CAST({number} AS UNSIGNED)")
}

/// A row that is open: not sent, or sent so late that it may have expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenEvent {
    pub(crate) id: u64,
    pub(crate) event_id: String,
    pub(crate) user: Vec<u8>,
    pub(crate) transaction_id: Vec<u8>,
    pub(crate) leg: Vec<u8>,
    pub(crate) payload: String,
    pub(crate) issued_at_ms: i64,
    /// How often it was issued; 0 for a leg that was never handed over.
    pub(crate) issues: u32,
    pub(crate) key_hash: u64,
    /// Whether the log has it, late.
    pub(crate) is_sent: bool,
    /// Whether it shows as FAILED.
    pub(crate) is_failed: bool,
    /// Whether the log has it and nobody here can tell what came of it: it is an operator's.
    pub(crate) is_given_up: bool,
    /// How old it is, by the server's clock.
    pub(crate) age: Duration,
}

impl OpenEvent {
    /// Whether it is a transfer's leg, which nobody accepted.
    pub(crate) fn is_leg(&self) -> bool {
        !matches!(self.leg.as_slice(), b"" | b"OPEN")
    }
}

/// Where a walk over open rows goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) hash: u64,
    pub(crate) id: u64,
}

/// The next open rows of a range, by hash and id, behind `after`.
pub(crate) fn page(
    db: &mut Db,
    range: HashRange,
    after: Cursor,
    most: usize,
) -> Result<Vec<OpenEvent>, MysqlError> {
    let failed = failed("read what is left");
    // Behind the cursor, or from the range's first on. Said so that the index is entered there: by
    // hash alone, each page would pass over all the rows of its first user that came before.
    let (hash, id) = match after.hash < range.first() {
        true => (range.first(), 0),
        false => (after.hash, after.id),
    };
    let hash = unsigned(hash);
    let rows: Vec<Row> = db
        .conn
        .query(format!(
            "SELECT id, event_id, partition_key, transaction_id, leg, COALESCE(payload, ''), \
             issued_at_ms, issues, key_hash, status, sent_offset IS NOT NULL, \
             TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(3)) FROM outbox_events FORCE INDEX (open_events) \
             WHERE open_hash = {hash} AND id > {id} OR open_hash > {hash} AND open_hash <= {} \
             ORDER BY open_hash, id LIMIT {most}",
            unsigned(range.last()),
        ))
        .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            type Cells = (
                u64,
                String,
                Vec<u8>,
                Vec<u8>,
                Vec<u8>,
                String,
                i64,
                u32,
                u64,
                String,
                bool,
                i64,
            );
            let cells: Cells = mysql::from_row_opt(row)
                .map_err(mysql::Error::from)
                .map_err(failed)?;
            Ok(OpenEvent {
                id: cells.0,
                event_id: cells.1,
                user: cells.2,
                transaction_id: cells.3,
                leg: cells.4,
                payload: cells.5,
                issued_at_ms: cells.6,
                issues: cells.7,
                key_hash: cells.8,
                is_sent: cells.9 == "SENT",
                is_failed: cells.9 == "FAILED",
                is_given_up: cells.9 == "FAILED" && cells.10,
                age: Duration::from_micros(cells.11.max(0) as u64),
            })
        })
        .collect()
}

/// Issues those that never were, which are legs as their epochs left them: from now on their time
/// counts. Durable before any copy exists, so that all copies are of one issue. Returns whether it
/// was this call for all of them; else they are to be read again.
pub(crate) fn stamp(
    db: &mut Db,
    events: &mut [OpenEvent],
    now_ms: i64,
) -> Result<bool, MysqlError> {
    let new: Vec<&mut OpenEvent> = events.iter_mut().filter(|it| it.issues == 0).collect();
    if new.is_empty() {
        return Ok(true);
    }
    let ids: Vec<String> = new.iter().map(|event| event.id.to_string()).collect();
    db.run(
        "issue legs",
        &format!(
            "UPDATE outbox_events SET issues = 1, issued_at_ms = {now_ms} WHERE id IN ({}) \
             AND issues = 0",
            ids.join(",")
        ),
    )?;
    let by_us = db.conn.affected_rows() == new.len() as u64;
    for event in new {
        event.issues = 1;
        event.issued_at_ms = now_ms;
    }
    Ok(by_us)
}

/// Up to how many rows are looked at one by one to be counted.
const EXACT_MAX: u64 = 10_000;

/// What is left in some ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) unsent: u64,
    pub(crate) oldest_ms: u64,
}

/// How many rows of these ranges have not reached the log, and how old the oldest is. Of very many,
/// those that wait only for their fate are counted along, because to tell them apart takes a look at
/// each.
pub(crate) fn figures(db: &mut Db, ranges: &[HashRange]) -> Result<Figures, MysqlError> {
    if ranges.is_empty() {
        return Ok(Figures::default());
    }
    let ranges: Vec<String> = ranges
        .iter()
        .map(|range| {
            format!(
                "open_hash BETWEEN {} AND {}",
                unsigned(range.first()),
                unsigned(range.last())
            )
        })
        .collect();
    let ranges = ranges.join(" OR ");
    let failed = failed("count what is left");
    // The index alone, whatever the number.
    let found: Option<(u64, Option<u64>)> = db
        .conn
        .query_first(format!(
            "SELECT COUNT(*), MIN(id) FROM outbox_events FORCE INDEX (open_events) WHERE {ranges}"
        ))
        .map_err(failed)?;
    let (open, first) = found.unwrap_or_default();
    let Some(first) = first else {
        return Ok(Figures::default());
    };
    const AGE: &str = "TIMESTAMPDIFF(MICROSECOND, MIN(created_at), UTC_TIMESTAMP(3)) DIV 1000";
    let (unsent, oldest): (u64, Option<i64>) = match open <= EXACT_MAX {
        true => db.conn.query_first(format!(
            "SELECT COUNT(*), {AGE} FROM outbox_events FORCE INDEX (open_events) \
             WHERE ({ranges}) AND status <> 'SENT'"
        )),
        false => db.conn.query_first(format!(
            "SELECT {open}, {AGE} FROM outbox_events WHERE id = {first}"
        )),
    }
    .map_err(failed)?
    .unwrap_or_default();
    Ok(Figures {
        unsent,
        oldest_ms: oldest.unwrap_or(0).max(0) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_either_half_are_listed_apart() {
        assert_eq!(among(&[]), "FALSE");
        assert_eq!(among(&[7, 8]), "(open_hash IN (7,8))");
        assert_eq!(
            among(&[1 << 63, 7, (1 << 63) - 1]),
            "(open_hash IN (7,9223372036854775807) OR open_hash IN (9223372036854775808))"
        );
    }
}
