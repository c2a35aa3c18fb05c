//! What stops a shard.

use crate::{AccountId, Offset, Partition, window::WindowFull};

/// Why a shard cannot go on. The record at fault has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The window has no room for another id.
    #[error(
        "the idempotency window is full: allow it more memory (--window-memory) or, once the log \
         is applied, shorten it (kilter window DURATION)"
    )]
    WindowFull {
        /// The numbers.
        source: WindowFull,
    },
    /// A claim contradicts what is known: the store or the log was changed by another hand.
    #[error(
        "partition {partition} offset {offset}: account {claimed} is claimed for user {user_id:?}, \
         but that user has account {existing}; run kilter audit"
    )]
    ClaimBroken {
        /// The record's partition.
        partition: Partition,
        /// The record's offset.
        offset: Offset,
        /// The user.
        user_id: Box<str>,
        /// The account the claim names.
        claimed: AccountId,
        /// The account the user has.
        existing: AccountId,
    },
}
