//! The real process, killed at random moments, goes on as if nothing had happened.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use support::{Killed, Place, command, open};

const KILLS: usize = 50;
const ACCOUNTS: u64 = 200;
const COMMANDS: u64 = 60_000;

fn lines() -> Vec<String> {
    let kinds = [
        "DEPOSIT", "WITHDRAW", "FREEZE", "UNFREEZE", "DEPOSIT", "SETTLE",
    ];
    let opens = (1..=ACCOUNTS).map(open);
    let commands = (0..COMMANDS).map(|n| {
        let account = n * 7919 % (ACCOUNTS + 3) + 1;
        let kind = kinds[(n * 31 % 97 % 6) as usize];
        // Now and then an id comes again, or no amount is one.
        let id = if n % 53 == 0 { n / 2 } else { n };
        let amount = if n % 101 == 0 {
            "x".into()
        } else {
            format!("{}.{:03}", n % 50 + 1, n % 997)
        };
        command(&format!("t-{id}"), account, kind, &amount)
    });
    opens.chain(commands).collect()
}

#[test]
fn fifty_kills_change_nothing() {
    let whole = Place::new();
    whole.apply(lines());
    let right = whole.dump();

    let place = Place::new();
    let file = place.file("commands.jsonl", lines());
    let results = place.path("results.jsonl");
    let seed = support::seed();
    let mut random = seed;
    let mut kills = 0;
    for round in 0..10 * KILLS {
        if kills == KILLS {
            break;
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let shards = (random >> 60) % 4 + 1;
        let writers = (random >> 50) % shards + 1;
        let mut child = Killed(
            place
                .kilter(&[
                    "apply",
                    file.to_str().unwrap(),
                    "--results",
                    results.to_str().unwrap(),
                    "--shards",
                    &shards.to_string(),
                    "--writers",
                    &writers.to_string(),
                    "--flush-max-commands",
                    "500",
                    "--flush-interval-ms",
                    "2",
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        // A random moment of its life, early ones more often, so that fifty fit into the file.
        let until = Instant::now() + Duration::from_micros((random >> 33) % 60_000);
        let mut ended = None;
        while Instant::now() < until && ended.is_none() {
            ended = child.0.try_wait().unwrap();
            std::thread::yield_now();
        }
        match ended {
            Some(status) if status.success() => {
                println!("applied after {kills} kills, in round {round}");
                break;
            }
            Some(status) => panic!("seed {seed}: ended by itself with {status}"),
            None => kills += 1,
        }
        drop(child);
        // What a kill leaves behind is a whole prefix of the log.
        if place.data().join("store.db").is_file() && kills % 10 == 0 {
            let output = place.run(&["audit"]);
            let text = support::text(&output);
            // Only a kill before the first start transaction leaves nothing to audit.
            assert!(
                output.status.success() || text.contains("no Kilter data"),
                "seed {seed}: {text}"
            );
        }
    }
    let said = place.ok(&[
        "apply",
        file.to_str().unwrap(),
        "--results",
        results.to_str().unwrap(),
    ]);
    println!("{kills} kills, then: {said}");
    assert_eq!(place.dump(), right, "seed {seed}");
    place.ok(&["audit"]);
    results_are_complete(&place, &results, seed);
}

/// Every record has its result at least once, and always the same.
fn results_are_complete(place: &Place, results: &std::path::Path, seed: u64) {
    let mut by_offset = std::collections::BTreeMap::new();
    for line in support::lines_of(results) {
        let mut result: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("seed {seed}: {error} in {line}"));
        result.as_object_mut().unwrap().remove("term");
        let offset = result["offset"].as_u64().unwrap();
        if let Some(old) = by_offset.insert(offset, result.clone()) {
            assert_eq!(old, result, "seed {seed}: another answer than before");
        }
    }
    let records = ACCOUNTS + COMMANDS;
    assert_eq!(by_offset.len() as u64, records, "seed {seed}");
    for line in place.ok(&["ledger", "--json"]).lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let result = &by_offset[&entry["offset"].as_u64().unwrap()];
        for name in ["availableAfter", "frozenAfter", "version", "success"] {
            assert_eq!(entry[name], result[name], "seed {seed}: {line}");
        }
    }
}
