//! A part of the balances that wait.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
};

use kilter_engine::{AccountId, Currency, balance_hash, epoch::BalanceImage};

/// Room that is kept when nothing waits any more, in images.
const KEPT: usize = 1024;

/// How much room, in turns, is cleared at once as cheaply as one turn is removed.
const CLEARS: usize = 16;

/// Images in the order their balances came, and where each is.
#[derive(Debug, Default)]
pub(super) struct Stripe {
    images: VecDeque<BalanceImage>,
    /// The turns of the images, counted since the beginning.
    turns: HashMap<Key, u64, BuildHasherDefault<Folded>>,
    /// The turn of the first image.
    first: u64,
}

impl Stripe {
    pub(super) fn len(&self) -> usize {
        self.images.len()
    }

    /// Takes an image in, at the place of an older one of its balance, if there is one.
    pub(super) fn offer(&mut self, image: &BalanceImage) {
        match self.turns.entry(Key::of(image)) {
            Entry::Occupied(turn) => {
                let old = &mut self.images[(turn.get() - self.first) as usize];
                if old.version < image.version {
                    *old = *image;
                }
            }
            Entry::Vacant(turn) => {
                turn.insert(self.first + self.images.len() as u64);
                self.images.push_back(*image);
            }
        }
    }

    /// Moves up to `limit` images to the end of `to`, first come, first gone.
    pub(super) fn take(&mut self, limit: usize, to: &mut Vec<BalanceImage>) {
        let count = limit.min(self.images.len());
        let is_all = count == self.images.len();
        if is_all && count * CLEARS >= self.turns.capacity() {
            // Most often all goes: forgetting every turn at once saves a cache miss for each.
            assert_eq!(self.turns.len(), count, "a turn without an image");
            self.turns.clear();
            self.first += count as u64;
            to.extend(self.images.drain(..));
        } else {
            for image in self.images.drain(..count) {
                let turn = self.turns.remove(&Key::of(&image));
                assert_eq!(turn, Some(self.first), "an image out of its turn");
                self.first += 1;
                to.push(image);
            }
        }
        if self.images.is_empty() && self.images.capacity() > 2 * KEPT {
            // After an outage, the memory goes back.
            self.images.shrink_to(KEPT);
            self.turns.shrink_to(KEPT);
        }
    }
}

/// A balance's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    account_id: AccountId,
    currency: Currency,
}

impl Key {
    fn of(image: &BalanceImage) -> Self {
        Self {
            account_id: image.account_id,
            currency: image.currency,
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(balance_hash(self.account_id.get(), self.currency));
    }
}

/// A hash that is one already.
#[derive(Debug, Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
