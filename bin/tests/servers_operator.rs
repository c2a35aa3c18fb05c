//! Whatever stops a node names the command that gets on, and that command does.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::time::Duration;

use mysql::prelude::Queryable;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
};
use support::{command, open, servers::Servers, topics::block_on};

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

fn admin(servers: &Servers) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", &servers.brokers)
        .create()
        .unwrap()
}

/// Starts a node that must refuse, and gives what it says.
fn refusal(servers: &Servers) -> String {
    let mut node = servers.serve(&[]);
    let status = node.wait();
    assert_eq!(status.code(), Some(1), "{}", node.log());
    node.log()
}

#[test]
fn a_record_that_the_store_refuses_is_named_and_can_be_refused() {
    let servers = servers!("a_record_that_the_store_refuses_is_named_and_can_be_refused");
    servers
        .conn()
        .query_drop(
            "CREATE TRIGGER refuse BEFORE INSERT ON balance_transactions FOR EACH ROW \
             IF NEW.transaction_id = 't-5' THEN SIGNAL SQLSTATE '45000' \
             SET MESSAGE_TEXT = 'not this one'; END IF",
        )
        .unwrap();
    let opens = (1..=3).map(open);
    let deposits = (0..30).map(|n| command(&format!("t-{n}"), n % 3 + 1, "DEPOSIT", "1"));
    let count = servers.produce(opens.chain(deposits));
    let said = refusal(&servers);
    assert!(said.contains("not this one"), "{said}");
    let at = said.find("kilter log refuse --partition ").expect(&said);
    let words: Vec<&str> = said[at..].split_whitespace().take(7).collect();
    let (partition, offset) = (words[4], words[6]);
    // Whoever led may wake up: the lease must have expired.
    std::thread::sleep(Duration::from_millis(2500));
    let args = [
        "log",
        "refuse",
        "--partition",
        partition,
        "--offset",
        offset,
        "--reason",
        "a test",
    ];
    let noted = servers.ok(&args);
    assert!(noted.contains("noted"), "{noted}");
    let node = servers.serve_ready(&[]);
    servers.wait_committed(count);
    // Account 3 got ten deposits, one of them the refused one.
    assert_eq!(servers.available(3, "USDT").as_deref(), Some("9"));
    assert_eq!(servers.available(1, "USDT").as_deref(), Some("10"));
    assert_eq!(servers.dead_codes(), ["OPERATOR_REFUSED"]);
    node.stop();
    // Every replay answers the same.
    servers.ok(&["audit", "--replay"]);
}

#[test]
fn a_topic_made_anew_is_adopted_and_old_ids_stay_known() {
    let servers = servers!("a_topic_made_anew_is_adopted_and_old_ids_stay_known");
    let node = servers.serve_ready(&[]);
    let count = servers.produce([open(1), command("t-1", 1, "DEPOSIT", "5")]);
    servers.wait_committed(count);
    let name = servers.topic("commands");
    block_on(admin(&servers).delete_topics(&[&name], &AdminOptions::new())).unwrap();
    // The node finds out by itself.
    let mut node = node;
    assert_eq!(node.wait().code(), Some(1), "{}", node.log());
    assert!(node.log().contains("kilter log adopt"), "{}", node.log());
    std::thread::sleep(Duration::from_millis(2500));
    servers.init();
    let again = servers.produce([
        command("t-1", 1, "DEPOSIT", "5"),
        command("t-2", 1, "DEPOSIT", "7"),
    ]);
    let said = refusal(&servers);
    assert!(said.contains("deleted and made again"), "{said}");
    assert!(said.contains("kilter log adopt"), "{said}");
    std::thread::sleep(Duration::from_millis(2500));
    let said = servers.ok(&[
        "log",
        "adopt",
        "--from",
        "earliest",
        "--reason",
        "made anew",
    ]);
    assert!(said.contains("log generation 2"), "{said}");
    let node = servers.serve_ready(&[]);
    servers.wait_committed(again);
    assert_eq!(servers.available(1, "USDT").as_deref(), Some("12"));
    let generations: Vec<u32> = servers
        .conn()
        .query("SELECT generation FROM balance_transactions ORDER BY generation")
        .unwrap();
    assert_eq!(generations, [1, 2]);
    node.stop();
    servers.ok(&["audit"]);
    // Nothing is to be adopted now.
    let output = servers
        .kilter(&["log", "adopt", "--from", "latest", "--reason", "x"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(support::text(&output).contains("nothing is to be adopted"));
}

#[test]
fn records_that_retention_took_are_told() {
    let servers = servers!("records_that_retention_took_are_told");
    let node = servers.serve_ready(&[]);
    let count = servers.produce([open(1), command("t-1", 1, "DEPOSIT", "5")]);
    servers.wait_committed(count);
    node.stop();
    let lost = servers.produce((2..12).map(|n| command(&format!("t-{n}"), 1, "DEPOSIT", "1")));
    let partition: i32 = servers
        .conn()
        .query_first("SELECT `partition` FROM balance_transactions")
        .unwrap()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(
        &servers.topic("commands"),
        partition,
        rdkafka::Offset::Offset(7),
    )
    .unwrap();
    block_on(admin(&servers).delete_records(&list, &AdminOptions::new())).unwrap();
    let said = refusal(&servers);
    assert!(said.contains("begins at 7"), "{said}");
    assert!(said.contains("kilter log adopt"), "{said}");
    std::thread::sleep(Duration::from_millis(2500));
    servers.ok(&[
        "log",
        "adopt",
        "--from",
        "earliest",
        "--reason",
        "they are gone",
    ]);
    let node = servers.serve_ready(&[]);
    servers.wait_committed(count + lost);
    // Offsets 2 to 6 are lost for good: five of ten deposits.
    assert_eq!(servers.available(1, "USDT").as_deref(), Some("10"));
    node.stop();
}

#[test]
fn added_partitions_are_adopted_behind_the_old_ones() {
    let servers = servers!("added_partitions_are_adopted_behind_the_old_ones");
    let node = servers.serve_ready(&[]);
    let opens = (1..=40).map(open);
    let deposits = (1..=40).map(|n| command("t-1", n, "DEPOSIT", "1"));
    let count = servers.produce(opens.chain(deposits));
    servers.wait_committed(count);
    node.stop();
    let name = servers.topic("commands");
    let more = NewPartitions::new(&name, 5);
    block_on(admin(&servers).create_partitions([&more], &AdminOptions::new())).unwrap();
    let said = refusal(&servers);
    assert!(said.contains("has 5 partitions, it had 3"), "{said}");
    std::thread::sleep(Duration::from_millis(2500));
    let said = servers.ok(&["log", "adopt", "--reason", "more partitions"]);
    assert!(said.contains("partition 4: from offset 0"), "{said}");
    // The same ids once more, and new ones, where the users are now.
    let again = (1..=40).map(|n| command("t-1", n, "DEPOSIT", "1"));
    let new = (1..=40).map(|n| command("t-2", n, "DEPOSIT", "2"));
    let more = servers.produce(again.chain(new));
    let node = servers.serve_ready(&[]);
    servers.wait_committed(count + more);
    let balances = servers.balances();
    assert_eq!(balances.len(), 40);
    assert!(balances.values().all(|row| row.0 == "3"), "{balances:?}");
    assert!(servers.dead_codes().is_empty());
    node.stop();
    servers.ok(&["audit"]);
}
