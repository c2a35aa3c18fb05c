//! Leases: which node has which partition, under which term.

use kilter_engine::Term;

use super::{
    database::Database,
    locks::Locked,
    process::Process,
    sights::{Sight, saw},
};

/// How long a lease holds without being renewed, by the store's clock.
pub const LEASE_MS: u64 = 300;

/// A row of `leader_locks`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    /// 0 is nobody.
    pub owner: u64,
    pub expires_ms: u64,
    pub term: Term,
}

impl Database {
    /// Whether every lease that the node took is still its own, by owner and term. The expiry is
    /// not asked: whose row nobody took is still the leader.
    pub fn holds(&self, process: &Process) -> bool {
        process.held.borrow().iter().all(|&partition| {
            let lease = self.leases[partition as usize];
            (lease.owner, lease.term) == (process.owner, process.term.get())
        })
    }

    /// The partitions that anybody may take.
    pub fn free(&self) -> Vec<u32> {
        let now_ms = self.now_ms.get();
        let leases = self.leases.iter().zip(0..);
        leases
            .filter(|(lease, _)| lease.owner == 0 || lease.expires_ms < now_ms)
            .map(|(_, partition)| partition)
            .collect()
    }

    /// Takes partitions in one short transaction, all under one term that is new to each of them:
    /// a node's epochs and results carry a single term.
    pub fn take(&mut self, process: &Process, partitions: &[u32]) -> Result<(), Locked> {
        if self.rng.one_in(2 * self.kill_one_in) {
            for &partition in partitions {
                self.kill_owner(self.leases[partition as usize].owner);
            }
        }
        self.clear_shares(partitions)?;
        let terms = partitions
            .iter()
            .map(|&partition| self.leases[partition as usize].term.get());
        let term = Term::new(terms.max().unwrap_or(0) + 1);
        for &partition in partitions {
            let lease = &mut self.leases[partition as usize];
            if lease.owner != 0 {
                saw(Sight::Takeover);
            }
            assert!(lease.term < term, "a term that goes back: {lease:?}");
            *lease = Lease {
                owner: process.owner,
                expires_ms: self.now_ms.get() + LEASE_MS,
                term,
            };
        }
        process.term.set(term);
        process.held.borrow_mut().extend(partitions);
        Ok(())
    }

    /// Renews all leases of a node in one statement; false when one of them is another's.
    pub fn renew(&mut self, process: &Process) -> Result<bool, Locked> {
        let held = process.held.borrow();
        // The row locks of its own writers' fences are waited for as well.
        if self.is_shared(&held) {
            return Err(Locked);
        }
        if !self.holds(process) {
            return Ok(false);
        }
        for &partition in &*held {
            self.leases[partition as usize].expires_ms = self.now_ms.get() + LEASE_MS;
        }
        Ok(true)
    }

    /// Gives back what is still the node's own.
    pub fn release(&mut self, process: &Process) {
        for &partition in &*process.held.borrow() {
            let lease = &mut self.leases[partition as usize];
            if (lease.owner, lease.term) == (process.owner, process.term.get()) {
                lease.owner = 0;
            }
        }
    }
}
