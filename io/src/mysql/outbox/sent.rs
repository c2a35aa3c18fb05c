//! What became of sending, written down.

use mysql::prelude::Queryable;

use super::open::OpenEvent;
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};

/// An event that the log acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: u64,
    /// Which issue: a copy of an older one says nothing about the newest.
    pub(crate) issues: u32,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    /// Whether it may have been refused as EXPIRED.
    pub(crate) late: bool,
}

/// Marks events as sent, unless they are, or were issued anew meanwhile. Returns how many.
pub(crate) fn mark(db: &mut Db, sent: &mut [Sent], retries: u32) -> Result<u64, MysqlError> {
    if sent.is_empty() {
        return Ok(0);
    }
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
            } = *sent;
            let late = u8::from(late);
            if index == 0 {
                format!("SELECT {id} AS id, {issues} AS issues, {partition} AS p, {offset} AS o, {late} AS late")
            } else {
                format!("SELECT {id},{issues},{partition},{offset},{late}")
            }
        })
        .collect();
    db.run(
        "mark events as sent",
        &format!(
            "UPDATE ({}) AS s STRAIGHT_JOIN outbox_events AS e ON e.id = s.id \
             SET e.status = 'SENT', e.sent_at = UTC_TIMESTAMP(3), e.error_message = NULL, \
             e.sent_generation = (SELECT COALESCE(MAX(generation), 1) FROM kilter_logs), \
             e.sent_partition = s.p, e.sent_offset = s.o, e.late = s.late, \
             e.retry_count = e.retry_count + {retries} \
             WHERE e.status <> 'SENT' AND e.issues = s.issues",
            rows.join(" UNION ALL ")
        ),
    )?;
    Ok(db.conn.affected_rows())
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

/// An event took effect whatever is known of its sending: it is done with.
pub(crate) fn land(db: &mut Db, event: &OpenEvent) -> Result<(), MysqlError> {
    db.conn
        .exec_drop(
            "UPDATE outbox_events SET status = 'SENT', late = 0, \
             sent_at = COALESCE(sent_at, UTC_TIMESTAMP(3)) WHERE id = ? AND issues = ?",
            (event.id, event.issues),
        )
        .map_err(failed("mark an event as sent"))
}
