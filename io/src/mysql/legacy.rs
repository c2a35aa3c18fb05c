//! A database of the system before: checked, set aside under other names, and its rows taken over.
//!
//! Tables are renamed in one statement, and rows are copied in one transaction, so that a crash
//! anywhere is continued by the next `kilter init`. The old tables stay, as `prototype_…`.

use kilter_engine::partitioner::Partitioner;
use mysql::prelude::Queryable;

use super::{
    connection::Db,
    error::{MysqlError, failed},
    schema::InitLog,
};
use crate::hex::hex;

/// Tables that share a name with ours.
const TABLES: [&str; 6] = [
    "accounts",
    "account_balances",
    "balance_transactions",
    "consumer_offsets",
    "leader_locks",
    "outbox_events",
];

/// How many lines of each kind of fault are listed.
const LINES_MAX: usize = 100;

/// How many accounts are copied in one statement.
const CHUNK: usize = 1000;

/// What must not be, each with a query that lists it in words.
const FAULTS: &[(&str, &str)] = &[
    (
        "negative amounts",
        "SELECT CONCAT('account ', account_id, ' ', currency_code, ': available ', available, \
         ', frozen ', frozen) FROM account_balances WHERE available < 0 OR frozen < 0",
    ),
    (
        "two rows for one balance",
        "SELECT CONCAT('account ', account_id, ' ', MIN(currency_code), ': ', COUNT(*), ' rows') \
         FROM account_balances GROUP BY account_id, BINARY currency_code HAVING COUNT(*) > 1",
    ),
    (
        "one user with several accounts",
        "SELECT CONCAT('user ', MIN(user_id), ': ', COUNT(*), ' accounts') FROM accounts \
         GROUP BY BINARY user_id HAVING COUNT(*) > 1",
    ),
    (
        "users that are empty or longer than 64 bytes",
        "SELECT CONCAT('account ', id, ': a user of ', LENGTH(CONVERT(user_id USING utf8mb4)), \
         ' bytes') FROM accounts \
         WHERE LENGTH(CONVERT(user_id USING utf8mb4)) NOT BETWEEN 1 AND 64",
    ),
    (
        "account ids out of range",
        "SELECT CONCAT('account ', id) FROM accounts WHERE id < 1 OR id > 4611686018427387904",
    ),
    (
        "currencies that are no code",
        "SELECT CONCAT('account ', account_id, ': currency ', QUOTE(currency_code)) \
         FROM account_balances WHERE currency_code NOT REGEXP '^[A-Za-z0-9._-]{1,10}$'",
    ),
    (
        "balances without an account",
        "SELECT CONCAT('account ', b.account_id, ' ', b.currency_code) FROM account_balances AS b \
         LEFT JOIN accounts AS a ON a.id = b.account_id WHERE a.id IS NULL",
    ),
];

fn exists(db: &mut Db, table: &str) -> Result<bool, MysqlError> {
    let found: Option<u32> = db
        .conn
        .exec_first(
            "SELECT 1 FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = ?",
            (table,),
        )
        .map_err(failed("look for tables"))?;
    Ok(found.is_some())
}

/// Checks tables of the system before, and renames them. Nothing is changed if anything is wrong.
pub(super) fn set_aside(db: &mut Db) -> Result<Vec<String>, MysqlError> {
    let ours: Option<u32> = db
        .conn
        .query_first(
            "SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE() \
             AND table_name = 'accounts' AND column_name = 'state'",
        )
        .map_err(failed("look for tables"))?;
    let mut there = Vec::new();
    for table in TABLES {
        if exists(db, table)? {
            there.push(table);
        }
    }
    if ours.is_some() || there.is_empty() {
        return Ok(Vec::new());
    }
    if !there.contains(&"accounts") || !there.contains(&"account_balances") {
        return Err(MysqlError::Legacy {
            list: format!(
                "  the database has {}, which is neither ours nor the older system's",
                there.join(", ")
            ),
        });
    }
    check(db)?;
    let renames: Vec<String> = there
        .iter()
        .map(|table| format!("{table} TO prototype_{table}"))
        .collect();
    db.run(
        "rename the older tables",
        &format!("RENAME TABLE {}", renames.join(", ")),
    )?;
    Ok(vec![format!(
        "found the tables of an older system, and kept them as {}",
        there
            .iter()
            .map(|table| format!("prototype_{table}"))
            .collect::<Vec<_>>()
            .join(", ")
    )])
}

