//! More is asked of the front door than it can take, for a minute: what it accepts it keeps, the rest
//! it refuses at once, its memory has a bound, and afterwards all is as before.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql::prelude::Queryable;
use serde_json::json;
use support::{process::Node, rest::Rest, servers::Servers};

const CLIENTS: u64 = 192;
const LENGTH: Duration = Duration::from_secs(60);
/// What waits at the door, which is far less than clients there are.
const QUEUE: &str = "16";
/// How many requests are refused for one that is accepted, at least: five are asked of it where it
/// can take one.
const REFUSED_PER_ACCEPTED: u64 = 4;
/// And at most: more would measure who gets the machine, the clients or the node.
const REFUSED_MAX: u64 = 6;
/// How long the store may take to say that it has a request (`answer_limit`); then the answer is that
/// nobody knows. What lies beyond is a connection and a statement that began just before, which have as
/// long each.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_secs(10);
/// Memory beyond what the node has when the load begins, in KiB.
const GROWTH_MAX_KIB: u64 = 256 << 10;

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    /// Answered that nobody knows.
    open: AtomicU64,
    without_hint: AtomicU64,
}

/// Memory of a process in RAM, in KiB: now, and the most so far.
fn memory(node: &Node) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

#[test]
fn five_times_as_much_as_it_can_take() {
    let Some(servers) = Servers::new("five_times_as_much_as_it_can_take") else {
        return;
    };
    servers.init();
    let opens = (1..=CLIENTS).map(support::open);
    let opens = servers.produce(opens);
    // Small buffers and windows, so that memory shows what clients take of it.
    let node = servers.serve_ready(&[
        ("KILTER_API_QUEUE_MAX", QUEUE),
        ("KILTER_ENGINE_WINDOW_MEMORY", "64MiB"),
        ("KILTER_ENGINE_RING_SLOTS", "1024"),
        ("KILTER_ENGINE_FLUSH_MAX_COMMANDS", "1024"),
    ]);
    servers.wait_committed(opens);
    let place = node.rest().unwrap();
    let (before, _) = memory(&node);
    let counts = Arc::<Counts>::default();
    let stop = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|account| {
            let (counts, stop, place) = (Arc::clone(&counts), Arc::clone(&stop), place.clone());
            std::thread::spawn(move || ask(account, &place, &counts, &stop))
        })
        .collect();
    let start = Instant::now();
    wait_for_long("a minute of overload", || {
        let accepted = counts.accepted.load(Ordering::Relaxed);
        let refused = counts.refused.load(Ordering::Relaxed);
        start.elapsed() >= LENGTH && accepted > 0 && refused >= accepted * REFUSED_PER_ACCEPTED
    });
    stop.store(true, Ordering::Release);
    let mut book: HashMap<String, (bool, Duration)> = HashMap::new();
    for client in clients {
        book.extend(client.join().unwrap());
    }
    let (_, most) = memory(&node);
    let accepted: Vec<&String> = book
        .iter()
        .filter(|(_, (accepted, _))| *accepted)
        .map(|(id, _)| id)
        .collect();
    let mut took: Vec<Duration> = book
        .values()
        .filter(|(accepted, _)| *accepted)
        .map(|(_, took)| *took)
        .collect();
    took.sort_unstable();
    println!(
        "accepted {}, refused {}, not known {}, memory {} KiB and then {} KiB at most, answers p50 {:?} p99 {:?} max {:?}",
        accepted.len(),
        counts.refused.load(Ordering::Relaxed),
        counts.open.load(Ordering::Relaxed),
        before,
        most,
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1]
    );
    // Nobody who is served waits longer than was promised, however many are not.
    assert!(
        *took.last().unwrap() < ANSWER_LIMIT + MARGIN,
        "an answer took {:?}",
        took.last()
    );
    // Rather is a request turned away at once than left open.
    let open = counts.open.load(Ordering::Relaxed);
    assert!(
        open <= accepted.len() as u64,
        "{open} requests were left open"
    );
    assert_eq!(
        counts.without_hint.load(Ordering::Relaxed),
        0,
        "Retry-After is missing"
    );
    assert!(
        most < before + GROWTH_MAX_KIB,
        "{before} KiB became {most} KiB"
    );
    // By itself: nothing is asked of it any more, and one that asks is served.
    let mut rest = Rest::new(&place);
    let answer = rest
        .post("/api/v1/balance/change", &deposit("after", 1))
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let after = "after".to_owned();
    let mut looks = 0;
    node.wait_for("everything that was accepted to be applied", |node| {
        let ledger = servers.ledger();
        let applied: HashSet<&String> = ledger.values().map(|(_, id, ..)| id).collect();
        let all = accepted.iter().copied().chain([&after]);
        let missing: Vec<&String> = all.filter(|id| !applied.contains(id)).collect();
        looks += 1;
        // Now and then, for whoever reads why it failed.
        if looks % 1500 == 0 {
            tell(&servers, node, &missing);
        }
        missing.is_empty()
    });
    let mut effects: HashMap<String, u64> = HashMap::new();
    for (_, id, _, status) in servers.ledger().into_values() {
        assert_eq!(status, "SUCCESS");
        *effects.entry(id).or_default() += 1;
    }
    assert_eq!(effects.remove("after"), Some(1));
    for (id, (accepted, _)) in &book {
        match effects.remove(id) {
            Some(times) => assert_eq!(times, 1, "{id}"),
            None => assert!(!accepted, "{id} was accepted"),
        }
    }
    assert!(
        effects.is_empty(),
        "what was refused took effect: {effects:?}"
    );
    node.stop();
    servers.check_consistent();
}

