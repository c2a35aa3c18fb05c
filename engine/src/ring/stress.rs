//! Two real threads, every value in order, with each way of waiting.

use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::wait::{Idle, WaitStrategy, Waker, waiter};

/// Long past anything but a lost wake-up or a stuck ring.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a slot carries: the value and what must come with it, so that a torn or early read shows.
#[derive(Clone, Copy, Default)]
struct Message {
    value: u64,
    check: [u64; 3],
}

impl Message {
    fn of(value: u64) -> Self {
        Self {
            value,
            check: [!value, value.rotate_left(17), value ^ 0x5555],
        }
    }

    fn is_whole(&self) -> bool {
        self.check == Self::of(self.value).check
    }
}

/// Sends `1..=count` in batches of up to `batch`, then drops the end and wakes the reader.
fn send(
    mut producer: Producer<Message>,
    (mut idle, reader): (Idle, Waker),
    count: u64,
    batch: usize,
) {
    let started = Instant::now();
    let mut next = 1;
    while next <= count {
        let mut work = 0;
        while work < batch && next <= count {
            let Some(slot) = producer.try_claim() else {
                break;
            };
            *slot = Message::of(next);
            next += 1;
            work += 1;
        }
        producer.publish();
        if work > 0 {
            reader.wake();
        }
        idle.idle(work);
        assert!(started.elapsed() < DEADLINE, "sent {next} of {count}");
    }
    drop(producer);
    reader.wake();
}

/// Reads until the ring is finished; returns how many values came, each after the one before.
fn receive(
    mut consumer: Consumer<Message>,
    (mut idle, writer): (Idle, Waker),
    batch: usize,
) -> u64 {
    let started = Instant::now();
    let mut last = 0;
    while !consumer.is_finished() {
        let (head, tail) = consumer.peek(batch);
        let work = head.len() + tail.len();
        for message in head.iter().chain(tail) {
            last += 1;
            assert!(message.value == last && message.is_whole());
        }
        consumer.release(work);
        if work > 0 {
            writer.wake();
        }
        idle.idle(work);
        assert!(started.elapsed() < DEADLINE, "read {last}");
    }
    last
}

fn stream(slots: usize, count: u64, batch: usize, strategy: WaitStrategy) {
    let (producer, consumer) = ring(slots, Message::default);
    let (writers_idle, writer) = waiter(strategy);
    let (readers_idle, reader) = waiter(strategy);
    thread::scope(|scope| {
        scope.spawn(move || send(producer, (writers_idle, reader), count, batch));
        assert_eq!(receive(consumer, (readers_idle, writer), batch), count);
    });
}

#[test]
fn every_value_in_order_spinning() {
    // Fewer through the two slots: on a busy host each pair may cost a time slice.
    for (slots, batch, count) in [(2, 1, 10_000), (64, 16, 200_000)] {
        stream(slots, count, batch, WaitStrategy::BusySpin);
    }
}

#[test]
fn every_value_in_order_yielding() {
    for (slots, batch) in [(2, 1), (64, 16), (1024, 300)] {
        stream(slots, 200_000, batch, WaitStrategy::SpinThenYield);
    }
}

#[test]
fn every_value_in_order_parking() {
    for (slots, batch) in [(2, 1), (64, 16), (1024, 300)] {
        stream(slots, 200_000, batch, WaitStrategy::Park);
    }
}

#[test]
fn values_move_through_and_none_is_lost_or_doubled() {
    let (mut producer, mut consumer) = ring(16, || None);
    thread::scope(|scope| {
        scope.spawn(move || {
            let started = Instant::now();
            for value in 0..50_000u64 {
                let mut boxed = Box::new(value);
                while let Err(back) = producer.push(boxed) {
                    boxed = back;
                    thread::yield_now();
                    assert!(started.elapsed() < DEADLINE);
                }
            }
        });
        let started = Instant::now();
        let mut next = 0;
        while !consumer.is_finished() {
            match consumer.pop() {
                Some(value) => {
                    assert_eq!(*value, next);
                    next += 1;
                }
                None => thread::yield_now(),
            }
            assert!(started.elapsed() < DEADLINE);
        }
        assert_eq!(next, 50_000);
    });
}
