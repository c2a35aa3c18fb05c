//! From a hash to a number of 32 bits.

use crate::lines::Lines;
use crate::prefetch::prefetch;

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

    /// Which entries have this tag: entry `e` is bit 8 `e` of the first eight, bit 8 (`e` − 8) + 1
    /// of the last four.
    #[inline]
    fn tagged(&self, tag: u8) -> u64 {
        let tags = u128::from_le_bytes(core::array::from_fn(|at| match self.tags.get(at) {
            Some(&tag) => tag,
            None => 0,
        }));
        let ones = u64::from(tag) * 0x0101_0101_0101_0101;
        let first = zero_bytes(tags as u64 ^ ones);
        let last = zero_bytes((tags >> 64) as u64 ^ ones) & 0xffff_ffff;
        first >> 7 | last >> 6
    }

    /// The first value of this tag that a test accepts.
    #[inline]
    fn find(&self, tag: u8, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut tagged = self.tagged(tag);
        while tagged != 0 {
            let bit = tagged.trailing_zeros() as usize;
            // An empty entry has a tag too, 0, but no value.
            if let Some(value) = self.values[bit / 8 + bit % 8 * 8].checked_sub(1)
                && is(value)
            {
                return Some(value);
            }
            tagged &= tagged - 1;
        }
        None
    }

    fn vacant(&self) -> Option<usize> {
        self.values.iter().position(|&value| value == 0)
    }
}

/// The top bit of every byte of a word that is zero, exactly: nothing is carried between bytes.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !(((word & LOW) + LOW) | word | LOW)
}

/// What the values of an index stand for.
pub(super) trait Values {
    /// How many cache lines lie between a value and its hash, each known from the one before.
    const STEPS: usize;

    /// Brings the line of a step, 0 .. [`Values::STEPS`], near; those before it are.
    fn near(&self, value: u32, step: usize);

    /// The hash of a value that was added.
    fn hash(&self, value: u32) -> u64;
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

    /// The value that a hash most likely means, if any: one that has its tag, not looked at. If it
    /// can only be in a spill line, that line is brought near.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        let line = self.lines.head(self.lines.head_of(hash));
        let guess = line.find(tag(hash), |_| true);
        if let (None, Some(spill)) = (guess, line.next()) {
            prefetch(self.lines.spill(spill));
        }
        guess
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

    /// Adds a value under a hash.
    pub(super) fn add(&mut self, hash: u64, value: u32, values: &impl Values) {
        assert!(value < u32::MAX, "a value and 1 fit 32 bits");
        if self.held >= self.lines.heads() * ENTRIES_A_LINE {
            self.split(values);
        }
        self.put(hash, value);
        self.held += 1;
    }

    fn split<V: Values>(&mut self, values: &V) {
        let (old, new) = self.lines.split();
        let mut line = core::mem::take(self.lines.head_mut(old));
        loop {
            let held = line.values.iter().map_while(|value| value.checked_sub(1));
            // All at once instead of one after the other: each is a cache miss or two.
            for step in 0..V::STEPS {
                held.clone().for_each(|value| values.near(value, step));
            }
            for value in held {
                let hash = values.hash(value);
                let home = self.lines.head_of(hash);
                assert!(
                    home == old || home == new,
                    "a value has another hash than before"
                );
                self.put(hash, value);
            }
            match line.next() {
                Some(spill) => line = self.lines.give_back(spill),
                None => break,
            }
        }
        prefetch(self.lines.head(self.lines.split_after(0)));
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

    struct Hashes<F>(F);

    impl<F: Fn(u32) -> u64> Values for Hashes<F> {
        const STEPS: usize = 0;

        fn near(&self, _value: u32, _step: usize) {}

        fn hash(&self, value: u32) -> u64 {
            self.0(value)
        }
    }

    #[test]
    fn tags_are_found_in_every_place() {
        let mut line = Line {
            values: core::array::from_fn(|at| at as u32 + 1),
            ..Line::default()
        };
        for tag in 0..=255 {
            for at in 0..ENTRIES as u32 {
                line.tags = [tag ^ 1; ENTRIES];
                assert_eq!(line.find(tag, |_| true), None);
                line.tags[at as usize] = tag;
                assert_eq!(line.find(tag, |_| true), Some(at));
            }
        }
        assert_eq!(Line::default().find(0, |_| true), None);
    }

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
                index.add(hash_of(value), value, &Hashes(hash_of));
            }
            for value in 0..3000 {
                assert_eq!(index.find(hash_of(value), |v| v == value), Some(value));
            }
            assert_eq!(index.find(hash_of(3000), |v| v == 3000), None);
        }
    }
}
