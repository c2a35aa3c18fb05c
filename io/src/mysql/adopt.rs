//! Another log, from a stated offset on: a new log generation.

use kilter_engine::{
    EpochNumber, HashRange, Offset, Partition,
    epoch::{LastRecord, OffsetRow},
    partitioner::Partitioner,
};
use mysql::prelude::Queryable;

use super::{
    connection::Db,
    error::{MysqlError, failed},
    lease::{self, Lease, Taken},
    outbox, rows,
    start::{KnownLog, put_log},
};

/// How many accounts get their partition in one statement.
const CHUNK: usize = 1000;

/// How many ids of the outbox are looked through in one statement.
const ROWS_A_STATEMENT: u64 = 20_000;

/// Where reading of a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Where each of its hash ranges is.
    Committed,
    /// At this offset, behind this record.
    At(Offset, LastRecord),
}

/// Writes down a new log generation under the leases of all partitions: its identity, an offset row
/// for each partition (or the old ones, where they go on), the window in force, and the partition of
/// each account if there are more now. The clocks go on from the latest there was, so that time
/// never goes back for any user.
///
/// # Errors
///
/// When the lease is lost meanwhile, or the store cannot be used. Nothing is changed then.
pub fn adopt(
    db: &mut Db,
    lease: &Lease,
    taken: &Taken,
    group: &str,
    log: &KnownLog,
    from: &[(Partition, From)],
    reason: &str,
) -> Result<(), MysqlError> {
    db.run("begin to adopt", "START TRANSACTION")?;
    match adopt_inside(db, lease, taken, group, log, from, reason) {
        Ok(()) => db.run("commit the new log", "COMMIT"),
        Err(error) => {
            db.roll_back();
            Err(error)
        }
    }
}

fn adopt_inside(
    db: &mut Db,
    lease: &Lease,
    taken: &Taken,
    group: &str,
    log: &KnownLog,
    from: &[(Partition, From)],
    reason: &str,
) -> Result<(), MysqlError> {
    let failed = failed("write its offsets");
    let old = rows::read(
        db,
        group,
        &log.topic,
        &taken.partitions,
        HashRange::ALL,
        true,
    )?;
    lease::check(
        db,
        lease.owner(),
        taken.term,
        &taken.partitions,
        "LOCK IN SHARE MODE",
    )?;
    let clock_ms = old.iter().map(|row| row.clock_ms).max().unwrap_or(0);
    let epoch = old
        .iter()
        .map(|row| row.epoch)
        .max()
        .unwrap_or(EpochNumber::default());
    let mut new: Vec<OffsetRow> = Vec::new();
    for (partition, from) in from {
        match from {
            From::Committed => new.extend(
                old.iter()
                    .filter(|row| row.partition == *partition)
                    .map(|row| OffsetRow {
                        generation: log.generation,
                        ..*row
                    }),
            ),
            From::At(offset, last) => new.push(OffsetRow {
                offset: *offset,
                clock_ms,
                last: *last,
                term: taken.term,
                epoch,
                ..OffsetRow::first(*partition, log.generation)
            }),
        }
    }
    send_again(db, group, &log.topic)?;
    db.conn
        .exec_drop(
            "DELETE FROM consumer_offsets WHERE consumer_group = ? AND topic = ?",
            (group, &log.topic),
        )
        .map_err(failed)?;
    rows::write(db, group, &log.topic, new.iter())?;
    let window_ms: Option<u64> = db
        .conn
        .query_first(
            "SELECT window_ms FROM kilter_windows ORDER BY generation DESC, from_offset DESC LIMIT 1",
        )
        .map_err(failed)?;
    if let Some(window_ms) = window_ms {
        for (partition, _) in from {
            db.conn
                .exec_drop(
                    "REPLACE INTO kilter_windows (generation, `partition`, from_offset, window_ms) \
                     VALUES (?, ?, 0, ?)",
                    (log.generation.get(), partition.get(), window_ms),
                )
                .map_err(failed)?;
        }
    }
    put_log(db, log, reason)?;
    move_accounts(db, log.partitions)
}

