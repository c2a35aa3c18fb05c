//! How much memory a node with many users takes.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use mysql::prelude::Queryable;

use crate::{
    child::Node,
    clients::Sender,
    commands, number,
    servers::{Database, Servers},
};

const CURRENCIES: [&str; 2] = ["USDT", "BTC"];
/// As `kilter init` makes them by default.
const PARTITIONS: u32 = 3;
const RATE: u64 = 20_000;

pub fn run(servers: &Servers) {
    let users = number("USERS", 1_000_000);
    let seconds = number("SECONDS", 12);
    let kafka = servers.topics_of(PARTITIONS, "memory", "memory-results");
    let database = servers.database();
    fill(&database, users);
    let begin = Instant::now();
    let mut node = Node::start(&database, &kafka, &[]);
    node.wait_ready();
    let started = begin.elapsed().as_secs_f64();
    let idle = [node.memory_mb("VmRSS"), node.memory_mb("VmHWM")];
    let mut sender = Sender::new(&kafka, &kafka.commands);
    let begin = Instant::now();
    let count = RATE * seconds;
    let mut seen = Vec::new();
    for sent in 0..count {
        // Each tenth of a second's commands at once: it is the memory that is looked at.
        if sent % (RATE / 10) == 0 {
            let due = Duration::from_millis(sent * 1000 / RATE);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
            if sent % RATE == 0 {
                seen.push(node.memory_mb("VmRSS"));
            }
        }
        let account = commands::account(sent, users);
        let currency = CURRENCIES[(sent % 2) as usize];
        let value = commands::json("m", sent, account, currency);
        sender.send(format!("u-{account}").as_bytes(), value.as_bytes());
        sender.poll();
    }
    sender.finish();
    let mut conn = database.conn();
    while committed(&mut conn) < count {
        node.check(begin);
        std::thread::sleep(Duration::from_millis(20));
    }
    seen.push(node.memory_mb("VmRSS"));
    let peak = node.memory_mb("VmHWM");
    let seen: Vec<String> = seen.iter().map(|mb| format!("{mb:.0}")).collect();
    println!(
        "memory: {users} users of 2 currencies, {PARTITIONS} partitions, {RATE} commands/s for {seconds} s:"
    );
    println!(
        "  ready after {started:.1} s with {:.0} MB, at most {:.0} MB until then",
        idle[0], idle[1]
    );
    println!("  resident MB, each second under load: {}", seen.join(" "));
    println!("  at most {peak:.0} MB (goal: below 700)");
    // The second figure is told once a second.
    std::thread::sleep(Duration::from_millis(1500));
    let accounts = node.figure("kilter_accounts");
    assert_eq!(accounts, users as f64);
    println!(
        "  windows {:.0} MB for {} ids, anonymous {:.0} MB, swapped {:.0} MB, threads' stacks and \
         heap {:.0} MB virtual",
        node.figure("kilter_window_bytes") / 1e6,
        node.figure("kilter_remembered_ids"),
        node.memory_mb("RssAnon"),
        node.memory_mb("VmSwap"),
        node.memory_mb("VmData"),
    );
    parts(node.id());
}

/// How many records are committed: the lowest offset of each partition, added up.
fn committed(conn: &mut mysql::Conn) -> u64 {
    let rows: Vec<u64> = conn
        .query("SELECT min(`offset`) FROM consumer_offsets GROUP BY `partition`")
        .unwrap();
    rows.into_iter().sum()
}

/// The largest mappings by what of them is resident.
fn parts(process: u32) {
    let maps = std::fs::read_to_string(format!("/proc/{process}/smaps")).unwrap_or_default();
    let mut parts: Vec<(u64, u64, String)> = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        let kib = |words: &mut std::str::SplitAsciiWhitespace<'_>| {
            words.next().and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        match (first, parts.last_mut()) {
            ("Size:", Some(part)) => part.1 = kib(&mut words),
            ("Rss:", Some(part)) => part.0 = kib(&mut words),
            _ if first.contains('-') => {
                let name = words.nth(4).unwrap_or("anonymous");
                let name = name.rsplit('/').next().unwrap_or(name);
                parts.push((0, 0, name.to_owned()));
            }
            _ => {}
        }
    }
    parts.sort();
    let count = parts.len();
    let told: Vec<String> = parts
        .iter()
        .rev()
        .take(12)
        .map(|(rss, size, name)| format!("{name} {:.1} of {:.1}", mb(*rss), mb(*size)))
        .collect();
    println!(
        "  largest of {count} mappings, resident MB: {}",
        told.join(", ")
    );
    let _ = std::io::stdout().flush();
}

fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// Accounts, and for each balance the entry it adds up from, of an earlier life of the log.
fn fill(database: &Database<'_>, users: u64) {
    database.open_accounts(users);
    database.load("account_balances", move |to| {
        for id in 1..=users {
            for currency in ["BTC", "USDT"] {
                writeln!(
                    to,
                    "{id}\t{currency}\t{}.5\t0\t1\t2020-01-01\t2020-01-01",
                    id % 1000 + 1
                )
                .unwrap();
            }
        }
    });
    database.load("balance_transactions", move |to| {
        for id in 1..=users {
            for (index, currency) in ["BTC", "USDT"].iter().enumerate() {
                let (offset, amount) = (2 * id + index as u64, id % 1000 + 1);
                writeln!(
                    to,
                    "0\t0\t{offset}\t0\t{id}\t{currency}\told-{offset}\tDEPOSIT\t{amount}.5\t0\t\
                     {amount}.5\t0\t0\tSUCCESS\t\\N\t2020-01-01\t1\t\\N"
                )
                .unwrap();
            }
        }
    });
}
