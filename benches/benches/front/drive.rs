//! Keeps a front door busy, as fast as it answers or at a fixed rate.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use kilter_benches::measure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    child::DEADLINE,
    client::{Connection, Request},
};

/// How many requests are made before a run.
const MADE_MAX: u64 = 400_000;

/// What is asked, and how an answer is judged: whether it is the right one.
pub struct Load<'a> {
    pub request: &'a dyn Fn(u64) -> Request,
    pub is_right: &'a dyn Fn(u64, &[u8]) -> bool,
}

/// How it went.
pub struct Ran {
    pub latencies: Histogram<u64>,
    pub took: Duration,
    pub answered: u64,
    /// Answered otherwise than is right, or not at all.
    pub wrong: u64,
}

impl Ran {
    pub fn rate(&self) -> f64 {
        (self.answered - self.wrong) as f64 / self.took.as_secs_f64()
    }

    /// `p50 … p99 … p99.9 … max …`, in ms.
    pub fn quantiles(&self) -> String {
        let ms = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e6;
        format!(
            "p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.2} ms",
            ms(0.5),
            ms(0.99),
            ms(0.999),
            self.latencies.max() as f64 / 1e6
        )
    }
}

/// Connections to one address, and how many calls each has at once.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    pub connections: usize,
    pub streams: usize,
}

/// Asks for `count` from `first` on, each as soon as there is a free stream.
pub fn closed(address: &str, width: Width, first: u64, count: u64, load: &Load<'_>) -> Ran {
    run(address, width, first, count, load, None)
}

/// Asks at a steady rate; latencies are from when each was due.
pub fn open(
    address: &str,
    width: Width,
    first: u64,
    (rate, seconds): (u64, u64),
    load: &Load<'_>,
) -> Ran {
    run(address, width, first, rate * seconds, load, Some(rate))
}

fn run(
    address: &str,
    width: Width,
    first: u64,
    count: u64,
    load: &Load<'_>,
    rate: Option<u64>,
) -> Ran {
    let mut connections: Vec<Connection> = (0..width.connections)
        .map(|_| Connection::open(address))
        .collect();
    // Made and signed before, as far as memory goes: the clients are to cost little.
    let mut made: VecDeque<Request> = (first..first + count.min(MADE_MAX))
        .map(|number| (load.request)(number))
        .collect();
    let begin = Instant::now();
    let due = |number: u64| {
        rate.map_or(begin, |rate| {
            begin + Duration::from_nanos((number - first) * 1_000_000_000 / rate)
        })
    };
    // When each was sent, or due.
    let mut since: Vec<Instant> = Vec::with_capacity(count as usize);
    let mut ran = Ran {
        latencies: measure::latencies(),
        took: Duration::ZERO,
        answered: 0,
        wrong: 0,
    };
    // One, or it would be cleared for each read.
    let mut buffer = vec![0; 64 << 10];
    let mut next = first;
    while ran.answered < count {
        assert!(begin.elapsed() < DEADLINE, "{} answers", ran.answered);
        let now = Instant::now();
        for connection in &mut connections {
            while next < first + count
                && due(next) <= now
                && connection.open_calls() < width.streams
            {
                let request = made.pop_front().unwrap_or_else(|| (load.request)(next));
                if !connection.has_room(request.message.len()) {
                    made.push_front(request);
                    break;
                }
                since.push(if rate.is_some() { due(next) } else { now });
                connection.call(next, &request);
                next += 1;
            }
            connection.flush();
        }
        let left = match rate {
            Some(_) if next < first + count => due(next).saturating_duration_since(Instant::now()),
            _ => Duration::from_millis(100),
        };
        for ready in wait(&connections, left) {
            connections[ready].receive(&mut buffer, |(number, message)| {
                let took = since[(number - first) as usize].elapsed();
                ran.latencies.saturating_record(took.as_nanos() as u64);
                ran.answered += 1;
                let right = message.is_some_and(|message| (load.is_right)(number, &message));
                ran.wrong += u64::from(!right);
            });
        }
    }
    ran.took = begin.elapsed();
    ran
}

/// Until one of them can be read, or written where that is wanted, or time is up: those that can be.
fn wait(connections: &[Connection], limit: Duration) -> Vec<usize> {
    let mut fds: Vec<PollFd<'_>> = connections
        .iter()
        .map(|connection| {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, connection.wants_write());
            PollFd::new(connection.stream(), flags)
        })
        .collect();
    let timeout = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    poll(&mut fds, Some(&timeout)).unwrap();
    let ready = |fd: &PollFd<'_>| !(fd.revents() - PollFlags::OUT).is_empty();
    (0..fds.len()).filter(|at| ready(&fds[*at])).collect()
}
