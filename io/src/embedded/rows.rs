//! Offset rows between the store's table and the engine.

use kilter_engine::{
    EpochNumber, Generation, HashRange, Offset, Partition, Term,
    epoch::{LastRecord, OffsetRow},
};
use rusqlite::{Row, params};

use super::{connection::Db, error::EmbeddedError};

/// All offset rows, by partition and hash.
pub(super) fn read(db: &Db) -> Result<Vec<OffsetRow>, EmbeddedError> {
    let failed = db.failed("read its offsets");
    let mut statement = db
        .connection
        .prepare_cached(
            "SELECT partition, first_hash, last_hash, generation, offset, clock,
                    last_key_hash, last_timestamp, term, epoch
             FROM consumer_offsets ORDER BY partition, first_hash",
        )
        .map_err(&failed)?;
    let rows = statement.query_map([], row).map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

fn row(row: &Row<'_>) -> rusqlite::Result<OffsetRow> {
    let hash = |index: usize| {
        let text: String = row.get(index)?;
        u64::from_str_radix(&text, 16).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(
                index,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        })
    };
    let number = |index: usize| row.get::<_, i64>(index).map(|number| number as u64);
    Ok(OffsetRow {
        partition: Partition::new(number(0)? as u32),
        range: HashRange::new(hash(1)?, hash(2)?)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(1, 0))?,
        generation: Generation::new(number(3)? as u32),
        offset: Offset::new(number(4)?),
        clock_ms: row.get(5)?,
        last: LastRecord {
            key_hash: hash(6)?,
            timestamp_ms: row.get(7)?,
        },
        term: Term::new(number(8)?),
        epoch: EpochNumber::new(number(9)?),
    })
}

/// Writes a row, in place of the one with the same partition and first hash.
pub(super) fn write(db: &Db, row: &OffsetRow) -> Result<(), EmbeddedError> {
    let failed = db.failed("write its offsets");
    db.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO consumer_offsets
             (partition, first_hash, last_hash, generation, offset, clock,
              last_key_hash, last_timestamp, term, epoch)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .map_err(&failed)?
        .execute(params![
            row.partition.get(),
            format!("{:016x}", row.range.first()),
            format!("{:016x}", row.range.last()),
            row.generation.get(),
            row.offset.get() as i64,
            row.clock_ms,
            format!("{:016x}", row.last.key_hash),
            row.last.timestamp_ms,
            row.term.get() as i64,
            row.epoch.get() as i64,
        ])
        .map_err(&failed)?;
    Ok(())
}
