//! A store that somebody else has changed.

use mysql::prelude::Queryable;

use crate::stack::Stack;

/// One ledger entry.
const ENTRY: &str = "generation = 1 AND account_id = 7 AND status = 'SUCCESS' ORDER BY `offset` \
                     LIMIT 1";

/// A table, what is done to it, whether the log is applied once more, and what must be said.
const CASES: &[(&str, &str, bool, &[&str])] = &[
    (
        "account_balances",
        "UPDATE account_balances SET available = available + 0.000000000000000001 \
             WHERE account_id = 7",
        true,
        &["balances: 1", "account 7 USDT: available is", "replay: 1"],
    ),
    (
        "account_balances",
        "UPDATE account_balances SET frozen = -1 WHERE account_id = 8",
        false,
        &["balances: 2", "less than nothing", "frozen is -1"],
    ),
    (
        "account_balances",
        "UPDATE account_balances SET version = version + 1 WHERE account_id = 7",
        false,
        &["balances: 1", "account 7 USDT: version is"],
    ),
    (
        "account_balances",
        "DELETE FROM account_balances WHERE account_id = 9",
        false,
        &["balances: 1", "account 9 USDT: the balance is missing"],
    ),
    (
        "account_balances",
        "INSERT INTO account_balances VALUES (9, 'BTC', 1, 0, 1, NOW(), NOW())",
        true,
        &[
            "account 9 BTC: a balance that no ledger entry made",
            "account 9 BTC: a balance that the log does not make",
        ],
    ),
    (
        "balance_transactions",
        "DELETE FROM balance_transactions WHERE {entry}",
        true,
        &["ledger: ", "the entries before it make it", "is missing"],
    ),
    (
        "balance_transactions",
        "INSERT INTO balance_transactions SELECT generation, `partition`, `offset`, 1, \
             account_id, currency_code, transaction_id, type, amount, available_before, \
             available_after, frozen_before, frozen_after, status, error_message, created_at, \
             version, remembered_ms, leg, leg_user FROM copy_of_balance_transactions WHERE {entry}",
        true,
        &["ledger: ", "posting 1", "the log does not make it"],
    ),
    (
        "balance_transactions",
        "INSERT INTO balance_transactions SELECT generation, `partition`, 0, 0, \
             account_id, currency_code, transaction_id, type, amount, available_before, \
             available_after, frozen_before, frozen_after, status, error_message, created_at, \
             version, remembered_ms, leg, leg_user FROM copy_of_balance_transactions WHERE {entry}",
        true,
        &[
            "ledger: ",
            "transaction ids: 1",
            "was answered before",
            "the log does not make it",
        ],
    ),
    (
        "balance_transactions",
        "UPDATE balance_transactions SET amount = amount + 1 WHERE {entry}",
        true,
        &["ledger: 1", "should be", "replay: 1", "amount is"],
    ),
    (
        "balance_transactions",
        "UPDATE balance_transactions SET transaction_id = 'another' WHERE {entry}",
        true,
        &[
            "replay: 1",
            "transactionId is \"another\", the log makes it",
        ],
    ),
    (
        "consumer_offsets",
        "UPDATE consumer_offsets SET `offset` = `offset` - 9 WHERE `partition` = 1 \
             AND first_hash = 0",
        true,
        &["offsets: ", "it is not committed", "log: 1", "partition 1"],
    ),
    (
        "consumer_offsets",
        "UPDATE consumer_offsets SET `offset` = `offset` + 9 WHERE `partition` = 1 \
             AND first_hash = 0",
        false,
        &["log: 1", "partition 1"],
    ),
    (
        "consumer_offsets",
        "UPDATE consumer_offsets SET last_hash = last_hash - 1 WHERE `partition` = 2 \
             AND first_hash = 0",
        false,
        &["offsets: 1", "do not speak of every hash once"],
    ),
    (
        "consumer_offsets",
        "UPDATE consumer_offsets SET clock_ms = clock_ms + 1 WHERE `partition` = 2",
        true,
        &["replay: 2", "partition 2"],
    ),
    (
        "accounts",
        "UPDATE accounts SET state = 'PENDING' WHERE id = 7",
        true,
        &["accounts: 2", "account 7", "PENDING", "replay: "],
    ),
    (
        "accounts",
        "UPDATE accounts SET shard_id = shard_id + 1 WHERE id = 7",
        false,
        &["accounts: 1", "account 7: its shard_id is"],
    ),
    (
        "accounts",
        "DELETE FROM accounts WHERE id = 7",
        false,
        &["accounts: 2", "is not there"],
    ),
    (
        "accounts",
        "INSERT INTO accounts VALUES (1000, 'stranger', 0, NOW(), NOW(), 'ACTIVE')",
        true,
        &["replay: 1", "the log does not open it"],
    ),
];

/// Runs the audit after a statement, expects these words, and undoes it.
pub fn tampered(stack: &Stack, change: &str, undo: &[&str], replay: bool, words: &[&str]) {
    let mut conn = stack.conn();
    conn.query_drop(change).unwrap();
    assert_ne!(conn.affected_rows(), 0, "{change}");
    let args = if replay {
        &["audit", "--replay"][..]
    } else {
        &["audit"]
    };
    let said = stack.no(args);
    println!("{change}\n{said}");
    for words in words {
        assert!(said.contains(words), "{change}: {words:?} not in {said}");
    }
    for statement in undo {
        conn.query_drop(*statement).unwrap();
    }
}

/// Does all of that, each by itself.
pub fn tampering(stack: &Stack) {
    let mut conn = stack.conn();
    // A copy of everything, to restore from.
    for table in [
        "accounts",
        "account_balances",
        "balance_transactions",
        "consumer_offsets",
    ] {
        conn.query_drop(format!("CREATE TABLE copy_of_{table} LIKE {table}"))
            .unwrap();
        conn.query_drop(format!("INSERT INTO copy_of_{table} SELECT * FROM {table}"))
            .unwrap();
    }
    let restore = |table: &str| {
        [
            format!("DELETE FROM {table}"),
            format!("INSERT INTO {table} SELECT * FROM copy_of_{table}"),
        ]
    };
    for (table, change, replay, words) in CASES {
        let undo = restore(table);
        let undo = [undo[0].as_str(), undo[1].as_str()];
        let change = change.replace("{entry}", ENTRY);
        tampered(stack, &change, &undo, *replay, words);
    }
}
