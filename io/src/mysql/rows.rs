//! Offset rows between the store's table and the engine.

use kilter_engine::{
    EpochNumber, Generation, HashRange, Offset, Partition, Term,
    epoch::{LastRecord, OffsetRow},
};
use mysql::{Row, prelude::Queryable};

use super::{
    connection::Db,
    error::{MysqlError, failed},
};
use crate::hex::hex;

/// An offset row, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedOffsetRow {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The row.
    pub row: OffsetRow,
}

/// A list for `IN (…)`.
pub(super) fn list(numbers: impl IntoIterator<Item = u32>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|n| n.to_string()).collect();
    numbers.join(",")
}

/// The offset rows of some partitions, by partition and hash; locked if `locking`.
pub(super) fn read(
    db: &mut Db,
    group: &str,
    topic: &str,
    partitions: &[Partition],
    range: HashRange,
    locking: bool,
) -> Result<Vec<OffsetRow>, MysqlError> {
    let failed = failed("read its offsets");
    // The primary key must be used: a scan of so small a table would lock other nodes' rows.
    let sql = format!(
        "SELECT `partition`, first_hash, last_hash, generation, `offset`, clock_ms, \
         last_key_hash, last_timestamp_ms, term, epoch \
         FROM consumer_offsets FORCE INDEX (PRIMARY) \
         WHERE consumer_group = ? AND topic = ? AND `partition` IN ({}) \
         AND first_hash BETWEEN ? AND ? ORDER BY `partition`, first_hash{}",
        list(partitions.iter().map(|p| p.get())),
        if locking { " FOR UPDATE" } else { "" }
    );
    let rows: Vec<Row> = db
        .conn
        .exec(sql, (group, topic, range.first(), range.last()))
        .map_err(failed)?;
    rows.into_iter().map(row).collect()
}

/// All offset rows, each with its group and topic.
pub(super) fn all(db: &mut Db) -> Result<Vec<OwnedOffsetRow>, MysqlError> {
    type Owner = (Vec<u8>, Vec<u8>);
    let failed = failed("read its offsets");
    let owners: Vec<Owner> = db
        .conn
        .query("SELECT DISTINCT consumer_group, topic FROM consumer_offsets ORDER BY 1, 2")
        .map_err(failed)?;
    let mut found = Vec::new();
    for (group, topic) in owners {
        let rows: Vec<Row> = db
            .conn
            .exec(
                "SELECT `partition`, first_hash, last_hash, generation, `offset`, clock_ms, \
                 last_key_hash, last_timestamp_ms, term, epoch FROM consumer_offsets \
                 WHERE consumer_group = ? AND topic = ? ORDER BY `partition`, first_hash",
                (&group, &topic),
            )
            .map_err(failed)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for held in rows {
            found.push(OwnedOffsetRow {
                group: text(&group),
                topic: text(&topic),
                row: row(held)?,
            });
        }
    }
    Ok(found)
}

fn row(row: Row) -> Result<OffsetRow, MysqlError> {
    type Numbers = (u32, u64, u64, u32, u64, i64, u64, i64, u64, u64);
    let (partition, first, last, generation, offset, clock_ms, key_hash, timestamp_ms, term, epoch) =
        mysql::from_row_opt::<Numbers>(row)
            .map_err(mysql::Error::from)
            .map_err(failed("read its offsets"))?;
    Ok(OffsetRow {
        partition: Partition::new(partition),
        range: HashRange::new(first, last).ok_or_else(|| MysqlError::Corrupt {
            what: format!(
                "partition {partition} has an offset row of the hashes {first} to {last}"
            ),
        })?,
        generation: Generation::new(generation),
        offset: Offset::new(offset),
        clock_ms,
        last: LastRecord {
            key_hash,
            timestamp_ms,
        },
        term: Term::new(term),
        epoch: EpochNumber::new(epoch),
    })
}

/// Writes rows, in place of those with the same partition and first hash.
pub(super) fn write<'a>(
    db: &mut Db,
    group: &str,
    topic: &str,
    rows: impl Iterator<Item = &'a OffsetRow>,
) -> Result<(), MysqlError> {
    let values: Vec<String> = rows
        .map(|row| {
            format!(
                "(x'{}',x'{}',{},{},{},{},UTC_TIMESTAMP(3),{},{},{},{},{},{})",
                hex(group.as_bytes()),
                hex(topic.as_bytes()),
                row.partition.get(),
                row.range.first(),
                row.range.last(),
                row.offset.get(),
                row.generation.get(),
                row.clock_ms,
                row.last.key_hash,
                row.last.timestamp_ms,
                row.term.get(),
                row.epoch.get()
            )
        })
        .collect();
    if values.is_empty() {
        return Ok(());
    }
    db.run(
        "write its offsets",
        &format!(
            "INSERT INTO consumer_offsets (consumer_group, topic, `partition`, first_hash, \
             last_hash, `offset`, updated_at, generation, clock_ms, last_key_hash, \
             last_timestamp_ms, term, epoch) VALUES {} ON DUPLICATE KEY UPDATE \
             last_hash = VALUES(last_hash), `offset` = VALUES(`offset`), \
             updated_at = VALUES(updated_at), generation = VALUES(generation), \
             clock_ms = VALUES(clock_ms), last_key_hash = VALUES(last_key_hash), \
             last_timestamp_ms = VALUES(last_timestamp_ms), term = VALUES(term), \
             epoch = VALUES(epoch)",
            values.join(",")
        ),
    )
}