fn check(db: &mut Db) -> Result<(), MysqlError> {
    let mut list = String::new();
    for (what, sql) in FAULTS {
        let found: Vec<String> = db
            .conn
            .query(*sql)
            .map_err(failed("check the older tables"))?;
        if found.is_empty() {
            continue;
        }
        list.push_str(&format!("  {what}: {}\n", found.len()));
        for line in found.iter().take(LINES_MAX) {
            list.push_str(&format!("    {line}\n"));
        }
    }
    if list.is_empty() {
        Ok(())
    } else {
        Err(MysqlError::Legacy { list })
    }
}

/// Copies the rows of tables that were set aside, once, in one transaction.
pub(super) fn take_over(db: &mut Db, log: &InitLog<'_>) -> Result<Vec<String>, MysqlError> {
    if !exists(db, "prototype_accounts")? {
        return Ok(Vec::new());
    }
    let done: Option<u32> = db
        .conn
        .query_first("SELECT 1 FROM kilter_settings WHERE name = 'legacy'")
        .map_err(failed("read its settings"))?;
    if done.is_some() {
        return Ok(Vec::new());
    }
    db.run("begin to copy", "START TRANSACTION")?;
    match copy(db, log) {
        Ok(lines) => {
            db.run("commit the copy", "COMMIT")?;
            Ok(lines)
        }
        Err(error) => {
            db.roll_back();
            Err(error)
        }
    }
}

fn copy(db: &mut Db, log: &InitLog<'_>) -> Result<Vec<String>, MysqlError> {
    let accounts = copy_accounts(db, log.partitions)?;
    db.run(
        "copy balances",
        "INSERT INTO account_balances \
         (account_id, currency_code, available, frozen, version, created_at, updated_at) \
         SELECT account_id, currency_code, available, frozen, GREATEST(version, 1), \
         created_at, updated_at FROM prototype_account_balances",
    )?;
    let balances = db.conn.affected_rows();
    // The audit starts from these: each sets its balance to what it was.
    db.run(
        "write opening entries",
        "INSERT INTO balance_transactions \
         (generation, `partition`, `offset`, posting, account_id, currency_code, transaction_id, \
         type, amount, available_before, available_after, frozen_before, frozen_after, status, \
         error_message, created_at, version, remembered_ms) \
         SELECT 0, a.shard_id, ROW_NUMBER() OVER (ORDER BY b.account_id, b.currency_code) - 1, 0, \
         b.account_id, b.currency_code, CONCAT('opening-', b.account_id, '-', b.currency_code), \
         'OPENING', b.available, 0, b.available, 0, b.frozen, 'SUCCESS', NULL, \
         UTC_TIMESTAMP(3), b.version, NULL \
         FROM account_balances AS b JOIN accounts AS a ON a.id = b.account_id",
    )?;
    let mut lines = vec![format!(
        "took over {accounts} accounts and {balances} balances, each with an opening entry"
    )];
    if exists(db, "prototype_balance_transactions")? {
        db.run(
            "copy transaction ids",
            "INSERT IGNORE INTO kilter_legacy_ids (account_id, transaction_id, remembered_ms) \
             SELECT account_id, CAST(CONVERT(transaction_id USING utf8mb4) AS BINARY), \
             MAX(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', created_at) DIV 1000) \
             FROM prototype_balance_transactions WHERE status IN ('SUCCESS', 'FAILED') \
             AND created_at > UTC_TIMESTAMP() - INTERVAL 8 DAY \
             AND LENGTH(CONVERT(transaction_id USING utf8mb4)) BETWEEN 1 AND 64 \
             GROUP BY account_id, CAST(CONVERT(transaction_id USING utf8mb4) AS BINARY)",
        )?;
        lines.push(format!(
            "{} transaction ids of the last 8 days stay known for a window",
            db.conn.affected_rows()
        ));
    }
    if exists(db, "prototype_consumer_offsets")? {
        lines.push(copy_offsets(db, log)?);
    }
    lines.extend(unsent_events(db)?);
    db.run(
        "note the copy",
        "INSERT INTO kilter_settings (name, value) VALUES ('legacy', 'copied')",
    )?;
    Ok(lines)
}

