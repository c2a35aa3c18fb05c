//! The memory that the windows of one shard share.

use super::CHUNK_BYTES;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

/// A bound on the memory of all windows of one shard, handed out in chunks of 256 KiB. Clones are
/// the same budget; a window gives its part back when it is dropped.
///
/// It is counted in an atomic, but not for threads to share: a window may be filled on one thread
/// and then handed to another, and a budget that could not go with it would be in the way. One
/// thread at a time uses it, so nothing is ordered by it.
#[derive(Clone, Debug)]
pub struct WindowBudget(Arc<Chunks>);

#[derive(Debug)]
struct Chunks {
    limit: u64,
    taken: AtomicU64,
}

/// What a chunk is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// To spread the ids over more lines: only while an eighth of the budget is left.
    Spread,
    /// To hold one more id at all: the last chunk too.
    Hold,
}

impl WindowBudget {
    /// A budget of this many bytes, rounded down to chunks of 256 KiB, but at least two chunks:
    /// one for lines and one for what overflows them.
    pub fn new(limit_bytes: u64) -> Self {
        Self(Arc::new(Chunks {
            limit: (limit_bytes / CHUNK_BYTES).max(2),
            taken: AtomicU64::new(0),
        }))
    }

    /// The bound in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit * CHUNK_BYTES
    }

    /// What the windows have taken, in bytes.
    pub fn taken_bytes(&self) -> u64 {
        self.0.taken.load(Relaxed) * CHUNK_BYTES
    }

    /// Takes chunks, all or none of them.
    pub(super) fn take(&self, chunks: u64, want: Want) -> bool {
        let limit = match want {
            // The last eighth is for overflow, so that lines can run fuller before they are full.
            Want::Spread => self.0.limit - (self.0.limit / 8).max(1),
            Want::Hold => self.0.limit,
        };
        let taken = self.0.taken.load(Relaxed) + chunks;
        let fits = taken <= limit;
        if fits {
            self.0.taken.store(taken, Relaxed);
        }
        fits
    }

    /// How many chunks are left to hold ids in.
    pub(super) fn left(&self) -> u64 {
        self.0.limit - self.0.taken.load(Relaxed)
    }

    /// Gives chunks back.
    pub(super) fn give_back(&self, chunks: u64) {
        let taken = self.0.taken.load(Relaxed);
        assert!(chunks <= taken, "no more is given back than was taken");
        self.0.taken.store(taken - chunks, Relaxed);
    }
}

/// A window has no room for another id. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the idempotency window is full: it holds {held_ids} ids in {held_bytes} bytes, and the \
     shard's windows have {taken_bytes} of {limit_bytes} bytes"
)]
pub struct WindowFull {
    /// How many ids the window holds, those expired but not yet swept among them.
    pub held_ids: u64,
    /// The bytes of this window.
    pub held_bytes: u64,
    /// The bytes of all windows of the budget.
    pub taken_bytes: u64,
    /// The budget in bytes.
    pub limit_bytes: u64,
}
