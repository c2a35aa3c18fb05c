//! The front door, the relay, the engine, Kafka and MySQL, each in a process of its own and each
//! killed at random moments while clients keep asking: what was accepted takes effect once, what was
//! refused never, and what was not answered at most once.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use mysql::prelude::Queryable;
use support::{
    DEADLINE,
    clients::{Asked, Clients, Known, Random},
    outage::Stack,
    process::Node,
    rest::{Rest, SECRET},
    servers::Servers,
    wait_for,
};

const ROUNDS: u32 = 30;
const CLIENTS: u64 = 8;
const USERS: u64 = 4;

struct Processes<'a> {
    servers: &'a Servers,
    clients: Clients,
    engine: Option<Node>,
    relay: Option<Node>,
    api: Option<Node>,
}

impl Processes<'_> {
    fn up(&mut self) {
        let common = [
            ("HMAC_SECRET", SECRET),
            ("LEADER_LOCK_TTL", "1000"),
            ("LEADER_RENEW_INTERVAL", "200"),
            ("KILTER_MYSQL_STATEMENT_TIMEOUT_MS", "5000"),
            ("KILTER_MYSQL_LOCK_TIMEOUT_MS", "2000"),
            ("KILTER_RELAY_DELAY_MS", "200"),
        ];
        let serve = |role: &str| {
            let mut env = common.to_vec();
            env.push(("KILTER_ROLE", role));
            self.servers.serve(&env)
        };
        for (role, node) in [("engine", &mut self.engine), ("relay", &mut self.relay)] {
            let has_ended = node.as_mut().is_none_or(|node| node.has_ended().is_some());
            if has_ended {
                *node = Some(serve(role));
            }
        }
        if self
            .api
            .as_mut()
            .is_none_or(|node| node.has_ended().is_some())
        {
            let node = serve("api");
            node.wait_for("its address", |node| node.rest().is_some());
            self.clients.go_to(&node.rest().unwrap());
            self.api = Some(node);
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
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = now.unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = Random(seed);
    let accounts = CLIENTS * USERS;
    let opens = (1..=accounts + 1).map(support::open);
    servers.produce(opens);
    let mut processes = Processes {
        servers: &servers,
        clients: Clients::new(CLIENTS, USERS, seed),
        engine: None,
        relay: None,
        api: None,
    };
    processes.up();
    servers.wait_committed(accounts + 1);

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
        // Every one of them is killed, whatever the seed.
        let whom = match round < 5 {
            true => u64::from(round),
            false => random.below(5),
        };
        let name = ["api", "relay", "engine", "kafka", "mysql"][whom as usize];
        *killed.entry(name).or_insert(0) += 1;
        match name {
            "api" => processes.api.take().unwrap().kill(),
            "relay" => processes.relay.take().unwrap().kill(),
            "engine" => processes.engine.take().unwrap().kill(),
            server => {
                stack.kill(server);
                stack.up();
            }
        }
    }
    println!("killed {killed:?}");
    processes.up();
    let book = processes.clients.stop();
    settle(&servers, &mut processes);
    check(&servers, &processes, &book, seed);
}

/// Waits until nothing is on its way any more.
fn settle(servers: &Servers, processes: &mut Processes<'_>) {
    let start = Instant::now();
    loop {
        processes.up();
        let unsent: Option<u64> = servers
            .conn()
            .query_first("SELECT count(*) FROM outbox_events WHERE status <> 'SENT'")
            .unwrap();
        if unsent == Some(0) {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{unsent:?} rows are not sent");
        std::thread::sleep(Duration::from_millis(100));
    }
    let end = servers.read("commands").len() as u64;
    let mut conn = servers.conn();
    wait_for("everything to be committed", || {
        processes.up();
        servers.committed(&mut conn) == end
    });
}

fn check(servers: &Servers, processes: &Processes<'_>, book: &BTreeMap<String, Asked>, seed: u64) {
    let mut effects: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (account, id, kind, status) in servers.ledger().into_values() {
        assert_eq!((kind.as_str(), status.as_str()), ("DEPOSIT", "SUCCESS"));
        let effect = effects.entry(id).or_insert((account, 0));
        assert_eq!(effect.0, account);
        effect.1 += 1;
    }
    let mut balances: BTreeMap<u64, u64> = BTreeMap::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, asked) in book {
        let times = effects.get(id).map_or(0, |(_, times)| *times);
        let name = match asked.known {
            Known::Accepted => {
                assert_eq!(times, 1, "seed {seed}: {id} was accepted: {asked:?}");
                "accepted"
            }
            Known::Refused => {
                assert_eq!(times, 0, "seed {seed}: {id} was refused: {asked:?}");
                "refused"
            }
            Known::Nothing => {
                assert!(times <= 1, "seed {seed}: {id} was not answered: {asked:?}");
                "unanswered"
            }
        };
        *counts.entry(name).or_default() += 1;
        *balances.entry(asked.account).or_default() += times * asked.amount;
    }
    println!("{counts:?}");
    assert!(effects.keys().all(|id| book.contains_key(id)));
    for (account, balance) in &balances {
        let found = servers.available(*account, "USDT");
        let found = found.map_or(0, |text| text.parse::<u64>().unwrap());
        assert_eq!(found, *balance, "seed {seed}: account {account}");
    }
    servers.check_consistent();
    // What was not answered can be asked for by its id.
    let mut rest = Rest::new(&processes.clients.address());
    let unanswered = book
        .iter()
        .filter(|(_, asked)| asked.known == Known::Nothing);
    for (id, asked) in unanswered {
        let path = format!("/api/v1/transactions/u-{}/{id}", asked.account);
        let answer = rest.get(&path).unwrap();
        let status = if effects.contains_key(id) { 200 } else { 404 };
        assert_eq!(
            answer.status,
            status,
            "seed {seed}: {path} {}",
            answer.text()
        );
    }
}
