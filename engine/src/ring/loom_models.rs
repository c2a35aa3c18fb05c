//! The ring under every interleaving: loom models with two slots. [`sync`](crate::sync) has the
//! command. Beside the asserts here, each access to a slot is watched: one that is not ordered
//! after the other end's last one fails the model.

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::*;

/// Three forced switches are enough for any fault known of such rings, and bound the time.
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(check);
}

/// Reads everything until the producer is gone, in batches of up to `max`; each must follow the
/// one before.
fn read_all(consumer: &mut Consumer<u64>, max: usize) -> u64 {
    let mut last = 0;
    while !consumer.is_finished() {
        let (head, tail) = consumer.peek(max);
        let count = head.len() + tail.len();
        for value in head.iter().chain(tail) {
            last += 1;
            assert_eq!(*value, last);
        }
        consumer.release(count);
        if count == 0 {
            thread::yield_now();
        }
    }
    last
}

/// Writes `1..=count`, publishing after every `batch`, waiting whenever the ring is full.
fn write_all(producer: &mut Producer<u64>, count: u64, batch: usize) {
    for value in 1..=count {
        loop {
            if let Some(slot) = producer.try_claim() {
                *slot = value;
                break;
            }
            producer.publish();
            thread::yield_now();
        }
        if producer.pending() == batch {
            producer.publish();
        }
    }
    producer.publish();
}

#[test]
fn published_values_are_seen_whole_and_in_order() {
    model(|| {
        let (mut producer, mut consumer) = ring(2, || 0);
        let writer = thread::spawn(move || write_all(&mut producer, 2, 1));
        assert_eq!(read_all(&mut consumer, 1), 2);
        writer.join().unwrap();
    });
}

#[test]
fn slots_are_used_again_only_after_their_release() {
    model(|| {
        let (mut producer, mut consumer) = ring(2, || 0);
        let writer = thread::spawn(move || write_all(&mut producer, 5, 1));
        assert_eq!(read_all(&mut consumer, 2), 5);
        writer.join().unwrap();
    });
}

#[test]
fn batches_go_round_the_wrap() {
    model(|| {
        let (mut producer, mut consumer) = ring(2, || 0);
        write_all(&mut producer, 1, 1);
        assert_eq!(consumer.peek(2).0, [1]);
        consumer.release(1);
        let writer = thread::spawn(move || {
            for value in [2, 3] {
                *producer.try_claim().unwrap() = value;
            }
            assert!(producer.try_claim().is_none());
            producer.publish();
        });
        while consumer.available() == 0 {
            thread::yield_now();
        }
        // Published together, seen together.
        assert_eq!(consumer.peek(2), ([2].as_slice(), [3].as_slice()));
        consumer.release(2);
        writer.join().unwrap();
    });
}

#[test]
fn a_full_ring_gives_back_and_loses_nothing() {
    model(|| {
        let (mut producer, mut consumer) = ring(2, || None);
        let writer = thread::spawn(move || {
            let mut taken = 0;
            for value in 1..=3 {
                match producer.push(value) {
                    Ok(()) => taken += 1,
                    Err(back) => assert_eq!(back, 3, "two fit whatever the reader does"),
                }
            }
            taken
        });
        let mut last = 0;
        while !consumer.is_finished() {
            match consumer.pop() {
                Some(value) => {
                    assert_eq!(value, last + 1);
                    last = value;
                }
                None => thread::yield_now(),
            }
        }
        assert_eq!(writer.join().unwrap(), last);
    });
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn items_inside_are_dropped_once_whoever_leaves_last() {
    model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(2, || None);
        let counted = [(); 3].map(|()| Counted(drops.clone()));
        let writer = thread::spawn(move || {
            for item in counted {
                let _ = producer.push(item);
            }
        });
        drop(consumer.pop());
        drop(consumer);
        writer.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn nothing_published_before_the_drop_is_lost_and_nothing_claimed_is_seen() {
    model(|| {
        let (mut producer, mut consumer) = ring(2, || 0);
        let writer = thread::spawn(move || {
            write_all(&mut producer, 1, 1);
            *producer.try_claim().unwrap() = 2;
        });
        assert_eq!(read_all(&mut consumer, 2), 1);
        assert!(consumer.is_closed());
        writer.join().unwrap();
    });
}

#[test]
fn a_producer_learns_that_the_consumer_left() {
    model(|| {
        let (mut producer, mut consumer) = ring(2, || None);
        let reader = thread::spawn(move || consumer.pop());
        assert_eq!(producer.push(1), Ok(()));
        while !producer.is_closed() {
            thread::yield_now();
        }
        let read = reader.join().unwrap();
        assert_eq!(producer.free(), if read.is_some() { 2 } else { 1 });
    });
}
