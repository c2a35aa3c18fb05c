//! What is checked of a command before its account is looked at.

use super::{Item, Shard};
use crate::{
    Code, Command,
    command::Body,
    record::{Mark, NOT_ISSUED},
};

/// Why a record is refused: the code, and the same in words.
pub(super) type Why = (Code, Box<str>);

impl Shard {
    /// The checks that need no account: expiry, key, partition. Shape was checked by decoding.
    pub(super) fn check(&self, item: &Item<'_>, command: &Command<'_>) -> Result<(), Why> {
        let window_ms = self.settings.window_ms as i64;
        if matches!(command.body, Body::Open)
            && !matches!(item.mark, Mark::Claimed | Mark::ClaimRefused)
        {
            let message =
                "an OPEN without a claim: its type must be written as \"OPEN\", without escapes";
            return Err((Code::Malformed, message.into()));
        }
        if item.issued_at_ms != NOT_ISSUED {
            if item.clock_ms > item.issued_at_ms.saturating_add(window_ms / 2) {
                let message = format!(
                    "issued at {} ms, and the log's clock is at {} ms, more than half a window of {window_ms} ms past it",
                    item.issued_at_ms, item.clock_ms
                );
                return Err((Code::Expired, message.into()));
            }
            if item.issued_at_ms > item.clock_ms.saturating_add(window_ms / 4) {
                let message = format!(
                    "issuedAt {} ms lies more than a quarter of a window of {window_ms} ms ahead of the log's clock at {} ms",
                    item.issued_at_ms, item.clock_ms
                );
                return Err((Code::Malformed, message.into()));
            }
        }
        if item.key != command.user_id.as_bytes() {
            let message = format!("the record's key is not its userId {:?}", command.user_id);
            return Err((Code::KeyMismatch, message.into()));
        }
        let count = self.settings.partition_count;
        let right = self.settings.partitioner.partition(item.key, count);
        if right != item.partition.get() {
            let message = format!(
                "the key belongs to partition {right} of {count}, the record lies in partition {}",
                item.partition
            );
            return Err((Code::WrongPartition, message.into()));
        }
        Ok(())
    }
}
