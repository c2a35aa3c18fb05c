//! Balances to Redis: the way of a node against a bare pipeline of the same calls.
//!
//! ```text
//!   ours   part ─► Offers ─► RedisWriter ─► calls built ─► redis-server
//!   bare                             calls built before ─► redis-server
//! ```
//!
//! Both write the same balances with the same script, 100 a call and 8 calls a trip, two trips under
//! way, over one connection to one server started here; the bare one's bytes are made outside the
//! timed part. They take turns, each round with higher versions, so every balance is written every
//! time; closed loop. Checks its answer: what each round wrote, and one balance read back. Our time
//! is from the first offer until nothing waits and all is acknowledged.
//!
//! `REDIS_BALANCES` and `REDIS_ROUNDS` set the size. Needs `redis-server`.
#![allow(
    clippy::float_arithmetic,
    clippy::unwrap_used,
    reason = "rates and times; a bench ends by panicking"
)]

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_benches::host;
use kilter_engine::{
    AccountId, Amount, Currency, Partition,
    epoch::{BalanceImage, EpochPart},
    key_hash,
};
use kilter_io::redis::{Offers, Projection, RedisSettings, RedisWriter, SCRIPT};
use redis::{Connection, Value};

/// Keys of a call.
const BATCH: usize = 100;

/// Calls of a trip.
const CALLS: usize = 8;

/// Balances of an epoch's part: what is offered at once.
const PART: usize = 2_000;

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    if Command::new("redis-server").arg("-v").output().is_err() {
        println!("SKIPPED redis: there is no redis-server on this machine");
        return;
    }
    let balances = number("REDIS_BALANCES", 100_000);
    let rounds = number("REDIS_ROUNDS", 15);
    println!("{}", host::line());
    let server = start();
    let settings = RedisSettings {
        port: server.port,
        batch: BATCH,
        ..RedisSettings::default()
    };
    let offers = Arc::new(Offers::new(1, BATCH));
    let projection = RedisWriter::spawn(&settings, offers, None).unwrap();
    let mut bare = connect(server.port);
    let mut version = 0;
    let mut next = || {
        version += 1;
        parts(balances, version)
    };
    redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(SCRIPT)
        .query::<String>(&mut bare)
        .unwrap();
    // The keys come to be in an order that is neither's: the server's memory is laid out by it, and
    // who writes in that order would write faster.
    straight(&mut bare, &shuffled(next()));
    ours(&projection, &next());
    let mut rates = [Vec::new(), Vec::new()];
    let mut offering = Vec::new();
    for round in 0..rounds {
        let mut one = |kind: usize, rates: &mut [Vec<f64>; 2]| {
            let parts = next();
            let time = if kind == 0 {
                let times = ours(&projection, &parts);
                offering.push(times.offering.as_nanos() as f64 / balances as f64);
                times.whole
            } else {
                straight(&mut bare, &parts)
            };
            rates[kind].push(balances as f64 / time.as_secs_f64() / 1000.0);
        };
        // Whoever goes first may find another machine: in turns.
        one((round % 2) as usize, &mut rates);
        one(((round + 1) % 2) as usize, &mut rates);
    }
    let found: String = redis::cmd("HGET")
        .arg("balance:1:USDT")
        .arg("version")
        .query(&mut bare)
        .unwrap();
    assert_eq!(found, version.to_string(), "the last version");
    println!("{balances} balances, {rounds} rounds, thousands a second, each round:");
    for (name, rates) in ["ours", "bare"].iter().zip(&rates) {
        let text: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("{name} {}", text.join(" "));
    }
    let ratios: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(a, b)| a / b).collect();
    println!(
        "median: ours {:.0}k/s, bare {:.0}k/s; ratio pair by pair {:.3} (lowest {:.3}, highest {:.3})",
        median(&rates[0]),
        median(&rates[1]),
        median(&ratios),
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
    );
    println!(
        "offering: {:.0} ns a balance, median, while the writer and the server take CPUs too",
        median(&offering)
    );
    assert!(projection.stop(Duration::from_secs(10)));
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn start() -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Server { child, port }
}

