//! A slot of the command ring: a record copied inline, or a barrier.

use std::sync::Arc;

use crate::{
    Generation, Offset, Partition,
    epoch::Cut,
    record::{Mark, NOT_ISSUED, Record},
};

/// How many bytes of key, value and headers together lie in the slot itself.
///
/// Commands are around 200 bytes with a key of around 10, and the outbox adds headers of around
/// 120; the slot is seven cache lines in all.
pub const INLINE_BYTES: usize = 352;

/// One slot. Built once with the ring and written in place, so that the poller copies bytes and
/// allocates only for a record too large for it.
#[repr(align(64))]
#[derive(Debug)]
pub struct CommandSlot {
    /// Which life of the log the offset counts in.
    pub generation: Generation,
    /// The log's partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
    /// The partition's clock at the record, in ms since 1970: its timestamp made monotonic.
    pub clock_ms: i64,
    /// When the front door issued it, in ms since 1970, or [`NOT_ISSUED`].
    pub issued_at_ms: i64,
    /// [`key_hash`](crate::hash::key_hash) of the key, by which it was routed.
    pub key_hash: u64,
    /// A barrier instead of a record.
    barrier: Option<Arc<Cut>>,
    spill: Option<Box<[u8]>>,
    key_len: u32,
    value_len: u32,
    headers_len: u32,
    /// What was decided about the record before.
    pub mark: Mark,
    inline: [u8; INLINE_BYTES],
}

const _: () = assert!(size_of::<CommandSlot>() == 448);

impl CommandSlot {
    /// An empty slot.
    pub fn new() -> Self {
        Self {
            generation: Generation::default(),
            partition: Partition::default(),
            offset: Offset::default(),
            clock_ms: 0,
            issued_at_ms: NOT_ISSUED,
            key_hash: 0,
            barrier: None,
            spill: None,
            key_len: 0,
            value_len: 0,
            headers_len: 0,
            mark: Mark::None,
            inline: [0; INLINE_BYTES],
        }
    }

    /// How many bytes `record` will put on the heap: 0 if it fits inline.
    pub fn spill_bytes_of(record: &Record<'_>) -> usize {
        let bytes = record.key.len() + record.value.len() + record.headers.len();
        if bytes <= INLINE_BYTES { 0 } else { bytes }
    }

    /// Writes a record into the slot.
    ///
    /// # Panics
    ///
    /// If key, value or headers are 4 GiB or longer; logs refuse such records long before.
    pub fn set_record(&mut self, record: &Record<'_>, clock_ms: i64, key_hash: u64) {
        self.generation = record.generation;
        self.partition = record.partition;
        self.offset = record.offset;
        self.clock_ms = clock_ms;
        self.issued_at_ms = record.issued_at_ms;
        self.key_hash = key_hash;
        self.mark = record.mark;
        self.barrier = None;
        let (key, value, headers) = (record.key, record.value, record.headers);
        assert!(
            [key, value, headers]
                .iter()
                .all(|bytes| u32::try_from(bytes.len()).is_ok()),
            "a record of 4 GiB"
        );
        self.key_len = key.len() as u32;
        self.value_len = value.len() as u32;
        self.headers_len = headers.len() as u32;
        if Self::spill_bytes_of(record) == 0 {
            let (end_of_key, end) = (key.len(), key.len() + value.len());
            self.inline[..end_of_key].copy_from_slice(key);
            self.inline[end_of_key..end].copy_from_slice(value);
            self.inline[end..end + headers.len()].copy_from_slice(headers);
            self.spill = None;
        } else {
            self.spill = Some([key, value, headers].concat().into_boxed_slice());
        }
    }

    /// Makes the slot a barrier.
    pub fn set_barrier(&mut self, cut: Arc<Cut>) {
        self.barrier = Some(cut);
        self.spill = None;
        self.key_len = 0;
        self.value_len = 0;
        self.headers_len = 0;
    }

    /// The barrier, if this is one.
    pub fn barrier(&self) -> Option<&Arc<Cut>> {
        self.barrier.as_ref()
    }

    /// The record's key.
    pub fn key(&self) -> &[u8] {
        &self.bytes()[..self.key_len as usize]
    }

    /// The record's value.
    pub fn value(&self) -> &[u8] {
        let start = self.key_len as usize;
        &self.bytes()[start..start + self.value_len as usize]
    }

    /// The record's headers, as [`Headers`](crate::headers::Headers) reads them.
    pub fn headers(&self) -> &[u8] {
        let start = (self.key_len + self.value_len) as usize;
        &self.bytes()[start..start + self.headers_len as usize]
    }

    /// How many bytes it holds on the heap.
    pub fn spilled_bytes(&self) -> usize {
        self.spill.as_ref().map_or(0, |bytes| bytes.len())
    }

    /// Frees what it holds on the heap, so that a ring full of old slots holds nothing.
    pub fn clear(&mut self) {
        self.spill = None;
        self.barrier = None;
        self.key_len = 0;
        self.value_len = 0;
        self.headers_len = 0;
    }

    fn bytes(&self) -> &[u8] {
        self.spill.as_deref().unwrap_or(&self.inline)
    }
}

impl Default for CommandSlot {
    fn default() -> Self {
        Self::new()
    }
}
