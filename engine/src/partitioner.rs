//! Which partition a key belongs to.

/// How producers of the command topic choose a record's partition from its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// Kafka's own, the default of the Java client and of kafkajs: murmur2 without its sign bit.
    #[default]
    Murmur2,
}

impl Partitioner {
    /// The partition of `key` among `count`.
    ///
    /// # Panics
    ///
    /// If `count` is 0.
    pub fn partition(self, key: &[u8], count: u32) -> u32 {
        assert!(count > 0, "a topic without partitions");
        if count == 1 {
            return 0;
        }
        match self {
            Self::Murmur2 => (murmur2(key) & 0x7fff_ffff) % count,
        }
    }
}

/// murmur2 with Kafka's seed (Austin Appleby's algorithm; what `Utils.murmur2` of the Java
/// client computes).
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the Java client's own unit test.
    #[test]
    fn murmur2_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash as u32, "{key}");
        }
    }
}
