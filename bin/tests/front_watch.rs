//! Who watches results sees each of them once, in the order of the log, from wherever it begins.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::{
    clients::Random,
    process::Node,
    rest::Rest,
    servers::{Servers, mixture},
};

const PARTITIONS: u64 = 3;
const ACCOUNTS: u64 = 100;

/// Where a result lies: partition and offset.
type Place = (u64, u64);

fn serve(servers: &Servers) -> (Node, Rest) {
    let node = servers.serve_ready(&[
        ("KILTER_ENGINE_SHARDS", "4"),
        ("KILTER_ENGINE_WRITERS", "2"),
    ]);
    let rest = Rest::new(&node.rest().unwrap());
    (node, rest)
}

/// Watches behind these positions until so many results have come; generation 0 lies before all.
fn watch(rest: &Rest, after: &BTreeMap<u64, u64>, count: usize) -> Vec<Value> {
    let places = (0..PARTITIONS).map(|partition| match after.get(&partition) {
        Some(offset) => format!("after=1:{partition}:{offset}:0"),
        None => format!("after=0:{partition}:0:0"),
    });
    let query: Vec<String> = places.collect();
    let path = format!("/api/v1/results?{}", query.join("&"));
    rest.lines(&path, count).unwrap()
}

fn number(value: &Value) -> u64 {
    // As proto's JSON writes 64 bits, or as a number.
    let text = value.as_str().map(str::to_owned);
    text.unwrap_or_else(|| value.to_string()).parse().unwrap()
}

fn place(line: &Value) -> Place {
    let position = &line["entry"]["position"];
    assert!(position.is_object(), "{line}");
    (number(&position["partition"]), number(&position["offset"]))
}

/// Checks that what was seen is exactly what is published behind these positions.
fn check(seen: &[Value], published: &BTreeMap<Place, Value>, after: &BTreeMap<u64, u64>) {
    let mut last = after.clone();
    let mut missing: BTreeSet<Place> = published
        .keys()
        .copied()
        .filter(|(partition, offset)| after.get(partition).is_none_or(|after| offset > after))
        .collect();
    for line in seen {
        let (partition, offset) = place(line);
        if let Some(last) = last.insert(partition, offset) {
            assert!(last < offset, "{partition}/{offset} comes behind {last}");
        }
        assert!(missing.remove(&(partition, offset)), "{partition}/{offset}");
        let result = &published[&(partition, offset)];
        assert_eq!(line["entry"]["transaction_id"], result["transactionId"]);
    }
    assert!(missing.is_empty(), "{} are missing", missing.len());
}

#[test]
fn a_backlog_is_seen_whole_from_any_position_on() {
    let Some(servers) = Servers::new("a_backlog_is_seen_whole_from_any_position_on") else {
        return;
    };
    servers.init();
    let count = servers.produce(mixture(ACCOUNTS, 20_000));
    let (node, rest) = serve(&servers);
    servers.wait_committed(count);
    let published = servers.results();
    assert_eq!(published.len() as u64, count);

    let all = watch(&rest, &BTreeMap::new(), published.len());
    check(&all, &published, &BTreeMap::new());
    let mut random = Random(support::seed());
    for _ in 0..4 {
        let taken = random.below(all.len() as u64 - 1) as usize;
        let after: BTreeMap<u64, u64> = all[..taken].iter().map(place).collect();
        let rest_of_them = watch(&rest, &after, all.len() - taken);
        check(&rest_of_them, &published, &after);
    }

    // What comes while somebody watches.
    let after: BTreeMap<u64, u64> = all.iter().map(place).collect();
    let watching = {
        let after = after.clone();
        std::thread::spawn(move || watch(&rest, &after, 5000))
    };
    let more = servers.produce((0..5000).map(|n| {
        let account = n % ACCOUNTS + 1;
        support::command(&format!("more-{n}"), account, "DEPOSIT", "1")
    }));
    let seen = watching.join().unwrap();
    servers.wait_committed(count + more);
    check(&seen, &servers.results(), &after);
    node.stop();
}

#[test]
fn the_first_of_all_results_is_seen() {
    let Some(servers) = Servers::new("the_first_of_all_results_is_seen") else {
        return;
    };
    servers.init();
    let (node, mut rest) = serve(&servers);
    let watcher = Rest::new(&node.rest().unwrap());
    let mut watching = watcher.watch("/api/v1/results").unwrap();
    node.wait_for("the watcher", |node| {
        node.log().contains("results are watched")
    });
    let opened = rest
        .post("/api/v1/accounts", &json!({"user_id": "u-1"}))
        .unwrap();
    assert_eq!(opened.status, 200, "{}", opened.text());
    let seen = watching.lines(1).unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0]["entry"]["position"]["offset"],
        json!(0),
        "{}",
        seen[0]
    );
    node.stop();
}
