//! One cache line of seven ids.

use super::clock::Expired;

/// Bits of an entry in the trailer: a generation of 6 and the upper growth bits.
const FIELD_BITS: u32 = 9;
/// The bits of one field.
const FIELD: u64 = (1 << FIELD_BITS) - 1;
/// Bits of a field that are its generation.
const CODE_BITS: u32 = 6;
/// The bits of a field that are its generation.
const CODE: u64 = (1 << CODE_BITS) - 1;
/// Growth bits that a field has.
const UPPER_BITS: u32 = FIELD_BITS - CODE_BITS;
/// Growth bits that a tag word has.
const LOWER_BITS: u32 = 3;

/// Growth bits of an entry: a table can grow 64-fold.
pub(super) const GROWTH_BITS: u32 = UPPER_BITS + LOWER_BITS;

/// Entries of a line.
pub(super) const ENTRIES: usize = 7;
/// The entry that gives way to the number of the next line.
const LAST: usize = ENTRIES - 1;

/// The lowest bit of every field.
const LANES: u64 = {
    let mut lanes = 0;
    let mut entry = 0;
    while entry < ENTRIES {
        lanes |= 1 << (entry as u32 * FIELD_BITS);
        entry += 1;
    }
    lanes
};

/// The trailer's top bit: the last word is the number of the next line of the chain.
const LINKED: u64 = 1 << 63;

/// What an id is told apart by within its chain, 67 bits: 61 of the hash's tag, and the growth
/// bits of its line. Once the table has used a growth bit to choose the line it tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// 61 bits of the tag, and the lower growth bits.
    word: u64,
    /// The upper growth bits.
    upper: u8,
}

impl Mark {
    /// The mark of a tag and of growth bits, 0 ..= 63.
    #[inline]
    pub(super) fn new(tag: u64, growth: u64) -> Self {
        Self {
            word: tag << LOWER_BITS | growth & ((1 << LOWER_BITS) - 1),
            upper: (growth >> LOWER_BITS) as u8,
        }
    }

    /// The growth bits.
    #[inline]
    pub(super) fn growth(self) -> u64 {
        self.word & ((1 << LOWER_BITS) - 1) | u64::from(self.upper) << LOWER_BITS
    }
}

/// Seven entries and a trailer, one cache line: the words of the marks, then 7 × 9 bits (a
/// generation, 0 = no entry, and the upper growth bits), then one bit that says that the last word
/// is not an entry but a link. A zeroed line is empty.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    words: [u64; ENTRIES],
    trailer: u64,
}

const _: () = assert!(size_of::<Line>() == 64);
const _: () = assert!(FIELD_BITS as usize * ENTRIES == 63);

impl Line {
    #[inline]
    fn field(&self, entry: usize) -> u64 {
        self.trailer >> (entry as u32 * FIELD_BITS) & FIELD
    }

    /// The generation code of an entry; 0 if it is none.
    #[inline]
    pub(super) fn code(&self, entry: usize) -> u8 {
        (self.field(entry) & CODE) as u8
    }

    /// The mark of an entry.
    #[inline]
    pub(super) fn mark(&self, entry: usize) -> Mark {
        Mark {
            word: self.words[entry],
            upper: (self.field(entry) >> CODE_BITS) as u8,
        }
    }

    /// The number of the next line of the chain.
    #[inline]
    pub(super) fn next(&self) -> Option<u32> {
        (self.trailer & LINKED != 0).then_some(self.words[LAST] as u32)
    }

    /// The entry with this mark, alive or not.
    #[inline]
    pub(super) fn find(&self, mark: Mark) -> Option<usize> {
        // All seven at once, as almost none is ever equal: no branch but the last.
        let mut equal = 0u32;
        for (entry, &word) in self.words.iter().enumerate() {
            equal |= u32::from(word == mark.word) << entry;
        }
        while equal != 0 {
            let entry = equal.trailing_zeros() as usize;
            if self.code(entry) != 0 && self.mark(entry) == mark {
                return Some(entry);
            }
            equal &= equal - 1;
        }
        None
    }

