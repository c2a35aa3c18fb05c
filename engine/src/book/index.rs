//! From a hash to a number of 32 bits.

use crate::lines::Lines;

/// Entries of a line.
const ENTRIES: usize = 12;
/// Lines of a chunk, 64 KiB.
const CHUNK: usize = 1024;
/// Lines split while they have more entries than this on average: three quarters.
const ENTRIES_A_LINE: u64 = 9;

/// Twelve entries, one cache line. A zeroed line is empty.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// The values plus 1, filled from the first; 0 is no entry.
    values: [u32; ENTRIES],
    /// Eight bits of the hashes.
    tags: [u8; ENTRIES],
    /// The number of the next line of the chain plus 1; 0 if there is none.
    next: u32,
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    #[inline]
    fn next(&self) -> Option<u32> {
        self.next.checked_sub(1)
    }

    /// Which entries have this tag, as bits.
    #[inline]
    fn tagged(&self, tag: u8) -> u32 {
        let mut equal = 0;
        for (entry, &other) in self.tags.iter().enumerate() {
            equal |= u32::from(other == tag) << entry;
        }
        equal
    }

    /// The first value of this tag that a test accepts.
    #[inline]
    fn find(&self, tag: u8, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut equal = self.tagged(tag);
        while equal != 0 {
            // An empty entry has a tag too, 0, but no value.
            let value = self.values[equal.trailing_zeros() as usize].checked_sub(1)?;
            if is(value) {
                return Some(value);
            }
            equal &= equal - 1;
        }
        None
    }

    fn vacant(&self) -> Option<usize> {
        self.values.iter().position(|&value| value == 0)
    }
}

/// A multimap from hashes to values below 2³² − 1 that keeps neither: of a hash there are 8 bits in
/// the entry, so what a value stands for has to be looked at, and has to give the hash again when a
/// line splits.
#[derive(Debug)]
pub(super) struct Index {
    lines: Lines<Line, CHUNK>,
    held: u64,
}

/// The bits of a hash that tell entries of a line apart. A line takes the low bits, a shard the
/// high ones, so these are between the two.
#[inline]
fn tag(hash: u64) -> u8 {
    (hash >> 40) as u8
}

impl Index {
    pub(super) fn new() -> Self {
        let mut lines = Lines::new();
        lines.start(1);
        Self { lines, held: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    /// Starts to bring the line of a hash near.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.lines.prefetch(hash);
    }

    /// Shows the values that the line of a hash may mean, most often exactly one. A value that lies
    /// in a spill line is not shown; its line is brought near.
    #[inline]
    pub(super) fn candidates(&self, hash: u64, mut show: impl FnMut(u32)) {
        let line = self.lines.head(self.lines.head_of(hash));
        let mut shown = false;
        line.find(tag(hash), |value| {
            show(value);
            shown = true;
            false
        });
        if let (false, Some(spill)) = (shown, line.next()) {
            crate::prefetch::prefetch(self.lines.spill(spill));
        }
    }

    /// The value of this hash that a test accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut line = self.lines.head(self.lines.head_of(hash));
        loop {
            let found = line.find(tag, &mut is);
            if found.is_some() {
                return found;
            }
            line = self.lines.spill(line.next()?);
        }
    }

    /// Adds a value under a hash. `hash_of` gives the hash of a value added before.
    pub(super) fn add(&mut self, hash: u64, value: u32, hash_of: impl Fn(u32) -> u64) {
        assert!(value < u32::MAX, "a value and 1 fit 32 bits");
        if self.held >= self.lines.heads() * ENTRIES_A_LINE {
            self.split(hash_of);
        }
        self.put(hash, value);
        self.held += 1;
    }

    fn split(&mut self, hash_of: impl Fn(u32) -> u64) {
        let (old, new) = self.lines.split();
        let mut line = core::mem::take(self.lines.head_mut(old));
        loop {
            for value in line.values.iter().map_while(|value| value.checked_sub(1)) {
                let hash = hash_of(value);
                let home = self.lines.head_of(hash);
                assert!(
                    home == old || home == new,
                    "a value has another hash than before"
                );
                self.put(hash, value);
            }
            match line.next() {
                Some(spill) => line = self.lines.give_back(spill),
                None => return,
            }
        }
    }

    /// Writes an entry into the first vacant place of its chain.
    fn put(&mut self, hash: u64, value: u32) {
        let head = self.lines.head_of(hash);
        let mut at = None;
        loop {
            let line = match at {
                None => self.lines.head_mut(head),
                Some(spill) => self.lines.spill_mut(spill),
            };
            if let Some(entry) = line.vacant() {
                line.values[entry] = value + 1;
                line.tags[entry] = tag(hash);
                return;
            }
            let Some(next) = line.next() else { break };
            at = Some(next);
        }
        if self.lines.spare_spills() == 0 {
            self.lines.add_spills();
        }
        let spill = self.lines.take_spill();
        let last = match at {
            None => self.lines.head_mut(head),
            Some(at) => self.lines.spill_mut(at),
        };
        last.next = spill + 1;
        let line = self.lines.spill_mut(spill);
        line.values[0] = value + 1;
        line.tags[0] = tag(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_whatever_collides() {
        // All hashes apart, all tags equal, all lines equal, all hashes equal.
        for mask in [u64::MAX, !(0xff << 40), !0xffff_ffff, 0] {
            let hash_of = |value: u32| {
                u64::from(value)
                    .wrapping_add(1)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    & mask
            };
            let mut index = Index::new();
            for value in 0..3000 {
                index.add(hash_of(value), value, hash_of);
            }
            for value in 0..3000 {
                assert_eq!(index.find(hash_of(value), |v| v == value), Some(value));
            }
            assert_eq!(index.find(hash_of(3000), |v| v == 3000), None);
        }
    }
}
