//! The store that all nodes share: committed state, and the transactions under way with their
//! locks.
//!
//! Nothing here waits: whoever would have to is told so, and the others go on.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use kilter_engine::{
    HashRange, Partition, Term,
    epoch::{OffsetRow, RowStep},
    notes::Note,
    regroup::regroup,
};

use super::{
    lease::Lease,
    process::{Fault, Process},
    sights::{Sight, saw},
};
use crate::support::{
    disk::{Changes, Disk, Held},
    rng::Rng,
};

/// What is durable, and what may become so.
pub struct Database {
    pub disk: Disk,
    pub leases: Vec<Lease>,
    pub claims: BTreeMap<u64, String>,
    pub notes: Vec<Note>,
    /// The store's own clock, in ms.
    pub now_ms: Rc<Cell<u64>>,
    /// It answers nobody until then.
    pub away_until_ms: u64,
    /// One COMMIT in so many is not answered; 0 none.
    pub lost_one_in: u64,
    alive: BTreeSet<u64>,
    open: BTreeMap<TransactionId, Transaction>,
    next_id: TransactionId,
    pub(super) rng: Rng,
}

pub type TransactionId = u64;

/// A transaction that has neither ended nor been rolled back.
struct Transaction {
    owner: u64,
    term: Term,
    /// Offset rows it has locked.
    rows: Vec<(Partition, HashRange)>,
    /// Lease rows it holds in share mode.
    shares: Vec<u32>,
    /// What it does if its COMMIT, sent already, arrives.
    committing: Option<Changes>,
}

/// Somebody's row is locked: this statement waits, or times out.
#[derive(Debug)]
pub struct Locked;

impl Database {
    pub fn new(partitions: u32, now_ms: Rc<Cell<u64>>, lost_one_in: u64, rng: Rng) -> Self {
        Self {
            disk: Disk::new(partitions),
            leases: vec![Lease::default(); partitions as usize],
            claims: BTreeMap::new(),
            notes: Vec::new(),
            now_ms,
            away_until_ms: 0,
            lost_one_in,
            alive: BTreeSet::new(),
            open: BTreeMap::new(),
            next_id: 0,
            rng,
        }
    }

    pub fn connect(&mut self, owner: u64) {
        self.alive.insert(owner);
    }

    /// The owner is dead. What it had open is rolled back, at once or when the server notices;
    /// a COMMIT that was sent may still arrive.
    pub fn disconnect(&mut self, owner: u64) {
        self.alive.remove(&owner);
        let rng = &mut self.rng;
        self.open
            .retain(|_, open| open.owner != owner || open.committing.is_some() || rng.one_in(2));
    }

    pub fn is_away(&self) -> bool {
        self.now_ms.get() < self.away_until_ms
    }

    pub fn begin(&mut self, process: &Process) -> TransactionId {
        self.next_id += 1;
        let transaction = Transaction {
            owner: process.owner,
            term: process.term.get(),
            rows: Vec::new(),
            shares: Vec::new(),
            committing: None,
        };
        self.open.insert(self.next_id, transaction);
        self.next_id
    }

    pub fn roll_back(&mut self, id: TransactionId) {
        self.open.remove(&id);
    }

    /// `SELECT … FOR UPDATE` of an epoch's offset rows.
    pub fn lock_rows(&mut self, id: TransactionId, steps: &[RowStep]) -> Result<Held, Fault> {
        let rows: Vec<_> = steps
            .iter()
            .map(|step| (step.before.partition, step.before.range))
            .collect();
        self.clear_rows(Some(id), &rows)
            .map_err(|Locked| Fault::LockTimeout)?;
        self.open.get_mut(&id).ok_or(Fault::Lost)?.rows = rows;
        Ok(self.disk.compare(steps))
    }

    /// The fence: lease rows in share mode, owner and term compared.
    pub fn fence(&mut self, id: TransactionId, process: &Process) -> Result<(), Fault> {
        if !self.open.contains_key(&id) {
            return Err(Fault::Lost);
        }
        if !self.holds(process) {
            return Err(Fault::Fenced);
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.shares = process.held.borrow().clone();
        }
        Ok(())
    }

    /// COMMIT. `Lost` says nothing about what became of it.
    pub fn commit(&mut self, id: TransactionId, changes: Changes) -> Result<(), Fault> {
        let open = self.open.get_mut(&id).ok_or(Fault::Lost)?;
        open.committing = Some(changes);
        if !self.loses_an_answer() {
            self.arrive(id);
            return Ok(());
        }
        match self.rng.below(4) {
            0 => {
                saw(Sight::AnswerLost);
                self.arrive(id);
            }
            1 => self.roll_back(id),
            // Neither yet: it keeps its locks.
            _ => {}
        }
        Err(Fault::Lost)
    }

    /// Whether the connection breaks before an answer comes.
    pub fn loses_an_answer(&mut self) -> bool {
        self.lost_one_in > 0 && self.rng.one_in(self.lost_one_in)
    }

    /// A COMMIT arrives.
    fn arrive(&mut self, id: TransactionId) {
        let Some(Transaction {
            owner,
            term,
            committing: Some(changes),
            ..
        }) = self.open.remove(&id)
        else {
            return;
        };
        for step in changes.rows.iter().filter(|step| step.before != step.after) {
            let partition = step.after.partition;
            let lease = self.leases[partition.get() as usize];
            assert!(
                lease.term == term && lease.owner == owner,
                "partition {partition}: an epoch of owner {owner}, term {term}, under {lease:?}"
            );
            let newest = self.rows_of(partition).map(|row| row.term).max();
            assert!(
                newest <= Some(step.after.term),
                "partition {partition}: a row of term {} behind one of {newest:?}",
                step.after.term
            );
        }
        self.disk.apply(&changes);
    }

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

    fn is_dead(&self, owner: u64) -> bool {
        !self.alive.contains(&owner)
    }

    /// Waits until nobody but `mine` has one of the rows locked.
    fn clear_rows(
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
        if self.rng.one_in(2) {
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

    pub fn rows_of(&self, partition: Partition) -> impl Iterator<Item = &OffsetRow> {
        let rows = self.disk.rows.iter();
        rows.filter(move |row| row.partition == partition)
    }

    /// The highest offset that any hash range of a partition is committed to, read under lock.
    pub(super) fn locked_offset(&mut self, partition: Partition) -> Result<u64, Locked> {
        self.clear_rows(None, &[(partition, HashRange::ALL)])?;
        let offsets = self.rows_of(partition).map(|row| row.offset.get());
        Ok(offsets.max().unwrap_or(0))
    }

    /// The start transaction: under the lease, the rows are split to the new writers' ranges.
    pub fn regroup(&mut self, process: &Process, ranges: &[HashRange]) -> Result<(), Fault> {
        if !self.holds(process) {
            return Err(Fault::Fenced);
        }
        for &partition in &*process.held.borrow() {
            let partition = Partition::new(partition);
            self.clear_rows(None, &[(partition, HashRange::ALL)])
                .map_err(|Locked| Fault::LockTimeout)?;
        }
        for &partition in &*process.held.borrow() {
            let partition = Partition::new(partition);
            let rows: Vec<OffsetRow> = self.rows_of(partition).copied().collect();
            self.disk.rows.retain(|row| row.partition != partition);
            self.disk.rows.extend(regroup(&rows, ranges).concat());
        }
        Ok(())
    }
}
