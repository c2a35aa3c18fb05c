//! Row locks: who is in whose way, and what becomes of him.

use kilter_engine::{HashRange, Partition};

use super::{
    database::{Database, Transaction, TransactionId},
    sights::{Sight, saw},
};

/// Somebody's row is locked: this statement waits, or times out.
#[derive(Debug)]
pub struct Locked;

impl Database {
    /// Decides what became of a COMMIT under way, or notices that its sender is dead.
    fn settle(&mut self, id: TransactionId) {
        let arrives = self.open[&id].committing.is_some() && self.rng.one_in(2);
        if arrives {
            saw(Sight::AppliedLate);
            self.arrive(id);
        } else {
            self.roll_back(id);
        }
    }

    /// Now and then the server itself gets to a transaction that nobody speaks for any more.
    pub fn settle_one(&mut self) {
        let mut ids = self.open.iter();
        let stray = ids.find(|(_, open)| open.committing.is_some() || self.is_dead(open.owner));
        if let Some((&id, _)) = stray {
            self.settle(id);
        }
    }

    /// Waits until nobody but `mine` has one of the rows locked.
    pub(super) fn clear_rows(
        &mut self,
        mine: Option<TransactionId>,
        rows: &[(Partition, HashRange)],
    ) -> Result<(), Locked> {
        let overlap = |open: &Transaction| {
            open.rows.iter().any(|(partition, range)| {
                rows.iter()
                    .any(|(wanted, other)| partition == wanted && range.intersect(*other).is_some())
            })
        };
        let ids = self.open.iter().filter(|(_, open)| overlap(open));
        let ids: Vec<TransactionId> = ids.map(|(&id, _)| id).collect();
        for id in ids.into_iter().filter(|id| Some(*id) != mine) {
            self.clear(id)?;
        }
        Ok(())
    }

    /// Waits until nobody holds the leases in share mode. A taker kills who stands still there.
    pub(super) fn clear_shares(&mut self, partitions: &[u32]) -> Result<(), Locked> {
        let ids = self.open.iter().filter(|(_, open)| {
            let mut shares = open.shares.iter();
            shares.any(|share| partitions.contains(share))
        });
        let ids: Vec<TransactionId> = ids.map(|(&id, _)| id).collect();
        for id in ids {
            self.clear(id)?;
        }
        Ok(())
    }

    /// Whether any fence under way holds one of the leases in share mode.
    pub(super) fn is_shared(&self, partitions: &[u32]) -> bool {
        let mut shares = self.open.values().flat_map(|open| &open.shares);
        shares.any(|share| partitions.contains(share))
    }

    fn clear(&mut self, id: TransactionId) -> Result<(), Locked> {
        let open = &self.open[&id];
        if open.committing.is_some() || self.is_dead(open.owner) {
            self.settle(id);
            return Ok(());
        }
        // It stands still in the middle: killed by hand or by its session's time limit, or not yet.
        if self.rng.one_in(self.kill_one_in) {
            saw(Sight::Killed);
            self.roll_back(id);
            return Ok(());
        }
        saw(Sight::TakerWaited);
        Err(Locked)
    }

    /// The new owner's named-lock kill: every connection of the old one goes.
    pub(super) fn kill_owner(&mut self, owner: u64) {
        let ids = self.open.iter().filter(|(_, open)| open.owner == owner);
        let ids: Vec<TransactionId> = ids.map(|(&id, _)| id).collect();
        for id in ids {
            saw(Sight::Killed);
            self.settle(id);
        }
    }

    /// The highest offset that any hash range of a partition is committed to, read under lock.
    pub(super) fn locked_offset(&mut self, partition: Partition) -> Result<u64, Locked> {
        self.clear_rows(None, &[(partition, HashRange::ALL)])?;
        let offsets = self.rows_of(partition).map(|row| row.offset.get());
        Ok(offsets.max().unwrap_or(0))
    }
}
