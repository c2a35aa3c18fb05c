//! The parking hand-shake under every interleaving. Parking has no upper bound in these models, so
//! that a lost wake-up is a deadlock, which loom reports. [`sync`](crate::sync) has the command.

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::*;
use crate::ring::ring;

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(check);
}

/// Looks at `input` as an agent does until it holds `until`.
fn watch(input: &AtomicUsize, until: usize, idle: &mut Idle) {
    let mut seen = 0;
    while seen < until {
        let now = input.load(Ordering::Relaxed);
        idle.idle(now - seen);
        seen = now;
    }
}

#[test]
fn a_wake_up_is_never_lost() {
    model(|| {
        let (mut idle, waker) = waiter(WaitStrategy::Park);
        let input = Arc::new(AtomicUsize::new(0));
        let theirs = input.clone();
        let writer = thread::spawn(move || {
            theirs.store(1, Ordering::Relaxed);
            waker.wake();
        });
        watch(&input, 1, &mut idle);
        writer.join().unwrap();
    });
}

#[test]
fn nor_the_second_one_after_a_withdrawn_announcement() {
    model(|| {
        let (mut idle, waker) = waiter(WaitStrategy::Park);
        let input = Arc::new(AtomicUsize::new(0));
        let theirs = input.clone();
        let writer = thread::spawn(move || {
            for value in 1..=2 {
                theirs.store(value, Ordering::Relaxed);
                waker.wake();
            }
        });
        watch(&input, 2, &mut idle);
        writer.join().unwrap();
    });
}

#[test]
fn nor_one_of_two_wakers() {
    model(|| {
        let (mut idle, waker) = waiter(WaitStrategy::Park);
        let input = Arc::new(AtomicUsize::new(0));
        let writers = [waker.clone(), waker].map(|waker| {
            let theirs = input.clone();
            thread::spawn(move || {
                theirs.fetch_add(1, Ordering::Relaxed);
                waker.wake();
            })
        });
        watch(&input, 2, &mut idle);
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

/// Whoever flushes first wakes for both, and the other one need not.
#[test]
fn nor_one_that_was_deferred() {
    model(|| {
        let (mut idle, waker) = waiter(WaitStrategy::Park);
        let waker = Arc::new(DeferredWaker::new(waker));
        let input = Arc::new(AtomicUsize::new(0));
        let writers = [waker.clone(), waker].map(|waker| {
            let theirs = input.clone();
            thread::spawn(move || {
                theirs.fetch_add(1, Ordering::Relaxed);
                waker.defer();
                waker.flush();
            })
        });
        watch(&input, 2, &mut idle);
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

/// Both ends park: the reader on an empty ring, the writer on a full one.
#[test]
fn two_parked_ends_of_a_ring_keep_each_other_going() {
    model(|| {
        let (mut producer, mut consumer) = ring(2, || None);
        let (mut idle, reader) = waiter(WaitStrategy::Park);
        let (mut their_idle, writer) = waiter(WaitStrategy::Park);
        let writing = thread::spawn(move || {
            let mut next = 1;
            while next <= 3 {
                let work = usize::from(producer.push(next).is_ok());
                next += work;
                if work > 0 {
                    reader.wake();
                }
                their_idle.idle(work);
            }
            drop(producer);
            reader.wake();
        });
        let mut last = 0;
        while !consumer.is_finished() {
            let mut work = 0;
            while let Some(value) = consumer.pop() {
                assert_eq!(value, last + 1);
                last = value;
                work += 1;
            }
            if work > 0 {
                writer.wake();
            }
            idle.idle(work);
        }
        assert_eq!(last, 3);
        writing.join().unwrap();
    });
}
