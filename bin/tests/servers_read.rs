//! What reading commands and the audit say about real servers.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/stack.rs"]
mod stack;
mod support;
#[path = "support/tampering.rs"]
mod tampering;

use std::collections::BTreeMap;

use kilter_engine::partitioner::Partitioner;
use mysql::prelude::Queryable;
use serde_json::Value;
use stack::Stack;
use support::{command, open, text};
use tampering::{tampered, tampering};

const ACCOUNTS: u64 = 23;
const COMMANDS: u64 = 600;

/// Accounts that nobody uses: more than the audit looks at together.
const IDLE: std::ops::Range<u64> = 10_000..12_100;

const SETTINGS: &[&str] = &[
    "[kafka]",
    "partitions = 3",
    "[engine]",
    "shards = 3",
    "writers = 2",
];

/// The user and the line of every command: of all kinds, some without an account, without funds,
/// with an id that was used, or without sense.
fn lines() -> Vec<(String, String)> {
    let kinds = [
        "DEPOSIT", "WITHDRAW", "FREEZE", "UNFREEZE", "DEPOSIT", "SETTLE",
    ];
    let opens = (1..=ACCOUNTS).chain(IDLE);
    let opens = opens.map(|account| (account, open(account)));
    let commands = (0..COMMANDS).map(|n| {
        let account = n * 7919 % (ACCOUNTS + 2) + 1;
        let kind = kinds[(n * 31 % 97 % 6) as usize];
        let id = if n % 53 == 0 { n / 2 } else { n };
        let amount = if n % 101 == 0 {
            "x".into()
        } else {
            format!("{}.{:03}", n % 50 + 1, n % 997)
        };
        (account, command(&format!("t-{id}"), account, kind, &amount))
    });
    opens
        .chain(commands)
        .map(|(account, line)| (format!("u-{account}"), line))
        .collect()
}

/// JSON lines without what depends on where and when.
fn without(lines: &str, names: &[&str]) -> Vec<Value> {
    lines
        .lines()
        .map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            row.as_object_mut()
                .unwrap()
                .retain(|name, _| !names.contains(&name.as_str()));
            row
        })
        .collect()
}

/// Each account's rows in their order.
fn by_account(rows: Vec<Value>) -> BTreeMap<u64, Vec<Value>> {
    let mut found: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for row in rows {
        let account = row["accountId"].as_u64().unwrap();
        found.entry(account).or_default().push(row);
    }
    found
}

