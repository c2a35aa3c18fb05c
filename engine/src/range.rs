//! Ranges of key hashes: who has which users.

/// An inclusive range of key hashes ([`key_hash`](crate::hash::key_hash)), never empty.
///
/// Ranges rather than a remainder, so that a shard's users can be told to an operator and written
/// to a store in two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashRange {
    first: u64,
    last: u64,
}

/// The shard of a hash when there are `shards` of them: `hash · shards / 2⁶⁴`, 0 ..= `shards` − 1.
///
/// # Panics
///
/// When there are no shards.
#[inline]
pub const fn shard_of(hash: u64, shards: u32) -> u32 {
    assert!(shards > 0, "a node has at least one shard");
    ((hash as u128 * shards as u128) >> 64) as u32
}

impl HashRange {
    /// All hashes.
    pub const ALL: Self = Self {
        first: 0,
        last: u64::MAX,
    };

    /// The range `first ..= last`, or `None` if it would be empty.
    #[inline]
    pub const fn new(first: u64, last: u64) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// The hashes that [`shard_of`] gives to `shard` of `shards`.
    ///
    /// # Panics
    ///
    /// When there is no such shard.
    pub const fn of_shard(shard: u32, shards: u32) -> Self {
        assert!(shard < shards, "shards are numbered from 0");
        Self {
            first: border(shard, shards),
            last: if shard + 1 == shards {
                u64::MAX
            } else {
                border(shard + 1, shards) - 1
            },
        }
    }

    /// The smallest hash of the range.
    #[inline]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The largest hash of the range.
    #[inline]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// Whether the hash is in the range.
    #[inline]
    pub const fn contains(self, hash: u64) -> bool {
        self.first <= hash && hash <= self.last
    }

    /// What both ranges have, or `None` if that is nothing.
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// Whether `next` begins right after this range ends.
    pub fn adjoins(self, next: Self) -> bool {
        self.last.checked_add(1) == Some(next.first)
    }

    /// Both ranges as one, or `None` if that would take in hashes that neither has.
    pub fn merge(self, other: Self) -> Option<Self> {
        let touch = self.adjoins(other) || other.adjoins(self) || self.intersect(other).is_some();
        touch.then(|| Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        })
    }
}

/// The smallest hash of a shard: the first with `hash · shards ≥ shard · 2⁶⁴`.
const fn border(shard: u32, shards: u32) -> u64 {
    ((shard as u128) << 64).div_ceil(shards as u128) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shards_cover_every_hash_exactly_once() {
        for shards in 1..=64 {
            let mut whole: Option<HashRange> = None;
            for shard in 0..shards {
                let range = HashRange::of_shard(shard, shards);
                for hash in [range.first(), range.last()] {
                    assert!(range.contains(hash));
                    assert_eq!(shard_of(hash, shards), shard, "{hash} of {shards}");
                }
                whole = match whole {
                    None => Some(range),
                    Some(before) => {
                        assert!(before.adjoins(range), "{before:?} {range:?}");
                        assert_eq!(before.intersect(range), None);
                        before.merge(range)
                    }
                };
            }
            assert_eq!(whole, Some(HashRange::ALL));
        }
    }

    #[test]
    fn what_does_not_touch_does_not_merge() {
        let range = |first, last| HashRange::new(first, last).unwrap();
        assert_eq!(HashRange::new(2, 1), None);
        assert_eq!(range(0, 4).merge(range(6, 9)), None);
        assert_eq!(range(6, 9).merge(range(0, 4)), None);
        assert_eq!(range(0, 5).merge(range(6, 9)), Some(range(0, 9)));
        assert_eq!(range(6, 9).merge(range(0, 5)), Some(range(0, 9)));
        assert_eq!(range(0, 9).merge(range(3, 4)), Some(range(0, 9)));
        assert_eq!(range(0, 7).intersect(range(6, 9)), Some(range(6, 7)));
        assert!(!range(5, u64::MAX).adjoins(range(0, 4)));
    }

    proptest! {
        #[test]
        fn a_hash_is_in_its_shards_range(hash: u64, shards in 1u32..=1000) {
            let shard = shard_of(hash, shards);
            prop_assert!(HashRange::of_shard(shard, shards).contains(hash));
        }
    }
}
