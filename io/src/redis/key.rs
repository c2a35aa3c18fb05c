//! Names of keys, and where a cluster keeps them.

use kilter_engine::{Partition, epoch::BalanceImage};

/// How many slots a cluster's keys are spread over.
pub(super) const SLOTS: u16 = 16_384;

/// How keys are named.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    cluster: bool,
}

impl Keys {
    pub(super) fn new(prefix: &str, cluster: bool) -> Self {
        Self {
            prefix: prefix.to_owned(),
            cluster,
        }
    }

    /// Writes `balance:{account}:{currency}`, in a cluster with the partition as its hash tag.
    pub(super) fn balance(&self, image: &BalanceImage, to: &mut Vec<u8>) {
        to.extend_from_slice(self.prefix.as_bytes());
        to.extend_from_slice(b"balance:");
        if self.cluster {
            to.push(b'{');
            number(u64::from(image.partition.get()), to);
            to.extend_from_slice(b"}:");
        }
        number(image.account_id.get(), to);
        to.push(b':');
        to.extend_from_slice(image.currency.as_str().as_bytes());
    }

    /// The key whose absence tells that a server has lost its data. A cluster has one on each node:
    /// `tag` brings it there.
    pub(super) fn marker(&self, tag: Option<u32>) -> String {
        match tag {
            None => format!("{}kilter:marker", self.prefix),
            Some(tag) => format!("{}kilter:marker:{{{tag}}}", self.prefix),
        }
    }

    /// The key that lives as long as one full offer, beside the marker.
    pub(super) fn pass(&self, tag: Option<u32>, token: &str) -> String {
        match tag {
            None => format!("{}kilter:offer:{token}", self.prefix),
            Some(tag) => format!("{}kilter:offer:{{{tag}}}:{token}", self.prefix),
        }
    }

    /// The slot of a partition's balances.
    ///
    /// A prefix with braces of its own names the tag of every key: the first pair counts.
    pub(super) fn slot(&self, partition: Partition) -> u16 {
        self.slot_of_tag(partition.get())
    }

    /// Whether the prefix has a tag, which then brings every key of ours to one node.
    pub(super) fn are_together(&self) -> bool {
        tag_of(self.prefix.as_bytes()).is_some()
    }

    /// The slot of a key with this number as its tag.
    pub(super) fn slot_of_tag(&self, tag: u32) -> u16 {
        if let Some(own) = tag_of(self.prefix.as_bytes()) {
            return slot(own);
        }
        let mut digits = Vec::with_capacity(10);
        number(u64::from(tag), &mut digits);
        slot(&digits)
    }
}

/// What stands between the first `{` and the `}` behind it, unless that is nothing.
fn tag_of(key: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'{', key)? + 1;
    let close = memchr::memchr(b'}', &key[open..])?;
    (close > 0).then(|| &key[open..open + close])
}

/// CRC-16/XMODEM of a hash tag, over the number of slots: as the cluster specification has it.
fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

/// Writes a number in decimal.
pub(super) fn number(number: u64, to: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_engine::{AccountId, Amount, Currency};

    #[test]
    fn keys_are_those_of_the_contract() {
        let image = BalanceImage {
            account_id: AccountId::new(42).unwrap(),
            currency: Currency::parse(b"USDT").unwrap(),
            available: Amount::ZERO,
            frozen: Amount::ZERO,
            version: 1,
            partition: Partition::new(7),
        };
        for (cluster, text) in [
            (false, "x:balance:42:USDT"),
            (true, "x:balance:{7}:42:USDT"),
        ] {
            let mut key = Vec::new();
            Keys::new("x:", cluster).balance(&image, &mut key);
            assert_eq!(String::from_utf8(key).unwrap(), text);
        }
    }

    #[test]
    fn slots_are_redis_own() {
        // By CLUSTER KEYSLOT.
        assert_eq!(slot(b"123456789"), 12_739);
        let keys = Keys::new("", true);
        assert_eq!(keys.slot(Partition::new(0)), 13_907);
        assert_eq!(keys.slot(Partition::new(7)), 1_716);
        let tagged = Keys::new("a{one}", true);
        assert_eq!(tagged.slot(Partition::new(0)), slot(b"one"));
        assert_eq!(tag_of(b"a{}b"), None);
        assert_eq!(tag_of(b"a{b"), None);
    }
}
