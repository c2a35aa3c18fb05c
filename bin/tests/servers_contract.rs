//! What the prototype did wrong, each as a test on the real servers.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::time::Duration;

use support::{
    command, open,
    servers::{Servers, mixture},
    twin::Twin,
};

/// Servers with tables and topics, or a return.
macro_rules! servers {
    ($name:literal) => {
        match Servers::new($name) {
            Some(servers) => {
                servers.init();
                servers
            }
            None => return,
        }
    };
}

#[test]
fn thirty_thousand_deposits_over_a_thousand_accounts() {
    let servers = servers!("thirty_thousand_deposits_over_a_thousand_accounts");
    let node = servers.serve_ready(&[]);
    let opens = (1..=1000).map(open);
    let deposits = (0..30_000).map(|n| command(&format!("t-{n}"), n % 1000 + 1, "DEPOSIT", "1"));
    let count = servers.produce(opens.chain(deposits));
    servers.wait_committed(count);
    let balances = servers.balances();
    assert_eq!(balances.len(), 1000);
    assert!(
        balances
            .values()
            .all(|row| *row == ("30".into(), "0".into(), 30))
    );
    servers.check_consistent();
    node.stop();
}

#[test]
fn killed_in_the_middle_of_a_batch_nothing_is_lost() {
    let servers = servers!("killed_in_the_middle_of_a_batch_nothing_is_lost");
    let count = servers.produce(mixture(100, 10_000));
    let node = servers.serve_ready(&[("KILTER_ENGINE_FLUSH_MAX_COMMANDS", "500")]);
    let mut conn = servers.conn();
    node.wait_for("a first commit", |_| servers.committed(&mut conn) > 0);
    node.kill();
    let node = servers.serve_ready(&[]);
    servers.wait_committed(count);
    let mut twin = Twin::default();
    mixture(100, 10_000).for_each(|line| {
        twin.apply(&line);
    });
    assert_eq!(servers.balances(), twin.text());
    servers.check_consistent();
    node.stop();
}

#[test]
fn small_commands_in_one_batch() {
    let servers = servers!("small_commands_in_one_batch");
    let node = servers.serve_ready(&[]);
    let long_id = "x".repeat(70);
    let count = servers.produce([
        // Two withdrawals of 8 from 10.
        open(1),
        command("t-1", 1, "DEPOSIT", "10"),
        command("t-2", 1, "WITHDRAW", "8"),
        command("t-3", 1, "WITHDRAW", "8"),
        // A deposit and a withdrawal on a new account.
        open(2),
        command("t-1", 2, "DEPOSIT", "10"),
        command("t-2", 2, "WITHDRAW", "4"),
        // A negative withdrawal.
        open(3),
        command("t-1", 3, "DEPOSIT", "1"),
        command("t-2", 3, "WITHDRAW", "-100"),
        // Ids that differ only in case.
        open(4),
        command("abc", 4, "DEPOSIT", "1"),
        command("ABC", 4, "DEPOSIT", "1"),
        command("abc", 4, "DEPOSIT", "1"),
        // Amounts past twenty digits.
        open(5),
        command("t-1", 5, "DEPOSIT", "999999999999999999.999999999999999998"),
        command("t-2", 5, "DEPOSIT", "0.000000000000000001"),
        command("t-3", 5, "DEPOSIT", "0.000000000000000001"),
        command(
            "t-4",
            5,
            "WITHDRAW",
            "123456789012345678.123456789012345678",
        ),
        // Bad records between good ones.
        open(6),
        command("t-1", 6, "DEPOSIT", "10"),
        command("t-2", 99, "DEPOSIT", "1"),
        command(&long_id, 6, "DEPOSIT", "1"),
        command("t-2", 6, "DEPOSIT", "1000000000000000000"),
        command("t-3", 6, "DEPOSIT", "20"),
        // The same failing id, four times.
        open(7),
        command("t-1", 7, "WITHDRAW", "5"),
        command("t-1", 7, "WITHDRAW", "5"),
        command("t-1", 7, "WITHDRAW", "5"),
        command("t-1", 7, "WITHDRAW", "5"),
        command("t-2", 7, "DEPOSIT", "7"),
    ]);
    servers.wait_committed(count);
    let available = |account| servers.available(account, "USDT").unwrap();
    assert_eq!(available(1), "2");
    assert_eq!(available(2), "6");
    assert_eq!(available(3), "1");
    assert_eq!(available(4), "2");
    assert_eq!(available(5), "876543210987654321.876543210987654321");
    assert_eq!(available(6), "30");
    assert_eq!(available(7), "7");
    let codes = servers.dead_codes();
    assert_eq!(
        codes,
        [
            "ACCOUNT_NOT_FOUND",
            "INVALID_AMOUNT",
            "INVALID_AMOUNT",
            "INVALID_TRANSACTION_ID"
        ]
    );
    let of = |user: &str| -> Vec<String> {
        let results = servers.results();
        let own = results.values().filter(|result| result["userId"] == user);
        own.map(|result| result["errorCode"].as_str().unwrap_or("SUCCESS").to_owned())
            .collect()
    };
    assert_eq!(
        of("u-1"),
        ["SUCCESS", "SUCCESS", "SUCCESS", "INSUFFICIENT_AVAILABLE"]
    );
    assert_eq!(of("u-5")[3], "BALANCE_OVERFLOW");
    assert_eq!(
        of("u-7"),
        [
            "SUCCESS",
            "INSUFFICIENT_AVAILABLE",
            "DUPLICATE",
            "DUPLICATE",
            "DUPLICATE",
            "SUCCESS"
        ]
    );
    servers.check_consistent();
    node.stop();
}

