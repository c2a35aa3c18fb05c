//! Balances, one after the other.

use super::index::Values;
use super::records::Records;
use super::{Balance, SlotId, balance_hash};
use crate::prefetch::prefetch;

/// Slots of a chunk, 64 KiB.
const CHUNK: usize = 1024;

/// Balances in chunks. They never move, and none is removed.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Full chunks, but for the last.
    chunks: Vec<Vec<Balance>>,
}

impl Slots {
    pub(super) fn len(&self) -> u64 {
        match self.chunks.split_last() {
            Some((last, full)) => (full.len() * CHUNK + last.len()) as u64,
            None => 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let list = self.chunks.capacity() * size_of::<Vec<Balance>>();
        (self.chunks.len() * CHUNK * size_of::<Balance>() + list) as u64
    }

    #[inline]
    pub(super) fn get(&self, slot: SlotId) -> &Balance {
        &self.chunks[slot.0 as usize / CHUNK][slot.0 as usize % CHUNK]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: SlotId) -> &mut Balance {
        &mut self.chunks[slot.0 as usize / CHUNK][slot.0 as usize % CHUNK]
    }

    #[inline]
    pub(super) fn prefetch(&self, slot: SlotId) {
        prefetch(self.get(slot));
    }

    pub(super) fn push(&mut self, balance: Balance) -> SlotId {
        let slot = self.len();
        // The index needs a number to spare.
        assert!(
            slot < u64::from(u32::MAX),
            "balances are numbered in 32 bits"
        );
        if slot.is_multiple_of(CHUNK as u64) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let last = self.chunks.last_mut().expect("there is a chunk with room");
        last.push(balance);
        SlotId(slot as u32)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Balance)> {
        (0..).map(SlotId).zip(self.chunks.iter().flatten())
    }
}

/// Balances and whose they are: what their index leads to.
pub(super) struct Owned<'a> {
    pub(super) slots: &'a Slots,
    pub(super) records: &'a Records,
}

impl Values for Owned<'_> {
    const STEPS: usize = 2;

    fn near(&self, value: u32, step: usize) {
        if step == 0 {
            self.slots.prefetch(SlotId(value));
        } else {
            self.records
                .prefetch(self.slots.get(SlotId(value)).account());
        }
    }

    fn hash(&self, value: u32) -> u64 {
        let balance = self.slots.get(SlotId(value));
        balance_hash(self.records.hash(balance.account()), balance.currency())
    }
}
