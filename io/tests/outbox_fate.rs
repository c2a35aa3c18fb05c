//! What became of a sent event: applied, late and issued anew, or old enough to be trimmed. Against
//! real servers.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/outbox.rs"]
mod outbox;
#[path = "support/mysql.rs"]
mod server;

use std::{sync::atomic::Ordering, time::Duration};

use kilter_io::{
    mysql::TransactionLookup,
    outbox::{Lookup, Outcome, Status},
};
use outbox::*;

#[test]
fn what_was_issued_anew_is_not_its_doors_any_more() {
    let Some(mut bed) = bed("what_was_issued_anew_is_not_its_doors", 1) else {
        return;
    };
    // Long enough for the door to look for it many times first.
    bed.settings.relay_delay = Duration::from_secs(1);
    let front = Front::new(&bed.settings);
    left(&bed, "u-1", "before", "", 0);
    front.accept(deposit(1, "anew", "1"));
    bed.run("UPDATE outbox_events SET issues = 2 WHERE transaction_id = 'anew'");
    bed.run(
        "UPDATE outbox_events SET status = 'SENT', sent_generation = 1, sent_partition = 0, \
         sent_offset = 0 WHERE transaction_id = 'before'",
    );
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    assert_eq!(front.counters().produced.load(Ordering::Relaxed), 0);
    assert_eq!(bed.log().len(), 1, "the relay's copy alone");
    relay.end();
    front.end();
}

#[test]
fn what_expired_is_issued_anew_once_nothing_old_can_take_effect() {
    let Some(mut bed) = bed("what_expired_is_issued_anew", 1) else {
        return;
    };
    let window_ms = 60_000;
    bed.settings.window_ms = window_ms as u64;
    bed.settings.judge_interval = Duration::from_millis(50);
    // Sent in time, sent late, and applied by a copy that nobody saw.
    left(&bed, "u-1", "in-time", "", 1000);
    left(&bed, "u-2", "late", "", 40_000);
    left(&bed, "u-3", "landed", "", 40_000);
    let issued = |id: &str| {
        bed.number(&format!(
            "SELECT issued_at_ms FROM outbox_events WHERE transaction_id = '{id}'"
        )) as i64
    };
    let limit_ms = issued("late") + window_ms / 2;
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    assert_eq!(bed.count("late = 1"), 2);
    assert_eq!(bed.count("late = 0 AND transaction_id = 'in-time'"), 1);
    // As long as the committed clock is not past the limit, a copy may still take effect.
    commit(&bed, 3, limit_ms);
    answer(&bed, 3, "landed", 2);
    until("the other one is settled", || bed.count("late = 1") == 1);
    assert_eq!(bed.count("issues = 2"), 0);
    let mut lookup = TransactionLookup::new(
        bed.settings.mysql.clone(),
        bed.settings.kafka.group.clone(),
        bed.settings.kafka.commands.clone(),
    );
    let mut outcome = |user: &str, id: &str| -> Option<Outcome> {
        let state = lookup.transaction(user, id).unwrap();
        state.map(|state| state.outcome)
    };
    assert_eq!(outcome("u-2", "late").unwrap().status, Status::Pending);
    assert_eq!(outcome("u-1", "in-time").unwrap().status, Status::Refused);
    let failed = outcome("u-3", "landed").unwrap();
    assert_eq!(failed.status, Status::Failed);
    assert_eq!(failed.error_code.as_deref(), Some("INSUFFICIENT_AVAILABLE"));
    assert_eq!(outcome("u-1", "late"), None);
    assert_eq!(outcome("u-2", "LATE"), None);
    commit(&bed, 3, limit_ms + 1);
    until("it is issued anew", || bed.count("issues = 2") == 1);
    bed.wait_until_sent();
    assert_eq!(
        bed.count("issues = 2 AND transaction_id = 'late' AND late = 0 AND sent_offset = 3"),
        1
    );
    assert!(issued("late") > limit_ms);
    assert_eq!(relay.counters.issued_anew.load(Ordering::Relaxed), 1);
    assert_eq!(outcome("u-2", "late").unwrap().status, Status::Pending);
    commit(&bed, 4, limit_ms + 1);
    answer(&bed, 2, "late", 3);
    assert_eq!(outcome("u-2", "late").unwrap().status, Status::Failed);
    relay.end();
}

