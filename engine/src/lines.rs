//! Chains of 64-byte lines that grow one line at a time.
//!
//! Linear hashing (Litwin, "Linear hashing: a new tool for file and table addressing", 1980): with
//! `n` heads, 2^m < `n` ≤ 2^(m+1), a hash belongs to the head named by its low m + 1 bits, or,
//! while there is no such head yet, by its low m bits. A table grows by one head at a time, which
//! takes its part of exactly one older head; there is never a rehash of everything. What does not
//! fit a head lies in spill lines that hang from it.
//!
//! Lines live in chunks of a fixed size, so growing copies nothing and memory follows what is held.

use crate::prefetch::prefetch;

/// Heads and spill lines of type `T`, in chunks of `CHUNK` lines. What a line holds, and how it
/// names the spill line after it, is `T`'s affair. A default line is an empty one.
#[derive(Debug)]
pub(crate) struct Lines<T, const CHUNK: usize> {
    head_chunks: Vec<Box<[T; CHUNK]>>,
    spill_chunks: Vec<Box<[T; CHUNK]>>,
    /// How many heads there are.
    heads: u64,
    /// The smallest 2^m − 1 that is not below any head's number.
    mask: u64,
    /// Spill lines below this number have been handed out at least once.
    spills: usize,
    /// Spill lines given back.
    free: Vec<u32>,
}

/// A new chunk, written through: its pages are resident from here on.
fn chunk<T: Copy + Default, const CHUNK: usize>() -> Box<[T; CHUNK]> {
    let lines = vec![T::default(); CHUNK].into_boxed_slice();
    lines.try_into().ok().expect("the length is the chunk's")
}

impl<T: Copy + Default, const CHUNK: usize> Lines<T, CHUNK> {
    /// The bytes of one chunk.
    pub(crate) const CHUNK_BYTES: u64 = (CHUNK * size_of::<T>()) as u64;

    const SHIFT: u32 = {
        assert!(CHUNK.is_power_of_two());
        assert!(size_of::<T>() == 64 && align_of::<T>() == 64);
        CHUNK.trailing_zeros()
    };

    /// No lines, and no memory.
    pub(crate) const fn new() -> Self {
        Self {
            head_chunks: Vec::new(),
            spill_chunks: Vec::new(),
            heads: 0,
            mask: 0,
            spills: 0,
            free: Vec::new(),
        }
    }

    /// Makes the first `heads` heads, a power of two.
    pub(crate) fn start(&mut self, heads: u64) {
        assert!(self.heads == 0 && heads.is_power_of_two());
        let chunks = heads.div_ceil(CHUNK as u64) as usize;
        self.head_chunks.resize_with(chunks, chunk);
        self.heads = heads;
        self.mask = heads - 1;
    }

