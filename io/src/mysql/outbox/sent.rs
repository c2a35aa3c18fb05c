//! What became of sending, written down.

use mysql::prelude::Queryable;

use super::{open::OpenEvent, place::Place};
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};

/// What a leg shows that came to the log late where the ledger is not in the store.
const GIVEN_UP: &str = "it came to the log late and may have been refused as EXPIRED: if the result \
     topic has no result of this leg, resend it (kilter legs resend)";

/// An event that the log acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: u64,
    /// Which issue: a copy of an older one says nothing about the newest.
    pub(crate) issues: u32,
    /// The log generation for which it was produced.
    pub(crate) generation: u32,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    /// Whether it may have been refused as EXPIRED.
    pub(crate) late: bool,
    /// Whether it is late and nobody here can tell whether it was.
    pub(crate) given_up: bool,
}

/// The newest log generation, for which everything is produced.
pub(crate) fn generation(db: &mut Db) -> Result<u32, MysqlError> {
    let found: Option<u32> = db
        .conn
        .query_first("SELECT COALESCE(MAX(generation), 1) FROM kilter_logs")
        .map_err(failed("read which log it knows"))?;
    Ok(found.unwrap_or(1))
}

/// Behind which offset of each partition everything new lies.
pub(crate) fn committed_ends(
    db: &mut Db,
    group: &str,
    topic: &str,
    generation: u32,
) -> Result<Vec<(u32, u64)>, MysqlError> {
    db.conn
        .exec(
            "SELECT `partition`, MAX(`offset`) FROM consumer_offsets WHERE consumer_group = ? \
             AND topic = ? AND generation = ? GROUP BY `partition`",
            (group, topic, generation),
        )
        .map_err(failed("read its offsets"))
}

/// Marks events as sent, unless they are, or were issued anew meanwhile. Returns how many.
///
/// # Errors
///
/// [`MysqlError::Adopted`] if the store has another log by now: nothing was marked then.
pub(crate) fn mark(db: &mut Db, sent: &mut [Sent], retries: u32) -> Result<u64, MysqlError> {
    let Some(ours) = sent.first().map(|sent| sent.generation) else {
        return Ok(0);
    };
    assert!(sent.iter().all(|sent| sent.generation == ours));
    // Ascending, so that two that mark the same rows wait in one direction.
    sent.sort_unstable_by_key(|sent| sent.id);
    let rows: Vec<String> = sent
        .iter()
        .enumerate()
        .map(|(index, sent)| {
            let Sent {
                id,
                issues,
                partition,
                offset,
                late,
                given_up,
                ..
            } = *sent;
            let (late, lost) = (u8::from(late), u8::from(given_up));
            if index == 0 {
                format!(
                    "SELECT {id} AS id, {issues} AS issues, {partition} AS p, {offset} AS o, \
                     {late} AS late, {lost} AS lost"
                )
            } else {
                format!("SELECT {id},{issues},{partition},{offset},{late},{lost}")
            }
        })
        .collect();
    // Under a share lock on the newest log: whoever adopts another one meanwhile is waited for, and
    // waits for this.
    db.run(
        "mark events as sent",
        &format!(
            "UPDATE ({}) AS s STRAIGHT_JOIN outbox_events AS e ON e.id = s.id \
             SET e.status = IF(s.lost, 'FAILED', 'SENT'), e.sent_at = UTC_TIMESTAMP(3), \
             e.error_message = CASE WHEN s.lost THEN '{GIVEN_UP}' \
             WHEN e.error_message LIKE 'resent by an operator:%' THEN e.error_message \
             ELSE NULL END, e.sent_generation = {ours}, \
             e.sent_partition = s.p, e.sent_offset = s.o, e.late = s.late, \
             e.retry_count = e.retry_count + {retries} \
             WHERE e.status <> 'SENT' AND e.issues = s.issues AND {ours} = \
             (SELECT COALESCE(MAX(generation), 1) FROM kilter_logs LOCK IN SHARE MODE)",
            rows.join(" UNION ALL ")
        ),
    )?;
    let marked = db.conn.affected_rows();
    if marked < sent.len() as u64 {
        let theirs = generation(db)?;
        if theirs != ours {
            return Err(MysqlError::Adopted { ours, theirs });
        }
    }
    Ok(marked)
}

/// Notes a failed try; past `tries` of them the event shows as FAILED, and is still tried.
pub(crate) fn note_failure(
    db: &mut Db,
    ids: &[u64],
    why: &str,
    tries: u32,
) -> Result<(), MysqlError> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    let why: String = why.chars().take(255).collect();
    db.conn
        .exec_drop(
            format!(
                "UPDATE outbox_events SET retry_count = retry_count + 1, error_message = ?, \
                 status = IF(retry_count >= ?, 'FAILED', status) \
                 WHERE id IN ({}) AND status <> 'SENT'",
                ids.join(",")
            ),
            (why, tries),
        )
        .map_err(failed("note a failed try"))
}

/// Issues an expired event anew, unless somebody else did. Returns whether it was this call.
pub(crate) fn issue_anew(db: &mut Db, event: &OpenEvent, now_ms: i64) -> Result<bool, MysqlError> {
    db.conn
        .exec_drop(
            "UPDATE outbox_events SET status = 'PENDING', late = 0, issued_at_ms = ?, \
             issues = issues + 1, retry_count = retry_count + 1, sent_at = NULL, \
             sent_generation = NULL, sent_partition = NULL, sent_offset = NULL \
             WHERE id = ? AND issues = ? AND issued_at_ms = ?",
            (now_ms, event.id, event.issues, event.issued_at_ms),
        )
        .map_err(failed("issue an event anew"))?;
    Ok(db.conn.affected_rows() == 1)
}

/// Shows an event as FAILED at once: it can never be sent as it is.
pub(crate) fn fail(db: &mut Db, event: &OpenEvent, why: &str) -> Result<(), MysqlError> {
    db.conn
        .exec_drop(
            "UPDATE outbox_events SET status = 'FAILED', error_message = ? \
             WHERE id = ? AND issues = ?",
            (why, event.id, event.issues),
        )
        .map_err(failed("note a failed try"))
}

/// An event took effect whatever is known of its sending: it is done with, and its place is the one
/// where it did.
pub(crate) fn land(db: &mut Db, event: &OpenEvent, place: Option<Place>) -> Result<(), MysqlError> {
    let (generation, partition, offset) = match place {
        Some((generation, partition, offset)) => (Some(generation), Some(partition), Some(offset)),
        None => (None, None, None),
    };
    db.conn
        .exec_drop(
            "UPDATE outbox_events SET status = 'SENT', late = 0, error_message = NULL, \
             sent_at = COALESCE(sent_at, UTC_TIMESTAMP(3)), \
             sent_generation = COALESCE(?, sent_generation), \
             sent_partition = COALESCE(?, sent_partition), \
             sent_offset = COALESCE(?, sent_offset) WHERE id = ? AND issues = ?",
            (generation, partition, offset, event.id, event.issues),
        )
        .map_err(failed("mark an event as sent"))
}
