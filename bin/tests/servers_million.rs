//! A million records through three partitions, four shards and two writers, against a twin that is
//! right by being plain.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use support::{
    servers::{Servers, mixture},
    twin::Twin,
};

const ACCOUNTS: u64 = 20_000;
const COMMANDS: u64 = 980_000;

#[test]
fn a_million_records_are_as_the_twin_has_them() {
    let Some(servers) = Servers::new("a_million_records_are_as_the_twin_has_them") else {
        return;
    };
    servers.init();
    let node = servers.serve_ready(&[
        ("KILTER_ENGINE_SHARDS", "4"),
        ("KILTER_ENGINE_WRITERS", "2"),
    ]);
    let count = servers.produce(mixture(ACCOUNTS, COMMANDS));
    let mut twin = Twin::default();
    mixture(ACCOUNTS, COMMANDS).for_each(|line| {
        twin.apply(&line);
    });
    servers.wait_committed(count);
    assert_eq!(servers.balances(), twin.text());
    let mut conn = servers.conn();
    let entries: Option<u64> = mysql::prelude::Queryable::query_first(
        &mut conn,
        "SELECT count(*) FROM balance_transactions",
    )
    .unwrap();
    let answered: u64 = twin
        .outcomes
        .iter()
        .filter(|(code, _)| code.starts_with("INSUFFICIENT") || *code == "SUCCESS")
        .map(|(_, count)| count)
        .sum();
    assert_eq!(entries, Some(answered - ACCOUNTS));
    node.stop();
    // And again from the store, with other numbers.
    let node = servers.serve_ready(&[
        ("KILTER_ENGINE_SHARDS", "3"),
        ("KILTER_ENGINE_WRITERS", "1"),
    ]);
    assert!(
        node.log().contains("loaded accounts=20000"),
        "{}",
        node.log()
    );
    node.stop();
}
