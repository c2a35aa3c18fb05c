//! The start transaction: which log the offsets count in, and who has which hash range.

use kilter_engine::{
    EpochNumber, Generation, HashRange, Offset, Partition, epoch::OffsetRow, notes::Note,
    regroup::regroup,
};
use mysql::prelude::Queryable;

use super::{
    connection::Db,
    error::{MysqlError, failed},
    lease::{self, Lease, Taken},
    notes::notes,
    rows,
};

/// What holds for every replay, kept beside the offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The consumer group: a store has one set of offsets.
    pub group: String,
    /// The command topic.
    pub topic: String,
    /// How keys go to partitions.
    pub partitioner: String,
    /// Where the ledger is: `mysql` or `topic`.
    pub ledger: String,
}

const NAMES: [&str; 4] = ["group", "topic", "partitioner", "ledger"];

impl StoreSettings {
    fn values(&self) -> [&str; 4] {
        [&self.group, &self.topic, &self.partitioner, &self.ledger]
    }
}

/// Writes the settings where there are none, and refuses others.
///
/// # Errors
///
/// [`MysqlError::Differs`], or when the store cannot be used.
pub fn store_settings(db: &mut Db, asked: &StoreSettings) -> Result<(), MysqlError> {
    let failed = failed("write its settings");
    for (name, value) in NAMES.into_iter().zip(asked.values()) {
        db.conn
            .exec_drop(
                "INSERT IGNORE INTO kilter_settings (name, value) VALUES (?, ?)",
                (name, value),
            )
            .map_err(failed)?;
    }
    expect_settings(db, asked)
}

/// Refuses other settings than those that are written down; what is not written down is free.
///
/// # Errors
///
/// [`MysqlError::Differs`], or when the store cannot be read.
pub fn expect_settings(db: &mut Db, asked: &StoreSettings) -> Result<(), MysqlError> {
    let failed = failed("read its settings");
    for (name, value) in NAMES.into_iter().zip(asked.values()) {
        let stored: Option<Vec<u8>> = db
            .conn
            .exec_first("SELECT value FROM kilter_settings WHERE name = ?", (name,))
            .map_err(failed)?;
        let Some(stored) = stored else {
            continue;
        };
        let stored = String::from_utf8_lossy(&stored).into_owned();
        if stored != value {
            return Err(MysqlError::Differs {
                what: name,
                stored,
                asked: value.to_owned(),
                way_out: "one store belongs to one group, topic, partitioner and kind of ledger; \
                          configure what the store says, or use another database"
                    .into(),
            });
        }
    }
    Ok(())
}

/// The log that the offsets count in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLog {
    /// Which life of the log.
    pub generation: Generation,
    /// The cluster's id.
    pub cluster_id: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's id; another one with the same name has another id.
    pub topic_id: String,
    /// How many partitions it had.
    pub partitions: u32,
}

/// The newest log generation, if one is known.
///
/// # Errors
///
/// When it cannot be read.
pub fn known_log(db: &mut Db) -> Result<Option<KnownLog>, MysqlError> {
    Ok(known_logs(db)?.into_iter().next())
}

