//! Two front doors, the relay, the engine, Kafka and MySQL, each in a process of its own and each
//! killed at random moments while clients keep asking, now here, now there: what was accepted is
//! answered once, what was refused never, and what was not answered at most once.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use mysql::prelude::Queryable;
use support::{
    DEADLINE,
    clients::{Known, Random},
    mixed::{Asked, Book, Mixed},
    outage::Stack,
    process::Node,
    rest::{Rest, SECRET},
    servers::Servers,
    wait_for,
};

const ROUNDS: u64 = 32;
const CLIENTS: u64 = 8;
const USERS: u64 = 4;

/// Each once, then by lot; the servers, which take long to come back, more seldom.
const VICTIMS: [&str; 10] = [
    "api-0", "api-1", "relay", "engine", "kafka", "mysql", "api-0", "api-1", "relay", "engine",
];

struct Processes<'a> {
    servers: &'a Servers,
    clients: Mixed,
    nodes: BTreeMap<&'static str, Node>,
}

impl Processes<'_> {
    /// Starts what is not running.
    fn up(&mut self) {
        for (name, role) in [
            ("engine", "engine"),
            ("relay", "relay"),
            ("api-0", "api"),
            ("api-1", "api"),
        ] {
            let node = self.nodes.get_mut(name);
            if node.is_some_and(|node| node.has_ended().is_none()) {
                continue;
            }
            let node = self.servers.serve(&[
                ("KILTER_ROLE", role),
                ("HMAC_SECRET", SECRET),
                ("LEADER_LOCK_TTL", "1000"),
                ("LEADER_RENEW_INTERVAL", "200"),
                ("KILTER_MYSQL_STATEMENT_TIMEOUT_MS", "5000"),
                ("KILTER_MYSQL_LOCK_TIMEOUT_MS", "2000"),
                ("KILTER_RELAY_DELAY_MS", "200"),
            ]);
            if let Some(door) = name.strip_prefix("api-") {
                node.wait_for("its address", |node| node.rest().is_some());
                let address = node.rest().unwrap();
                self.clients.go_to(door.parse().unwrap(), &address);
            }
            self.nodes.insert(name, node);
        }
    }
}

#[test]
fn whatever_is_killed_each_request_counts_once() {
    let test = "whatever_is_killed_each_request_counts_once";
    let Some(stack) = Stack::alone(test) else {
        return;
    };
    let Some(servers) = Servers::new(test) else {
        return;
    };
    stack.up();
    servers.init();
    let seed = support::seed();
    let mut random = Random(seed);
    let accounts = CLIENTS * USERS;
    servers.produce((1..=accounts).map(support::open));
    let mut processes = Processes {
        servers: &servers,
        clients: Mixed::new(CLIENTS, USERS, seed),
        nodes: BTreeMap::new(),
    };
    processes.up();
    servers.wait_committed(accounts);

    let began = Instant::now();
    processes.clients.start();
    let mut killed = BTreeMap::new();
    for round in 0..ROUNDS {
        let before = processes.clients.answered();
        wait_for("answers between two kills", || {
            processes.up();
            processes.clients.answered() > before + 20
        });
        let until = Instant::now() + Duration::from_millis(random.below(300));
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let name = match round < 6 {
            true => VICTIMS[round as usize],
            false => VICTIMS[random.below(VICTIMS.len() as u64) as usize],
        };
        *killed.entry(name).or_insert(0) += 1;
        match processes.nodes.remove(name) {
            Some(node) => node.kill(),
            None => {
                stack.kill(name);
                stack.up();
            }
        }
    }
    println!("killed {killed:?} in {:?}", began.elapsed());
    processes.up();
    let book = processes.clients.stop();
    settle(&servers, &mut processes);
    check(&servers, &processes, &book, seed);
}

