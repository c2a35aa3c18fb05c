//! The only broker leaves its cluster for a moment and comes back, under load: clients of the brokers
//! that do not find back are replaced, or end the node, and nothing is lost or doubled.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use support::{
    clients::{Clients, Known},
    outage::Stack,
    process::Node,
    rest::SECRET,
    servers::Servers,
    wait_for,
};

const ROUNDS: u64 = 4;
const CLIENTS: u64 = 8;
const USERS: u64 = 2;
/// Longer than `broker.session.timeout.ms` of the stack.
const HELD: Duration = Duration::from_millis(7500);

/// The node, started again if it has ended, as a supervisor does.
fn up(servers: &Servers, clients: &Clients, node: &mut Option<Node>) {
    if let Some(running) = node
        && let Some(status) = running.has_ended()
    {
        assert!(!status.success(), "it ended by itself without a fault");
        let log = running.log();
        // What the producer, and what the reader of the log says then.
        let reasons = ["the brokers answer another client", "read the log any more"];
        assert!(reasons.iter().any(|why| log.contains(why)), "{log}");
        *node = None;
    }
    if node.is_none() {
        let started = servers.serve(&[("HMAC_SECRET", SECRET)]);
        started.wait_for("its address", |node| node.rest().is_some());
        clients.go_to(&started.rest().unwrap());
        *node = Some(started);
    }
}

#[test]
fn a_broker_that_leaves_its_cluster_and_comes_back_is_found_again() {
    let test = "a_broker_that_leaves_its_cluster_and_comes_back_is_found_again";
    let Some(stack) = Stack::alone(test) else {
        return;
    };
    let Some(servers) = Servers::new(test) else {
        return;
    };
    servers.init();
    let seed = support::seed();
    let opens = servers.produce((1..=CLIENTS * USERS).map(support::open));
    let mut clients = Clients::new(CLIENTS, USERS, seed);
    let mut node = None;
    up(&servers, &clients, &mut node);
    servers.wait_committed(opens);
    clients.start();
    for round in 0..ROUNDS {
        let before = clients.answered();
        wait_for("answers between two rounds", || {
            up(&servers, &clients, &mut node);
            clients.answered() > before + 500
        });
        // Its heartbeats stop, and nothing else.
        if !stack.hold("kafka", "broker-1-lifecy", HELD) {
            println!("SKIPPED {test}: this user may not stop a thread of the broker");
            return;
        }
        let mut conn = servers.conn();
        let (then, back) = (servers.committed(&mut conn), Instant::now());
        wait_for("something to be applied again", || {
            up(&servers, &clients, &mut node);
            servers.committed(&mut conn) > then + 500
        });
        println!("round {round}: applies again after {:?}", back.elapsed());
    }
    let book = clients.stop();
    let accepted = |known| known == Known::Accepted;
    let mut effects: BTreeMap<String, u64> = BTreeMap::new();
    wait_for("everything that was accepted to be applied", || {
        up(&servers, &clients, &mut node);
        effects.clear();
        for (_, id, _, status) in servers.ledger().into_values() {
            assert_eq!(status, "SUCCESS");
            *effects.entry(id).or_default() += 1;
        }
        book.iter()
            .all(|(id, asked)| !accepted(asked.known) || effects.contains_key(id))
    });
    for (id, asked) in &book {
        let times = effects.get(id).copied().unwrap_or(0);
        let holds = match asked.known {
            Known::Accepted => times == 1,
            Known::Refused => times == 0,
            Known::Nothing => times <= 1,
        };
        assert!(
            holds,
            "seed {seed}: {id} took effect {times} times: {asked:?}"
        );
    }
    let count = book.values().filter(|asked| accepted(asked.known)).count();
    println!("{count} of {} were accepted", book.len());
    node.unwrap().stop();
    servers.check_consistent();
}