/// All log generations, the newest first.
pub(super) fn known_logs(db: &mut Db) -> Result<Vec<KnownLog>, MysqlError> {
    type Row = (u32, Vec<u8>, Vec<u8>, Vec<u8>, u32);
    let rows: Vec<Row> = db
        .conn
        .query(
            "SELECT generation, cluster_id, topic, topic_id, partitions FROM kilter_logs \
             ORDER BY generation DESC",
        )
        .map_err(failed("read which log it knows"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let known = |(generation, cluster_id, topic, topic_id, partitions)| KnownLog {
        generation: Generation::new(generation),
        cluster_id: text(cluster_id),
        topic: text(topic),
        topic_id: text(topic_id),
        partitions,
    };
    Ok(rows.into_iter().map(known).collect())
}

/// Writes down a log generation.
///
/// # Errors
///
/// When it cannot be written.
pub fn put_log(db: &mut Db, log: &KnownLog, reason: &str) -> Result<(), MysqlError> {
    db.conn
        .exec_drop(
            "INSERT INTO kilter_logs \
             (generation, cluster_id, topic, topic_id, partitions, adopted_at, reason) \
             VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(3), ?) \
             ON DUPLICATE KEY UPDATE cluster_id = VALUES(cluster_id), topic = VALUES(topic), \
             topic_id = VALUES(topic_id), partitions = VALUES(partitions), \
             reason = VALUES(reason)",
            (
                log.generation.get(),
                &log.cluster_id,
                &log.topic,
                &log.topic_id,
                log.partitions,
                reason,
            ),
        )
        .map_err(failed("write down the log"))
}

/// What a node starts from.
#[derive(Clone, Debug)]
pub struct Started {
    /// The last epoch that was committed for any of its partitions.
    pub last_epoch: EpochNumber,
    /// The offset rows of each writer, all partitions one after the other.
    pub rows: Vec<Vec<OffsetRow>>,
    /// The idempotency window in force, in ms.
    pub window_ms: u64,
    /// Operators' notes of the present generation.
    pub notes: Vec<Note>,
}

/// What [`start`] is told.
#[derive(Clone, Copy, Debug)]
pub struct StartAsked<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The present generation.
    pub generation: Generation,
    /// The hash range of each writer.
    pub ranges: &'a [HashRange],
    /// The window that is configured, in ms.
    pub window_ms: u64,
}

/// Under the lease, splits the offset rows once to the writers' hash ranges, each keeping its own
/// offset, and settles the window.
///
/// # Errors
///
/// When the lease is lost meanwhile, or the store cannot be used.
pub fn start(
    db: &mut Db,
    lease: &Lease,
    taken: &Taken,
    asked: StartAsked<'_>,
) -> Result<Started, MysqlError> {
    db.run("begin to start", "START TRANSACTION")?;
    let started = start_inside(db, lease, taken, asked);
    match started {
        Ok(started) => {
            db.run("commit the start", "COMMIT")?;
            Ok(started)
        }
        Err(error) => {
            db.roll_back();
            Err(error)
        }
    }
}

fn start_inside(
    db: &mut Db,
    lease: &Lease,
    taken: &Taken,
    asked: StartAsked<'_>,
) -> Result<Started, MysqlError> {
    let held = rows::read(
        db,
        asked.group,
        asked.topic,
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
    let mut groups: Vec<Vec<OffsetRow>> = asked.ranges.iter().map(|_| Vec::new()).collect();
    let mut windows = Vec::new();
    let clean = taken.clean && is_level(&held);
    for partition in &taken.partitions {
        let mut own: Vec<OffsetRow> = held
            .iter()
            .filter(|row| row.partition == *partition)
            .copied()
            .collect();
        if own.is_empty() {
            own.push(OffsetRow::first(*partition, asked.generation));
        }
        if let Some(row) = own.iter().find(|row| row.generation != asked.generation) {
            return Err(MysqlError::Corrupt {
                what: format!(
                    "partition {partition} has an offset row of log generation {}, the newest \
                     generation is {}",
                    row.generation, asked.generation
                ),
            });
        }
        windows.push(settle_window(db, &own, asked.window_ms, clean)?);
        for (group, rows) in groups.iter_mut().zip(regroup(&own, asked.ranges)) {
            group.extend(rows);
        }
    }
    db.conn
        .exec_drop(
            format!(
                "DELETE FROM consumer_offsets WHERE consumer_group = ? AND topic = ? \
                 AND `partition` IN ({})",
                rows::list(taken.partitions.iter().map(|p| p.get()))
            ),
            (asked.group, asked.topic),
        )
        .map_err(failed("write its offsets"))?;
    rows::write(db, asked.group, asked.topic, groups.iter().flatten())?;
    let window_ms = windows.first().copied().unwrap_or(asked.window_ms);
    if let Some(other) = windows.iter().find(|other| **other != window_ms) {
        return Err(MysqlError::Differs {
            what: "the window",
            stored: format!("{window_ms} ms and {other} ms, by partition"),
            asked: format!("{} ms", asked.window_ms),
            way_out: "configure the length that the partitions had before, start, stop cleanly, \
                      and configure the new one"
                .into(),
        });
    }
    let last_epoch = held.iter().map(|row| row.epoch).max().unwrap_or_default();
    Ok(Started {
        last_epoch,
        rows: groups,
        window_ms,
        notes: notes(db, asked.generation)?,
    })
}

/// Whether all hash ranges of each partition are equally far.
fn is_level(rows: &[OffsetRow]) -> bool {
    rows.windows(2)
        .all(|pair| pair[0].partition != pair[1].partition || pair[0].offset == pair[1].offset)
}

/// The window in force for a partition. Another one than before holds only from where nothing
/// beyond was ever applied, so that no replay sees two: from the offsets of a clean stop.
fn settle_window(
    db: &mut Db,
    rows: &[OffsetRow],
    asked_ms: u64,
    clean: bool,
) -> Result<u64, MysqlError> {
    let failed = failed("settle the window");
    let first = rows[0];
    let stored: Option<u64> = db
        .conn
        .exec_first(
            "SELECT window_ms FROM kilter_windows WHERE generation = ? AND `partition` = ? \
             ORDER BY from_offset DESC LIMIT 1",
            (first.generation.get(), first.partition.get()),
        )
        .map_err(failed)?;
    let furthest = rows.iter().map(|row| row.offset).max().unwrap_or_default();
    let from = match stored {
        Some(stored_ms) if stored_ms == asked_ms => return Ok(stored_ms),
        Some(stored_ms) if !clean => {
            tracing::warn!(
                partition = first.partition.get(),
                stored_ms,
                asked_ms,
                "the window stays as it is until the node was stopped cleanly once"
            );
            return Ok(stored_ms);
        }
        Some(_) => furthest,
        None => Offset::default(),
    };
    db.conn
        .exec_drop(
            "REPLACE INTO kilter_windows (generation, `partition`, from_offset, window_ms) \
             VALUES (?, ?, ?, ?)",
            (
                first.generation.get(),
                first.partition.get(),
                from.get(),
                asked_ms,
            ),
        )
        .map_err(failed)?;
    Ok(asked_ms)
}

/// The offset rows of partitions, as they are.
///
/// # Errors
///
/// When they cannot be read.
pub fn offsets(
    db: &mut Db,
    group: &str,
    topic: &str,
    partitions: &[Partition],
) -> Result<Vec<OffsetRow>, MysqlError> {
    rows::read(db, group, topic, partitions, HashRange::ALL, false)
}
