//! The one door to atomics, shared ownership and thread parking.
//!
//! The ring and the waiters take these names from here and never from `std`, so that under
//! `--cfg loom` the loom model checker can replace them and try every interleaving and every
//! outcome the memory model allows. The models are run with
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p kilter-engine --release --target-dir target/loom --lib loom
//! ```
//!
//! Only tests whose path contains `loom` may run in such a build: loom's types work inside
//! `loom::model` and panic elsewhere.

#[cfg(not(loom))]
pub use crossbeam::sync::{Parker, Unparker};
#[cfg(not(loom))]
pub use std::{
    hint::spin_loop,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence},
    thread::yield_now,
};

#[cfg(loom)]
pub use self::park::{Parker, Unparker};
#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence},
    thread::yield_now,
};

#[cfg(loom)]
mod park;

/// Tells loom which thread touches which slot; nothing at all in a normal build.
///
/// The slots of a ring must lie next to each other, so that a batch is a slice; loom's own
/// `UnsafeCell` is larger than its content and would forbid that. So the data lies in plain cells,
/// and beside them, in the model only, a loom cell without content stands for each slot. An access
/// that is not ordered after the other side's last one fails the model.
#[derive(Clone, Debug)]
pub(crate) struct SlotWatch {
    #[cfg(loom)]
    cells: std::sync::Arc<[loom::cell::UnsafeCell<()>]>,
}

impl SlotWatch {
    /// A watch over `slots` slots.
    #[cfg_attr(not(loom), expect(unused_variables))]
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            #[cfg(loom)]
            cells: (0..slots)
                .map(|_| loom::cell::UnsafeCell::new(()))
                .collect(),
        }
    }

    /// `count` slots from `first` on, going round, are in the hands of this thread from now on.
    #[inline(always)]
    #[cfg_attr(not(loom), expect(unused_variables))]
    pub(crate) fn access(&self, first: usize, count: usize) {
        #[cfg(loom)]
        for index in first..first + count {
            self.cells[index % self.cells.len()].with_mut(|_| ());
        }
    }
}
