//! One producer, one consumer, 64-byte messages: ours and rtrb in the same run, pair by pair.
//!
//! ```text
//!   CPU a                                      CPU b
//!   ┌──────────┐   ring of SLOTS messages    ┌──────────┐
//!   │ producer │ ──────────────────────────▶ │ consumer │   sums, and checks the order
//!   └──────────┘   batch: 1, 16, 64, 256     └──────────┘
//! ```
//!
//! After LMAX's `OneToOneSequencedThroughputTest`. Closed loop: the producer goes as fast as the
//! ring lets it. Both peers wait by spinning. A pair is one run of each, in turns first; the ratio
//! is taken within a pair, and its median is the figure to quote.
//!
//! `cargo bench -p kilter-benches --bench ring`; `RING_MESSAGES`, `RING_SLOTS` and `RING_PAIRS`
//! change the size.
#![allow(clippy::float_arithmetic, reason = "rates and ratios; no money here")]

use std::hint::spin_loop;
use std::num::NonZeroU64;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use hdrhistogram::Histogram;
use kilter_benches::host::{self, pin};
use kilter_benches::measure::{Spread, cache_line_round_trip_ns, hiccups, latencies, percentiles};
use kilter_engine::ring::{Consumer, Producer, ring};

/// A cache line. The value is never 0, so an `Option` of it is no larger.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Message {
    value: NonZeroU64,
    rest: [u64; 7],
}

const _: () = assert!(size_of::<Message>() == 64 && size_of::<Option<Message>>() == 64);

impl Message {
    #[inline]
    fn of(value: u64) -> Self {
        Self {
            value: NonZeroU64::MIN.saturating_add(value),
            rest: [value; 7],
        }
    }
}

/// What the consumer makes of the messages: any lost, doubled, torn or misplaced one shows.
#[derive(Default)]
struct Tally {
    count: u64,
    sum: u64,
    misplaced: u64,
    batches: u64,
}

impl Tally {
    #[inline]
    fn add(&mut self, message: &Message) {
        let value = message.value.get() - 1;
        self.misplaced += u64::from(value != self.count || message.rest[6] != value);
        self.sum = self.sum.wrapping_add(value);
        self.count += 1;
    }

    fn check(&self, messages: u64) {
        assert_eq!((self.count, self.misplaced), (messages, 0));
        assert_eq!(self.sum, messages * (messages - 1) / 2);
    }
}

#[derive(Clone, Copy)]
struct Size {
    messages: u64,
    slots: usize,
    cpus: [CoreId; 2],
}

/// Messages per second in millions, and the mean batch the consumer had.
struct Run {
    rate: f64,
    mean_batch: f64,
}

/// Runs both ends on their CPUs, from when both are ready until the last message is read.
fn run(size: Size, produce: impl FnOnce() + Send, consume: impl FnOnce() -> Tally + Send) -> Run {
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(size.cpus[0]);
            ready.wait();
            produce();
        });
        let consumer = scope.spawn(|| {
            pin(size.cpus[1]);
            ready.wait();
            let started = Instant::now();
            let tally = consume();
            (started.elapsed(), tally)
        });
        let (elapsed, tally) = consumer.join().expect("no panic");
        tally.check(size.messages);
        Run {
            rate: size.messages as f64 / elapsed.as_secs_f64() / 1e6,
            mean_batch: size.messages as f64 / tally.batches as f64,
        }
    })
}

/// Claim, fill in place, publish each; peek, read in place, release each.
fn ours_in_place(size: Size) -> Run {
    let (mut producer, mut consumer) = ring(size.slots, || Message::of(0));
    let produce = move || {
        let mut next = 0;
        while next < size.messages {
            match producer.try_claim() {
                Some(slot) => *slot = Message::of(next),
                None => {
                    spin_loop();
                    continue;
                }
            }
            producer.publish();
            next += 1;
        }
    };
    let consume = move || {
        let mut tally = Tally::default();
        while tally.count < size.messages {
            match consumer.peek(1).0.first() {
                Some(message) => tally.add(message),
                None => {
                    spin_loop();
                    continue;
                }
            }
            tally.batches += 1;
            consumer.release(1);
        }
        tally
    };
    run(size, produce, consume)
}

/// Values by move.
fn ours_push_pop(size: Size) -> Run {
    let (mut producer, mut consumer) = ring(size.slots, || None);
    let produce = move || {
        for value in 0..size.messages {
            while producer.push(Message::of(value)).is_err() {
                spin_loop();
            }
        }
    };
    let consume = move || {
        let mut tally = Tally::default();
        while tally.count < size.messages {
            match consumer.pop() {
                Some(message) => tally.add(&message),
                None => {
                    spin_loop();
                    continue;
                }
            }
            tally.batches += 1;
        }
        tally
    };
    run(size, produce, consume)
}

