//! What passes by itself at the store is waited for, and the transaction tried again whole.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/node.rs"]
mod node;
#[path = "support/mysql.rs"]
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kilter_engine::HashRange;
use kilter_io::mysql::{MysqlError, MysqlSettings, MysqlWriter, Watch, init};
use mysql::prelude::Queryable;
use node::*;

/// Counts tries that failed.
#[derive(Default)]
struct Retries(AtomicU64);

impl Watch for Retries {
    fn retrying(&self, _why: &MysqlError) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn writer(node: &Node, settings: &MysqlSettings) -> (MysqlWriter, Arc<Retries>) {
    let retries = Arc::<Retries>::default();
    let watch: Arc<dyn Watch> = retries.clone();
    let writer = MysqlWriter::open(node.settings(settings), watch).unwrap();
    (writer, retries)
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        // The server's list of transactions is only made anew when nobody asked for 100 ms.
        std::thread::sleep(Duration::from_millis(150));
    }
    panic!("waited too long for {what}");
}

#[test]
fn the_victim_of_a_deadlock_tries_again() {
    let Some(database) = server::database("the_victim_of_a_deadlock_tries_again") else {
        return;
    };
    init(&database.settings, &LOG).unwrap();
    let mut node = node(&database.settings, TTL, &[HashRange::ALL]);
    let (mut writer, retries) = writer(&node, &database.settings);
    let mut first = deposit(0, 1);
    add_deposit(&mut first, 9, 1, 1);
    node.commit(&mut writer, &cut(1, 2), first).unwrap();
    // Somebody who changed much, so that the server lets the epoch go and not this one.
    let mut other = database.conn();
    other
        .query_drop("CREATE TABLE ballast (n INT PRIMARY KEY)")
        .unwrap();
    other.query_drop("START TRANSACTION").unwrap();
    let values: Vec<String> = (0..20_000).map(|n| format!("({n})")).collect();
    other
        .query_drop(format!("INSERT INTO ballast VALUES {}", values.join(",")))
        .unwrap();
    let lock = |account: u64| {
        format!("SELECT 1 FROM account_balances WHERE account_id = {account} FOR UPDATE")
    };
    other.query_drop(lock(9)).unwrap();
    let epoch = std::thread::spawn(move || {
        let mut second = deposit(2, 2);
        add_deposit(&mut second, 9, 3, 2);
        node.commit(&mut writer, &cut(2, 4), second).map(drop)
    });
    let mut look = database.conn();
    wait_until("the epoch to wait for account 9", || {
        let waits: Option<u64> = look
            .query_first(
                "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
            )
            .unwrap();
        waits != Some(0)
    });
    // Now each waits for the other.
    other.query_drop(lock(7)).unwrap();
    wait_until("the epoch to be let go", || {
        retries.0.load(Ordering::Relaxed) > 0
    });
    other.query_drop("ROLLBACK").unwrap();
    epoch.join().unwrap().unwrap();
    assert_eq!(count(&database, "balance_transactions"), 4);
    let versions: Vec<u64> = database
        .conn()
        .query("SELECT version FROM account_balances ORDER BY account_id")
        .unwrap();
    assert_eq!(versions, [2, 2]);
}

#[test]
fn a_read_only_server_is_waited_for() {
    let name = "a_read_only_server_is_waited_for";
    let Some(database) = server::database(name) else {
        return;
    };
    init(&database.settings, &LOG).unwrap();
    // A user as an installation should have: one whom read_only binds.
    let user = format!("{}_u", database.settings.database);
    let mut root = database.conn();
    let made = root
        .query_drop(format!(
            "CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'plain'"
        ))
        .and_then(|()| {
            root.query_drop(format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES ON {}.* \
                 TO {user}@'127.0.0.1'",
                database.settings.database
            ))
        });
    if let Err(error) = made {
        println!("SKIPPED {name}: no user can be made: {error}");
        return;
    }
    let settings = MysqlSettings {
        user: user.clone(),
        password: "plain".into(),
        ..database.settings.clone()
    };
    let mut node = node(&settings, Duration::from_secs(60), &[HashRange::ALL]);
    let (mut writer, retries) = writer(&node, &settings);
    node.commit(&mut writer, &cut(1, 1), deposit(0, 1)).unwrap();
    root.query_drop("SET GLOBAL read_only = 1").unwrap();
    let epoch = std::thread::spawn(move || {
        node.commit(&mut writer, &cut(2, 2), deposit(1, 2))
            .map(drop)
    });
    wait_until("a try that fails", || retries.0.load(Ordering::Relaxed) > 1);
    root.query_drop("SET GLOBAL read_only = 0").unwrap();
    epoch.join().unwrap().unwrap();
    assert_eq!(count(&database, "balance_transactions"), 2);
    root.query_drop(format!("DROP USER {user}@'127.0.0.1'"))
        .unwrap();
}