    /// An entry that nothing is in.
    #[inline]
    pub(super) fn vacant(&self) -> Option<usize> {
        let used = self.at_least(1);
        // The last field of a linked line has no code, but is not vacant either.
        let linked = (self.trailer >> 63) << (LAST as u32 * FIELD_BITS);
        let vacant = !(used | linked) & LANES;
        (vacant != 0).then(|| (vacant.trailing_zeros() / FIELD_BITS) as usize)
    }

    /// The lanes whose code is `code`, 1 ..= 64, or more.
    #[inline]
    fn at_least(&self, code: u8) -> u64 {
        // All lanes at once: the sum carries into the bit above the code, and never farther.
        let codes = self.trailer & (LANES * CODE);
        (codes + LANES * (CODE + 1 - u64::from(code))) >> CODE_BITS & LANES
    }

    /// The lanes of entries that have expired.
    #[inline]
    fn expired_lanes(&self, expired: Expired) -> u64 {
        let range = self.at_least(expired.from) & !self.at_least(expired.to + 1);
        if expired.others {
            self.at_least(1) & !range
        } else {
            range
        }
    }

    /// An entry that has expired.
    #[inline]
    pub(super) fn expired(&self, expired: Expired) -> Option<usize> {
        let lanes = self.expired_lanes(expired);
        (lanes != 0).then(|| (lanes.trailing_zeros() / FIELD_BITS) as usize)
    }

    /// Removes the entries that have expired, and says how many they were.
    #[inline]
    pub(super) fn sweep(&mut self, expired: Expired) -> u64 {
        let lanes = self.expired_lanes(expired);
        self.trailer &= !(lanes * FIELD);
        u64::from(lanes.count_ones())
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.at_least(1).count_ones() as usize
    }

    /// Writes an entry.
    #[inline]
    pub(super) fn put(&mut self, entry: usize, mark: Mark, code: u8) {
        debug_assert!(code != 0 && !(entry == LAST && self.next().is_some()));
        let shift = entry as u32 * FIELD_BITS;
        let field = u64::from(mark.upper) << CODE_BITS | u64::from(code);
        self.words[entry] = mark.word;
        self.trailer = self.trailer & !(FIELD << shift) | field << shift;
    }

    /// Removes an entry.
    #[inline]
    pub(super) fn remove(&mut self, entry: usize) {
        self.trailer &= !(FIELD << (entry as u32 * FIELD_BITS));
    }

    /// Gives the last entry up for a link to the line `next`, and hands out what it was.
    pub(super) fn link(&mut self, next: u32) -> (Mark, u8) {
        assert!(self.next().is_none(), "a line has one link");
        let last = (self.mark(LAST), self.code(LAST));
        assert!(last.1 != 0, "a line is full before it is linked");
        self.remove(LAST);
        self.words[LAST] = u64::from(next);
        self.trailer |= LINKED;
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_fill_are_found_and_go() {
        let mut line = Line::default();
        let mark = |n: u64| Mark::new(n * 0x0123_4567_89ab, n * 9 % 64);
        for n in 0..7 {
            assert_eq!(line.vacant(), Some(n as usize));
            assert_eq!(line.find(mark(n)), None);
            line.put(n as usize, mark(n), 63 - n as u8);
        }
        assert_eq!((line.vacant(), line.len()), (None, 7));
        for n in 0..7 {
            assert_eq!(line.find(mark(n)), Some(n as usize));
            assert_eq!(line.mark(n as usize).growth(), n * 9 % 64);
            // One growth bit more or less is another id.
            for bit in 0..6 {
                let growth = (n * 9 % 64) ^ (1 << bit);
                assert_eq!(line.find(Mark::new(n * 0x0123_4567_89ab, growth)), None);
            }
        }
        line.remove(3);
        assert_eq!((line.vacant(), line.find(mark(3))), (Some(3), None));
        line.put(3, mark(3), 1);
        assert_eq!(line.link(77), (mark(6), 57));
        assert_eq!(
            (line.next(), line.vacant(), line.len()),
            (Some(77), None, 6)
        );
        line.remove(0);
        assert_eq!((line.next(), line.vacant()), (Some(77), Some(0)));
        // The link is no entry, whatever mark looks like it.
        assert_eq!(line.find(Mark { word: 77, upper: 0 }), None);
    }
}
