//! A database of the system before is taken over in place, whole or not at all.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use mysql::{Conn, prelude::Queryable};
use support::{command, servers::Servers};

/// The older system's tables, with a few rows.
const OLD: &[&str] = &[
    "CREATE TABLE accounts (id BIGINT AUTO_INCREMENT PRIMARY KEY, user_id VARCHAR(64) NOT NULL, \
     shard_id INT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, \
     updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE account_balances (id BIGINT AUTO_INCREMENT PRIMARY KEY, account_id BIGINT, \
     currency_code VARCHAR(10), available DECIMAL(36,18), frozen DECIMAL(36,18), version INT, \
     created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE balance_transactions (id BIGINT AUTO_INCREMENT PRIMARY KEY, account_id BIGINT, \
     currency_code VARCHAR(10), transaction_id VARCHAR(64), type VARCHAR(16), \
     amount DECIMAL(36,18), available_before DECIMAL(36,18), available_after DECIMAL(36,18), \
     frozen_before DECIMAL(36,18), frozen_after DECIMAL(36,18), status VARCHAR(16), \
     error_message TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE outbox_events (id BIGINT AUTO_INCREMENT PRIMARY KEY, event_id VARCHAR(64), \
     status ENUM('PENDING', 'SENT', 'FAILED') DEFAULT 'PENDING')",
    "CREATE TABLE leader_locks (id INT PRIMARY KEY, consumer_id VARCHAR(64), \
     acquired_at TIMESTAMP NULL, expires_at TIMESTAMP NULL)",
    "CREATE TABLE consumer_offsets (consumer_group VARCHAR(64), topic VARCHAR(64), \
     `partition` INT, `offset` BIGINT, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
    "INSERT INTO accounts (id, user_id, shard_id) VALUES (1, 'u-1', 7), (2, 'u-2', 7), (42, 'ünï', 7)",
    "INSERT INTO account_balances (account_id, currency_code, available, frozen, version) VALUES \
     (1, 'USDT', 10.5, 2.25, 9), (1, 'BTC', 0.000000000000000001, 0, 0), (42, 'USDT', 3, 0, 1)",
    "INSERT INTO balance_transactions (account_id, currency_code, transaction_id, type, status) \
     VALUES (1, 'USDT', 'old-1', 'DEPOSIT', 'SUCCESS'), (1, 'USDT', 'old-2', 'DEPOSIT', 'PROCESSING')",
];

fn old(servers: &Servers) -> Conn {
    let mut conn = servers.connect(None).unwrap();
    conn.query_drop(format!("CREATE DATABASE {0}", servers.name))
        .unwrap();
    conn.query_drop(format!("USE {}", servers.name)).unwrap();
    for sql in OLD {
        conn.query_drop(sql).unwrap();
    }
    conn
}

/// Everything in the database, as text.
fn dump(servers: &Servers) -> String {
    let mut conn = servers.conn();
    let tables: Vec<String> = conn.query("SHOW TABLES").unwrap();
    let mut text = String::new();
    for table in tables {
        let rows: Vec<mysql::Row> = conn.query(format!("SELECT * FROM {table}")).unwrap();
        for row in rows {
            text.push_str(&format!("{table} {:?}\n", row.unwrap()));
        }
    }
    text
}

