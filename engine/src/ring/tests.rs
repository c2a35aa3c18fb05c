//! One thread: what each call answers, and a ring against a `VecDeque`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

fn put(producer: &mut Producer<u64>, values: impl IntoIterator<Item = u64>) {
    for value in values {
        *producer.try_claim().expect("free slots") = value;
    }
    producer.publish();
}

#[test]
fn refuses_what_is_no_power_of_two() {
    for slots in [0, 1, 3, 6, 1000] {
        assert!(catch_unwind(|| ring(slots, || 0u8)).is_err(), "{slots}");
    }
    for slots in [2, 4, 1024] {
        let (producer, consumer) = ring(slots, || 0u8);
        assert_eq!((producer.capacity(), consumer.capacity()), (slots, slots));
    }
}

#[test]
fn slots_are_made_once_and_used_again_in_place() {
    let made = Cell::new(0);
    let (mut producer, mut consumer) = ring(4, || {
        made.set(made.get() + 1);
        Vec::<u8>::with_capacity(32)
    });
    let mut addresses = Vec::new();
    for lap in 0..12u8 {
        let slot = producer.try_claim().unwrap();
        slot.clear();
        slot.push(lap);
        addresses.push(slot.as_ptr());
        producer.publish();
        assert_eq!(consumer.peek(1).0, [[lap]]);
        consumer.release(1);
    }
    assert_eq!(made.get(), 4);
    assert_eq!(addresses[..4], addresses[8..]);
}

#[test]
fn claimed_slots_are_invisible_until_published() {
    let (mut producer, mut consumer) = ring(4, || 0);
    for value in 1..=3 {
        *producer.try_claim().expect("free slots") = value;
    }
    assert_eq!((producer.pending(), producer.published()), (3, 0));
    assert_eq!((consumer.available(), consumer.occupancy()), (0, 0));
    assert_eq!(consumer.peek(9), ([].as_slice(), [].as_slice()));
    producer.publish();
    producer.publish();
    assert_eq!((producer.pending(), producer.published()), (0, 3));
    assert_eq!((consumer.available(), producer.occupancy()), (3, 3));
    assert_eq!(consumer.peek(9).0, [1, 2, 3]);
}

#[test]
fn a_full_ring_claims_nothing_until_slots_are_released() {
    let (mut producer, mut consumer) = ring(4, || 0);
    put(&mut producer, [1, 2]);
    *producer.try_claim().unwrap() = 3;
    *producer.try_claim().unwrap() = 4;
    assert!(producer.try_claim().is_none(), "unpublished slots count");
    assert_eq!(producer.free(), 0);
    producer.publish();
    assert!(producer.try_claim().is_none());
    assert_eq!(consumer.available(), 4);
    assert!(producer.try_claim().is_none(), "seen is not released");
    consumer.release(3);
    assert_eq!((producer.free(), producer.occupancy()), (3, 1));
    put(&mut producer, [5, 6, 7]);
    assert!(producer.try_claim().is_none());
    assert_eq!(consumer.peek(9), ([4].as_slice(), [5, 6, 7].as_slice()));
}

#[test]
fn a_batch_over_the_wrap_comes_in_two_halves() {
    let (mut producer, mut consumer) = ring(8, || 0);
    put(&mut producer, 0..6);
    assert_eq!(consumer.available(), 6);
    consumer.release(5);
    put(&mut producer, 6..12);
    assert_eq!(
        consumer.peek(usize::MAX),
        ([5, 6, 7].as_slice(), [8, 9, 10, 11].as_slice())
    );
    assert_eq!(consumer.peek(4), ([5, 6, 7].as_slice(), [8].as_slice()));
    assert_eq!(consumer.peek(2), ([5, 6].as_slice(), [].as_slice()));
    let (head, tail) = consumer.peek_mut(7);
    for value in head.iter_mut().chain(tail) {
        *value *= 10;
    }
    assert_eq!(consumer.get(0), Some(&50));
    assert_eq!(consumer.get(6), Some(&110));
    assert_eq!(consumer.get(7), None);
    consumer.release(7);
    assert_eq!((consumer.released(), consumer.available()), (12, 0));
    assert_eq!(consumer.get(0), None);
}

#[test]
fn releasing_what_was_not_seen_panics_and_changes_nothing() {
    let (mut producer, mut consumer) = ring(4, || 0);
    put(&mut producer, [1, 2]);
    let release = |consumer: &mut Consumer<u64>, count| {
        catch_unwind(AssertUnwindSafe(|| consumer.release(count))).is_ok()
    };
    assert!(!release(&mut consumer, 1), "nothing was looked at");
    assert_eq!(consumer.available(), 2);
    assert!(!release(&mut consumer, 3));
    assert!(release(&mut consumer, 0));
    assert!(release(&mut consumer, 2));
    assert_eq!(producer.free(), 4);
}

#[test]
fn push_gives_the_value_back_when_full_and_pop_empties_the_slot() {
    let (mut producer, mut consumer) = ring(2, || None);
    assert_eq!(producer.push("a".to_owned()), Ok(()));
    assert_eq!(producer.push_unpublished("b".to_owned()), Ok(()));
    assert_eq!(producer.push("c".to_owned()), Err("c".to_owned()));
    assert_eq!(consumer.pop().as_deref(), Some("a"));
    assert_eq!(consumer.pop(), None, "b is not published");
    producer.publish();
    assert_eq!(consumer.pop().as_deref(), Some("b"));
    assert_eq!(consumer.pop(), None);
}