fn rtrb_push_pop(size: Size) -> Run {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(size.slots);
    let produce = move || {
        for value in 0..size.messages {
            while producer.push(Message::of(value)).is_err() {
                spin_loop();
            }
        }
    };
    let consume = move || {
        let mut tally = Tally::default();
        while tally.count < size.messages {
            match consumer.pop() {
                Ok(message) => tally.add(&message),
                Err(_) => {
                    spin_loop();
                    continue;
                }
            }
            tally.batches += 1;
        }
        tally
    };
    run(size, produce, consume)
}

/// Claims a batch, publishes it at once; reads up to a batch of what there is.
fn ours_batched(size: Size, batch: usize) -> Run {
    let (mut producer, mut consumer) = ring(size.slots, || Message::of(0));
    let produce = move || {
        let mut next = 0;
        while next < size.messages {
            let end = size.messages.min(next + batch as u64);
            while next < end {
                match producer.try_claim() {
                    Some(slot) => {
                        *slot = Message::of(next);
                        next += 1;
                    }
                    None => spin_loop(),
                }
            }
            producer.publish();
        }
    };
    let consume = move || {
        let mut tally = Tally::default();
        while tally.count < size.messages {
            let (head, tail) = consumer.peek(batch);
            let count = head.len() + tail.len();
            if count == 0 {
                spin_loop();
                continue;
            }
            head.iter().for_each(|message| tally.add(message));
            tail.iter().for_each(|message| tally.add(message));
            tally.batches += 1;
            consumer.release(count);
        }
        tally
    };
    run(size, produce, consume)
}

/// The same with rtrb's chunks.
fn rtrb_batched(size: Size, batch: usize) -> Run {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(size.slots);
    let produce = move || {
        let mut next = 0;
        while next < size.messages {
            let end = size.messages.min(next + batch as u64);
            match producer.write_chunk_uninit((end - next) as usize) {
                Ok(chunk) => {
                    chunk.fill_from_iter((next..end).map(Message::of));
                    next = end;
                }
                Err(_) => spin_loop(),
            }
        }
    };
    let consume = move || {
        let mut tally = Tally::default();
        while tally.count < size.messages {
            let mut count = consumer.cached_slots();
            if count < batch {
                count = consumer.slots();
            }
            let count = count.min(batch);
            if count == 0 {
                spin_loop();
                continue;
            }
            let chunk = consumer.read_chunk(count).expect("there are as many");
            let (head, tail) = chunk.as_slices();
            head.iter().for_each(|message| tally.add(message));
            tail.iter().for_each(|message| tally.add(message));
            tally.batches += 1;
            chunk.commit_all();
        }
        tally
    };
    run(size, produce, consume)
}

/// Runs the pairs of one line and prints it.
fn compare(
    name: &str,
    pairs: usize,
    size: Size,
    ours: impl Fn(Size) -> Run,
    theirs: impl Fn(Size) -> Run,
) {
    let mut runs = Vec::new();
    let mut round_trips = Vec::new();
    for pair in 0..pairs {
        round_trips.push(cache_line_round_trip_ns(size.cpus));
        runs.push(if pair % 2 == 0 {
            let ours = ours(size);
            (ours, theirs(size))
        } else {
            let theirs = theirs(size);
            (ours(size), theirs)
        });
    }
    let of = |figure: &dyn Fn(&(Run, Run)) -> f64| Spread::of(runs.iter().map(figure));
    println!(
        "{name:<22} {:>22} {:>22}   {:<18} {:>6.1} {:>6.1}   {:.0}",
        format!("{:.1}", of(&|(ours, _)| ours.rate)),
        format!("{:.1}", of(&|(_, theirs)| theirs.rate)),
        of(&|(ours, theirs)| ours.rate / theirs.rate).to_string(),
        of(&|(ours, _)| ours.mean_batch).median,
        of(&|(_, theirs)| theirs.mean_batch).median,
        Spread::of(round_trips),
    );
}