/// Events of the older system's outbox that it never sent are told: nobody sends them any more.
fn unsent_events(db: &mut Db) -> Result<Option<String>, MysqlError> {
    let has_status: Option<u32> = db
        .conn
        .query_first(
            "SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE() \
             AND table_name = 'prototype_outbox_events' AND column_name = 'status'",
        )
        .map_err(failed("look for tables"))?;
    if has_status.is_none() {
        return Ok(None);
    }
    let count: Option<u64> = db
        .conn
        .query_first("SELECT COUNT(*) FROM prototype_outbox_events WHERE status <> 'SENT'")
        .map_err(failed("count the older system's events"))?;
    Ok(count.filter(|count| *count > 0).map(|count| {
        format!(
            "{count} events in prototype_outbox_events were never sent: whoever asked for them \
             has to ask again"
        )
    }))
}

/// Refuses a table of the outbox that is not ours, which an older schema of ours knows nothing of.
pub(super) fn refuse_foreign_outbox(db: &mut Db) -> Result<(), MysqlError> {
    let ours: Option<u32> = db
        .conn
        .query_first(
            "SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE() \
             AND table_name = 'outbox_events' AND column_name = 'open_hash'",
        )
        .map_err(failed("look for tables"))?;
    if ours.is_none() && exists(db, "outbox_events")? {
        return Err(MysqlError::Legacy {
            list: "  there is a table outbox_events that is not ours; rename it".into(),
        });
    }
    Ok(())
}

fn copy_accounts(db: &mut Db, partitions: u32) -> Result<u64, MysqlError> {
    let failed = failed("copy accounts");
    let (mut after, mut count) = (0_i64, 0);
    loop {
        let rows: Vec<(i64, Vec<u8>)> = db
            .conn
            .exec(
                "SELECT id, CAST(CONVERT(user_id USING utf8mb4) AS BINARY) \
                 FROM prototype_accounts WHERE id > ? ORDER BY id LIMIT ?",
                (after, CHUNK),
            )
            .map_err(failed)?;
        let Some((last, _)) = rows.last() else {
            return Ok(count);
        };
        after = *last;
        count += rows.len() as u64;
        let values: Vec<String> = rows
            .iter()
            .map(|(id, user)| {
                let partition = Partitioner::Murmur2.partition(user, partitions);
                format!(
                    "({id},x'{}',{partition},UTC_TIMESTAMP(3),UTC_TIMESTAMP(3),'ACTIVE')",
                    hex(user)
                )
            })
            .collect();
        db.run(
            "copy accounts",
            &format!(
                "INSERT INTO accounts (id, user_id, shard_id, created_at, updated_at, state) \
                 VALUES {}",
                values.join(",")
            ),
        )?;
    }
}

/// The older system may have stored the last record or the one behind it. Read as the next one: the
/// last record is applied once more at most, and its id is known.
fn copy_offsets(db: &mut Db, log: &InitLog<'_>) -> Result<String, MysqlError> {
    db.conn
        .exec_drop(
            "INSERT INTO consumer_offsets (consumer_group, topic, `partition`, first_hash, \
             last_hash, `offset`, updated_at, generation, clock_ms, last_key_hash, \
             last_timestamp_ms, term, epoch) \
             SELECT ?, ?, `partition`, 0, 18446744073709551615, GREATEST(`offset`, 0), \
             UTC_TIMESTAMP(3), 1, 0, 0, 0, 0, 0 FROM prototype_consumer_offsets \
             WHERE consumer_group = ? AND topic = ? AND `partition` < ?",
            (log.group, log.topic, log.group, log.topic, log.partitions),
        )
        .map_err(failed("copy offsets"))?;
    Ok(format!(
        "reading goes on at the older system's offsets of {} partitions",
        db.conn.affected_rows()
    ))
}
