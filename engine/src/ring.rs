//! A bounded queue between two threads: slots made once and changed in place, in batches.
//!
//! The idea is the LMAX Disruptor's: a power of two of slots that are never allocated again; a
//! *sequence* for each place in the order, counted from 0 and never reused (64 bits: at a thousand
//! million a second it lasts 584 years); a *cursor* for each end, the sequence up to which that end
//! has handed slots over. Taking only one producer and one consumer removes every
//! compare-and-swap. That each end keeps what it last saw of the other one's cursor, and looks again
//! only when that is used up, is from rtrb and FastForward; the two-halves view of a batch is from
//! rtrb too. A sequence is a place in a ring and has nothing to do with an offset in a log.
//!
//! Memory ordering: an end writes to its slots, then stores its cursor with Release; the other end
//! loads that cursor with Acquire, then touches the slots. There is no other synchronisation, and
//! nothing here blocks or allocates. A full ring says so: [`Producer::try_claim`] answers `None`,
//! [`Producer::push`] gives the value back, and it is for the caller to hold back whatever feeds
//! it. How a thread waits for the other end is the matter of [`wait`](crate::wait).
//!
//! The slots are constructed before the first use and dropped once, with the second end, so values
//! left inside need no care. The ring is checked by loom; see [`sync`](crate::sync) for the command.
//!
//! ```
//! let (mut producer, mut consumer) = kilter_engine::ring::ring(8, || 0u64);
//! for value in 1..=5 {
//!     *producer.try_claim().expect("five of eight") = value;
//! }
//! producer.publish(); // one store makes all five visible
//!
//! let (head, tail) = consumer.peek(64);
//! let sum: u64 = head.iter().chain(tail).sum();
//! let read = head.len() + tail.len();
//! consumer.release(read); // one store gives all five back
//! assert_eq!(sum, 15);
//! ```

mod consumer;
mod producer;
mod slots;

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod stress;
#[cfg(all(test, not(loom)))]
mod tests;

pub use self::consumer::Consumer;
pub use self::producer::Producer;

/// A ring of `slots` slots, each made by `make`, and its two ends.
///
/// A ring whose values are moved through is `ring(slots, || None)`: see [`Producer::push`] and
/// [`Consumer::pop`].
///
/// # Panics
///
/// If `slots` is not a power of two, or is less than 2.
#[must_use]
pub fn ring<T: Send>(slots: usize, make: impl FnMut() -> T) -> (Producer<T>, Consumer<T>) {
    assert!(
        slots >= 2 && slots.is_power_of_two(),
        "a ring has a power of two of slots, at least 2, not {slots}"
    );
    let (writing, reading) = slots::View::pair(slots::Shared::new(slots, make));
    (Producer::new(writing), Consumer::new(reading))
}
