//! The offset rows: whether they make sense together, and what lies below them.

use kilter_engine::{
    Generation, HashRange, Partition, epoch::OffsetRow, hash::key_hash, partitioner::Partitioner,
};

use super::report::{Kind, Report};
use crate::{
    kafka::{CommandConsumer, KafkaError, is_known},
    mysql::{KnownLog, OutboxLeg, WindowRow},
    rows::LedgerRow,
};

/// What the store says about its log.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    /// Every life of the log, the newest first.
    pub(super) logs: Vec<KnownLog>,
    pub(super) offsets: Vec<OffsetRow>,
    pub(super) windows: Vec<WindowRow>,
    pub(super) partitioner: Partitioner,
}

impl Positions {
    /// Whether the last record of a leg is committed: if the ledger lacks the leg, it was refused.
    pub(super) fn are_past(&self, leg: &OutboxLeg) -> bool {
        let Some((generation, partition, offset)) = leg.sent else {
            return false;
        };
        let hash = key_hash(&leg.user);
        self.offsets.iter().any(|row| {
            (row.generation.get(), row.partition.get()) == (generation, partition)
                && row.range.contains(hash)
                && offset < row.offset.get()
        })
    }

    /// The newest life of the log, and how many partitions it has.
    pub(super) fn present(&self) -> Option<(Generation, u32)> {
        let log = self.logs.first()?;
        Some((log.generation, log.partitions))
    }

    /// How many partitions the log of a generation has.
    fn partitions_of(&self, generation: u32) -> Option<u32> {
        let mut logs = self.logs.iter();
        let log = logs.find(|log| log.generation.get() == generation)?;
        Some(log.partitions)
    }

    /// The window in force at an entry's place, in ms.
    pub(super) fn window_ms(&self, entry: &LedgerRow) -> Option<i64> {
        let place = (entry.generation, entry.partition);
        self.windows
            .iter()
            .rfind(|row| {
                (row.generation.get(), row.partition.get()) == place
                    && row.from.get() <= entry.offset
            })
            .map(|row| row.window_ms as i64)
    }

    /// The longest window that ever held, in ms.
    pub(super) fn longest_ms(&self) -> i64 {
        let lengths = self.windows.iter().map(|row| row.window_ms);
        lengths.max().unwrap_or(0) as i64
    }

    /// What is wrong with the place of an entry of this user, in words.
    pub(super) fn misplaced(&self, entry: &LedgerRow, user: &str) -> Option<(Kind, String)> {
        let Some(count) = self.partitions_of(entry.generation) else {
            let what = format!("the store knows no log of generation {}", entry.generation);
            return Some((Kind::Ledger, what));
        };
        let right = self.partitioner.partition(user.as_bytes(), count);
        if right != entry.partition {
            let what = format!("user {user:?} belongs to partition {right} of {count}");
            return Some((Kind::Ledger, what));
        }
        let hash = key_hash(user.as_bytes());
        let row = self
            .offsets
            .iter()
            .find(|row| row.partition.get() == entry.partition && row.range.contains(hash));
        match row {
            None => {
                let what = format!("no offset row speaks of its user's hash {hash}");
                Some((Kind::Offset, what))
            }
            Some(row)
                if (entry.generation, entry.offset) >= (row.generation.get(), row.offset.get()) =>
            {
                let what = format!(
                    "it is not committed: its hash range is at generation {} offset {}",
                    row.generation, row.offset
                );
                Some((Kind::Offset, what))
            }
            Some(_) => None,
        }
    }

    /// Whether the rows of each partition speak of every hash, and of none twice.
    pub(super) fn check(&self, owners: &[(String, String)], report: &mut Report) {
        for (group, topic) in owners {
            report.differs(Kind::Offset, || {
                format!(
                    "there are offset rows of group {group:?}, topic {topic:?}: a store has one \
                     set of offsets"
                )
            });
        }
        let Some((generation, count)) = self.present() else {
            if !self.offsets.is_empty() {
                report.differs(Kind::Offset, || {
                    "there are offset rows, but the store knows no log".into()
                });
            }
            return;
        };
        let mut partitions: Vec<Partition> = self.offsets.iter().map(|row| row.partition).collect();
        partitions.dedup();
        for partition in partitions {
            let rows: Vec<&OffsetRow> = self
                .offsets
                .iter()
                .filter(|row| row.partition == partition)
                .collect();
            if partition.get() >= count {
                report.differs(Kind::Offset, || {
                    format!("partition {partition} has offset rows, the log has {count} partitions")
                });
            }
            if !cover(&rows) {
                report.differs(Kind::Offset, || {
                    let ranges: Vec<String> = rows
                        .iter()
                        .map(|row| format!("{} to {}", row.range.first(), row.range.last()))
                        .collect();
                    format!(
                        "the offset rows of partition {partition} do not speak of every hash once: \
                         {}",
                        ranges.join(", ")
                    )
                });
            }
            for row in rows.iter().filter(|row| row.generation != generation) {
                report.differs(Kind::Offset, || {
                    format!(
                        "an offset row of partition {partition} is of log generation {}, the \
                         newest is {generation}",
                        row.generation
                    )
                });
            }
        }
    }
}

/// Whether ranges in order cover every hash exactly once.
fn cover(rows: &[&OffsetRow]) -> bool {
    let mut next = Some(0);
    for row in rows {
        if next != Some(row.range.first()) {
            return false;
        }
        next = row.range.last().checked_add(1);
    }
    next.is_none()
        && rows
            .last()
            .is_some_and(|row| row.range.last() == HashRange::ALL.last())
}

/// Holds the offset rows against the log: each must go on where its last record was.
///
/// # Errors
///
/// When no broker answers.
pub fn against_log(
    consumer: &CommandConsumer,
    offsets: &[OffsetRow],
    report: &mut Report,
) -> Result<(), KafkaError> {
    for row in offsets {
        match is_known(consumer, row.partition, row.offset, row.last) {
            Ok(()) => {}
            Err(error @ (KafkaError::OutOfRange { .. } | KafkaError::OtherLog { .. })) => {
                report.differs(Kind::Log, || {
                    format!(
                        "partition {} at offset {}: {error}",
                        row.partition, row.offset
                    )
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