    /// How many heads there are.
    #[inline]
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether there is no line at all.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heads == 0
    }

    /// The head that a hash belongs to.
    #[inline]
    pub(crate) fn head_of(&self, hash: u64) -> u64 {
        let head = hash & self.mask;
        if head < self.heads {
            head
        } else {
            head & (self.mask >> 1)
        }
    }

    /// The head of this number.
    #[inline]
    pub(crate) fn head(&self, head: u64) -> &T {
        &self.head_chunks[(head >> Self::SHIFT) as usize][head as usize & (CHUNK - 1)]
    }

    /// The head of this number.
    #[inline]
    pub(crate) fn head_mut(&mut self, head: u64) -> &mut T {
        &mut self.head_chunks[(head >> Self::SHIFT) as usize][head as usize & (CHUNK - 1)]
    }

    /// The spill line of this number.
    #[inline]
    pub(crate) fn spill(&self, spill: u32) -> &T {
        &self.spill_chunks[spill as usize >> Self::SHIFT][spill as usize & (CHUNK - 1)]
    }

    /// The spill line of this number.
    #[inline]
    pub(crate) fn spill_mut(&mut self, spill: u32) -> &mut T {
        &mut self.spill_chunks[spill as usize >> Self::SHIFT][spill as usize & (CHUNK - 1)]
    }

    /// Starts to bring the head of a hash near.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if !self.is_empty() {
            prefetch(self.head(self.head_of(hash)));
        }
    }

    /// Whether one more head needs one more chunk.
    #[inline]
    pub(crate) fn head_needs_chunk(&self) -> bool {
        self.heads == (self.head_chunks.len() * CHUNK) as u64
    }

    /// Adds a head and says which older one it takes its part of: `(old, new)`. Whoever calls it
    /// moves what belongs to the new head, before anything is looked up.
    pub(crate) fn split(&mut self) -> (u64, u64) {
        assert!(self.heads > 0, "the first heads are there before the next");
        if self.head_needs_chunk() {
            self.head_chunks.push(chunk());
        }
        let new = self.heads;
        if new > self.mask {
            self.mask = 2 * self.mask + 1;
        }
        self.heads += 1;
        (new & (self.mask >> 1), new)
    }

    /// The head that a split to come takes from: the next one, or one so many after it.
    #[inline]
    pub(crate) fn split_after(&self, splits: u64) -> u64 {
        let new = self.heads + splits;
        let mask = if new > self.mask {
            self.mask
        } else {
            self.mask >> 1
        };
        (new & mask).min(self.heads - 1)
    }

    /// How many spill lines can be taken before another chunk is needed.
    #[inline]
    pub(crate) fn spare_spills(&self) -> usize {
        self.free.len() + self.spill_chunks.len() * CHUNK - self.spills
    }

    /// Adds a chunk of spill lines.
    pub(crate) fn add_spills(&mut self) {
        self.spill_chunks.push(chunk());
        let spills = self.spill_chunks.len() * CHUNK;
        assert!(
            spills as u64 <= 1 << 32,
            "spill lines are numbered in 32 bits"
        );
        // Room to give every line back, so that giving back never allocates.
        self.free.reserve_exact(spills - self.free.len());
    }

    /// Takes an empty spill line.
    ///
    /// # Panics
    ///
    /// When there is none to spare.
    pub(crate) fn take_spill(&mut self) -> u32 {
        if let Some(spill) = self.free.pop() {
            return spill;
        }
        assert!(
            self.spare_spills() > 0,
            "spill lines are there before taken"
        );
        self.spills += 1;
        (self.spills - 1) as u32
    }

    /// Gives a spill line back, and hands out what it held.
    pub(crate) fn give_back(&mut self, spill: u32) -> T {
        self.free.push(spill);
        core::mem::take(self.spill_mut(spill))
    }

    /// How many spill lines are in use.
    pub(crate) fn spills_used(&self) -> usize {
        self.spills - self.free.len()
    }

    /// The bytes of all chunks and their lists.
    pub(crate) fn bytes(&self) -> u64 {
        let chunks = self.head_chunks.len() + self.spill_chunks.len();
        let lists = self.head_chunks.capacity() + self.spill_chunks.capacity();
        chunks as u64 * Self::CHUNK_BYTES
            + (lists * size_of::<usize>() + self.free.capacity() * size_of::<u32>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    #[derive(Clone, Copy, Default)]
    struct Line([u64; 8]);

    #[test]
    fn a_hash_moves_only_when_its_head_is_split() {
        let mut lines = Lines::<Line, 4>::new();
        lines.start(2);
        let hashes: Vec<u64> = (0..500)
            .map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        for _ in 0..200 {
            let before: Vec<u64> = hashes.iter().map(|&h| lines.head_of(h)).collect();
            let (next, later) = (lines.split_after(0), lines.split_after(1));
            let (old, new) = lines.split();
            assert_eq!((next, new + 1), (old, lines.heads()));
            assert!(later == lines.split_after(0) || old == 0);
            for (&hash, &head) in hashes.iter().zip(&before) {
                let now = lines.head_of(hash);
                assert!(now == head || (head == old && now == new));
            }
            lines.head_mut(new).0[0] = new;
        }
        assert!((2..202).all(|head| lines.head(head).0[0] == head));
    }

    #[test]
    fn spill_lines_come_back_empty() {
        let mut lines = Lines::<Line, 4>::new();
        assert_eq!(lines.spare_spills(), 0);
        lines.add_spills();
        let taken: Vec<u32> = (0..4).map(|_| lines.take_spill()).collect();
        assert_eq!(
            (taken.as_slice(), lines.spare_spills()),
            (&[0, 1, 2, 3][..], 0)
        );
        lines.spill_mut(2).0[7] = 9;
        assert_eq!(lines.give_back(2).0[7], 9);
        assert_eq!((lines.spare_spills(), lines.spills_used()), (1, 3));
        assert_eq!(lines.take_spill(), 2);
        assert_eq!(lines.spill(2).0[7], 0);
    }
}
