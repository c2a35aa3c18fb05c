//! The numbers that name things. They never turn into one another.

use core::fmt;
use serde::Serialize;

/// A number with a meaning: ordered, printable, serialised as a JSON number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The bare number, for stores and wire formats.
            #[inline]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

/// Gives a number whose whole range is meant a constructor that cannot fail.
macro_rules! any {
    ($($name:ident($inner:ty)),+ $(,)?) => {$(
        impl $name {
            /// Names the thing with this number.
            #[inline]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }
        }

        impl Default for $name {
            /// Number 0.
            fn default() -> Self {
                Self(0)
            }
        }
    )+};
}

number! {
    /// An account: 1 ..= 2⁶², one user's for ever.
    AccountId(u64)
}

number! {
    /// A partition of the command log (Kafka's, or the embedded log's), not a shard.
    Partition(u32)
}

number! {
    /// The position of a record in its partition, not a sequence in a ring.
    Offset(u64)
}

number! {
    /// Which life of the log a record belongs to: a log that was deleted and made anew has the
    /// next one, so that its offsets never pass for those of the old log.
    Generation(u32)
}

number! {
    /// Which of its record's postings a ledger entry is: 0 unless the command has several.
    Posting(u16)
}

number! {
    /// The fencing number of a lease. It only grows.
    Term(u64)
}

number! {
    /// The number of a flush. It only grows, by one at a time.
    EpochNumber(u64)
}

any!(
    Partition(u32),
    Offset(u64),
    Generation(u32),
    Posting(u16),
    Term(u64),
    EpochNumber(u64)
);

impl AccountId {
    /// The largest account id, 2⁶². It leaves a signed 64-bit column room on both sides.
    pub const MAX: Self = Self(1 << 62);

    /// The account of this number, or `None` outside 1 ..= 2⁶².
    #[inline]
    pub const fn new(number: u64) -> Option<Self> {
        if number >= 1 && number <= Self::MAX.0 {
            Some(Self(number))
        } else {
            None
        }
    }
}

impl Offset {
    /// The offset after this one.
    ///
    /// # Panics
    ///
    /// After 2⁶⁴ − 1, which no log reaches: Kafka's offsets end at 2⁶³ − 1.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl EpochNumber {
    /// The number of the epoch after this one.
    ///
    /// # Panics
    ///
    /// After 2⁶⁴ − 1, which no node lives to see.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_end_at_two_to_the_62() {
        assert_eq!(AccountId::new(0), None);
        assert_eq!(AccountId::new(1).map(AccountId::get), Some(1));
        assert_eq!(AccountId::new(1 << 62), Some(AccountId::MAX));
        assert_eq!(AccountId::new((1 << 62) + 1), None);
        assert_eq!(AccountId::new(u64::MAX), None);
    }

    #[test]
    fn numbers_print_and_serialise_as_numbers() {
        assert_eq!(Offset::new(41).next().to_string(), "42");
        assert_eq!(EpochNumber::new(6).next().get(), 7);
        assert_eq!(serde_json::to_string(&Term::new(7)).unwrap(), "7");
        assert_eq!(format!("{:>4}", Partition::new(3)), "   3");
    }
}