/// Waits until nothing is on its way any more.
fn settle(servers: &Servers, processes: &mut Processes<'_>) {
    let start = Instant::now();
    let mut conn = servers.conn();
    loop {
        processes.up();
        let end = servers.read("commands").len() as u64;
        let is_committed = servers.committed(&mut conn) == end;
        // Asked behind that: a leg enters with the epoch that commits its record.
        let unsent: Option<u64> = conn
            .query_first("SELECT count(*) FROM outbox_events WHERE status <> 'SENT'")
            .unwrap();
        if is_committed && unsent == Some(0) && end == servers.read("commands").len() as u64 {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{unsent:?} rows are not sent");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A ledger entry of a command.
#[derive(Debug)]
struct Entry {
    place: (u32, u64),
    account: u64,
    kind: String,
    status: String,
}

/// The ledger by transaction id: commands, and the legs of those that are transfers.
type Ledger = (BTreeMap<String, Vec<Entry>>, BTreeMap<String, Vec<Entry>>);

fn ledger(servers: &Servers) -> Ledger {
    let (mut commands, mut legs): Ledger = Default::default();
    for (place, (account, id, kind, status)) in servers.ledger() {
        let of = match kind.as_str() {
            "CREDIT" | "REFUND" => &mut legs,
            _ => &mut commands,
        };
        let entry = Entry {
            place,
            account,
            kind,
            status,
        };
        of.entry(id).or_default().push(entry);
    }
    (commands, legs)
}

fn check(servers: &Servers, processes: &Processes<'_>, book: &Book, seed: u64) {
    let (commands, legs) = ledger(servers);
    let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    let (mut paid_in, mut paid_out, mut waited) = (0, 0, 0);
    for asked in &book.asked {
        let entries = commands.get(&asked.id).map_or(&[][..], Vec::as_slice);
        let what = || format!("seed {seed}: {asked:?} {entries:?}");
        let name = match asked.known {
            Known::Accepted => {
                assert_eq!(entries.len(), 1, "{}", what());
                "accepted"
            }
            Known::Refused => {
                assert!(entries.is_empty(), "{}", what());
                "refused"
            }
            Known::Nothing => {
                assert!(entries.len() <= 1, "{}", what());
                "unanswered"
            }
        };
        let entry = entries.first();
        let status = entry.map_or("no entry", |entry| entry.status.as_str());
        *counts.entry((asked.kind, name, status)).or_default() += 1;
        let Some(entry) = entry else { continue };
        assert_eq!(
            (entry.account, entry.kind.as_str()),
            (asked.account, asked.kind)
        );
        if let Some(outcome) = &asked.outcome {
            assert_eq!(*outcome, status, "{}", what());
            waited += 1;
        }
        let credits = legs.get(&asked.id).map_or(&[][..], Vec::as_slice);
        match (asked.kind, status) {
            ("TRANSFER", "SUCCESS") => {
                assert_eq!(credits.len(), 1, "{} {credits:?}", what());
                assert_eq!(Some(credits[0].account), asked.to, "{} {credits:?}", what());
                assert_eq!(credits[0].status, "SUCCESS", "{}", what());
            }
            _ => assert!(credits.is_empty(), "{} {credits:?}", what()),
        }
        match (asked.kind, status) {
            ("DEPOSIT", "SUCCESS") => paid_in += asked.amount,
            ("WITHDRAW", "SUCCESS") => paid_out += asked.amount,
            _ => {}
        }
    }
    for ((kind, known, status), count) in &counts {
        println!("{kind} {known}, {status}: {count}");
    }
    println!("{waited} outcomes were waited for");
    assert!(waited > 0);
    let named: BTreeSet<&String> = book.asked.iter().map(|asked| &asked.id).collect();
    assert!(commands.keys().all(|id| named.contains(id)));
    let failed = counts
        .keys()
        .any(|(_, _, status)| status.starts_with("INSUFFICIENT"));
    assert!(failed, "nothing failed for want of funds");

    let mut conn = servers.conn();
    let money: Option<u64> = conn
        .query_first("SELECT CAST(sum(available + frozen) AS UNSIGNED) FROM account_balances")
        .unwrap();
    assert_eq!(money, Some(paid_in - paid_out), "seed {seed}");
    check_order(book, &commands, seed);
    check_accounts(servers, book);
    servers.check_consistent();
    let said = servers.audit();
    assert!(said.contains("legs in flight: 0\n"), "{said}");
    check_by_id(processes, book, &commands, seed);
}

/// What a client heard to be accepted before it asked for something else of the same user lies before
/// that, whichever front door took either.
fn check_order(book: &Book, commands: &BTreeMap<String, Vec<Entry>>, seed: u64) {
    let mut by_user: BTreeMap<&str, Vec<&Asked>> = BTreeMap::new();
    for asked in &book.asked {
        by_user.entry(&asked.user).or_default().push(asked);
    }
    let mut pairs = 0;
    for asked in by_user.into_values() {
        let mut last: Option<(&Asked, (u32, u64))> = None;
        for asked in asked {
            let Some(entry) = commands.get(&asked.id).and_then(|entries| entries.first()) else {
                continue;
            };
            if let Some((before, place)) = last {
                assert!(before.heard.unwrap() < asked.sent);
                assert!(
                    place < entry.place,
                    "seed {seed}: {before:?} at {place:?} was accepted before {asked:?} at {:?}",
                    entry.place
                );
                pairs += 1;
            }
            if asked.heard.is_some() {
                last = Some((asked, entry.place));
            }
        }
    }
    println!("{pairs} pairs in order");
}

/// Who was told of an account has it, and nobody has two.
fn check_accounts(servers: &Servers, book: &Book) {
    let rows: Vec<(u64, String, String)> = servers
        .conn()
        .query("SELECT id, CAST(user_id AS CHAR), CAST(state AS CHAR) FROM accounts")
        .unwrap();
    let mut accounts: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for (id, user, state) in &rows {
        assert_eq!(accounts.insert(user, (*id, state)), None, "{user} has two");
    }
    let mut known = 0;
    for (user, told) in &book.opened {
        let found = accounts.get(user.as_str());
        if let Some(account) = told {
            assert_eq!(found, Some(&(*account, "ACTIVE")), "{user}");
            known += 1;
        }
    }
    println!("{known} of {} accounts opened meanwhile", book.opened.len());
    assert!(known > 0);
}

/// Whatever was asked can be asked for by its id, at either front door.
fn check_by_id(
    processes: &Processes<'_>,
    book: &Book,
    commands: &BTreeMap<String, Vec<Entry>>,
    seed: u64,
) {
    let mut doors = [0, 1].map(|door| Rest::new(&processes.clients.address(door)));
    let open = book.asked.iter().filter(|it| it.known == Known::Nothing);
    let others = book.asked.iter().filter(|it| it.known != Known::Nothing);
    for (number, asked) in open.chain(others.take(200)).enumerate() {
        let path = format!("/api/v1/transactions/{}/{}", asked.user, asked.id);
        let answer = doors[number % 2].get(&path).unwrap();
        let body = answer.json();
        match commands.get(&asked.id) {
            Some(entries) => {
                assert_eq!(answer.status, 200, "seed {seed}: {path} {body}");
                let code = match body["outcome"].as_str() {
                    Some("SUCCESS") => body["outcome"].as_str(),
                    _ => body["error_code"].as_str(),
                };
                assert_eq!(code, Some(entries[0].status.as_str()), "{path} {body}");
            }
            None => assert_eq!(answer.status, 404, "seed {seed}: {path} {body}"),
        }
    }
}
