//! Records whose results may have been published before the follower began to read.

use std::time::{Duration, Instant};

use kilter_engine::{Partition, epoch::OffsetRow};
use kilter_io::kafka::{CommandConsumer, KafkaSettings};

/// How long the store may stand still before it is taken to have nothing left to commit for now.
const STILL: Duration = Duration::from_secs(5);

/// The records below where the command topic ended. Once the store has committed them, all balances
/// are offered again; until then their results are not looked at.
pub struct Gap {
    /// Where each partition ended; empty when the store has it all.
    ends: Vec<(Partition, u64)>,
    /// How far the store was, and since when it is no further.
    committed: u64,
    since: Instant,
    /// Whether all was offered since it stands still.
    is_told: bool,
}

impl Gap {
    /// Up to where the topic ends now.
    pub fn look(kafka: &KafkaSettings, partitions: u32) -> anyhow::Result<Self> {
        let consumer = CommandConsumer::new(kafka)?;
        let ends = (0..partitions)
            .map(Partition::new)
            .map(|partition| Ok((partition, consumer.range(partition)?.end)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self::up_to(ends))
    }

    /// Up to these ends.
    pub fn up_to(ends: Vec<(Partition, u64)>) -> Self {
        Self {
            ends,
            committed: 0,
            since: Instant::now(),
            is_told: false,
        }
    }

    /// Whether the store has all of it.
    pub fn is_closed(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where the log ended, partition by partition.
    pub fn ends(&self) -> &[(Partition, u64)] {
        &self.ends
    }

    /// Whether all balances are to be offered, now that the store is so far.
    pub fn asks_for_all(&mut self, rows: &[OffsetRow]) -> bool {
        if self.is_closed() {
            return false;
        }
        let is_behind = |partition: Partition, end: u64| {
            let own = rows.iter().filter(|row| row.partition == partition);
            own.map(|row| row.offset.get()).min().unwrap_or(0) < end
        };
        let committed = rows.iter().map(|row| row.offset.get()).sum();
        if committed != self.committed {
            (self.committed, self.since) = (committed, Instant::now());
            self.is_told = false;
        }
        let mut ends = self.ends.iter();
        if !ends.any(|(partition, end)| is_behind(*partition, *end)) {
            self.ends.clear();
            return true;
        }
        // Nobody leads, or the log ends in what is no record, which nobody commits: what is there is
        // offered meanwhile.
        let is_asked = !self.is_told && self.since.elapsed() >= STILL;
        self.is_told |= is_asked;
        is_asked
    }
}

#[cfg(test)]
mod tests {
    use kilter_engine::{Generation, Offset};

    use super::*;

    #[test]
    fn a_gap_is_closed_once_when_the_store_has_all_of_it() {
        let row = |partition, offset| OffsetRow {
            offset: Offset::new(offset),
            ..OffsetRow::first(Partition::new(partition), Generation::new(1))
        };
        let mut gap = Gap::up_to(vec![(Partition::new(0), 7), (Partition::new(1), 3)]);
        assert!(!gap.asks_for_all(&[row(0, 6), row(1, 3)]));
        assert!(!gap.asks_for_all(&[row(0, 7)]));
        assert!(gap.asks_for_all(&[row(0, 9), row(1, 3)]));
        assert!(!gap.asks_for_all(&[row(0, 9), row(1, 3)]));
    }
}
