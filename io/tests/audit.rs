//! The audit is silent about what a node did, and names whatever is changed behind its back.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod support;

use std::path::Path;

use kilter_io::embedded::{
    CommandLog, DataDir, LegMover,
    audit::{AuditReport, audit},
};
use rusqlite::Connection;
use support::{NOW_MS, append, apply, mixture};

/// A directory with everything applied but the last twenty records, on three shards.
fn applied() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open_exclusive(temp.path()).unwrap();
    append(&dir, &mixture(400), NOW_MS);
    apply(&dir, 3, 37);
    append(&dir, &mixture(20)[23..], NOW_MS + 60_000);
    temp
}

fn audited(path: &Path) -> AuditReport {
    let dir = DataDir::open_for_reading(path).unwrap();
    audit(&dir, &mut |_| {}).unwrap()
}

#[test]
fn what_a_node_did_has_no_differences() {
    let temp = applied();
    let report = audited(temp.path());
    assert_eq!(report.first, Vec::<String>::new());
    assert_eq!((report.records, report.waiting), (423, 20));
    assert_eq!((report.accounts, report.balances), (20, 20));
    assert!(
        report.duplicates > 10 && report.dead_letters > 50,
        "{report:?}"
    );
    // Every committed record ended in one way; one OPEN was given twice.
    assert_eq!(
        report.entries + report.dead_letters + report.duplicates + report.accounts + 1,
        report.records
    );
}

/// An answered record, one whose balance failed it, the last of both, and a refused one (an OPEN
/// of another account by a user that has one).
const ENTRY: &str = "offset = (SELECT min(offset) FROM balance_transactions \
                     WHERE error_code IS NULL AND offset > 60)";
const FAILED: &str = "offset = (SELECT min(offset) FROM balance_transactions \
                      WHERE error_code IS NOT NULL AND version > 0)";
const LAST: &str = "offset = (SELECT max(offset) FROM balance_transactions)";
const REFUSED: &str = "offset = 21";

