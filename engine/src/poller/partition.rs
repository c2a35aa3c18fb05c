//! What the poller keeps for each partition: where it is, and what time it is there.

use super::PollerError;
use crate::{
    Generation, HashRange, Offset, Partition,
    epoch::{LastRecord, OffsetRow, PartitionCut},
    record::Record,
};

/// Where reading of a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStart {
    partition: Partition,
    generation: Generation,
    offset: Offset,
    clock_ms: i64,
    last: LastRecord,
    /// Hash ranges that are past the beginning already, each with its own next offset.
    ahead: Vec<(HashRange, Offset)>,
}

impl PartitionStart {
    /// The lowest of a partition's offset rows, remembering which ranges are ahead of it.
    ///
    /// # Panics
    ///
    /// If there are no rows, or they speak of several partitions or log generations.
    pub fn of_rows(rows: &[OffsetRow]) -> Self {
        let Some(lowest) = rows.iter().min_by_key(|row| row.offset) else {
            panic!("a partition without offset rows");
        };
        assert!(
            rows.iter().all(|row| row.partition == lowest.partition
                && row.generation == lowest.generation),
            "offset rows of several partitions or generations"
        );
        Self {
            partition: lowest.partition,
            generation: lowest.generation,
            offset: lowest.offset,
            clock_ms: lowest.clock_ms,
            last: lowest.last,
            ahead: rows
                .iter()
                .filter(|row| row.offset > lowest.offset)
                .map(|row| (row.range, row.offset))
                .collect(),
        }
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The offset to open the log at.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The partition's clock there, in ms since 1970.
    pub fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// The record just below the offset.
    pub fn last(&self) -> LastRecord {
        self.last
    }

    /// The life of the log.
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

#[derive(Debug)]
pub(super) struct PartitionState {
    at: PartitionStart,
    /// From here on no range is ahead.
    ahead_until: Offset,
}

impl PartitionState {
    pub(super) fn new(at: PartitionStart) -> Self {
        let ahead_until = at
            .ahead
            .iter()
            .map(|(_, offset)| *offset)
            .max()
            .unwrap_or(at.offset);
        Self { at, ahead_until }
    }

    pub(super) fn partition(&self) -> Partition {
        self.at.partition
    }

    /// Refuses a record that does not follow. Gaps are fine: a log may drop records of its own
    /// (transaction markers, compaction).
    pub(super) fn expect<E: std::error::Error>(
        &self,
        record: &Record<'_>,
    ) -> Result<(), PollerError<E>> {
        if record.generation != self.at.generation {
            return Err(PollerError::OtherGeneration {
                partition: record.partition,
                offset: record.offset,
                generation: record.generation,
                expected: self.at.generation,
            });
        }
        if record.offset < self.at.offset {
            return Err(PollerError::OutOfOrder {
                partition: record.partition,
                offset: record.offset,
                expected: self.at.offset,
            });
        }
        Ok(())
    }

    /// The partition's clock at the record: its timestamp made monotonic.
    pub(super) fn clock_at(&self, record: &Record<'_>, counts: bool) -> i64 {
        if counts {
            self.at.clock_ms.max(record.timestamp_ms)
        } else {
            self.at.clock_ms
        }
    }

    /// Whether the store holds some range's state behind this offset, and so the clock there.
    pub(super) fn is_past_for_some(&self, offset: Offset) -> bool {
        offset < self.ahead_until
    }

    /// Whether the store holds what a record of this hash at this offset did.
    pub(super) fn is_past(&self, hash: u64, offset: Offset) -> bool {
        self.is_past_for_some(offset)
            && self
                .at
                .ahead
                .iter()
                .any(|(range, next)| range.contains(hash) && offset < *next)
    }

    pub(super) fn advance(&mut self, record: &Record<'_>, clock_ms: i64, key_hash: u64) {
        self.at.offset = record.offset.next();
        self.at.clock_ms = clock_ms;
        self.at.last = LastRecord {
            key_hash,
            timestamp_ms: record.timestamp_ms,
        };
    }

    pub(super) fn cut(&self) -> PartitionCut {
        PartitionCut {
            partition: self.at.partition,
            generation: self.at.generation,
            offset: self.at.offset,
            clock_ms: self.at.clock_ms,
            last: self.at.last,
        }
    }
}