/// A transfer's debit, its credit that failed, and the refund on its way.
#[test]
fn a_transfer_is_shown_with_its_legs() {
    let Some(bed) = bed("a_transfer_is_shown_with_its_legs", 1) else {
        return;
    };
    left(&bed, "u-1", "t", "", 1000);
    let mut settings = bed.settings.clone();
    settings.judge_interval = Duration::from_millis(50);
    let relay = RelayThread::new(&settings);
    bed.wait_until_sent();
    // The same id of another debtor, whose leg must not pass for this one.
    left(&bed, "u-2", "t", "1/0/0/0/CREDIT", 1000);
    left(&bed, "u-2", "t", "1/0/9/0/CREDIT", 1000);
    bed.wait_until_sent();
    left(&bed, "u-1", "t", "1/0/0/0/REFUND", 1000);
    bed.wait_until_sent();
    let entry = |offset: u64, account: u64, kind: &str, leg: &str, failed: bool| {
        let (status, code) = match failed {
            true => ("FAILED", "'BALANCE_OVERFLOW'"),
            false => ("SUCCESS", "NULL"),
        };
        bed.run(&format!(
            "INSERT INTO balance_transactions VALUES (1, 0, {offset}, 0, {account}, 'USDT', 't', \
             '{kind}', 1, 0, 1, 0, 0, '{status}', {code}, UTC_TIMESTAMP(3), 1, NULL, {leg}, NULL)"
        ));
    };
    let offset = |leg: &str| {
        bed.number(&format!(
            "SELECT sent_offset FROM outbox_events WHERE leg = '{leg}'"
        ))
    };
    entry(0, 1, "TRANSFER", "NULL", false);
    commit(&bed, 3, 1000);
    entry(
        offset("1/0/0/0/CREDIT"),
        2,
        "CREDIT",
        "'1/0/0/0/CREDIT'",
        true,
    );
    let mut lookup = TransactionLookup::new(
        bed.settings.mysql.clone(),
        bed.settings.kafka.group.clone(),
        bed.settings.kafka.commands.clone(),
    );
    let state = lookup.transaction("u-1", "t").unwrap().unwrap();
    assert_eq!(state.outcome.status, Status::Success);
    let legs: Vec<(&str, Status)> = state
        .legs
        .iter()
        .map(|leg| (leg.name.as_str(), leg.outcome.status))
        .collect();
    assert_eq!(
        legs,
        [
            ("1/0/0/0/CREDIT", Status::Failed),
            ("1/0/0/0/REFUND", Status::Pending)
        ]
    );
    assert_eq!(lookup.transaction("u-2", "t").unwrap(), None);
    relay.end();
}

#[test]
fn a_leg_that_expired_is_issued_anew_until_the_ledger_has_its_name() {
    let Some(mut bed) = bed("a_leg_that_expired_is_issued_anew", 1) else {
        return;
    };
    bed.settings.window_ms = 60_000;
    bed.settings.judge_interval = Duration::from_millis(50);
    left(&bed, "u-2", "t", "1/0/0/0/CREDIT", 40_000);
    left(&bed, "u-2", "t", "1/0/9/0/CREDIT", 40_000);
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    assert_eq!(bed.count("late = 1"), 2);
    // Of the two of one client's id, one has landed.
    bed.run(
        "INSERT INTO balance_transactions VALUES (1, 0, 77, 0, 2, 'USDT', 't', 'CREDIT', 1, 0, 1, \
         0, 0, 'SUCCESS', NULL, UTC_TIMESTAMP(3), 1, NULL, '1/0/9/0/CREDIT', NULL)",
    );
    commit(&bed, 2, i64::MAX);
    until("the other one is issued anew and sent", || {
        bed.count("issues = 2 AND status = 'SENT' AND late = 0") == 1
    });
    assert_eq!(bed.count("issues = 2 AND leg = '1/0/0/0/CREDIT'"), 1);
    until("the one that landed is settled", || {
        bed.count("issues = 1 AND status = 'SENT' AND late = 0") == 1
    });
    relay.end();
}

#[test]
fn payloads_are_trimmed_and_keys_never() {
    let Some(mut bed) = bed("payloads_are_trimmed_and_keys_never", 1) else {
        return;
    };
    bed.settings.window_ms = 1000;
    bed.settings.trim_age = Duration::from_secs(60);
    bed.settings.trim_bite = 7;
    bed.settings.trim_interval = Duration::from_millis(10);
    bed.settings.trim_round = Duration::from_millis(50);
    for n in 0..30 {
        left(&bed, "u-1", &format!("old-{n}"), "", 70_000);
    }
    left(&bed, "u-2", "t", "1/0/0/0/CREDIT", 70_000);
    bed.run(
        "UPDATE outbox_events SET status = 'SENT', sent_generation = 1, sent_partition = 0, \
         sent_offset = id",
    );
    bed.run("UPDATE outbox_events SET late = 1 WHERE transaction_id = 'old-20'");
    left(&bed, "u-1", "young", "", 0);
    bed.run("UPDATE outbox_events SET status = 'SENT' WHERE transaction_id = 'young'");
    // The epoch up to here is committed, so that what has no entry was refused.
    commit(&bed, 26, 1000);
    let relay = RelayThread::new(&bed.settings);
    // What is open, not committed, or a leg that has not landed keeps its payload, and is passed.
    until("a part is trimmed", || bed.count("payload IS NULL") == 24);
    assert_eq!(bed.count("payload IS NULL AND (late = 1 OR id > 25)"), 0);
    bed.run("UPDATE outbox_events SET late = 0");
    commit(&bed, 100, 1000);
    until("the rest is trimmed", || bed.count("payload IS NULL") == 30);
    assert_eq!(bed.count("payload IS NOT NULL AND leg <> ''"), 1);
    // Landed by a copy that was not the one marked: its place is kept instead.
    bed.run(
        "INSERT INTO balance_transactions SELECT 1, 0, 90, 0, 2, 'USDT', 't', 'CREDIT', 1, 0, 1, \
         0, 0, 'SUCCESS', NULL, created_at, 1, NULL, leg, NULL FROM outbox_events WHERE leg <> ''",
    );
    until("the leg is trimmed", || {
        bed.count("payload IS NULL AND leg <> '' AND sent_offset = 90") == 1
    });
    assert_eq!(
        bed.count("payload IS NOT NULL AND transaction_id = 'young'"),
        1
    );
    assert_eq!(bed.count("1"), 32);
    relay.end();
}
