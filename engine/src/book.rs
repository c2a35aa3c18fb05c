//! The accounts and balances of one shard.
//!
//! A balance is a slot of 64 bytes; slots lie densely in chunks and never move. An account is a
//! record of its id and its user's bytes, one after the other in chunks. Two indexes of 64-byte
//! lines, twelve entries each, lead from hashes to slots and to records and keep nothing of what
//! they lead to but eight bits of the hash. So the way to a balance is: index line, slot (compare
//! currency), record (compare the user's bytes), three cache lines, which a batch brings near in
//! three steps: [`Book::prefetch_index`] for all, then [`Book::prefetch_slot`] for all, then
//! [`Book::prefetch_user`] for all. Answers are exact whatever the hashes do.
//!
//! Everything grows a line or a chunk at a time; nothing is ever copied as a whole. A balance takes
//! 64 bytes, 8 to 9 of an index, and its share of its account: 8 to 9 of an index and 9 and the
//! user's length, made even, of a record.

mod accounts;
mod balance;
mod index;
#[cfg(test)]
mod tests;

pub use accounts::{AccountHandle, AccountRef, MAX_USER_BYTES, Opened};
pub use balance::Balance;

use crate::currency::Currency;
use crate::hash::{key_hash, sum_hash};
use crate::ids::AccountId;
use crate::prefetch::prefetch;
use accounts::Accounts;
use index::Index;

/// Slots of a chunk, 64 KiB.
const CHUNK: usize = 1024;

/// Where a balance is. It stays the same as long as the book lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u32);

impl SlotId {
    /// The slot's number; slots are numbered from 0 in the order they were created.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The accounts and balances of one shard. See the [module](self).
///
/// A `user_hash` is always [`key_hash`] of the user, which the caller has from routing the record.
#[derive(Debug)]
pub struct Book {
    accounts: Accounts,
    /// Full chunks, but for the last.
    slots: Vec<Vec<Balance>>,
    index: Index,
}

/// The hash that the balance of a user in a currency is found by. It is stored nowhere.
#[inline]
pub fn balance_hash(user_hash: u64, currency: Currency) -> u64 {
    let code = currency.padded();
    let (low, high) = code.split_first_chunk().expect("a code has 8 bytes and 2");
    let high = u64::from(high[0]) | u64::from(high[1]) << 8;
    // One odd multiplier spreads a code over the word; then the two halves of a product are folded,
    // so that each bit of user and currency reaches the low bits, which choose the line. The
    // numbers are the golden ratio's and those of wyhash (Wang Yi), of no other meaning.
    let code = u64::from_le_bytes(*low).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ high.wrapping_mul(0xa076_1d64_78bd_642f);
    let product = u128::from(user_hash ^ code) * 0xe703_7ed1_a0b4_28db;
    (product >> 64) as u64 ^ product as u64
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

impl Book {
    /// A book without accounts; it takes 128 KiB for its indexes.
    pub fn new() -> Self {
        Self::with_hash(key_hash)
    }

    /// A book whose users have other hashes, such as collide.
    fn with_hash(hash: fn(&[u8]) -> u64) -> Self {
        Self {
            accounts: Accounts::new(hash),
            slots: Vec::new(),
            index: Index::new(),
        }
    }

    /// Opens an account for a user of 1 to 64 bytes.
    ///
    /// # Panics
    ///
    /// When the user is empty or longer, when the hash is not the user's, or when the shard's
    /// accounts need more than 8 GiB.
    pub fn open(&mut self, user_hash: u64, user: &[u8], id: AccountId) -> Opened {
        self.accounts.open(user_hash, user, id)
    }

    /// The account of a user.
    #[inline]
    pub fn account<'a>(&'a self, user_hash: u64, user: &[u8]) -> Option<AccountRef<'a>> {
        let handle = self.accounts.find(user_hash, user)?;
        Some(AccountRef {
            handle,
            id: self.accounts.id(handle),
            user: self.accounts.user(handle),
        })
    }

    /// The id of an account.
    #[inline]
    pub fn account_id(&self, handle: AccountHandle) -> AccountId {
        self.accounts.id(handle)
    }

    /// The user of an account.
    #[inline]
    pub fn user(&self, handle: AccountHandle) -> &[u8] {
        self.accounts.user(handle)
    }

    /// First step towards [`Book::account`]: brings the index line near.
    #[inline]
    pub fn prefetch_account_index(&self, user_hash: u64) {
        self.accounts.prefetch_index(user_hash);
    }

    /// Second step towards [`Book::account`]: reads the index line, brings the record near.
    #[inline]
    pub fn prefetch_account(&self, user_hash: u64) {
        self.accounts.prefetch_candidates(user_hash);
    }

    /// First step towards [`Book::find`]: brings the index line near.
    #[inline]
    pub fn prefetch_index(&self, user_hash: u64, currency: Currency) {
        self.index.prefetch(balance_hash(user_hash, currency));
    }

