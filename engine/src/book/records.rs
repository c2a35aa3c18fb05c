//! What is known of an account, packed.

use super::accounts::{AccountHandle, AccountRef};
use super::index::Values;
use crate::ids::AccountId;
use crate::prefetch::prefetch;

/// Bytes of a chunk.
const CHUNK: usize = 64 << 10;
/// Bytes before the user: the account id and the user's length.
const HEAD: usize = 9;

/// Records of account id (8 bytes, little-endian), length of the user (1) and user, one after the
/// other in chunks; none goes over a chunk's end. A length of 0 ends a chunk. A handle is the
/// number of a record's first byte.
#[derive(Debug)]
pub(super) struct Records {
    chunks: Vec<Box<[u8; CHUNK]>>,
    /// Bytes used of the last chunk.
    used: usize,
    len: u64,
    hash: fn(&[u8]) -> u64,
}

impl Records {
    pub(super) fn new(hash: fn(&[u8]) -> u64) -> Self {
        Self {
            chunks: Vec::new(),
            used: CHUNK,
            len: 0,
            hash,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.chunks.len() * CHUNK + self.chunks.capacity() * size_of::<usize>()) as u64
    }

    /// The record of a handle, to its chunk's end.
    #[inline]
    fn record(&self, handle: AccountHandle) -> &[u8] {
        let at = handle.0 as usize;
        &self.chunks[at / CHUNK][at % CHUNK..]
    }

    #[inline]
    pub(super) fn user(&self, handle: AccountHandle) -> &[u8] {
        let record = self.record(handle);
        &record[HEAD..HEAD + usize::from(record[HEAD - 1])]
    }

    #[inline]
    pub(super) fn id(&self, handle: AccountHandle) -> AccountId {
        let id = self.record(handle).first_chunk();
        let id = u64::from_le_bytes(*id.expect("a record is 9 bytes or more"));
        AccountId::new(id).expect("an account id was written")
    }

    /// The hash of a user.
    #[inline]
    pub(super) fn hash(&self, handle: AccountHandle) -> u64 {
        (self.hash)(self.user(handle))
    }

    /// Starts to bring a record near.
    #[inline]
    pub(super) fn prefetch(&self, handle: AccountHandle) {
        // A record has at least ten bytes, and one in seven lies on both sides of a line's end.
        let record = self.record(handle);
        prefetch(&record[0]);
        prefetch(&record[HEAD]);
    }

    /// Writes a record after the last one.
    pub(super) fn push(&mut self, user: &[u8], id: AccountId) -> AccountHandle {
        let bytes = HEAD + user.len();
        if self.used + bytes > CHUNK {
            let chunk = vec![0; CHUNK].into_boxed_slice();
            let chunk = chunk.try_into().expect("the length is the chunk's");
            self.chunks.push(chunk);
            self.used = 0;
        }
        let chunk = self.chunks.len() - 1;
        let at = chunk * CHUNK + self.used;
        // The index needs a number to spare.
        assert!(at < u32::MAX as usize, "the accounts of a shard fit 4 GiB");
        let record = &mut self.chunks[chunk][self.used..self.used + bytes];
        record[..8].copy_from_slice(&id.get().to_le_bytes());
        record[8] = user.len() as u8;
        record[HEAD..].copy_from_slice(user);
        self.used += bytes;
        self.len += 1;
        AccountHandle(at as u32)
    }

    /// All accounts in the order they were opened.
    pub(super) fn iter(&self) -> impl Iterator<Item = AccountRef<'_>> {
        let mut at = 0;
        core::iter::from_fn(move || {
            // A record that did not fit the end of a chunk is the first of the next.
            let rest = self.chunks.get(at / CHUNK)?.get(at % CHUNK + HEAD - 1);
            if rest.is_none_or(|&bytes| bytes == 0) {
                at = (at + 1).next_multiple_of(CHUNK);
                self.chunks.get(at / CHUNK)?;
            }
            let handle = AccountHandle(at as u32);
            let user = self.user(handle);
            at += HEAD + user.len();
            Some(AccountRef {
                handle,
                id: self.id(handle),
                user,
            })
        })
    }
}

impl Values for Records {
    const STEPS: usize = 1;

    fn near(&self, value: u32, _step: usize) {
        self.prefetch(AccountHandle(value));
    }

    fn hash(&self, value: u32) -> u64 {
        self.hash(AccountHandle(value))
    }
}
