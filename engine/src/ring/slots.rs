//! What both ends of a ring share: the slots and the two cursors.

use std::cell::UnsafeCell;
use std::fmt;

use crossbeam::utils::CachePadded;

use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, SlotWatch};

/// The published position of one end, and whether that end is gone.
///
/// Both are written by the owner of the end only and read by the other one.
#[derive(Debug)]
pub(super) struct Cursor {
    /// How many slots this end has handed over since the ring was made.
    sequence: AtomicU64,
    /// Set once, when the end is dropped, after its last hand-over.
    gone: AtomicBool,
}

impl Cursor {
    fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        }
    }

    /// Hands every slot below `sequence` to the other end (Release).
    #[inline]
    pub(super) fn hand_over(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Release);
    }

    /// The slots below the answer belong to the caller, their content included (Acquire).
    #[inline]
    pub(super) fn take_over(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// A glance for metrics (Relaxed): it orders nothing.
    pub(super) fn glance(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Says that no hand-over will follow (Release, so that the last one is seen first).
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Whether the end is gone (Acquire: a hand-over before it is visible to a later look).
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// A ring: slots that live as long as both ends, and a cursor for each end on its own cache line,
/// so that an end that moves its cursor does not take the line from under the other one's.
pub(super) struct Shared<T> {
    pub(super) published: CachePadded<Cursor>,
    pub(super) released: CachePadded<Cursor>,
    slots: Box<[UnsafeCell<T>]>,
}

// SAFETY: the slots are reached through `View` alone, and at any time each of them belongs to
// exactly one of the two ends (see there); `T: Send` because values are written by one thread and
// used or dropped by another. The cursors are atomics.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: Send> Shared<T> {
    pub(super) fn new(slots: usize, mut make: impl FnMut() -> T) -> Arc<Self> {
        Arc::new(Self {
            published: CachePadded::new(Cursor::new()),
            released: CachePadded::new(Cursor::new()),
            slots: (0..slots).map(|_| UnsafeCell::new(make())).collect(),
        })
    }
}

/// One end's way to the slots: address and mask beside the end's own positions, so that the hot
/// path does not go through the shared part for them.
///
/// Who owns a slot: the producer, from when the consumer's cursor is past the slot's last use until
/// its own cursor is past the slot; the consumer otherwise, from there until its own cursor is past
/// it. Each end changes only its own cursor, so each sees what it owns grow by itself and shrink
/// only by its own act.
pub(super) struct View<T> {
    /// The first slot, kept alive by `shared`.
    base: *const UnsafeCell<T>,
    mask: usize,
    watch: SlotWatch,
    pub(super) shared: Arc<Shared<T>>,
}

// SAFETY: a `View` is an `Arc<Shared<T>>`, which is `Send` for `T: Send`, and an address within it.
unsafe impl<T: Send> Send for View<T> {}

impl<T: Send> View<T> {
    /// The views of the two ends. Nobody else may have one.
    pub(super) fn pair(shared: Arc<Shared<T>>) -> (Self, Self) {
        assert!(shared.slots.len().is_power_of_two());
        let one = Self {
            base: shared.slots.as_ptr(),
            mask: shared.slots.len() - 1,
            watch: SlotWatch::new(shared.slots.len()),
            shared,
        };
        let other = Self {
            base: one.base,
            mask: one.mask,
            watch: one.watch.clone(),
            shared: one.shared.clone(),
        };
        (one, other)
    }
}

impl<T> View<T> {
    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// Truncation is harmless: the mask keeps low bits only.
    #[inline]
    fn index(&self, sequence: u64) -> usize {
        sequence as usize & self.mask
    }

    /// The slot of `sequence`.
    ///
    /// # Safety
    ///
    /// The caller's end owns that slot for as long as the pointer is used.
    #[inline]
    pub(super) unsafe fn slot(&self, sequence: u64) -> *mut T {
        let index = self.index(sequence);
        self.watch.access(index, 1);
        // SAFETY: the mask is the number of slots less one, so `index` is within them, and they
        // live as long as `self.shared`. Reading the address makes no reference to the content.
        unsafe { UnsafeCell::raw_get(self.base.add(index)) }
    }

    /// Where the `count` slots from `sequence` on lie: up to the end of the slots, and from their
    /// start.
    ///
    /// # Safety
    ///
    /// The caller's end owns those slots for as long as the pointers are used.
    #[inline]
    pub(super) unsafe fn run(&self, sequence: u64, count: usize) -> [(*mut T, usize); 2] {
        assert!(count <= self.capacity());
        let start = self.index(sequence);
        self.watch.access(start, count);
        let first = count.min(self.capacity() - start);
        // SAFETY: `start` is within the slots, as above. `UnsafeCell<T>` has the layout of `T`, so
        // slots next to each other are values next to each other.
        let tail = unsafe { UnsafeCell::raw_get(self.base.add(start)) };
        [
            (tail, first),
            (UnsafeCell::raw_get(self.base), count - first),
        ]
    }
}

impl<T> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("slots", &self.capacity())
            .field("published", &self.shared.published)
            .field("released", &self.shared.released)
            .finish()
    }
}