fn connect(port: u16) -> Connection {
    let client = redis::Client::open(("127.0.0.1", port)).unwrap();
    let begin = Instant::now();
    loop {
        match client.get_connection() {
            Ok(connection) => return connection,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(10), "{error}"),
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn parts(balances: u64, version: u64) -> Vec<EpochPart> {
    let images: Vec<BalanceImage> = (1..=balances)
        .map(|account| BalanceImage {
            account_id: AccountId::new(account).unwrap(),
            currency: Currency::parse(b"USDT").unwrap(),
            available: Amount::from_units(i128::from(account) * 1_234_567_890_123_456).unwrap(),
            frozen: Amount::from_units(i128::from(version) * 10_i128.pow(17)).unwrap(),
            version,
            partition: Partition::new(0),
        })
        .collect();
    let part = |images: &[BalanceImage]| EpochPart {
        balances: images.to_vec(),
        ..EpochPart::default()
    };
    images.chunks(PART).map(part).collect()
}

/// The same balances in an order of their own.
fn shuffled(parts: Vec<EpochPart>) -> Vec<EpochPart> {
    let mut images: Vec<BalanceImage> = parts.into_iter().flat_map(|part| part.balances).collect();
    images.sort_by_key(|image| key_hash(&image.account_id.get().to_le_bytes()));
    vec![EpochPart {
        balances: images,
        ..EpochPart::default()
    }]
}

/// How long a round took.
#[derive(Clone, Copy)]
struct Times {
    /// Until all was offered: what it costs the thread that commits epochs.
    offering: Duration,
    /// Until all was written.
    whole: Duration,
}

/// Offers all, and waits until it is written.
fn ours(projection: &Projection, parts: &[EpochPart]) -> Times {
    let status = projection.status();
    let count: usize = parts.iter().map(|part| part.balances.len()).sum();
    let due = status.written() + count as u64;
    let begin = Instant::now();
    for part in parts {
        projection.offers().offer(part);
    }
    let offering = begin.elapsed();
    while status.written() < due {
        assert!(begin.elapsed() < Duration::from_secs(60), "not written");
        std::thread::park_timeout(Duration::from_micros(200));
    }
    let whole = begin.elapsed();
    assert_eq!(status.written(), due);
    assert_eq!((status.left_alone(), status.retries()), (0, 0));
    Times { offering, whole }
}

/// Sends the same calls, made before.
fn straight(connection: &mut Connection, parts: &[EpochPart]) -> Duration {
    let sha = redis::Script::new(SCRIPT).get_hash().to_owned();
    let images: Vec<BalanceImage> = parts
        .iter()
        .flat_map(|part| part.balances.iter().copied())
        .collect();
    let trips: Vec<(Vec<u8>, usize)> = images
        .chunks(BATCH * CALLS)
        .map(|trip| {
            let calls = trip.chunks(BATCH);
            let count = calls.len();
            (calls.flat_map(|images| call(&sha, images)).collect(), count)
        })
        .collect();
    let mut written = 0;
    let begin = Instant::now();
    let mut before = 0;
    for (bytes, calls) in &trips {
        connection.send_packed_command(bytes).unwrap();
        written += receive(connection, before);
        before = *calls;
    }
    written += receive(connection, before);
    let time = begin.elapsed();
    assert_eq!(written, images.len() as i64);
    time
}

fn receive(connection: &mut Connection, answers: usize) -> i64 {
    (0..answers)
        .map(|_| match connection.recv_response().unwrap() {
            Value::Int(written) => written,
            other => panic!("{other:?}"),
        })
        .sum()
}

fn call(sha: &str, images: &[BalanceImage]) -> Vec<u8> {
    let mut command = redis::cmd("EVALSHA");
    command.arg(sha).arg(images.len());
    for image in images {
        command.arg(format!("balance:{}:{}", image.account_id, image.currency));
    }
    command.arg(1_700_000_000_000_u64);
    for image in images {
        let BalanceImage {
            available,
            frozen,
            version,
            ..
        } = image;
        command.arg(format!(
            "{{\"available\":\"{available}\",\"frozen\":\"{frozen}\",\"version\":{version}}}"
        ));
        command.arg(*version);
    }
    command.get_packed_command()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