fn sorted(rows: Vec<Value>) -> Vec<String> {
    let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

/// Everything that can be read is what `kilter apply` makes of the same commands.
fn reads_as_embedded(stack: &Stack) {
    stack.place.apply(lines().into_iter().map(|(_, line)| line));
    let embedded = |what: &str| stack.place.ok(&[what, "--json"]);
    let servers = |what: &str| stack.ok(&[what, "--json"]);
    assert_eq!(servers("balances"), embedded("balances"));
    let here = ["createdAt", "shardId"];
    assert_eq!(
        without(&servers("accounts"), &here),
        without(&embedded("accounts"), &here)
    );
    let here = ["createdAt", "generation", "partition", "offset"];
    let ledger = servers("ledger");
    assert_eq!(
        by_account(without(&ledger, &here)),
        by_account(without(&embedded("ledger"), &here))
    );
    let places: Vec<Vec<u64>> = without(&ledger, &[])
        .iter()
        .map(|row| {
            ["generation", "partition", "offset", "posting"]
                .map(|name| row[name].as_u64().unwrap())
                .to_vec()
        })
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    let own = stack.ok(&["ledger", "--json", "--account", "7"]);
    let all: Vec<&str> = ledger
        .lines()
        .filter(|line| line.contains(r#""accountId": 7,"#))
        .collect();
    assert!(all.len() > 5);
    assert_eq!(own.lines().collect::<Vec<_>>(), all);
    let here = [
        "originalTopic",
        "originalPartition",
        "originalOffset",
        "failedAt",
        "dlqTopic",
    ];
    let (letters, right) = (servers("dead-letters"), embedded("dead-letters"));
    assert!(letters.lines().count() > 20);
    assert_eq!(
        sorted(without(&letters, &here)),
        sorted(without(&right, &here))
    );
    // Not only the same values: the same spelling.
    let begins = |lines: &str| {
        lines
            .lines()
            .all(|l| l.starts_with(r#"{"originalTopic": ""#))
    };
    assert!(begins(&letters) && begins(&right), "{letters}");
}

#[test]
fn servers_read_as_a_directory_and_the_audit_finds_everything() {
    let name = "servers_read_as_a_directory_and_the_audit_finds_everything";
    let Some(stack) = Stack::new(name, SETTINGS) else {
        return;
    };
    stack.ok(&["init"]);
    let said = stack.ok(&["audit"]);
    assert!(said.contains("audited: 0 accounts, 0 balances"), "{said}");
    let node = stack.serve(&[]);
    stack.produce(lines());
    // While the node is at work: whatever is committed by then is exact.
    for _ in 0..3 {
        let said = stack.ok(&["audit"]);
        assert!(said.contains("the store is exact"), "{said}");
    }
    stack.wait_until_committed();
    let said = stack.ok(&["audit"]);
    assert!(
        said.contains("audited: 2123 accounts, 23 balances"),
        "{said}"
    );
    node.stop();
    reads_as_embedded(&stack);
    one_place_only(&stack);
    let said = stack.ok(&["audit", "--replay"]);
    assert!(said.contains("is what the log makes it"), "{said}");
    tampering(&stack);
    the_operator(&stack);
    let said = stack.ok(&["audit", "--replay"]);
    assert!(said.contains("is what the log makes it"), "{said}");
    openings(&stack);
}

/// Balances of the system before begin with an entry of their own.
fn openings(stack: &Stack) {
    let user = "u-500";
    let shard = Partitioner::Murmur2.partition(user.as_bytes(), stack::PARTITIONS);
    let mut conn = stack.conn();
    for statement in [
        format!("INSERT INTO accounts VALUES (500, '{user}', {shard}, NOW(), NOW(), 'ACTIVE')"),
        "INSERT INTO account_balances VALUES (500, 'USDT', 12.5, 3, 7, NOW(), NOW())".to_owned(),
    ] {
        conn.query_drop(statement).unwrap();
    }
    let said = stack.no(&["audit"]);
    assert!(
        said.contains("account 500 USDT: a balance that no ledger entry made"),
        "{said}"
    );
    conn.query_drop(format!(
        "INSERT INTO balance_transactions VALUES (0, {shard}, 1, 0, 500, 'USDT', 'opening', \
         'OPENING', 0, 0, 12.5, 0, 3, 'SUCCESS', NULL, '2020-01-01', 7, NULL, NULL, NULL)"
    ))
    .unwrap();
    let node = stack.serve(&[]);
    stack.produce([(user.to_owned(), command("after", 500, "WITHDRAW", "2.25"))]);
    stack.wait_until_committed();
    node.stop();
    let said = stack.ok(&["balance", "500", "USDT", "--json"]);
    assert!(
        said.contains(r#""available": "10.25", "frozen": "3", "version": 8"#),
        "{said}"
    );
    let said = stack.ok(&["audit"]);
    assert!(said.contains("the store is exact"), "{said}");
    let said = stack.no(&["audit", "--replay"]);
    assert!(said.contains("taken over from another system"), "{said}");
    tampered(
        stack,
        "UPDATE balance_transactions SET available_after = 12 WHERE type = 'OPENING'",
        &[],
        false,
        &["ledger: 1", "the entries before it make it 12"],
    );
}

/// How the place is chosen, and what is said of one balance.
fn one_place_only(stack: &Stack) {
    let said = stack.ok(&["balance", "7", "USDT"]);
    assert!(said.contains("USDT"), "{said}");
    let said = stack.no(&["balance", "7", "usdt"]);
    assert!(said.contains("no usdt balance in the database"), "{said}");
    let output = stack.run(&["balances", "--data", "here"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let config = stack.place.path("kilter.toml");
    let all = stack.ok(&["balances"]);
    let by_name = stack
        .plain(&["balances"])
        .env("KILTER_CONFIG", &config)
        .output();
    assert_eq!(String::from_utf8(by_name.unwrap().stdout).unwrap(), all);
    let set = stack
        .plain(&["balances", "--set", "engine.shards=3"])
        .output();
    assert_eq!(String::from_utf8(set.unwrap().stdout).unwrap(), all);
    let both = stack
        .plain(&["balances"])
        .env("KILTER_CONFIG", &config)
        .env("KILTER_DATA", stack.place.data())
        .output()
        .unwrap();
    assert!(text(&both).contains("are both set"), "{}", text(&both));
}

/// Windows and notes.
fn the_operator(stack: &Stack) {
    let said = stack.ok(&["window"]);
    assert!(said.contains("remembered for 24 h"), "{said}");
    let said = stack.no(&["window", "12h"]);
    assert!(said.contains("set engine.window to 12 h"), "{said}");
    let refuse = |partition: &str, offset: &str| {
        [
            "log".to_owned(),
            "refuse".into(),
            "--reason".into(),
            "a test".into(),
            "--partition".into(),
            partition.into(),
            "--offset".into(),
            offset.into(),
        ]
    };
    let line = command("noted", 7, "DEPOSIT", "1000000");
    let partition: u64 = {
        let row = stack.ok(&["ledger", "--json", "--account", "7"]);
        let row: Value = serde_json::from_str(row.lines().next().unwrap()).unwrap();
        row["partition"].as_u64().unwrap()
    };
    let end: Option<u64> = stack
        .conn()
        .exec_first(
            "SELECT min(`offset`) FROM consumer_offsets WHERE `partition` = ?",
            (partition,),
        )
        .unwrap();
    let (partition, end) = (partition.to_string(), end.unwrap().to_string());
    let note = |partition: &str, offset: &str| {
        let args = refuse(partition, offset);
        stack.run(&args.each_ref().map(String::as_str))
    };
    for (partition, offset, words) in [
        ("3", "0", "has 3 partitions"),
        (&partition, "0", "is committed already"),
        (&partition, &end, "is not in the log yet"),
    ] {
        let output = note(partition, offset);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
    stack.produce([("u-7".to_owned(), line)]);
    let output = note(&partition, &end);
    assert!(output.status.success(), "{}", text(&output));
    let balance = stack.ok(&["balance", "7", "USDT", "--json"]);
    let node = stack.serve(&[]);
    stack.wait_until_committed();
    let output = note(&partition, &end);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    node.stop();
    assert_eq!(stack.ok(&["balance", "7", "USDT", "--json"]), balance);
    let letters = stack.ok(&["dead-letters", "--json"]);
    assert_eq!(letters.matches("OPERATOR_REFUSED").count(), 1, "{letters}");
}

#[test]
fn the_topic_is_the_ledger_where_it_is_configured_so() {
    let name = "the_topic_is_the_ledger_where_it_is_configured_so";
    let settings: Vec<&str> = SETTINGS
        .iter()
        .copied()
        .chain(["ledger = \"topic\""])
        .collect();
    let Some(stack) = Stack::new(name, &settings) else {
        return;
    };
    stack.ok(&["init"]);
    // Several lives, so that there are results of several terms, and windows of several lengths.
    let all = lines();
    let third = all.len() / 3;
    let parts = [&all[..third], &all[third..2 * third], &all[2 * third..]];
    for (part, window) in parts.into_iter().zip(["24h", "1h", "2h"]) {
        let node = stack.serve(&[&format!("engine.window={window}")]);
        stack.produce(part.iter().cloned());
        stack.wait_until_committed();
        node.stop();
    }
    let mut conn = stack.conn();
    let rows: Option<u64> = conn
        .query_first("SELECT count(*) FROM balance_transactions")
        .unwrap();
    assert_eq!(rows, Some(0));
    let rows: Option<u64> = conn
        .query_first("SELECT count(*) FROM kilter_windows")
        .unwrap();
    assert_eq!(rows, Some(9));
    let said = stack.ok(&["window"]);
    assert!(said.contains("remembered for 2 h"), "{said}");
    assert!(said.contains("engine.window is 24 h"), "{said}");
    reads_as_embedded(&stack);
    let said = stack.ok(&["audit", "--replay"]);
    assert!(said.contains("is what the log makes it"), "{said}");
    tampered(
        &stack,
        "UPDATE account_balances SET available = available + 1 WHERE account_id = 7",
        &["UPDATE account_balances SET available = available - 1 WHERE account_id = 7"],
        true,
        &["balances: 1", "account 7 USDT: available is", "replay: 1"],
    );
    // The broker throws away the results of all OPENs, and of half of the commands.
    stack.shorten_results(100);
    let said = stack.ok(&["audit", "--replay"]);
    assert!(said.contains("has thrown away its first results"), "{said}");
    assert!(said.contains("is what the log makes it"), "{said}");
    // Of an account that still has results: which ones are left is the broker's doing.
    let last = stack.ok(&["ledger", "--json"]);
    let last: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    let account = last["accountId"].as_u64().unwrap();
    tampered(
        &stack,
        &format!("UPDATE account_balances SET frozen = frozen + 1 WHERE account_id = {account}"),
        &[&format!(
            "UPDATE account_balances SET frozen = frozen - 1 WHERE account_id = {account}"
        )],
        false,
        &["balances: 1", &format!("account {account} USDT: frozen is")],
    );
    let output = stack
        .kilter(&["audit", "--set", "engine.ledger=mysql"])
        .output()
        .unwrap();
    let said = text(&output);
    assert!(said.contains("ledger is \"topic\" in the store"), "{said}");
    stack.ok(&["audit"]);
}
