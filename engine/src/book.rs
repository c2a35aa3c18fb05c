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
//! user's length of a record.

mod accounts;
mod balance;
mod index;
mod records;
mod slots;
#[cfg(test)]
mod tests;

pub use accounts::{AccountHandle, AccountRef, MAX_USER_BYTES, Opened};
pub use balance::Balance;

use crate::currency::Currency;
use crate::hash::{key_hash, sum_hash};
use crate::ids::AccountId;
use accounts::Accounts;
use index::Index;
use slots::{Owned, Slots};

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
    slots: Slots,
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
            slots: Slots::default(),
            index: Index::new(),
        }
    }

    /// Opens an account for a user of 1 to 64 bytes.
    ///
    /// # Panics
    ///
    /// When the user is empty or longer, when the hash is not the user's, or when the shard's
    /// accounts need more than 4 GiB.
    pub fn open(&mut self, user_hash: u64, user: &[u8], id: AccountId) -> Opened {
        self.accounts.open(user_hash, user, id)
    }

    /// The account of a user.
    #[inline]
    pub fn account<'a>(&'a self, user_hash: u64, user: &[u8]) -> Option<AccountRef<'a>> {
        let handle = self.accounts.find(user_hash, user)?;
        Some(AccountRef {
            handle,
            id: self.accounts.records().id(handle),
            user: self.accounts.records().user(handle),
        })
    }

    /// The id of an account.
    #[inline]
    pub fn account_id(&self, handle: AccountHandle) -> AccountId {
        self.accounts.records().id(handle)
    }

    /// The user of an account.
    #[inline]
    pub fn user(&self, handle: AccountHandle) -> &[u8] {
        self.accounts.records().user(handle)
    }

    /// First step towards [`Book::account`]: brings the index line near.
    #[inline]
    pub fn prefetch_account_index(&self, user_hash: u64) {
        self.accounts.prefetch_index(user_hash);
    }

    /// Second step towards [`Book::account`]: reads the index line, brings the record near.
    #[inline]
    pub fn prefetch_account(&self, user_hash: u64) {
        self.accounts.prefetch_record(user_hash);
    }

    /// First step towards [`Book::find`]: brings the index line near.
    #[inline]
    pub fn prefetch_index(&self, user_hash: u64, currency: Currency) {
        self.index.prefetch(balance_hash(user_hash, currency));
    }

    /// Second step towards [`Book::find`]: reads the index line, and brings near the slot that is
    /// most likely the one, a guess for the third step and for the look-up.
    #[inline]
    pub fn prefetch_slot(&self, user_hash: u64, currency: Currency) -> Option<SlotId> {
        let guess = self.index.guess(balance_hash(user_hash, currency));
        let guess = guess.map(SlotId)?;
        self.slots.prefetch(guess);
        Some(guess)
    }

    /// Third step towards [`Book::find`]: reads the slot, brings its account's record near.
    #[inline]
    pub fn prefetch_user(&self, guess: SlotId) {
        let balance = self.slots.get(guess);
        self.accounts.records().prefetch(balance.account());
    }

    /// The balance of a user in a currency, if there is one. A guess, of whatever origin, may
    /// shorten the way to it, and never changes the answer.
    #[inline]
    pub fn find(
        &self,
        guess: Option<SlotId>,
        user_hash: u64,
        user: &[u8],
        currency: Currency,
    ) -> Option<SlotId> {
        let is = |slot| {
            let balance = self.slots.get(SlotId(slot));
            balance.currency() == currency && self.user(balance.account()) == user
        };
        if guess.is_some_and(|SlotId(slot)| is(slot)) {
            return guess;
        }
        let hash = balance_hash(user_hash, currency);
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
            let balance = self.slots.get(SlotId(slot));
            balance.account() == account && balance.currency() == currency
        };
        self.index.find(hash, is).map(SlotId)
    }

    /// A balance.
    #[inline]
    pub fn slot(&self, slot: SlotId) -> &Balance {
        self.slots.get(slot)
    }

    /// A balance, to change.
    #[inline]
    pub fn slot_mut(&mut self, slot: SlotId) -> &mut Balance {
        self.slots.get_mut(slot)
    }

    /// Creates a balance of nothing.
    ///
    /// # Panics
    ///
    /// When the account has one in that currency, when the hash is not its user's, or when there
    /// are 2³² − 1 balances.
    pub fn create(&mut self, account: AccountHandle, user_hash: u64, currency: Currency) -> SlotId {
        assert!(
            user_hash == self.accounts.records().hash(account),
            "the hash is another user's"
        );
        assert!(
            self.find_of(account, user_hash, currency).is_none(),
            "an account has one balance a currency"
        );
        let slot = self.slots.push(Balance::new(account, currency));
        let owned = Owned {
            slots: &self.slots,
            records: self.accounts.records(),
        };
        self.index
            .add(balance_hash(user_hash, currency), slot.0, &owned);
        slot
    }

    /// All balances in the order they were created.
    pub fn balances(&self) -> impl Iterator<Item = (SlotId, &Balance)> {
        self.slots.iter()
    }

    /// All accounts in the order they were opened.
    pub fn accounts(&self) -> impl Iterator<Item = AccountRef<'_>> {
        self.accounts.records().iter()
    }

    /// How many balances there are.
    pub fn len(&self) -> u64 {
        self.slots.len()
    }

    /// Whether there is no balance.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many accounts there are.
    pub fn accounts_len(&self) -> u64 {
        self.accounts.records().len()
    }

    /// The memory of the book in bytes.
    pub fn bytes(&self) -> u64 {
        self.slots.bytes() + self.index.bytes() + self.accounts.bytes()
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
