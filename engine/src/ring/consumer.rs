//! The reading end.

use std::slice;

use super::slots::View;

/// The reading end of a [`ring`](super::ring). One thread at a time has it; dropping it closes the
/// ring, and what was not read is dropped with the slots.
///
/// ```text
///      released              seen            published
///   ──────▶ │ ── peek, get ──▶ │ ── not looked ──▶ │
/// ```
#[derive(Debug)]
pub struct Consumer<T> {
    view: View<T>,
    /// This end's cursor, as we last stored it: the sequence of the oldest slot.
    released: u64,
    /// The first sequence that may not be read by what we know of the producer.
    seen: u64,
}

impl<T> Consumer<T> {
    pub(super) fn new(view: View<T>) -> Self {
        Self {
            view,
            released: 0,
            seen: 0,
        }
    }

    /// The oldest published slots, at most `max`, in order: those up to the end of the ring's
    /// memory, then those from its start. Both are empty if nothing is published.
    ///
    /// They stay in the ring until [`release`](Self::release)d. Looks at the producer's cursor
    /// (Acquire) only if fewer than `max` slots are known, so a bounded `max` spares that cache
    /// line while there is a backlog.
    #[inline]
    pub fn peek(&mut self, max: usize) -> (&[T], &[T]) {
        let count = self.known_up_to(max);
        // SAFETY: the slots from `released` to `seen` are ours, published before we saw the cursor
        // (Acquire); handing them back needs `&mut self` and so comes after these borrows.
        unsafe {
            let [(a, m), (b, n)] = self.view.run(self.released, count);
            (slice::from_raw_parts(a, m), slice::from_raw_parts(b, n))
        }
    }

    /// As [`peek`](Self::peek), to change the slots in place: take buffers out, put empty ones in.
    #[inline]
    pub fn peek_mut(&mut self, max: usize) -> (&mut [T], &mut [T]) {
        let count = self.known_up_to(max);
        // SAFETY: as in `peek`; the two runs do not overlap, because together they are no longer
        // than the ring.
        unsafe {
            let [(a, m), (b, n)] = self.view.run(self.released, count);
            (
                slice::from_raw_parts_mut(a, m),
                slice::from_raw_parts_mut(b, n),
            )
        }
    }

    /// The `index`th oldest slot among those already seen by [`available`](Self::available) or a
    /// peek; it does not look at the producer.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        if index >= self.known() {
            return None;
        }
        // SAFETY: the slot is between `released` and `seen`, as in `peek`.
        Some(unsafe { &*self.view.slot(self.released.wrapping_add(index as u64)) })
    }

    /// Gives the `count` oldest slots back to the producer: one Release store, nothing for 0.
    ///
    /// # Panics
    ///
    /// If `count` is more than was seen by a peek, [`available`](Self::available) or
    /// [`is_finished`](Self::is_finished).
    #[inline]
    pub fn release(&mut self, count: usize) {
        assert!(count <= self.known(), "released more slots than were seen");
        if count > 0 {
            self.released = self.released.wrapping_add(count as u64);
            self.view.shared.released.hand_over(self.released);
        }
    }

    /// How many slots can be read, after a look at the producer's cursor (Acquire).
    pub fn available(&mut self) -> usize {
        self.refresh();
        self.known()
    }

    /// The number of slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.view.capacity()
    }

    /// How many slots were released since the ring was made; the sequence of the oldest one left.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released
    }

    /// How many published slots were not released: a figure for metrics (Relaxed), older than the
    /// call by the time it is read.
    #[must_use]
    pub fn occupancy(&self) -> usize {
        let published = self.view.shared.published.glance();
        published.wrapping_sub(self.released) as usize
    }

    /// Whether the producer was dropped (Acquire). There may still be slots to read, even if a
    /// look *before* this call found none: to end a loop, ask [`is_finished`](Self::is_finished).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.view.shared.published.is_gone()
    }

    /// Whether the producer was dropped and everything it published was released.
    ///
    /// It asks in the one right order: first whether the producer is gone, then what there is.
    pub fn is_finished(&mut self) -> bool {
        self.is_closed() && self.available() == 0
    }

    #[inline]
    fn known(&self) -> usize {
        self.seen.wrapping_sub(self.released) as usize
    }

    /// How many slots are known, at most `max`, having looked again if there were fewer.
    #[inline]
    fn known_up_to(&mut self, max: usize) -> usize {
        if self.known() < max {
            self.refresh();
        }
        self.known().min(max)
    }

    #[inline]
    fn refresh(&mut self) {
        let seen = self.view.shared.published.take_over();
        // The producer neither goes back nor laps us.
        assert!(seen >= self.seen && seen.wrapping_sub(self.released) <= self.capacity() as u64);
        self.seen = seen;
    }
}

/// Values by move, for what is not worth mutating in place.
impl<U> Consumer<Option<U>> {
    /// Takes the oldest value out and gives its slot back. Slots that were published without a
    /// value are passed over.
    ///
    /// It writes `None` where the value was, so the slot's cache line changes hands twice a lap
    /// instead of once; where that counts, read in place with [`peek`](Self::peek).
    #[inline]
    pub fn pop(&mut self) -> Option<U> {
        loop {
            if self.known_up_to(1) == 0 {
                return None;
            }
            // SAFETY: the slot is between `released` and `seen`, as in `peek_mut`.
            let value = unsafe { &mut *self.view.slot(self.released) }.take();
            self.release(1);
            if value.is_some() {
                return value;
            }
        }
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.view.shared.released.leave();
    }
}