/// What the old log has behind the committed offsets has no outcome, and will have none there: the
/// outbox sends it to the new one. What arrives twice has one effect.
///
/// Every row that is open is issued once more, so that an acknowledgement of the old log that comes
/// in later says nothing about it. Nobody marks anything meanwhile: marking needs a share lock on
/// the newest log, which is held here, and finds another one afterwards.
fn send_again(db: &mut Db, group: &str, topic: &str) -> Result<(), MysqlError> {
    const WHAT: &str = "have the outbox send again";
    let newest: Option<u32> = db
        .conn
        .query_first(
            "SELECT generation FROM kilter_logs ORDER BY generation DESC LIMIT 1 FOR UPDATE",
        )
        .map_err(failed(WHAT))?;
    let generation = newest.unwrap_or(1);
    let last: Option<Option<u64>> = db
        .conn
        .query_first("SELECT MAX(id) FROM outbox_events")
        .map_err(failed(WHAT))?;
    let last = last.flatten().unwrap_or(0);
    let mut after = outbox::settled_up_to(db)?;
    let mut count = 0;
    // In pieces, because no index leads to what was sent; and from where everything is settled.
    while after < last {
        let to = after.saturating_add(ROWS_A_STATEMENT);
        db.conn
            .exec_drop(
                format!(
                    "UPDATE outbox_events AS e LEFT JOIN consumer_offsets AS c \
                     ON c.consumer_group = ? AND c.topic = ? \
                     AND c.`partition` = e.sent_partition AND c.generation = {generation} \
                     AND e.key_hash BETWEEN c.first_hash AND c.last_hash \
                     SET e.status = 'PENDING', e.late = 0, e.retry_count = e.retry_count + 1, \
                     e.issues = e.issues + 1, e.error_message = NULL, e.sent_at = NULL, \
                     e.sent_generation = NULL, e.sent_partition = NULL, e.sent_offset = NULL \
                     WHERE e.id > {after} AND e.id <= {to} AND e.status = 'SENT' \
                     AND e.payload IS NOT NULL AND e.sent_generation = {generation} \
                     AND (c.`offset` IS NULL OR e.sent_offset >= c.`offset`)"
                ),
                (group, topic),
            )
            .map_err(failed(WHAT))?;
        count += db.conn.affected_rows();
        // One that was never issued stays so: no copy of it is anywhere.
        db.run(
            WHAT,
            &format!(
                "UPDATE outbox_events SET issues = issues + 1 WHERE id > {after} AND id <= {to} \
                 AND (status <> 'SENT' OR late = 1) AND issues > 0"
            ),
        )?;
        after = to;
    }
    if count > 0 {
        tracing::info!(count, "events without an outcome are sent again");
    }
    Ok(())
}

/// Gives each account the partition that its user has now.
fn move_accounts(db: &mut Db, partitions: u32) -> Result<(), MysqlError> {
    let failed = failed("give accounts their partitions");
    let mut after = 0_i64;
    loop {
        let rows: Vec<(i64, Vec<u8>, u32)> = db
            .conn
            .exec(
                "SELECT id, user_id, shard_id FROM accounts WHERE id > ? ORDER BY id LIMIT ?",
                (after, CHUNK),
            )
            .map_err(failed)?;
        let Some((last, ..)) = rows.last() else {
            return Ok(());
        };
        after = *last;
        let moved: Vec<(i64, u32)> = rows
            .iter()
            .map(|(id, user, old)| (*id, Partitioner::Murmur2.partition(user, partitions), *old))
            .filter(|(_, new, old)| new != old)
            .map(|(id, new, _)| (id, new))
            .collect();
        if moved.is_empty() {
            continue;
        }
        let cases: Vec<String> = moved
            .iter()
            .map(|(id, new)| format!("WHEN {id} THEN {new}"))
            .collect();
        let ids: Vec<String> = moved.iter().map(|(id, _)| id.to_string()).collect();
        db.run(
            "give accounts their partitions",
            &format!(
                "UPDATE accounts SET shard_id = CASE id {} END, updated_at = UTC_TIMESTAMP(3) \
                 WHERE id IN ({})",
                cases.join(" "),
                ids.join(",")
            ),
        )?;
    }
}