fn deposit(id: &str, account: u64) -> serde_json::Value {
    json!({
        "transaction_id": id, "account_id": account, "user_id": format!("u-{account}"),
        "currency_code": "USDT", "type": "DEPOSIT", "amount": "1",
    })
}

/// Asks again and again, every time for something else; all of them together about five times as
/// much as is taken.
fn ask(
    account: u64,
    place: &str,
    counts: &Counts,
    stop: &AtomicBool,
) -> Vec<(String, (bool, Duration))> {
    let mut rest = Rest::new(place);
    let mut book = Vec::new();
    for number in 0_u64.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let id = format!("o-{account}-{number}");
        let start = Instant::now();
        let answer = rest
            .post("/api/v1/balance/change", &deposit(&id, account))
            .unwrap();
        let took = start.elapsed();
        match answer.status {
            200 => {
                counts.accepted.fetch_add(1, Ordering::Relaxed);
                book.push((id, (true, took)));
            }
            // The store was too slow to say: at most once, and to be asked for by its id.
            503 => {
                // Which says so, and what to do.
                let text = answer.text();
                assert!(
                    text.contains("the store is unavailable: ")
                        && text.contains("ask again with the same transaction id"),
                    "{text}"
                );
                counts.open.fetch_add(1, Ordering::Relaxed);
                book.push((id, (false, took)));
            }
            429 => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                if answer.header("retry-after").is_none() {
                    counts.without_hint.fetch_add(1, Ordering::Relaxed);
                }
                let is_enough = || {
                    let accepted = counts.accepted.load(Ordering::Relaxed);
                    counts.refused.load(Ordering::Relaxed) > REFUSED_MAX * (accepted + 10)
                };
                while is_enough() && !stop.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            _ => panic!("{} {}", answer.status, answer.text()),
        }
    }
    book
}

fn wait_for_long(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < 3 * LENGTH, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What is known of commands that were not applied yet, for whoever reads why the test failed.
fn tell(servers: &Servers, node: &Node, missing: &[&String]) {
    println!("{} are not applied, {}", missing.len(), node.state());
    let mut conn = servers.conn();
    for id in missing.iter().take(5) {
        let row: Option<mysql::Row> = conn
            .exec_first(
                "SELECT * FROM outbox_events WHERE transaction_id = ?",
                (id.as_bytes(),),
            )
            .unwrap();
        println!("{id}: {row:?}");
    }
    let offsets: Vec<(u32, u64)> = conn
        .query("SELECT `partition`, MIN(`offset`) FROM consumer_offsets GROUP BY `partition`")
        .unwrap();
    println!("committed {offsets:?}");
}
