//! What is checked of a command without knowing any account.

use crate::{Code, Partition, partitioner::Partitioner, record::NOT_ISSUED};

/// Why a record is refused: the code, and the same in words.
pub type Why = (Code, Box<str>);

/// What the checks depend on besides the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a transaction id is remembered, in ms of record time.
    pub window_ms: u64,
    /// How many partitions the topic has.
    pub partition_count: u32,
    /// How producers choose a partition.
    pub partitioner: Partitioner,
}

/// What a record says about itself, outside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Where it lies.
    pub partition: Partition,
    /// Its key.
    pub key: &'a [u8],
    /// The partition's clock at the record, in ms since 1970.
    pub clock_ms: i64,
    /// When the front door issued it, in ms since 1970, or [`NOT_ISSUED`].
    pub issued_at_ms: i64,
}

impl Rules {
    /// Expiry, key and partition, in this order.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn check(&self, envelope: &Envelope<'_>, user_id: &str) -> Result<(), Why> {
        let window_ms = self.window_ms as i64;
        let (clock_ms, issued_at_ms) = (envelope.clock_ms, envelope.issued_at_ms);
        if issued_at_ms != NOT_ISSUED {
            if clock_ms > issued_at_ms.saturating_add(window_ms / 2) {
                let message = format!(
                    "issued at {issued_at_ms} ms, and the log's clock is at {clock_ms} ms, more than half a window of {window_ms} ms past it"
                );
                return Err((Code::Expired, message.into()));
            }
            if issued_at_ms > clock_ms.saturating_add(window_ms / 4) {
                let message = format!(
                    "issuedAt {issued_at_ms} ms lies more than a quarter of a window of {window_ms} ms ahead of the log's clock at {clock_ms} ms"
                );
                return Err((Code::Malformed, message.into()));
            }
        }
        if envelope.key != user_id.as_bytes() {
            let message = format!("the record's key is not its userId {user_id:?}");
            return Err((Code::KeyMismatch, message.into()));
        }
        let count = self.partition_count;
        let right = self.partitioner.partition(envelope.key, count);
        if right != envelope.partition.get() {
            let message = format!(
                "the key belongs to partition {right} of {count}, the record lies in partition {}",
                envelope.partition
            );
            return Err((Code::WrongPartition, message.into()));
        }
        Ok(())
    }
}
