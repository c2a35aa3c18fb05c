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
    locks::Locked,
    process::{Fault, Process},
    sights::{Sight, saw},
    weather::Weather,
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
    /// One in so many who stand still in a lock's way is killed.
    pub(super) kill_one_in: u64,
    alive: BTreeSet<u64>,
    pub(super) open: BTreeMap<TransactionId, Transaction>,
    next_id: TransactionId,
    pub(super) rng: Rng,
}

pub type TransactionId = u64;

/// A transaction that has neither ended nor been rolled back.
pub(super) struct Transaction {
    pub(super) owner: u64,
    term: Term,
    /// Offset rows it has locked.
    pub(super) rows: Vec<(Partition, HashRange)>,
    /// Lease rows it holds in share mode.
    pub(super) shares: Vec<u32>,
    /// What it does if its COMMIT, sent already, arrives.
    pub(super) committing: Option<Changes>,
}

impl Database {
    pub fn new(partitions: u32, now_ms: Rc<Cell<u64>>, weather: &Weather, rng: Rng) -> Self {
        Self {
            disk: Disk::new(partitions),
            leases: vec![Lease::default(); partitions as usize],
            claims: BTreeMap::new(),
            notes: Vec::new(),
            now_ms,
            away_until_ms: 0,
            lost_one_in: weather.lost,
            kill_one_in: weather.kill,
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
    pub(super) fn arrive(&mut self, id: TransactionId) {
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
            if lease.expires_ms < self.now_ms.get() {
                saw(Sight::CommittedExpired);
            }
            assert!(
                lease.term == term && lease.owner == owner,
                "partition {partition}: an epoch of owner {owner}, term {term}, under {lease:?}"
            );
            assert_eq!(step.after.term, term, "a row that hides its term");
            assert!(
                step.before.epoch < step.after.epoch,
                "an epoch that goes back: {step:?}"
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

    pub fn rows_of(&self, partition: Partition) -> impl Iterator<Item = &OffsetRow> {
        let rows = self.disk.rows.iter();
        rows.filter(move |row| row.partition == partition)
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

    pub(super) fn is_dead(&self, owner: u64) -> bool {
        !self.alive.contains(&owner)
    }
}
