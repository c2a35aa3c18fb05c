//! Single rows for whoever asks now. Against a real server.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/mysql.rs"]
mod server;

use kilter_engine::AccountId;
use kilter_io::{
    mysql::{InitLog, MysqlLookup, TransactionLookup, init},
    outbox::Lookup,
};
use mysql::prelude::Queryable;

const LOG: InitLog<'_> = InitLog {
    group: "g",
    topic: "t",
    partitions: 3,
};

fn id(number: u64) -> AccountId {
    AccountId::new(number).unwrap()
}

#[test]
fn rows_are_found_as_they_are_committed() {
    let Some(database) = server::database("rows_are_found_as_they_are_committed") else {
        return;
    };
    init(&database.settings, &LOG).unwrap();
    let mut conn = database.conn();
    conn.query_drop(
        "INSERT INTO accounts (id, user_id, shard_id, created_at, updated_at, state) VALUES \
         (7, 'ann', 2, '2026-01-02 03:04:05.678', NOW(), 'ACTIVE'), \
         (8, 'Ann', 0, NOW(), NOW(), 'PENDING')",
    )
    .unwrap();
    conn.query_drop(
        "INSERT INTO account_balances (account_id, currency_code, available, frozen, version, \
         created_at, updated_at) \
         VALUES (7, 'USDT', '12.340000000000000001', '0', 3, NOW(), '1970-01-01 00:00:01.5')",
    )
    .unwrap();
    let mut lookup = MysqlLookup::new(database.settings.clone());
    let ann = lookup.account(id(7)).unwrap().unwrap();
    assert_eq!((ann.user_id.as_str(), ann.shard_id), ("ann", 2));
    assert_eq!(ann.created_at_ms, 1_767_323_045_678);
    assert_eq!(lookup.account_of("ann").unwrap(), Some(ann));
    let pending = lookup.account_of("Ann").unwrap().unwrap();
    assert_eq!((pending.account_id, pending.state.as_str()), (8, "PENDING"));
    assert_eq!(lookup.account(id(9)).unwrap(), None);
    assert_eq!(lookup.account_of("ann ").unwrap(), None, "bytes, not text");

    // A connection that was ended while it was idle is no fault.
    assert_eq!(database.end_others(&mut conn), 1, "one serves them all");
    let balance = lookup.balance(id(7), "USDT").unwrap().unwrap();
    assert_eq!(balance.row.available, "12.340000000000000001");
    assert_eq!((balance.row.version, balance.updated_at_ms), (3, 1500));
    assert_eq!(lookup.balance(id(7), "usdt").unwrap(), None);
}

#[test]
fn ids_are_found_though_the_server_was_away_meanwhile() {
    let Some(database) = server::database("ids_are_found_though_the_server_was_away_meanwhile")
    else {
        return;
    };
    init(&database.settings, &LOG).unwrap();
    let mut conn = database.conn();
    let (group, topic) = (LOG.group.to_owned(), LOG.topic.to_owned());
    let mut lookup = TransactionLookup::new(database.settings.clone(), group, topic);
    assert_eq!(lookup.transaction("ann", "t-1").unwrap(), None);
    assert_eq!(database.end_others(&mut conn), 1);
    assert_eq!(lookup.transaction("ann", "t-1").unwrap(), None);
}

#[test]
fn a_ledger_is_read_page_by_page() {
    let Some(database) = server::database("a_ledger_is_read_page_by_page") else {
        return;
    };
    init(&database.settings, &LOG).unwrap();
    let mut conn = database.conn();
    let mut places = Vec::new();
    // Entries of two accounts, in two generations and partitions, some with several postings.
    for (generation, partition, offset, posting) in
        (0..120_u64).map(|n| (1 + n / 60, n / 30 % 2, n % 30 / 2, n % 2))
    {
        let account = 7 + u64::from(offset % 5 == 0);
        if account == 7 {
            places.push((generation, partition, offset, posting));
        }
        conn.query_drop(format!(
            "INSERT INTO balance_transactions (generation, `partition`, `offset`, posting, \
             account_id, currency_code, transaction_id, type, amount, available_before, \
             available_after, frozen_before, frozen_after, status, created_at, version) VALUES \
             ({generation}, {partition}, {offset}, {posting}, {account}, 'USDT', 't', 'DEPOSIT', \
             1, 0, 1, 0, 0, 'SUCCESS', NOW(), 1)"
        ))
        .unwrap();
    }
    let mut lookup = MysqlLookup::new(database.settings.clone());
    for size in [1, 7, 48, 1000] {
        let mut found = Vec::new();
        let mut behind = None;
        loop {
            let page = lookup.entries(id(7), behind, size).unwrap();
            assert!(page.len() <= size as usize);
            let Some(last) = page.last() else { break };
            behind = Some((last.generation, last.partition, last.offset, last.posting));
            found.extend(page.iter().map(|row| {
                let (generation, partition) = (row.generation.into(), row.partition.into());
                (generation, partition, row.offset, row.posting.into())
            }));
        }
        assert_eq!(found, places, "pages of {size}");
    }
}
