//! The writing end.

use super::slots::View;

/// The writing end of a [`ring`](super::ring). One thread at a time has it; dropping it closes the
/// ring, and what was claimed but not published is then never seen by the consumer.
///
/// ```text
///   released by        published          claimed           limit = released + capacity
///   the consumer  ───────▶ │ ─ try_claim ──▶ │ ───── free ────▶ │
/// ```
#[derive(Debug)]
pub struct Producer<T> {
    view: View<T>,
    /// The next sequence to claim.
    next: u64,
    /// The sequence the consumer may read up to: this end's cursor, as we last stored it.
    published: u64,
    /// The first sequence that may not be claimed by what we know of the consumer.
    limit: u64,
}

impl<T> Producer<T> {
    pub(super) fn new(view: View<T>) -> Self {
        let limit = view.capacity() as u64;
        Self {
            view,
            next: 0,
            published: 0,
            limit,
        }
    }

    /// The next free slot, with whatever its last use left in it, or `None` if the ring is full.
    ///
    /// The consumer sees it with the next [`publish`](Self::publish), however many slots are
    /// claimed before that. Looks at the consumer's cursor (Acquire) only when the slots known to
    /// be free are used up.
    #[inline]
    pub fn try_claim(&mut self) -> Option<&mut T> {
        if self.next == self.limit && !self.refresh() {
            return None;
        }
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        // SAFETY: `published <= sequence < limit`: the consumer is done with the slot's last use
        // (Acquire of its cursor) and does not read it before `publish`, which needs `&mut self`
        // and so comes after the end of this borrow. Another claim names another slot, because
        // `limit` is never more than one lap ahead of `published`.
        Some(unsafe { &mut *self.view.slot(sequence) })
    }

    /// Makes every claimed slot visible to the consumer: one Release store, whatever their number;
    /// nothing if there is none.
    #[inline]
    pub fn publish(&mut self) {
        if self.next != self.published {
            self.published = self.next;
            self.view.shared.published.hand_over(self.next);
        }
    }

    /// How many more slots can be claimed, after a look at the consumer's cursor (Acquire).
    pub fn free(&mut self) -> usize {
        self.refresh();
        self.limit.wrapping_sub(self.next) as usize
    }

    /// How many slots are claimed and not yet published.
    #[must_use]
    #[inline]
    pub fn pending(&self) -> usize {
        self.next.wrapping_sub(self.published) as usize
    }

    /// The number of slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.view.capacity()
    }

    /// How many slots were published since the ring was made; the sequence of the next one to be.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    /// How many published slots the consumer has not released: a figure for metrics (Relaxed),
    /// older than the call by the time it is read.
    #[must_use]
    pub fn occupancy(&self) -> usize {
        let released = self.view.shared.released.glance();
        self.published.wrapping_sub(released) as usize
    }

    /// Whether the consumer was dropped: nobody will read what is published (Acquire).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.view.shared.released.is_gone()
    }

    /// Looks at the consumer's cursor. Returns whether a slot can be claimed.
    #[inline]
    fn refresh(&mut self) -> bool {
        let released = self.view.shared.released.take_over();
        let limit = released.wrapping_add(self.view.capacity() as u64);
        // The consumer neither goes back nor runs ahead of what was published.
        assert!(released <= self.published && limit >= self.limit);
        self.limit = limit;
        self.next != limit
    }
}

/// Values by move, for what is not worth mutating in place.
impl<U> Producer<Option<U>> {
    /// Puts a value in and publishes it, with everything claimed before it.
    ///
    /// # Errors
    ///
    /// Gives the value back if the ring is full.
    #[inline]
    pub fn push(&mut self, value: U) -> Result<(), U> {
        self.push_unpublished(value)?;
        self.publish();
        Ok(())
    }

    /// Puts a value in; the consumer sees it with the next [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Gives the value back if the ring is full.
    #[inline]
    pub fn push_unpublished(&mut self, value: U) -> Result<(), U> {
        match self.try_claim() {
            Some(slot) => {
                *slot = Some(value);
                Ok(())
            }
            None => Err(value),
        }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.view.shared.published.leave();
    }
}
