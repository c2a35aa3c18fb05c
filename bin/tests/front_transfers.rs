//! Ten thousand transfers among a hundred users in a ring, over three partitions and two nodes that
//! are killed meanwhile: no money comes or goes, and nothing stays on its way. Some go to accounts
//! that nobody has, and come back.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql::prelude::Queryable;
use serde_json::json;
use support::{
    DEADLINE, command, open,
    process::Node,
    rest::{Rest, SECRET},
    servers::Servers,
    wait_for,
};

const USERS: u64 = 100;
const TRANSFERS: u64 = 10_000;
const CLIENTS: u64 = 8;
const KILLS: u64 = 6;
/// Transfers to accounts that nobody has, between two kills.
const LOST: u64 = 50;
/// What each user has at first, in hundredths: enough for more than half of his transfers, should no
/// credit come in time for them.
const FIRST: u64 = 600_000;
/// Every so many transfers, one asks for more than there is.
const TOO_MUCH_EVERY: u64 = 50;

fn serve(servers: &Servers) -> Node {
    let node = servers.serve(&[
        ("HMAC_SECRET", SECRET),
        ("LEADER_LOCK_TTL", "1000"),
        ("LEADER_RENEW_INTERVAL", "200"),
        ("KILTER_LEASE_PARTITIONS_MAX", "2"),
        ("KILTER_RELAY_DELAY_MS", "100"),
    ]);
    node.wait_for("its address", |node| node.rest().is_some());
    node
}

/// What is on accounts and on its way between them, in hundredths, at one moment.
fn total(servers: &Servers) -> (u64, u64) {
    let mut conn = servers.conn();
    conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        .unwrap();
    conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        .unwrap();
    let on_accounts: Option<u64> = conn
        .query_first("SELECT CAST(sum(available + frozen) * 100 AS UNSIGNED) FROM account_balances")
        .unwrap();
    let on_the_way: Option<Option<u64>> = conn
        .query_first(
            "SELECT CAST(sum(JSON_VALUE(e.payload, '$.amount')) * 100 AS UNSIGNED) \
             FROM outbox_events AS e WHERE e.leg LIKE '%/%' AND NOT EXISTS \
             (SELECT 1 FROM balance_transactions AS t WHERE t.leg = e.leg)",
        )
        .unwrap();
    (on_accounts.unwrap(), on_the_way.flatten().unwrap_or(0))
}

/// A transfer to an account that nobody has.
fn lost(number: u64) -> String {
    let from = number % USERS + 1;
    json!({
        "transactionId": format!("lost-{number}"), "userId": format!("u-{from}"),
        "accountId": from, "currencyCode": "USDT", "type": "TRANSFER", "amount": "0.01",
        "toUserId": "nobody", "toAccountId": 999_999,
    })
    .to_string()
}