#[test]
fn pop_passes_over_slots_without_a_value() {
    let (mut producer, mut consumer) = ring(4, || None);
    assert!(producer.try_claim().is_some());
    assert_eq!(producer.push(7), Ok(()));
    assert_eq!(consumer.pop(), Some(7));
    assert_eq!((consumer.pop(), producer.free()), (None, 4));
}

#[test]
fn a_dropped_producer_closes_and_its_last_slots_are_read() {
    let (mut producer, mut consumer) = ring(4, || 0);
    assert!(!consumer.is_closed() && !consumer.is_finished());
    put(&mut producer, [1, 2]);
    *producer.try_claim().unwrap() = 3;
    drop(producer);
    assert!(consumer.is_closed() && !consumer.is_finished());
    assert_eq!(consumer.peek(9).0, [1, 2], "3 was claimed, not published");
    consumer.release(2);
    assert!(consumer.is_finished());
}

#[test]
fn a_dropped_consumer_closes() {
    let (mut producer, consumer) = ring(2, || None);
    assert!(!producer.is_closed());
    drop(consumer);
    assert!(producer.is_closed());
    assert_eq!(producer.push(1), Ok(()));
    assert_eq!(producer.push(2), Ok(()));
    assert_eq!(producer.push(3), Err(3), "closed or not, it is bounded");
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn values_left_inside_are_dropped_once_with_the_second_end() {
    for producer_first in [false, true] {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(8, || None);
        for _ in 0..5 {
            assert!(producer.push(Counted(drops.clone())).is_ok());
        }
        assert!(producer.push_unpublished(Counted(drops.clone())).is_ok());
        drop(consumer.pop());
        drop(consumer.pop());
        assert_eq!(drops.load(Ordering::Relaxed), 2);
        if producer_first {
            drop(producer);
            assert_eq!(drops.load(Ordering::Relaxed), 2);
            drop(consumer);
        } else {
            drop(consumer);
            assert_eq!(drops.load(Ordering::Relaxed), 2);
            drop(producer);
        }
        assert_eq!(drops.load(Ordering::Relaxed), 6);
    }
}

#[test]
fn ends_travel_between_threads() {
    fn travels<T: Send>() {}
    travels::<Producer<Cell<u8>>>();
    travels::<Consumer<Cell<u8>>>();
}

#[test]
fn cursors_lie_on_their_own_cache_lines() {
    let shared = slots::Shared::new(2, || 0u64);
    let published = std::ptr::from_ref(&shared.published).addr();
    let released = std::ptr::from_ref(&shared.released).addr();
    assert!(published.abs_diff(released) >= 128);
}

#[derive(Clone, Debug)]
enum Step {
    Claim(u8),
    Publish,
    Free,
    Peek(usize),
    Available,
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6u8).prop_map(Step::Claim),
        3 => Just(Step::Publish),
        1 => Just(Step::Free),
        3 => (0..20usize).prop_map(Step::Peek),
        1 => Just(Step::Available),
        3 => (0..9usize).prop_map(Step::Release),
    ]
}

proptest! {
    #[test]
    fn answers_as_a_deque_does(
        slots in prop_oneof![Just(2usize), Just(4), Just(16)],
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let (mut producer, mut consumer) = ring(slots, || 0u64);
        let mut claimed: VecDeque<u64> = VecDeque::new();
        let mut published: VecDeque<u64> = VecDeque::new();
        let mut next = 0u64;
        let mut seen = 0;
        for step in steps {
            let free = slots - claimed.len() - published.len();
            match step {
                Step::Claim(count) => for _ in 0..count {
                    let full = claimed.len() + published.len() == slots;
                    match producer.try_claim() {
                        Some(slot) => {
                            prop_assert!(!full);
                            next += 1;
                            *slot = next;
                            claimed.push_back(next);
                        }
                        None => prop_assert!(full),
                    }
                },
                Step::Publish => {
                    producer.publish();
                    published.append(&mut claimed);
                }
                Step::Free => prop_assert_eq!(producer.free(), free),
                Step::Peek(max) => {
                    let (head, tail) = consumer.peek(max);
                    let got: Vec<u64> = head.iter().chain(tail).copied().collect();
                    let want: Vec<u64> = published.iter().take(max).copied().collect();
                    prop_assert_eq!(got, want);
                    if seen < max {
                        seen = published.len();
                    }
                }
                Step::Available => {
                    seen = published.len();
                    prop_assert_eq!(consumer.available(), seen);
                }
                Step::Release(count) => {
                    let count = count.min(seen);
                    consumer.release(count);
                    published.drain(..count);
                    seen -= count;
                }
            }
            prop_assert_eq!(producer.pending(), claimed.len());
            prop_assert_eq!(producer.occupancy(), published.len());
            prop_assert_eq!(consumer.occupancy(), published.len());
            prop_assert_eq!(consumer.get(0), published.front().filter(|_| seen > 0));
        }
        prop_assert_eq!(producer.published(), next - claimed.len() as u64);
        prop_assert_eq!(consumer.released(), producer.published() - published.len() as u64);
    }
}
