//! The front door against what it is made of: gRPC calls to `kilter serve` beside bare loops that
//! make the same rows durable.
//!
//! ```text
//! accept   bare   rows in memory ─► one connection, a transaction a batch ─► SQLite, MySQL
//!          node   client ─► gRPC ─► kilter serve: signature, account, outbox ─► "accepted"
//!          one    the same, one request at a time, beside one fsync of this disk
//!          open   the same at fixed rates, from when each was due
//! read     node   client ─► one connection, 64 streams ─► kilter serve ─► shard ─► client
//! wait     parts  one row a commit; produce to consume: each at the rate, open loop
//!          node   client ─► kilter serve ─► Kafka ─► shard ─► client, with the outcome
//! ```
//!
//! `cargo bench -p kilter-benches --bench front -- [accept|read|wait]...`; on servers too after
//! `eval "$(bin/stack env)"`, else on a directory only. `KILTER_BENCH_COMMANDS`, `_ROUNDS`,
//! `_SECONDS` and `_RATE` set the sizes, `KILTER_BENCH_PLACES` the places of `accept` (directory, servers,
//! outbox: servers with no engine). The client has a thread and speaks HTTP/2 by hand, so that it
//! takes little of the machine; every answer is decoded and checked, and the balances must add up
//! in the end. Closed loops are called so; open ones measure from when a request was due.
#![allow(clippy::float_arithmetic, reason = "rates and times; no money here")]
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may stop anywhere"
)]

mod accept;
mod bare;
#[path = "../servers/child.rs"]
#[allow(dead_code, reason = "shared with the bench of servers")]
mod child;
mod client;
#[path = "../servers/clients.rs"]
#[allow(dead_code, reason = "shared with the bench of servers")]
mod clients;
mod drive;
mod place;
mod read;
mod requests;
#[path = "../servers/servers.rs"]
#[allow(dead_code, reason = "shared with the bench of servers")]
mod servers;
mod wait;

use kilter_benches::{host, measure};
use servers::Servers;

fn main() {
    let servers = Servers::from_environment();
    if servers.is_none() {
        println!("no servers: MYSQL_HOST or KAFKA_BROKERS is not set (bin/stack env)");
    }
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    child::build();
    machine();
    if wanted("accept") {
        accept::run(servers.as_ref());
    }
    if wanted("read") {
        read::run();
    }
    if wanted("wait") {
        wait::run(servers.as_ref());
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