/// What must hold when it was taken over, and that a node goes on from there.
fn check(servers: &Servers) {
    let balances = servers.balances();
    assert_eq!(balances.len(), 3);
    assert_eq!(
        balances[&(1, "USDT".into())],
        ("10.5".into(), "2.25".into(), 9)
    );
    assert_eq!(balances[&(1, "BTC".into())].2, 1, "a version begins at 1");
    if servers.redis.is_some() {
        // Nobody has led yet, so nobody has filled it.
        let output = servers.kilter(&["audit"]).output().unwrap();
        assert!(support::text(&output).contains("3 missing"));
        servers.ok(&["redis", "rebuild"]);
    }
    servers.ok(&["audit"]);
    let node = servers.serve_ready(&[]);
    let count = servers.produce([
        command("old-1", 1, "DEPOSIT", "1"),
        command("old-2", 1, "DEPOSIT", "2"),
        command("t-1", 42, "DEPOSIT", "4").replace("u-42", "ünï"),
        command("t-2", 1, "SETTLE", "2.25"),
    ]);
    servers.wait_committed(count);
    // What it answered is known, what it left undone is not.
    assert_eq!(servers.available(1, "USDT").as_deref(), Some("12.5"));
    assert_eq!(servers.available(42, "USDT").as_deref(), Some("7"));
    node.stop();
    servers.ok(&["audit"]);
}

#[test]
fn rows_are_kept_and_a_node_goes_on() {
    let Some(servers) = Servers::new("rows_are_kept_and_a_node_goes_on") else {
        return;
    };
    let mut conn = old(&servers);
    let said = servers.ok(&["init"]);
    assert!(
        said.contains("took over 3 accounts and 3 balances"),
        "{said}"
    );
    let kept: Option<u64> = conn
        .query_first("SELECT count(*) FROM prototype_accounts")
        .unwrap();
    assert_eq!(kept, Some(3));
    check(&servers);
    // Again changes nothing.
    let before = dump(&servers);
    servers.ok(&["init"]);
    assert_eq!(dump(&servers), before);
}

#[test]
fn a_take_over_that_was_cut_short_is_finished() {
    for step in 1..=2 {
        let Some(servers) = Servers::new("a_take_over_that_was_cut_short_is_finished") else {
            return;
        };
        let mut conn = old(&servers);
        conn.query_drop(
            "RENAME TABLE accounts TO prototype_accounts, \
             account_balances TO prototype_account_balances, \
             balance_transactions TO prototype_balance_transactions, \
             consumer_offsets TO prototype_consumer_offsets, \
             leader_locks TO prototype_leader_locks, outbox_events TO prototype_outbox_events",
        )
        .unwrap();
        if step == 2 {
            // Some of the new tables are there, and nothing is written down.
            for sql in servers.ok(&["init", "--print"]).split(";\n").take(5) {
                conn.query_drop(sql).unwrap();
            }
        }
        let said = servers.ok(&["init"]);
        assert!(said.contains("took over 3 accounts"), "{said}");
        check(&servers);
    }
}

#[test]
fn rows_that_cannot_be_are_listed_and_nothing_changes() {
    let bad = [
        (
            "UPDATE account_balances SET available = -1 WHERE account_id = 42",
            "negative amounts: 1",
        ),
        (
            "INSERT INTO account_balances (account_id, currency_code, available, frozen, version) \
             VALUES (1, 'USDT', 1, 0, 1)",
            "two rows for one balance: 1",
        ),
        (
            "INSERT INTO accounts (id, user_id, shard_id) VALUES (50, 'u-1', 0)",
            "several accounts: 1",
        ),
        (
            "UPDATE account_balances SET account_id = 77 WHERE account_id = 42",
            "without an account: 1",
        ),
        (
            "UPDATE account_balances SET currency_code = 'U D' WHERE account_id = 42",
            "no code: 1",
        ),
        (
            "UPDATE accounts SET user_id = '' WHERE id = 2",
            "empty or longer",
        ),
    ];
    for (sql, said) in bad {
        let Some(servers) = Servers::new("rows_that_cannot_be_are_listed_and_nothing_changes")
        else {
            return;
        };
        old(&servers).query_drop(sql).unwrap();
        let before = dump(&servers);
        let output = servers.kilter(&["init"]).output().unwrap();
        let text = support::text(&output);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains(said), "{text}");
        // Only who holds the migrations' history may have been made.
        let after: Vec<String> = dump(&servers).lines().map(str::to_owned).collect();
        assert_eq!(after, before.lines().collect::<Vec<_>>());
    }
}
