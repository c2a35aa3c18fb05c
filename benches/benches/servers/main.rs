//! A node on the real servers against bare loops that have the servers do the same work.
//!
//! ```text
//! flush    bare   epochs in memory ─► MysqlWriter ─► MySQL
//!          node   topic ─► kilter serve ─► MySQL, and results ─► Kafka
//! topic    bare   topic ─► one loop ─► as many records of as many bytes ─► Kafka
//!          node   topic ─► kilter serve, the ledger in the topic of results
//! latency  bare   client ─► topic ─► echo ─► topic ─► client, open loop
//!          node   client ─► topic ─► kilter serve ─► topic ─► client
//! memory   node   kilter serve with a million users and two currencies, under load
//! ```
//!
//! `cargo bench -p kilter-benches --bench servers -- [flush|topic|latency|memory]...`, after
//! `eval "$(bin/stack env)"`. Bare and node take turns within one run; medians of the rounds are
//! compared. The node is the program itself, a child process with the settings that it has by
//! default unless a line says otherwise, without Redis. Each round has a database of its own; a
//! topic of commands is filled once, has one partition, and is read again by each round.
//!
//! `KILTER_BENCH_COMMANDS`, `_ROUNDS`, `_SECONDS` and `_USERS` set the sizes;
//! `KILTER_BENCH_PROGRAM` is another program than that of this tree, to compare with. Answers are checked:
//! balances add up to what was sent, and every command has its result.
#![allow(clippy::float_arithmetic, reason = "rates and times; no money here")]
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may stop anywhere"
)]

#[allow(dead_code, reason = "shared with the bench of the front door")]
mod child;
mod clients;
mod commands;
mod flush;
mod latency;
mod memory;
mod servers;
mod topic;

use kilter_benches::{
    host,
    measure::{self, Spread},
};
use servers::Servers;

fn main() {
    let Some(servers) = Servers::from_environment() else {
        println!("SKIPPED servers: MYSQL_HOST or KAFKA_BROKERS is not set (bin/stack env)");
        return;
    };
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    child::build();
    machine();
    if wanted("flush") {
        flush::run(&servers);
    }
    if wanted("topic") {
        topic::run(&servers);
    }
    if wanted("latency") {
        latency::run(&servers);
    }
    if wanted("memory") {
        memory::run(&servers);
    }
    machine();
}

/// The state of the machine, in lines above and below the figures.
fn machine() {
    println!("{}", host::line());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    print!("load {}", load.trim());
    match host::two_cpus() {
        Some(cpus) => println!(
            "; cache-line round trip {:.0} ns",
            measure::cache_line_round_trip_ns(cpus)
        ),
        None => println!(),
    }
}

/// A size from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(format!("KILTER_BENCH_{name}")).map_or(default, |text| text.parse().unwrap())
}

/// Runs both sides once a round, taking turns in who goes first.
fn in_turns(rounds: u64, sides: [&mut dyn FnMut(); 2]) {
    let [one, other] = sides;
    for round in 0..rounds {
        if round % 2 == 0 {
            one();
            other();
        } else {
            other();
            one();
        }
    }
}

/// The ratio of the two sides of each round: its median, lowest and highest.
fn pairs(rates: &[f64], others: &[f64]) -> Spread {
    Spread::of(rates.iter().zip(others).map(|(rate, other)| rate / other))
}

/// `a b c` in thousands.
fn thousands(rates: &[f64]) -> String {
    let rates: Vec<String> = rates
        .iter()
        .map(|rate| format!("{:.1}k", rate / 1e3))
        .collect();
    rates.join(" ")
}
