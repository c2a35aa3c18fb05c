//! Users and their accounts.

use super::index::Index;
use super::records::Records;
use crate::ids::AccountId;

/// The longest user key in bytes.
pub const MAX_USER_BYTES: usize = 64;

/// Where an account's record is. It stays the same as long as the book lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountHandle(pub(super) u32);

/// An account of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRef<'a> {
    /// Where its record is.
    pub handle: AccountHandle,
    /// Its id.
    pub id: AccountId,
    /// Its user.
    pub user: &'a [u8],
}

/// What came of opening an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is the user's account from now on.
    New(AccountHandle),
    /// It was the user's account before.
    Known(AccountHandle),
    /// The user has another account. Nothing is changed.
    Mismatch {
        /// The account that the user has.
        existing: AccountId,
    },
}

/// The records, and the index that leads to them.
#[derive(Debug)]
pub(super) struct Accounts {
    records: Records,
    index: Index,
}

impl Accounts {
    pub(super) fn new(hash: fn(&[u8]) -> u64) -> Self {
        Self {
            records: Records::new(hash),
            index: Index::new(),
        }
    }

    #[inline]
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    pub(super) fn bytes(&self) -> u64 {
        self.records.bytes() + self.index.bytes()
    }

    #[inline]
    pub(super) fn prefetch_index(&self, user_hash: u64) {
        self.index.prefetch(user_hash);
    }

    #[inline]
    pub(super) fn prefetch_record(&self, user_hash: u64) {
        if let Some(value) = self.index.guess(user_hash) {
            self.records.prefetch(AccountHandle(value));
        }
    }

    #[inline]
    pub(super) fn find(&self, user_hash: u64, user: &[u8]) -> Option<AccountHandle> {
        let is = |value| self.records.user(AccountHandle(value)) == user;
        self.index.find(user_hash, is).map(AccountHandle)
    }

    pub(super) fn open(&mut self, user_hash: u64, user: &[u8], id: AccountId) -> Opened {
        assert!(
            (1..=MAX_USER_BYTES).contains(&user.len()),
            "a user has 1 to 64 bytes"
        );
        if let Some(handle) = self.find(user_hash, user) {
            let existing = self.records.id(handle);
            return if existing == id {
                Opened::Known(handle)
            } else {
                Opened::Mismatch { existing }
            };
        }
        let handle = self.records.push(user, id);
        assert!(
            user_hash == self.records.hash(handle),
            "the hash is another user's"
        );
        self.index.add(user_hash, handle.0, &self.records);
        Opened::New(handle)
    }
}
