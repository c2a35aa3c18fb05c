//! The fixed-key hashes that what is stored depends on.
//!
//! Hash ranges are written to the store, and a window reloaded on another node has to find the
//! lines of the one before it. So the keys below never change, and neither does the algorithm:
//! SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with one round a
//! word and three at the end), whose one- and two-word outputs the `siphasher` crate has. The keys
//! are no secret. Who chooses keys and ids to collide can make one line's chain long, which costs
//! speed; to make one new id pass for a given old one takes 2⁶¹ tries and more, and the two would
//! still have to fall into one line.

use crate::leg::LegName;
use core::hash::Hasher;
use siphasher::sip128::Hasher128;
use siphasher::{sip, sip128};

/// The keys of [`key_hash`].
const KEY_KEYS: (u64, u64) = (
    u64::from_le_bytes(*b"kilter: "),
    u64::from_le_bytes(*b"log keys"),
);

/// The keys of [`IdHash`].
const ID_KEYS: (u64, u64) = (
    u64::from_le_bytes(*b"kilter: "),
    u64::from_le_bytes(*b"user+txn"),
);

/// The keys of [`IdHash::of_leg`].
const LEG_KEYS: (u64, u64) = (
    u64::from_le_bytes(*b"kilter: "),
    u64::from_le_bytes(*b"leg name"),
);

/// The keys of [`sum_hash`].
const SUM_KEYS: (u64, u64) = (
    u64::from_le_bytes(*b"kilter: "),
    u64::from_le_bytes(*b"balances"),
);

/// What is hashed in one piece: a length, a user of 64 bytes and a transaction id of 64.
const WHOLE_BYTES: usize = 8 + 64 + 64;

/// The hash of a record's key (its user). It decides the user's shard; its ranges are stored.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    sip::SipHasher13::new_with_keys(KEY_KEYS.0, KEY_KEYS.1).hash(key)
}

/// The hash of one row that is summed up over all rows, whatever their order.
#[inline]
pub(crate) fn sum_hash(row: &[u8]) -> u128 {
    sip128::SipHasher13::new_with_keys(SUM_KEYS.0, SUM_KEYS.1)
        .hash(row)
        .into()
}

/// 128 bits that stand for a user's transaction id in the idempotency window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdHash {
    /// Chooses the line of the window.
    pub line: u64,
    /// Is told apart within the line.
    pub tag: u64,
}

impl IdHash {
    /// The hash of the user's length (8 bytes, little-endian), the user and the transaction id, so
    /// that moving a byte from one to the other gives another hash.
    #[inline]
    pub fn of(user: &[u8], transaction_id: &[u8]) -> Self {
        let length = (user.len() as u64).to_le_bytes();
        let hasher = sip128::SipHasher13::new_with_keys(ID_KEYS.0, ID_KEYS.1);
        let bytes = length.len() + user.len() + transaction_id.len();
        let hash = if bytes <= WHOLE_BYTES {
            // One piece costs a third of three: the hasher keeps no half-filled word.
            let mut whole = [0; WHOLE_BYTES];
            whole[..8].copy_from_slice(&length);
            whole[8..8 + user.len()].copy_from_slice(user);
            whole[8 + user.len()..bytes].copy_from_slice(transaction_id);
            hasher.hash(&whole[..bytes])
        } else {
            let mut hasher = hasher;
            hasher.write(&length);
            hasher.write(user);
            hasher.write(transaction_id);
            hasher.finish128()
        };
        Self {
            line: hash.h1,
            tag: hash.h2,
        }
    }

    /// The hash of a leg's name, whoever it pays. It has keys of its own, so that no client's id
    /// passes for a leg.
    pub fn of_leg(name: &LegName) -> Self {
        let debit = &name.debit;
        let mut bytes = [0; 19];
        bytes[..4].copy_from_slice(&debit.generation.get().to_le_bytes());
        bytes[4..8].copy_from_slice(&debit.partition.get().to_le_bytes());
        bytes[8..16].copy_from_slice(&debit.offset.get().to_le_bytes());
        bytes[16..18].copy_from_slice(&debit.posting.get().to_le_bytes());
        bytes[18] = name.kind as u8;
        let hash = sip128::SipHasher13::new_with_keys(LEG_KEYS.0, LEG_KEYS.1).hash(&bytes);
        Self {
            line: hash.h1,
            tag: hash.h2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change() {
        assert_eq!(key_hash(b""), 0x8a35_cb64_a160_7ed7);
        assert_eq!(key_hash(b"user-1"), 0x3410_6fef_e9ce_ef22);
        let id = IdHash::of(b"user-1", b"tx-1");
        assert_eq!(
            (id.line, id.tag),
            (0x7011_5d62_6933_e69c, 0xdb6b_88ee_2a04_a5b7)
        );
        let leg = IdHash::of_leg(&"1/2/3/4/CREDIT".parse().unwrap());
        assert_eq!(
            (leg.line, leg.tag),
            (0x9b67_81c4_7087_08f5, 0x5bbb_fcb1_00eb_e09d)
        );
        let refund = IdHash::of_leg(&"1/2/3/4/REFUND".parse().unwrap());
        assert_eq!(
            (refund.line, refund.tag),
            (0x2ce0_37ea_49de_8d94, 0xd738_2b96_5a67_c204)
        );
        assert_eq!(sum_hash(b"row"), 0xec99_42d7_1d18_5528_2527_c206_a4c3_5fe8);
    }

    #[test]
    fn one_piece_and_three_agree() {
        let text = [b'x'; 300];
        for user in [0, 1, 7, 8, 64, 100] {
            for id in [0, 1, 63, 64, 65, 128, 200] {
                let mut hasher = sip128::SipHasher13::new_with_keys(ID_KEYS.0, ID_KEYS.1);
                hasher.write(&(user as u64).to_le_bytes());
                hasher.write(&text[..user + id]);
                let hash = IdHash::of(&text[..user], &text[..id]);
                assert_eq!((hash.line, hash.tag), hasher.finish128().as_u64());
            }
        }
    }

    #[test]
    fn a_byte_moved_from_user_to_id_is_another_hash() {
        assert_ne!(IdHash::of(b"ab", b"c"), IdHash::of(b"a", b"bc"));
        assert_ne!(IdHash::of(b"", b"abc"), IdHash::of(b"abc", b""));
    }
}