    /// Second step towards [`Book::find`]: reads the index line, brings the slot near.
    #[inline]
    pub fn prefetch_slot(&self, user_hash: u64, currency: Currency) {
        let hash = balance_hash(user_hash, currency);
        self.index
            .candidates(hash, |slot| prefetch(self.slot(SlotId(slot))));
    }

    /// Third step towards [`Book::find`]: reads the slot, brings the account's record near.
    #[inline]
    pub fn prefetch_user(&self, user_hash: u64, currency: Currency) {
        let hash = balance_hash(user_hash, currency);
        self.index.candidates(hash, |slot| {
            self.accounts.prefetch(self.slot(SlotId(slot)).account());
        });
    }

    /// The balance of a user in a currency, if there is one.
    #[inline]
    pub fn find(&self, user_hash: u64, user: &[u8], currency: Currency) -> Option<SlotId> {
        let hash = balance_hash(user_hash, currency);
        let is = |slot| {
            let balance = self.slot(SlotId(slot));
            balance.currency() == currency && self.accounts.user(balance.account()) == user
        };
        self.index.find(hash, is).map(SlotId)
    }

    /// The balance of an account in a currency, if there is one. The account's record is not read.
    #[inline]
    pub fn find_of(
        &self,
        account: AccountHandle,
        user_hash: u64,
        currency: Currency,
    ) -> Option<SlotId> {
        let hash = balance_hash(user_hash, currency);
        let is = |slot| {
            let balance = self.slot(SlotId(slot));
            balance.account() == account && balance.currency() == currency
        };
        self.index.find(hash, is).map(SlotId)
    }

    /// A balance.
    #[inline]
    pub fn slot(&self, slot: SlotId) -> &Balance {
        &self.slots[slot.0 as usize / CHUNK][slot.0 as usize % CHUNK]
    }

    /// A balance, to change.
    #[inline]
    pub fn slot_mut(&mut self, slot: SlotId) -> &mut Balance {
        &mut self.slots[slot.0 as usize / CHUNK][slot.0 as usize % CHUNK]
    }

    /// Creates a balance of nothing.
    ///
    /// # Panics
    ///
    /// When the account has one in that currency, when the hash is not its user's, or when there
    /// are 2³² − 1 balances.
    pub fn create(&mut self, account: AccountHandle, user_hash: u64, currency: Currency) -> SlotId {
        assert!(
            user_hash == self.accounts.hash(account),
            "the hash is another user's"
        );
        assert!(
            self.find_of(account, user_hash, currency).is_none(),
            "an account has one balance a currency"
        );
        let slot = self.len();
        assert!(
            slot < u64::from(u32::MAX),
            "balances are numbered in 32 bits"
        );
        let slot = slot as u32;
        if (slot as usize).is_multiple_of(CHUNK) {
            self.slots.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.slots.last_mut().expect("there is a chunk with room");
        chunk.push(Balance::new(account, currency));
        let (slots, accounts) = (&self.slots, &self.accounts);
        self.index
            .add(balance_hash(user_hash, currency), slot, |slot| {
                let balance = &slots[slot as usize / CHUNK][slot as usize % CHUNK];
                balance_hash(accounts.hash(balance.account()), balance.currency())
            });
        SlotId(slot)
    }

    /// All balances in the order they were created.
    pub fn balances(&self) -> impl Iterator<Item = (SlotId, &Balance)> {
        let slots = self.slots.iter().flatten();
        (0..).map(SlotId).zip(slots)
    }

    /// All accounts in the order they were opened.
    pub fn accounts(&self) -> impl Iterator<Item = AccountRef<'_>> {
        self.accounts.iter()
    }

    /// How many balances there are.
    pub fn len(&self) -> u64 {
        match self.slots.split_last() {
            Some((last, full)) => (full.len() * CHUNK + last.len()) as u64,
            None => 0,
        }
    }

    /// Whether there is no balance.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many accounts there are.
    pub fn accounts_len(&self) -> u64 {
        self.accounts.len()
    }

    /// The memory of the book in bytes.
    pub fn bytes(&self) -> u64 {
        let list = self.slots.capacity() * size_of::<Vec<Balance>>();
        let slots = self.slots.len() * CHUNK * size_of::<Balance>() + list;
        slots as u64 + self.index.bytes() + self.accounts.bytes()
    }

    /// A hash of all balances: the sum, modulo 2¹²⁸, of the fixed-key hashes of (account id,
    /// currency, available, frozen, version). Order has no say, and the hashes of several books add
    /// up to that of one book with all their balances, however users are spread over shards.
    pub fn state_hash(&self) -> u128 {
        let hash = |balance: &Balance| {
            let mut row = [0; 58];
            row[..8].copy_from_slice(&self.account_id(balance.account()).get().to_le_bytes());
            row[8..18].copy_from_slice(balance.currency().padded());
            row[18..34].copy_from_slice(&balance.available().units().to_le_bytes());
            row[34..50].copy_from_slice(&balance.frozen().units().to_le_bytes());
            row[50..].copy_from_slice(&balance.version().to_le_bytes());
            sum_hash(&row)
        };
        let hashes = self.balances().map(|(_, balance)| hash(balance));
        hashes.fold(0, u128::wrapping_add)
    }
}
