//! What a shard keeps for each partition: the window of ids, and where it is in the log.

use super::{Item, ShardError};
use crate::{
    Generation, Offset, Partition,
    hash::IdHash,
    window::{Window, WindowBudget},
};

#[derive(Debug)]
pub(super) struct PartitionState {
    pub(super) partition: Partition,
    generation: Generation,
    last: Option<Offset>,
    clock_ms: i64,
    /// How far ahead of the clock an id may be remembered from.
    ahead_ms: i64,
    pub(super) window: Window,
    /// Ids loaded from a hash range that is ahead in record time, latest first.
    ///
    /// They belong to users whose records are skipped until the clock gets there, so nobody asks
    /// for them before; the window itself cannot hold what lies far ahead of its clock.
    ahead: Vec<(i64, IdHash)>,
    ahead_is_sorted: bool,
}

impl PartitionState {
    pub(super) fn new(
        partition: Partition,
        generation: Generation,
        window_ms: u64,
        window_bytes: u64,
        budget: &WindowBudget,
    ) -> Self {
        Self {
            partition,
            generation,
            last: None,
            clock_ms: 0,
            ahead_ms: (window_ms / 4) as i64,
            window: Window::new(window_ms, window_bytes, budget),
            ahead: Vec::new(),
            ahead_is_sorted: true,
        }
    }

    /// The time of the last record, in ms since 1970; 0 before the first.
    pub(super) fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// Takes an id that the store remembers. `now_ms` is the clock where reading begins.
    pub(super) fn load(
        &mut self,
        id: &IdHash,
        remembered_ms: i64,
        now_ms: i64,
    ) -> Result<(), ShardError> {
        self.window.advance(now_ms as u64);
        if remembered_ms > now_ms {
            self.ahead.push((remembered_ms, *id));
            self.ahead_is_sorted = false;
            Ok(())
        } else {
            self.remember(id, remembered_ms)
        }
    }

    /// Remembers what was loaded from ahead, as far as the clock has come.
    fn catch_up(&mut self) -> Result<(), ShardError> {
        if !self.ahead_is_sorted {
            self.ahead
                .sort_by_key(|(remembered_ms, _)| std::cmp::Reverse(*remembered_ms));
            self.ahead_is_sorted = true;
        }
        while let Some((remembered_ms, id)) = self.ahead.last().copied() {
            if remembered_ms > self.clock_ms + self.ahead_ms {
                break;
            }
            self.ahead.pop();
            self.remember(&id, remembered_ms)?;
        }
        Ok(())
    }

    /// Moves on to the next record of the partition.
    pub(super) fn advance(&mut self, item: &Item<'_>) -> Result<(), ShardError> {
        assert_eq!(
            item.generation, self.generation,
            "partition {}: a record of another log generation",
            self.partition
        );
        assert!(
            self.last.is_none_or(|last| last < item.offset),
            "partition {}: offset {} behind {:?}",
            self.partition,
            item.offset,
            self.last
        );
        assert!(
            item.clock_ms >= self.clock_ms,
            "partition {} offset {}: the clock goes back from {} to {} ms",
            self.partition,
            item.offset,
            self.clock_ms,
            item.clock_ms
        );
        self.last = Some(item.offset);
        if item.clock_ms > self.clock_ms {
            self.clock_ms = item.clock_ms;
            self.window.advance(item.clock_ms as u64);
            if !self.ahead.is_empty() {
                self.catch_up()?;
            }
        }
        Ok(())
    }

    pub(super) fn remember(&mut self, id: &IdHash, remembered_ms: i64) -> Result<(), ShardError> {
        self.window
            .insert(id, remembered_ms as u64)
            .map_err(|source| ShardError::WindowFull { source })
    }
}
