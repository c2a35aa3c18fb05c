//! The real process on the real servers, killed at random moments under load, with changing numbers
//! of shards and writers: balances, ledger, offsets and results as if nothing had happened.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::{
    servers::{Servers, mixture},
    twin::Twin,
};

const KILLS: u32 = 30;
const ACCOUNTS: u64 = 200;
const COMMANDS: u64 = 60_000;

#[test]
fn thirty_kills_change_nothing() {
    let Some(servers) = Servers::new("thirty_kills_change_nothing") else {
        return;
    };
    servers.init();
    let seed = support::seed();
    let mut random = seed;
    let mut below = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let mut producer = servers.producer();
    let mut lines = mixture(ACCOUNTS, COMMANDS);
    let mut conn = servers.conn();
    let mut while_at_work = 0;
    for kill in 0..KILLS {
        let shards = below(4) + 1;
        let writers = below(shards) + 1;
        let node = servers.serve(&[
            ("KILTER_ENGINE_SHARDS", &shards.to_string()),
            ("KILTER_ENGINE_WRITERS", &writers.to_string()),
            ("KILTER_ENGINE_FLUSH_MAX_COMMANDS", "300"),
            ("KILTER_ENGINE_FLUSH_INTERVAL_MS", "3"),
            ("LEADER_LOCK_TTL", "500"),
            ("LEADER_RENEW_INTERVAL", "100"),
        ]);
        // Some die while they start, most in the middle of work.
        let at_work = below(5) > 0;
        let before = servers.committed(&mut conn);
        for line in lines.by_ref().take((COMMANDS / u64::from(KILLS)) as usize) {
            producer.send_json(&line);
        }
        producer.finish();
        if at_work {
            node.wait_for("progress", |_| servers.committed(&mut conn) > before);
            while_at_work += 1;
        }
        let until = Instant::now() + Duration::from_millis(below(if at_work { 60 } else { 800 }));
        while Instant::now() < until {
            std::thread::yield_now();
        }
        node.kill();
        let committed = servers.committed(&mut conn);
        assert!(
            committed >= before,
            "seed {seed}, kill {kill}: offsets went back"
        );
    }
    println!("{KILLS} kills, {while_at_work} of them at work");
    lines.for_each(|line| producer.send_json(&line));
    producer.finish();
    let node = servers.serve_ready(&[]);
    servers.wait_committed(producer.sent());
    let mut twin = Twin::default();
    mixture(ACCOUNTS, COMMANDS).for_each(|line| {
        twin.apply(&line);
    });
    assert_eq!(servers.balances(), twin.text(), "seed {seed}");
    servers.check_consistent();
    // Every record that can be answered has its result, at least once.
    let results = servers.results();
    assert_eq!(results.len() as u64, producer.sent(), "seed {seed}");
    let mut outcomes = std::collections::BTreeMap::new();
    for result in results.values() {
        let code = result["errorCode"].as_str().unwrap_or("SUCCESS").to_owned();
        *outcomes.entry(code).or_insert(0_u64) += 1;
    }
    assert_eq!(outcomes, twin.outcomes, "seed {seed}");
    node.stop();
}