#[test]
fn every_kind_of_change_is_found_and_named() {
    let set = |table: &str, what: &str, which: &str| {
        (
            "store.db",
            format!("UPDATE {table} SET {what} WHERE {which}"),
        )
    };
    let ledger = |what: &str| set("balance_transactions", what, ENTRY);
    let letter = |what: &str| set("dead_letters", what, REFUSED);
    let balance = |what: &str| set("account_balances", what, "account_id = 4");
    let offsets = |what: &str| set("consumer_offsets", what, "1");
    let store = |sql: &str| ("store.db", sql.to_owned());
    let log = |sql: &str| ("log.db", sql.to_owned());
    let table = [
        (ledger("amount = '7.5'"), "amount is 7.5"),
        (ledger("amount = 'much'"), "amount is much"),
        (
            ledger("available_before = '1000'"),
            "available before is 1000",
        ),
        (ledger("available_after = '-1'"), "available after is -1"),
        (ledger("frozen_before = '3'"), "frozen before is 3"),
        (ledger("frozen_after = '3'"), "frozen after is 3"),
        (ledger("version = version + 1"), "version is"),
        (ledger("account_id = 99"), "account is 99"),
        (ledger("currency_code = 'EUR'"), "currency is EUR"),
        (
            ledger("transaction_id = 'other'"),
            "transaction id is other",
        ),
        (ledger("type = 'SETTLE'"), "type is SETTLE"),
        (ledger("created_at = created_at - 1"), "time is"),
        (
            ledger("remembered_at = created_at + 1"),
            "remembered time is",
        ),
        (
            ledger("error_code = 'BALANCE_OVERFLOW'"),
            "outcome is BALANCE_OVERFLOW",
        ),
        (
            set("balance_transactions", "error_code = NULL", FAILED),
            "outcome is SUCCESS",
        ),
        (ledger("posting = 1"), "its posting is 1, should be 0"),
        (ledger("posting = 16"), "posting 16, of no record"),
        (ledger("generation = 2"), "a ledger entry of no record"),
        (ledger("partition = 1"), "a ledger entry of no record"),
        (
            set("balance_transactions", "generation = 2", LAST),
            "generation 2",
        ),
        (
            set("balance_transactions", "partition = 1", LAST),
            "partition 1",
        ),
        (
            ledger("offset = 430"),
            "offset 430: the store has what this record did",
        ),
        (
            ledger("offset = 9999"),
            "offset 9999: a ledger entry of no record",
        ),
        (
            store(&format!("DELETE FROM balance_transactions WHERE {ENTRY}")),
            "0 ledger entries",
        ),
        (
            store(&format!("DELETE FROM balance_transactions WHERE {FAILED}")),
            "0 ledger entries",
        ),
        (
            balance("available = '12345'"),
            "account 4 USDT: available is 12345",
        ),
        (
            balance("frozen = '12345'"),
            "account 4 USDT: frozen is 12345",
        ),
        (balance("frozen = '-1'"), "account 4 USDT: negative"),
        (balance("version = 1"), "account 4 USDT: version 1"),
        (
            store("DELETE FROM account_balances WHERE account_id = 4"),
            "account 4 USDT: the balance is missing",
        ),
        (
            store("INSERT INTO account_balances VALUES (4, 'EUR', '1', '0', 1, 0, 0)"),
            "account 4 EUR",
        ),
        (letter("code = 'EXPIRED'"), "offset 21: refused as EXPIRED"),
        (
            letter("value = X'00'"),
            "offset 21: the dead letter's key or value",
        ),
        (
            letter("key = X'00'"),
            "offset 21: the dead letter's key or value",
        ),
        (
            letter("failed_at = 1"),
            "offset 21: the dead letter's time is 1",
        ),
        (
            letter("issued_at = 1"),
            "offset 21: the dead letter's issuedAt is Some(1)",
        ),
        (
            letter("generation = 2"),
            "offset 21: a dead letter of no record",
        ),
        (
            letter("offset = 9999"),
            "offset 9999: a dead letter of no record",
        ),
        (
            store(&format!("DELETE FROM dead_letters WHERE {REFUSED}")),
            "offset 21: should be refused",
        ),
        (
            store("UPDATE accounts SET user_id = X'00' WHERE id = 5"),
            "account 5 of user",
        ),
        (
            store("UPDATE accounts SET state = 'PENDING' WHERE id = 5"),
            "1 accounts are missing",
        ),
        (
            store("DELETE FROM accounts WHERE id = 5"),
            "1 accounts are missing",
        ),
        (
            store("INSERT INTO accounts VALUES (77, X'78', 0, 'ACTIVE', 0, 0)"),
            "account 77 of user",
        ),
        (offsets("offset = offset - 1"), "but it is not committed"),
        (offsets("offset = 9999"), "the store is at offset 9999"),
        (offsets("clock = 5"), "the offset row at 423"),
        (offsets("last_timestamp = 5"), "the offset row at 423"),
        (
            offsets("last_key_hash = '0000000000000005'"),
            "the offset row at 423",
        ),
        (
            store("DELETE FROM consumer_offsets WHERE first_hash = '0000000000000000'"),
            "but it is not committed",
        ),
        (
            log(
                "UPDATE records SET value = CAST(replace(CAST(value AS TEXT), 'DEPOSIT', 'FREEZE') AS BLOB) WHERE offset = 29",
            ),
            "offset 29",
        ),
        (
            log("DELETE FROM records WHERE offset = 100"),
            "offset 100 is missing",
        ),
        (
            log("DELETE FROM records WHERE offset > 400"),
            "offset 401: a ledger entry of no record",
        ),
        (
            log("UPDATE records SET mark = 0 WHERE offset = 3"),
            "offset 3: should be refused",
        ),
        (
            log("UPDATE records SET mark = 2 WHERE offset = 3"),
            "offset 3: should be refused",
        ),
        (
            log("DELETE FROM claims WHERE account_id = 7"),
            "1 claims are missing",
        ),
        (
            log("UPDATE claims SET user_id = CAST('thief' AS BLOB) WHERE account_id = 7"),
            "account 7 is claimed for user \"thief\"",
        ),
        (
            log("INSERT INTO claims VALUES (99, CAST('thief' AS BLOB))"),
            "account 99 is claimed for user \"thief\"",
        ),
    ];
    let temp = applied();
    let mut missed = Vec::new();
    for ((file, sql), line) in table {
        let copy = tempfile::tempdir().unwrap();
        for name in ["log.db", "store.db"] {
            std::fs::copy(temp.path().join(name), copy.path().join(name)).unwrap();
        }
        let conn = Connection::open(copy.path().join(file)).unwrap();
        assert!(conn.execute(&sql, ()).unwrap() > 0, "{sql}");
        drop(conn);
        let report = audited(copy.path());
        if report.differences == 0 || !report.first.iter().any(|found| found.contains(line)) {
            missed.push(format!("{sql}\n  wanted {line:?} in {report:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// A directory with transfers: one landed, one came back, and one whose refund has no room.
fn transferred() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open_exclusive(temp.path()).unwrap();
    let open = |user: u64| {
        format!(r#"{{"transactionId":"o","userId":"u-{user}","accountId":{user},"type":"OPEN"}}"#)
    };
    let moves = |id: &str, user: u64, kind: &str, amount: &str, to: &str| {
        format!(
            r#"{{"transactionId":"{id}","userId":"u-{user}","accountId":{user},"currencyCode":"USDT","type":"{kind}","amount":"{amount}"{to}}}"#
        )
    };
    let to = |user: u64| format!(r#","toUserId":"u-{user}","toAccountId":{user}"#);
    let commands: Vec<Vec<u8>> = [
        open(1),
        open(2),
        moves("d", 1, "DEPOSIT", "10", ""),
        moves("there", 1, "TRANSFER", "3", &to(2)),
        moves("back", 1, "TRANSFER", "2", &to(9)),
        moves("d", 2, "DEPOSIT", "999999999999999990", ""),
        moves("stuck", 2, "TRANSFER", "8", &to(9)),
        moves("full", 2, "DEPOSIT", "14", ""),
    ]
    .map(String::into_bytes)
    .to_vec();
    append(&dir, &commands, NOW_MS);
    apply(&dir, 2, 3);
    let mut mover = LegMover::open(&dir).unwrap();
    for turn in 0.. {
        let mut log = CommandLog::open(&dir, 86_400_000).unwrap();
        if mover.step(&mut log, NOW_MS + 1000 + turn).unwrap() == 0 {
            break;
        }
        drop(log);
        apply(&dir, 2, 3);
    }
    temp
}

#[test]
fn what_is_done_to_legs_is_found_and_named() {
    let temp = transferred();
    let report = audited(temp.path());
    assert_eq!(report.first, Vec::<String>::new());
    assert_eq!(
        report.in_flight.to_string(),
        "1 (1 of 8 USDT), 1 of them refused"
    );
    let legs = |what: &str, id: &str| {
        format!("UPDATE legs SET {what} WHERE transaction_id = '{id}' AND name LIKE '%CREDIT'")
    };
    let landed = |what: &str| {
        format!("UPDATE balance_transactions SET {what} WHERE type = 'CREDIT' AND amount = '3'")
    };
    let table = [
        (
            legs(
                "payload = CAST(replace(CAST(payload AS TEXT), '\"3\"', '\"4\"') AS BLOB)",
                "there",
            ),
            "0/3/0/CREDIT is",
        ),
        (legs("name = '1/0/99/0/CREDIT'", "there"), "nothing made it"),
        (
            "DELETE FROM legs WHERE transaction_id = 'stuck'".into(),
            "is missing",
        ),
        (
            "DELETE FROM legs WHERE name LIKE '%REFUND'".into(),
            "REFUND is missing",
        ),
        (landed("leg = '1/0/4/0/CREDIT'"), "leg is 1/0/4/0/CREDIT"),
        (landed("leg = NULL"), "leg is"),
        (landed("error_code = 'ACCOUNT_NOT_FOUND'"), "outcome is"),
        (landed("amount = '4'"), "amount is 4"),
    ];
    let mut missed = Vec::new();
    for (sql, line) in table {
        let copy = tempfile::tempdir().unwrap();
        for name in ["log.db", "store.db"] {
            std::fs::copy(temp.path().join(name), copy.path().join(name)).unwrap();
        }
        let conn = Connection::open(copy.path().join("store.db")).unwrap();
        assert!(conn.execute(&sql, ()).unwrap() > 0, "{sql}");
        drop(conn);
        let report = audited(copy.path());
        if report.differences == 0 || !report.first.iter().any(|found| found.contains(line)) {
            missed.push(format!("{sql}\n  wanted {line:?} in {report:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
