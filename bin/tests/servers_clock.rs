//! Nodes whose clocks are wrong: leases run by the store's clock, outcomes by the log's.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use mysql::{Conn, prelude::Queryable};
use support::{
    preload,
    process::Node,
    servers::{Servers, mixture},
    twin::Twin,
};

const HOUR_S: i64 = 3600;
/// How long a lease holds that is not renewed; the tests' setting.
const LEASE_S: u64 = 2;

/// How far a node's clock is from ours, by what it wrote into its log's first line.
fn offset_s(node: &Node) -> i64 {
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    node.wait_for("a line in its log", |node| node.log().contains('\n'));
    let log = node.log();
    // Times as text have the order of times.
    (-2 * HOUR_S..=2 * HOUR_S)
        .step_by(60)
        .find(|offset| kilter_io::json::rfc3339(now_ms + offset * 1000)[..] > log[..])
        .unwrap()
}

/// When the first of the leases runs out, by the store's clock.
fn expiry_s(conn: &mut Conn) -> u64 {
    let seconds = "SELECT min(TIMESTAMPDIFF(SECOND, '2000-01-01', expires_at)) FROM leader_locks";
    conn.query_first(seconds).unwrap().unwrap()
}

#[test]
fn clocks_that_are_wrong_by_an_hour_change_nothing() {
    const TEST: &str = "clocks_that_are_wrong_by_an_hour_change_nothing";
    for wrong_s in [HOUR_S, -HOUR_S] {
        let Some(servers) = Servers::new(TEST) else {
            return;
        };
        let Some(shim) = preload::library(TEST, &servers.path(""), "wrong_clock") else {
            return;
        };
        servers.init();
        let (ahead, behind) = (wrong_s.to_string(), (-wrong_s).to_string());
        let mut leader = servers.serve(&[("LD_PRELOAD", &shim), ("WRONG_CLOCK_S", &ahead)]);
        assert!(
            (offset_s(&leader) - wrong_s).abs() <= 600,
            "the clock is right"
        );
        leader.wait_ready();
        let lines = mixture(50, 6000);
        let first = servers.produce(lines.clone().take(2000));
        servers.wait_committed(first);

        // Two hours apart, for three lengths of the lease and with work to do.
        let standby = servers.serve(&[("LD_PRELOAD", &shim), ("WRONG_CLOCK_S", &behind)]);
        assert!(
            (offset_s(&standby) + wrong_s).abs() <= 600,
            "the clock is right"
        );
        standby.wait_for("standing by", |node| node.state().contains("standby"));
        let second = servers.produce(lines.clone().skip(2000).take(2000));
        servers.wait_committed(first + second);
        let mut conn = servers.conn();
        let until_s = expiry_s(&mut conn) + 3 * LEASE_S;
        leader.wait_for("renewals of the leases", |_| expiry_s(&mut conn) >= until_s);
        let terms: Vec<u64> = conn
            .query("SELECT DISTINCT term FROM leader_locks")
            .unwrap();
        assert_eq!(terms, [1], "somebody took over from a leader that was well");
        assert!(leader.is_ready(), "{}", leader.log());

        leader.freeze();
        standby.wait_ready();
        let third = servers.produce(lines.clone().skip(4000));
        leader.thaw();
        servers.wait_committed(first + second + third);
        assert_eq!(leader.wait().code(), Some(3), "{}", leader.log());
        let mut twin = Twin::default();
        lines.for_each(|line| {
            twin.apply(&line);
        });
        assert_eq!(servers.balances(), twin.text());
        servers.check_consistent();
        assert_eq!(servers.results().len() as u64, first + second + third);
        standby.stop();
    }
}
