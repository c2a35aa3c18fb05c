//! Users and their accounts.

use super::index::Index;
use crate::ids::AccountId;
use crate::prefetch::prefetch;

/// The longest user key in bytes.
pub const MAX_USER_BYTES: usize = 64;

/// Bytes of a chunk of records.
const CHUNK: usize = 64 << 10;
/// A handle counts in units of so many bytes, so that 32 bits reach 8 GiB.
const UNIT: usize = 2;
/// Bytes before the user: the account id and the user's length.
const HEAD: usize = 9;

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

/// Records of account id (8 bytes, little-endian), length of the user (1) and user, one after the
/// other in chunks; none goes over a chunk's end. A length of 0 ends a chunk.
#[derive(Debug)]
pub(super) struct Accounts {
    chunks: Vec<Box<[u8; CHUNK]>>,
    /// Bytes used of the last chunk.
    used: usize,
    len: u64,
    index: Index,
    hash: fn(&[u8]) -> u64,
}

impl Accounts {
    pub(super) fn new(hash: fn(&[u8]) -> u64) -> Self {
        Self {
            chunks: Vec::new(),
            used: CHUNK,
            len: 0,
            index: Index::new(),
            hash,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn bytes(&self) -> u64 {
        let list = self.chunks.capacity() * size_of::<usize>();
        (self.chunks.len() * CHUNK + list) as u64 + self.index.bytes()
    }

    /// The hash of a user of the book.
    pub(super) fn hash(&self, handle: AccountHandle) -> u64 {
        (self.hash)(self.user(handle))
    }

    /// The record of a handle, to its chunk's end.
    #[inline]
    fn record(&self, handle: AccountHandle) -> &[u8] {
        let at = handle.0 as usize * UNIT;
        &self.chunks[at / CHUNK][at % CHUNK..]
    }

    #[inline]
    pub(super) fn user(&self, handle: AccountHandle) -> &[u8] {
        let record = self.record(handle);
        &record[HEAD..HEAD + usize::from(record[HEAD - 1])]
    }

    #[inline]
    pub(super) fn id(&self, handle: AccountHandle) -> AccountId {
        let (id, _) = self
            .record(handle)
            .split_first_chunk()
            .expect("a record is 9 bytes or more");
        AccountId::new(u64::from_le_bytes(*id)).expect("an account id was written")
    }

    #[inline]
    pub(super) fn prefetch_index(&self, user_hash: u64) {
        self.index.prefetch(user_hash);
    }

    #[inline]
    pub(super) fn prefetch_candidates(&self, user_hash: u64) {
        self.index
            .candidates(user_hash, |value| self.prefetch(AccountHandle(value)));
    }

    #[inline]
    pub(super) fn prefetch(&self, handle: AccountHandle) {
        prefetch(&self.record(handle)[0]);
    }

    #[inline]
    pub(super) fn find(&self, user_hash: u64, user: &[u8]) -> Option<AccountHandle> {
        let is = |value| self.user(AccountHandle(value)) == user;
        self.index.find(user_hash, is).map(AccountHandle)
    }

    pub(super) fn open(&mut self, user_hash: u64, user: &[u8], id: AccountId) -> Opened {
        assert!(
            (1..=MAX_USER_BYTES).contains(&user.len()),
            "a user has 1 to 64 bytes"
        );
        assert!(user_hash == (self.hash)(user), "the hash is another user's");
        if let Some(handle) = self.find(user_hash, user) {
            let existing = self.id(handle);
            return if existing == id {
                Opened::Known(handle)
            } else {
                Opened::Mismatch { existing }
            };
        }
        let handle = self.write(user, id);
        // The index looks at other records while it takes this one in.
        let (chunks, hash) = (&self.chunks, self.hash);
        self.index.add(user_hash, handle.0, |value| {
            let at = value as usize * UNIT;
            let record = &chunks[at / CHUNK][at % CHUNK..];
            hash(&record[HEAD..HEAD + usize::from(record[HEAD - 1])])
        });
        self.len += 1;
        Opened::New(handle)
    }

    /// Writes a record after the last one.
    fn write(&mut self, user: &[u8], id: AccountId) -> AccountHandle {
        let bytes = HEAD + user.len();
        if self.used + bytes > CHUNK {
            let chunk = vec![0; CHUNK].into_boxed_slice();
            self.chunks
                .push(chunk.try_into().expect("the length is the chunk's"));
            self.used = 0;
        }
        let chunk = self.chunks.len() - 1;
        let at = (chunk * CHUNK + self.used) / UNIT;
        // The index needs a number to spare.
        assert!(at < u32::MAX as usize, "the accounts of a shard fit 8 GiB");
        let record = &mut self.chunks[chunk][self.used..self.used + bytes];
        record[..8].copy_from_slice(&id.get().to_le_bytes());
        record[8] = user.len() as u8;
        record[HEAD..].copy_from_slice(user);
        self.used = (self.used + bytes).next_multiple_of(UNIT);
        AccountHandle(at as u32)
    }

    /// All accounts in the order they were opened.
    pub(super) fn iter(&self) -> impl Iterator<Item = AccountRef<'_>> {
        let mut at = 0;
        core::iter::from_fn(move || {
            // A record that does not fit the end of a chunk is the first of the next.
            if at % CHUNK + HEAD > CHUNK || self.chunks.get(at / CHUNK)?[at % CHUNK + 8] == 0 {
                at = (at + 1).next_multiple_of(CHUNK);
            }
            if self.chunks.get(at / CHUNK)?[at % CHUNK + 8] == 0 {
                return None;
            }
            let handle = AccountHandle((at / UNIT) as u32);
            let user = self.user(handle);
            at += (HEAD + user.len()).next_multiple_of(UNIT);
            Some(AccountRef {
                handle,
                id: self.id(handle),
                user,
            })
        })
    }
}
