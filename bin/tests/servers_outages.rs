//! Servers killed, stopped and started again under a node at work. One test at a time: the servers
//! are everybody's.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use mysql::prelude::Queryable;
use redis::Commands;
use support::{
    outage::Stack,
    process::Node,
    servers::{Servers, mixture},
    twin::Twin,
};

const ACCOUNTS: u64 = 100;

/// The stack and a place on it, or a return.
macro_rules! alone {
    ($name:literal) => {{
        let Some(stack) = Stack::alone($name) else {
            return;
        };
        let Some(servers) = Servers::new($name) else {
            return;
        };
        stack.up();
        servers.init();
        (stack, servers)
    }};
}

fn check(servers: &Servers, commands: u64) {
    let mut twin = Twin::default();
    mixture(ACCOUNTS, commands).for_each(|line| {
        twin.apply(&line);
    });
    assert_eq!(servers.balances(), twin.text());
    servers.check_consistent();
}

/// Produces half, breaks something, produces the other half, and mends it.
fn halves(
    servers: &Servers,
    node: &Node,
    commands: u64,
    between: impl FnOnce(),
    mend: impl FnOnce(),
) {
    let lines = mixture(ACCOUNTS, commands);
    let half = servers.produce(lines.clone().take(commands as usize / 2));
    let mut conn = servers.conn();
    node.wait_for("a first commit", |_| servers.committed(&mut conn) > 0);
    between();
    let rest = servers.produce(lines.skip(commands as usize / 2));
    mend();
    servers.wait_committed(half + rest);
}

#[test]
fn mysql_gone_for_ten_seconds_drops_nothing() {
    let (stack, servers) = alone!("mysql_gone_for_ten_seconds_drops_nothing");
    let node = servers.serve_ready(&[]);
    halves(
        &servers,
        &node,
        10_000,
        || stack.kill("mysql"),
        || {
            std::thread::sleep(Duration::from_secs(10));
            stack.up();
        },
    );
    check(&servers, 10_000);
    node.wait_ready();
    node.stop();
}

#[test]
fn mysql_stopped_longer_than_every_timeout_is_waited_for_without_a_reload() {
    let (stack, servers) =
        alone!("mysql_stopped_longer_than_every_timeout_is_waited_for_without_a_reload");
    let node = servers.serve_ready(&[("KILTER_MYSQL_STATEMENT_TIMEOUT_MS", "5000")]);
    halves(
        &servers,
        &node,
        10_000,
        || stack.signal("mysql", libc::SIGSTOP),
        || {
            node.wait_for("the pause", |node| node.state().contains("paused"));
            std::thread::sleep(Duration::from_secs(12));
            stack.signal("mysql", libc::SIGCONT);
        },
    );
    check(&servers, 10_000);
    node.wait_ready();
    let log = node.log();
    assert_eq!(
        log.matches("loaded").count(),
        1,
        "it was loaded again: {log}"
    );
    assert!(log.contains("the lease is regained"), "{log}");
    node.stop();
}

#[test]
fn mysql_killed_again_and_again_under_load() {
    let (stack, servers) = alone!("mysql_killed_again_and_again_under_load");
    let node = servers.serve_ready(&[("KILTER_ENGINE_FLUSH_MAX_COMMANDS", "500")]);
    let commands = 40_000;
    let count = servers.produce(mixture(ACCOUNTS, commands));
    for round in 0..3 {
        let mut conn = servers.conn();
        let mark = count / 4 * (round + 1);
        node.wait_for("progress", |_| servers.committed(&mut conn) >= mark);
        stack.kill("mysql");
        stack.up();
    }
    servers.wait_committed(count);
    check(&servers, commands);
    node.wait_ready();
    node.stop();
}

#[test]
fn tables_that_are_locked_for_a_while_are_waited_for() {
    let (_stack, servers) = alone!("tables_that_are_locked_for_a_while_are_waited_for");
    let node = servers.serve_ready(&[]);
    let holder = RefCell::new(servers.conn());
    halves(
        &servers,
        &node,
        6000,
        || {
            let sql = "LOCK TABLES account_balances WRITE";
            holder.borrow_mut().query_drop(sql).unwrap();
        },
        || {
            node.wait_for("a retry", |node| node.log().contains("trying again"));
            holder.borrow_mut().query_drop("UNLOCK TABLES").unwrap();
        },
    );
    check(&servers, 6000);
    node.stop();
}

#[test]
fn kafka_killed_and_restarted_loses_and_doubles_nothing() {
    let (stack, servers) = alone!("kafka_killed_and_restarted_loses_and_doubles_nothing");
    let node = servers.serve_ready(&[("KILTER_ENGINE_FLUSH_MAX_COMMANDS", "500")]);
    let commands = 30_000;
    let count = servers.produce(mixture(ACCOUNTS, commands));
    let mut conn = servers.conn();
    for round in 0..2 {
        let mark = count / 3 * (round + 1);
        node.wait_for("progress", |_| servers.committed(&mut conn) >= mark);
        stack.kill("kafka");
        std::thread::sleep(Duration::from_secs(2));
        stack.up();
    }
    servers.wait_committed(count);
    check(&servers, commands);
    assert_eq!(node.log().matches("loaded").count(), 1);
    node.stop();
}

#[test]
fn redis_killed_flushed_and_full_never_touches_the_engine() {
    let (stack, servers) = alone!("redis_killed_flushed_and_full_never_touches_the_engine");
    let Some((host, port)) = servers.redis.clone() else {
        println!("SKIPPED redis_killed_flushed_and_full_never_touches_the_engine: no REDIS_HOST");
        return;
    };
    let client = redis::Client::open(format!("redis://{host}:{port}/")).unwrap();
    let node = servers.serve_ready(&[]);
    let commands = 12_000;
    let lines = mixture(ACCOUNTS, commands);
    let first = servers.produce(lines.clone().take(4000));
    servers.wait_committed(first);
    stack.kill("redis");
    let second = servers.produce(lines.clone().skip(4000).take(4000));
    // Nobody waits for Redis.
    servers.wait_committed(first + second);
    stack.up();
    let third = servers.produce(lines.skip(8000));
    servers.wait_committed(first + second + third);
    check(&servers, commands);
    converges(&servers, &client);
    let _: () = redis::cmd("FLUSHALL")
        .query(&mut client.get_connection().unwrap())
        .unwrap();
    converges(&servers, &client);
    node.stop();
}

/// Waits until Redis holds every balance as the store does.
fn converges(servers: &Servers, client: &redis::Client) {
    let right = servers.balances();
    let start = Instant::now();
    loop {
        let mut connection = client.get_connection().unwrap();
        let wrong = right
            .iter()
            .find(|((account, currency), (available, frozen, version))| {
                let key = format!("{}:balance:{account}:{currency}", servers.name);
                let found: Option<String> = connection.hget(&key, "value").unwrap();
                let found: serde_json::Value = found
                    .map_or_else(serde_json::Value::default, |text| {
                        serde_json::from_str(&text).unwrap()
                    });
                found["available"] != available.as_str()
                    || found["frozen"] != frozen.as_str()
                    || found["version"] != *version
            });
        match wrong {
            None => return,
            Some(row) => assert!(
                start.elapsed() < support::DEADLINE,
                "{row:?} is not in Redis"
            ),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