#[test]
fn a_ring_of_transfers_keeps_every_cent() {
    let Some(servers) = Servers::new("a_ring_of_transfers_keeps_every_cent") else {
        return;
    };
    servers.init();
    let opens = (1..=USERS).map(open);
    let first = format!("{}.{:02}", FIRST / 100, FIRST % 100);
    let gifts = (1..=USERS).map(|n| command(&format!("gift-{n}"), n, "DEPOSIT", &first));
    let setup = servers.produce(opens.chain(gifts));
    let nodes = [serve(&servers), serve(&servers)];
    servers.wait_committed(setup);
    assert_eq!(total(&servers), (USERS * FIRST, 0));

    let places = Arc::new(Mutex::new(
        nodes.each_ref().map(|node| node.rest().unwrap()),
    ));
    let next = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (places, next) = (Arc::clone(&places), Arc::clone(&next));
            std::thread::spawn(move || transfer(number, &places, &next))
        })
        .collect();
    let mut nodes = nodes.map(Some);
    for kill in 0..KILLS {
        let mark = (kill + 1) * TRANSFERS / (KILLS + 2);
        wait_for("transfers between two kills", || {
            next.load(Ordering::Relaxed) >= mark
        });
        let index = (kill % 2) as usize;
        // What no front door takes comes from elsewhere.
        servers.produce((0..LOST).map(|n| lost(kill * LOST + n)));
        nodes[index].take().unwrap().kill();
        let (balances, legs) = total(&servers);
        assert_eq!(balances + legs, USERS * FIRST, "after kill {kill}");
        let said = servers.audit();
        let lines = said
            .lines()
            .filter(|line| line.starts_with("audited") || line.starts_with("legs in flight"));
        println!("{}", lines.collect::<Vec<_>>().join(", "));
        let node = serve(&servers);
        places.lock().unwrap()[index] = node.rest().unwrap();
        nodes[index] = Some(node);
    }
    for client in clients {
        client.join().unwrap();
    }
    let start = Instant::now();
    while total(&servers) != (USERS * FIRST, 0) || !is_quiet(&servers) {
        let (balances, legs) = total(&servers);
        assert_eq!(balances + legs, USERS * FIRST);
        assert!(start.elapsed() < DEADLINE, "legs stay on their way");
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = servers.ok(&["audit"]);
    assert!(said.contains("legs in flight: 0\n"), "{said}");
    servers.check_consistent();
    let mut conn = servers.conn();
    let counts: Vec<(String, String, u64)> = conn
        .query(
            "SELECT type, CAST(status AS CHAR), count(*) FROM balance_transactions \
             GROUP BY type, status ORDER BY type, status",
        )
        .unwrap();
    println!("{counts:?}");
    let of = |kind: &str, status: &str| {
        let mut counts = counts.iter();
        let found = counts.find(|(k, s, _)| (k.as_str(), s.as_str()) == (kind, status));
        found.map_or(0, |(.., count)| *count)
    };
    let debits = of("TRANSFER", "SUCCESS");
    let failed = of("TRANSFER", "FAILED");
    assert_eq!(debits + failed, TRANSFERS + KILLS * LOST);
    assert!(failed >= TRANSFERS / TOO_MUCH_EVERY, "{failed} failed");
    let back = of("CREDIT", "FAILED");
    assert_eq!(of("CREDIT", "SUCCESS") + back, debits);
    assert_eq!((of("REFUND", "SUCCESS"), of("REFUND", "FAILED")), (back, 0));
    assert!(back > 0 && back <= KILLS * LOST, "{back} came back");
    assert!(debits > TRANSFERS / 2, "hardly anything was moved");
    for node in nodes.into_iter().flatten() {
        node.stop();
    }
}

/// Whether everything that was accepted is sent and applied.
fn is_quiet(servers: &Servers) -> bool {
    let mut conn = servers.conn();
    let unsent: Option<u64> = conn
        .query_first("SELECT count(*) FROM outbox_events WHERE status <> 'SENT'")
        .unwrap();
    let entries: Option<u64> = conn
        .query_first("SELECT count(*) FROM balance_transactions WHERE type = 'TRANSFER'")
        .unwrap();
    unsent == Some(0) && entries == Some(TRANSFERS + KILLS * LOST)
}

/// Asks for transfers until there are none left, each again and again until it is accepted.
fn transfer(client: u64, places: &Mutex<[String; 2]>, next: &AtomicU64) {
    let mut rest = Rest::new("");
    let mut place = String::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= TRANSFERS {
            return;
        }
        let from = number % USERS + 1;
        let to = from % USERS + 1;
        let amount = match number % TOO_MUCH_EVERY {
            0 => USERS * FIRST + 1,
            _ => number * 7919 % 20_000 + 1,
        };
        let request = json!({
            "transaction_id": format!("t-{number}"), "account_id": from,
            "user_id": format!("u-{from}"), "currency_code": "USDT", "type": 4,
            "amount": format!("{}.{:02}", amount / 100, amount % 100),
            "to_user_id": format!("u-{to}"), "to_account_id": to,
        });
        let start = Instant::now();
        let mut tries = client;
        loop {
            let now = places.lock().unwrap()[(tries % 2) as usize].clone();
            if now != place {
                place = now;
                rest = Rest::new(&place);
            }
            match rest.post("/api/v1/balance/change", &request) {
                Ok(answer) if answer.status == 200 || answer.status == 409 => break,
                Ok(answer) => assert!(
                    answer.status == 429 || answer.status >= 500,
                    "{} {}",
                    answer.status,
                    answer.text()
                ),
                Err(_) => {}
            }
            assert!(start.elapsed() < DEADLINE, "transfer {number} is not taken");
            tries += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