#[test]
fn a_leader_that_slept_commits_nothing_beside_the_new_one() {
    let servers = servers!("a_leader_that_slept_commits_nothing_beside_the_new_one");
    let mut conn = servers.conn();
    // Whoever writes an offset row is written down with its term.
    mysql::prelude::Queryable::query_drop(
        &mut conn,
        "CREATE TABLE seen (n BIGINT AUTO_INCREMENT PRIMARY KEY, p INT, term BIGINT UNSIGNED, \
         epoch BIGINT UNSIGNED)",
    )
    .unwrap();
    for event in ["INSERT", "UPDATE"] {
        let sql = format!(
            "CREATE TRIGGER seen_{event} AFTER {event} ON consumer_offsets FOR EACH ROW \
             INSERT INTO seen (p, term, epoch) VALUES (NEW.`partition`, NEW.term, NEW.epoch)"
        );
        mysql::prelude::Queryable::query_drop(&mut conn, sql).unwrap();
    }
    let lines = mixture(50, 6000);
    let mut old = servers.serve_ready(&[]);
    let first = servers.produce(lines.clone().take(2000));
    servers.wait_committed(first);
    let standby = servers.serve(&[]);
    standby.wait_for("standing by", |node| node.state().contains("standby"));
    // In the middle of work.
    let second = servers.produce(lines.clone().skip(2000).take(2000));
    old.freeze();
    // Three times the lease's length, and its loading.
    standby.wait_ready();
    std::thread::sleep(Duration::from_secs(6));
    let third = servers.produce(lines.clone().skip(4000));
    old.thaw();
    servers.wait_committed(first + second + third);
    let status = old.wait();
    assert_eq!(status.code(), Some(3), "{}", old.log());
    let rows: Vec<(u32, u64)> =
        mysql::prelude::Queryable::query(&mut conn, "SELECT p, term FROM seen ORDER BY n").unwrap();
    for partition in 0..3 {
        let terms: Vec<u64> = rows
            .iter()
            .filter(|row| row.0 == partition)
            .map(|row| row.1)
            .collect();
        assert!(terms.is_sorted(), "partition {partition}: {terms:?}");
        assert_eq!(terms.last(), Some(&2));
    }
    let mut twin = Twin::default();
    lines.for_each(|line| {
        twin.apply(&line);
    });
    assert_eq!(servers.balances(), twin.text());
    servers.check_consistent();
    standby.stop();
}

#[test]
fn metrics_can_be_parsed_and_tell_what_happened() {
    let servers = servers!("metrics_can_be_parsed_and_tell_what_happened");
    let node = servers.serve_ready(&[]);
    let count = servers.produce(mixture(20, 2000));
    servers.wait_committed(count);
    std::thread::sleep(Duration::from_millis(1200));
    let (status, text) = node.get("/metrics").unwrap();
    assert!(status.contains(" 200 "), "{status}");
    let total = |name: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    assert_eq!(total("balance_consumer_messages_total{"), count as f64);
    assert_eq!(
        total("balance_consumer_success_total{") + total("balance_consumer_failed_total{"),
        count as f64
    );
    assert_eq!(total("kilter_lag_records{"), 0.0);
    assert_eq!(total("kilter_up "), 1.0);
    for line in text.lines() {
        let sound = line.is_empty()
            || line.starts_with('#')
            || line
                .rsplit_once(' ')
                .is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        assert!(sound, "{line:?}");
    }
    node.stop();
}

#[test]
fn nodes_share_partitions_and_take_those_that_lie_idle() {
    let servers = servers!("nodes_share_partitions_and_take_those_that_lie_idle");
    let lines = mixture(50, 6000);
    let first = servers.serve_ready(&[("KILTER_LEASE_PARTITIONS_MAX", "2")]);
    let second = servers.serve_ready(&[]);
    let half = servers.produce(lines.clone().take(3000));
    servers.wait_committed(half);
    let mut conn = servers.conn();
    let owners: Vec<(Vec<u8>, u32)> = mysql::prelude::Queryable::query(
        &mut conn,
        "SELECT consumer_id, count(*) FROM leader_locks GROUP BY consumer_id ORDER BY 2",
    )
    .unwrap();
    assert_eq!(
        owners.iter().map(|owner| owner.1).collect::<Vec<_>>(),
        [1, 2]
    );
    // The one with two dies; the other one takes them without being told.
    first.kill();
    let rest = servers.produce(lines.clone().skip(3000));
    servers.wait_committed(half + rest);
    let mut twin = Twin::default();
    lines.for_each(|line| {
        twin.apply(&line);
    });
    assert_eq!(servers.balances(), twin.text());
    servers.check_consistent();
    second.wait_ready();
    second.stop();
}
