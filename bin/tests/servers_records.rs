//! Records that no client of ours would write, and topics that no command of ours would make.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::time::{Duration, SystemTime};

use mysql::prelude::Queryable;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};
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

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

#[test]
fn every_kind_of_hostile_record_is_refused_and_kept() {
    let servers = servers!("every_kind_of_hostile_record_is_refused_and_kept");
    let node = servers.serve_ready(&[]);
    let mut client = servers.producer();
    client.send_json(&open(1));
    client.send_json(&command("t-1", 1, "DEPOSIT", "5"));
    client.finish();
    // Of two who want one account in different partitions, the first in the store has it.
    servers.wait_committed(2);
    let good = command("t-good", 1, "DEPOSIT", "1");
    // No key, no value, neither.
    client.send(None, Some(good.as_bytes()), &[]);
    client.send(Some(b"u-1"), None, &[]);
    client.send(None, None, &[]);
    client.send(Some(b""), Some(b""), &[]);
    // Another's key; bytes that are no text; headers of every kind.
    client.send(Some(b"u-2"), Some(good.as_bytes()), &[]);
    client.send(
        Some(b"u-1"),
        Some(b"\xff\xfe"),
        &[("raw", b"\xff"), ("eventId", b"e-1")],
    );
    // Large, and well-formed or not.
    let padding = "x".repeat(900_000);
    let large = format!(
        r#"{{"transactionId":"t-large","userId":"u-1","accountId":1,"currencyCode":"USDT","type":"DEPOSIT","amount":"2","description":"{padding}"}}"#
    );
    client.send(Some(b"u-1"), Some(large.as_bytes()), &[]);
    client.send(Some(b"u-1"), Some(&vec![b'x'; 900_000]), &[]);
    // In JSON this one is six times as long, and more than the topic takes.
    client.send(Some(b"u-1"), Some(&vec![1; 900_000]), &[]);
    // Issued too long ago, ahead of all time, unreadable, twice; and just now.
    let old = (now_ms() - 13 * 3_600_000).to_string();
    let ahead = (now_ms() + 7 * 3_600_000).to_string();
    let fresh = now_ms().to_string();
    for (n, headers) in [
        vec![("issuedAt", old.as_bytes())],
        vec![("issuedAt", ahead.as_bytes())],
        vec![("issuedAt", b"soon".as_slice())],
        vec![
            ("issuedAt", fresh.as_bytes()),
            ("issuedAt", fresh.as_bytes()),
        ],
        vec![("issuedAt", fresh.as_bytes()), ("eventId", b"e-2")],
    ]
    .into_iter()
    .enumerate()
    {
        let line = command(&format!("t-issued-{n}"), 1, "DEPOSIT", "1");
        client.send(Some(b"u-1"), Some(line.as_bytes()), &headers);
    }
    // An OPEN of somebody else's account, one that is spelled to get past the claim, and one that
    // expired and must claim nothing.
    client.send_json(&open(1).replace("u-1", "thief"));
    client.send_json(&open(8).replace("OPEN", r"\u004fPEN"));
    client.send(
        Some(b"u-9"),
        Some(open(9).as_bytes()),
        &[("issuedAt", old.as_bytes())],
    );
    client.send_json(&command("t-2", 1, "DEPOSIT", "10"));
    client.finish();
    servers.wait_committed(client.sent());
    assert_eq!(servers.available(1, "USDT").as_deref(), Some("18"));
    let codes = servers.dead_codes();
    let count = |code: &str| codes.iter().filter(|found| *found == code).count();
    assert_eq!(count("EXPIRED"), 2, "{codes:?}");
    assert_eq!(count("KEY_MISMATCH"), 2, "{codes:?}");
    assert_eq!(count("ACCOUNT_MISMATCH"), 1, "{codes:?}");
    assert_eq!(count("MALFORMED"), 10, "{codes:?}");
    let claimed: Vec<u64> = servers
        .conn()
        .query("SELECT id FROM accounts ORDER BY id")
        .unwrap();
    assert_eq!(claimed, [1]);
    let letters = servers.dead_letters();
    let by =
        |test: &dyn Fn(&serde_json::Value) -> bool| letters.values().filter(|l| test(l)).count();
    assert_eq!(by(&|l| l["originalKey"].is_null()), 2);
    assert_eq!(
        by(&|l| l["originalValue"].is_null() && l.get("originalValueBase64").is_none()),
        2
    );
    assert_eq!(by(&|l| l["originalHeaders"]["eventId"] == "e-1"), 1);
    assert_eq!(
        by(&|l| l["originalValueBytes"] == 900_000),
        1,
        "what fits is kept whole"
    );
    assert_eq!(
        by(&|l| l["originalValue"]
            .as_str()
            .is_some_and(|text| text.len() == 900_000)),
        1
    );
    for record in servers.read("dlq") {
        let names: Vec<&str> = record
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        for name in [
            "x-original-topic",
            "x-original-partition",
            "x-original-offset",
            "x-failed-at",
            "x-retry-count",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
    }
    servers.check_consistent();
    node.stop();
}

#[test]
fn what_was_aborted_is_not_seen_and_markers_are_passed() {
    let servers = servers!("what_was_aborted_is_not_seen_and_markers_are_passed");
    let node = servers.serve_ready(&[]);
    servers.produce([open(1)]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &servers.brokers)
        .set("transactional.id", servers.topic("transactions"))
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let wait = Duration::from_secs(30);
    producer.init_transactions(wait).unwrap();
    let topic = servers.topic("commands");
    for (n, abort) in [(1, false), (2, true), (3, false), (4, true)] {
        producer.begin_transaction().unwrap();
        for m in 0..5 {
            let line = command(&format!("t-{n}-{m}"), 1, "DEPOSIT", "1");
            let record = BaseRecord::to(&topic).key("u-1").payload(&line);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(wait).unwrap();
        if abort {
            producer.abort_transaction(wait).unwrap();
        } else {
            producer.commit_transaction(wait).unwrap();
        }
    }
    node.wait_for("the ten that count", |_| {
        servers.available(1, "USDT").as_deref() == Some("10")
    });
    // A start behind a marker finds its log again.
    node.stop();
    let node = servers.serve_ready(&[]);
    servers.produce([command("t-last", 1, "DEPOSIT", "1")]);
    node.wait_for("the last", |_| {
        servers.available(1, "USDT").as_deref() == Some("11")
    });
    servers.check_consistent();
    node.stop();
}

#[test]
fn a_topic_with_the_producers_time_is_refused() {
    let Some(servers) = Servers::new("a_topic_with_the_producers_time_is_refused") else {
        return;
    };
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &servers.brokers)
        .create()
        .unwrap();
    let name = servers.topic("commands");
    let topic = NewTopic::new(&name, 3, TopicReplication::Fixed(1));
    support::topics::block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let output = servers.kilter(&["init"]).output().unwrap();
    let text = support::text(&output);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("message.timestamp.type") && text.contains("LogAppendTime"),
        "{text}"
    );
}