/// One message there and back, each turn timed, on rings given by their four ends' operations.
fn ping_pong(
    cpus: [CoreId; 2],
    turns: u64,
    mut ask: impl FnMut(u64) + Send,
    mut answered: impl FnMut() -> Option<u64> + Send,
    mut asked: impl FnMut() -> Option<u64> + Send,
    mut answer: impl FnMut(u64) + Send,
) -> Histogram<u64> {
    fn wait(mut look: impl FnMut() -> Option<u64>) -> u64 {
        loop {
            match look() {
                Some(value) => return value,
                None => spin_loop(),
            }
        }
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(cpus[1]);
            for _ in 0..turns {
                answer(wait(&mut asked));
            }
        });
        let asking = scope.spawn(move || {
            pin(cpus[0]);
            let mut times = latencies();
            for turn in 0..turns {
                let started = Instant::now();
                ask(turn);
                assert_eq!(wait(&mut answered), turn);
                times.saturating_record(started.elapsed().as_nanos() as u64);
            }
            times
        });
        asking.join().expect("no panic")
    })
}

fn ours_ping_pong(cpus: [CoreId; 2], turns: u64) -> Histogram<u64> {
    fn write(producer: &mut Producer<Message>, value: u64) {
        *producer.try_claim().expect("one at a time") = Message::of(value);
        producer.publish();
    }
    fn read(consumer: &mut Consumer<Message>) -> Option<u64> {
        let value = consumer.peek(1).0.first()?.value.get() - 1;
        consumer.release(1);
        Some(value)
    }
    let (mut ask, mut asked) = ring(64, || Message::of(0));
    let (mut answer, mut answered) = ring(64, || Message::of(0));
    ping_pong(
        cpus,
        turns,
        move |value| write(&mut ask, value),
        move || read(&mut answered),
        move || read(&mut asked),
        move |value| write(&mut answer, value),
    )
}

fn rtrb_ping_pong(cpus: [CoreId; 2], turns: u64) -> Histogram<u64> {
    let (mut ask, mut asked) = rtrb::RingBuffer::new(64);
    let (mut answer, mut answered) = rtrb::RingBuffer::new(64);
    let value = |message: Message| message.value.get() - 1;
    ping_pong(
        cpus,
        turns,
        move |value| assert!(ask.push(Message::of(value)).is_ok()),
        move || answered.pop().ok().map(value),
        move || asked.pop().ok().map(value),
        move |value| assert!(answer.push(Message::of(value)).is_ok()),
    )
}

/// A number from the environment, or what is usual.
fn setting(name: &str, usual: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")),
        Err(_) => usual,
    }
}

fn main() {
    println!("{}", host::line());
    let Some(cpus) = host::two_cpus() else {
        println!("skipped: needs two CPUs");
        return;
    };
    let pairs = setting("RING_PAIRS", 7) as usize;
    let size = Size {
        messages: setting("RING_MESSAGES", 20_000_000),
        slots: setting("RING_SLOTS", 4096) as usize,
        cpus,
    };
    println!(
        "ring of {} x 64 bytes, {} messages a run, {pairs} pairs, CPUs {} and {}, closed loop; \
         median (min..max)\n",
        size.slots, size.messages, cpus[0].id, cpus[1].id
    );
    println!(
        "{:<22} {:>22} {:>22}   {:<18} {:>6} {:>6}   line round trip, ns",
        "", "ours, M/s", "rtrb, M/s", "ours / rtrb", "batch", "batch"
    );
    compare("1, in place", pairs, size, ours_in_place, rtrb_push_pop);
    compare("1, push and pop", pairs, size, ours_push_pop, rtrb_push_pop);
    for batch in [16, 64, 256] {
        compare(
            &format!("batches of {batch}"),
            pairs,
            size,
            |size| ours_batched(size, batch),
            |size| rtrb_batched(size, batch),
        );
    }

    println!(
        "\nround trip of one message, spinning, each turn timed (two looks at the clock in it)"
    );
    let turns = size.messages / 40;
    for pair in 0..pairs.min(3) {
        println!("  cache line {:>5.0} ns", cache_line_round_trip_ns(cpus));
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = ours_ping_pong(cpus, turns);
            (ours, rtrb_ping_pong(cpus, turns))
        } else {
            let theirs = rtrb_ping_pong(cpus, turns);
            (ours_ping_pong(cpus, turns), theirs)
        };
        println!(
            "  ours  {}\n  rtrb  {}",
            percentiles(&ours),
            percentiles(&theirs)
        );
    }
    println!("hiccups (gaps between looks at the clock, nothing else running in this process)");
    for cpu in cpus {
        let gaps = hiccups(cpu, Duration::from_secs(1));
        println!("  CPU {}  {}", cpu.id, percentiles(&gaps));
    }
}