#[test]
fn without_tables_or_topics_the_way_out_is_named() {
    let Some(servers) = Servers::new("without_tables_or_topics_the_way_out_is_named") else {
        return;
    };
    let mut conn = servers.connect(None).unwrap();
    conn.query_drop(format!("CREATE DATABASE {}", servers.name))
        .unwrap();
    let mut node = servers.serve(&[]);
    assert!(!node.wait().success());
    assert!(node.log().contains("kilter init"), "{}", node.log());
}

#[test]
fn with_the_ledger_on_the_topic_ids_come_back_from_the_results() {
    let servers = match Servers::new("with_the_ledger_on_the_topic_ids_come_back_from_the_results")
    {
        Some(servers) => servers,
        None => return,
    };
    let env = [
        ("KILTER_ENGINE_LEDGER", "topic"),
        ("START_API", "false"),
        ("KILTER_ENGINE_FLUSH_MAX_COMMANDS", "300"),
    ];
    let output = servers.kilter(&["init"]).envs(env).output().unwrap();
    assert!(output.status.success(), "{}", support::text(&output));
    let commands = 8000;
    let mut twin = Twin::default();
    let mut count = servers.produce(mixture(50, commands));
    mixture(50, commands).for_each(|line| {
        twin.apply(&line);
    });
    let mut conn = servers.conn();
    for _ in 0..3 {
        let before = servers.committed(&mut conn);
        let node = servers.serve_ready(&env);
        // Every command once more: its id is known, whoever remembers it.
        count += servers.produce(mixture(50, commands).skip(50).step_by(7));
        mixture(50, commands).skip(50).step_by(7).for_each(|line| {
            twin.apply(&line);
        });
        node.wait_for("progress", |_| servers.committed(&mut conn) > before + 500);
        node.kill();
    }
    let node = servers.serve_ready(&env);
    servers.wait_committed(count);
    assert_eq!(servers.balances(), twin.text());
    let entries: Option<u64> = conn
        .query_first("SELECT count(*) FROM balance_transactions")
        .unwrap();
    assert_eq!(entries, Some(0), "the ledger is elsewhere");
    let results = servers.results();
    assert_eq!(results.len() as u64, count);
    node.stop();
    // The same store with its ledger elsewhere is another store.
    let mut other = servers.serve(&[]);
    assert!(!other.wait().success());
    assert!(other.log().contains("ledger"), "{}", other.log());
}
