//! The MySQL store's side of an epoch: once, under the right term, from the right offsets, whatever
//! happens to the connection. Against a real server.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/node.rs"]
mod node;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/mysql.rs"]
mod server;

use std::{net::ToSocketAddrs, sync::Arc, time::Duration};

use kilter_engine::{
    AccountId, EpochNumber, HashRange, Offset, Term,
    epoch::{EpochPart, OffsetRow, OpenedAccount},
    notes::{Note, NoteKind},
    store::Committed,
};
use kilter_io::mysql::{
    Claims, Db, Lease, MysqlError, MysqlWriter, StoreSettings, Wish, add_note, init, owner_name,
    store_settings,
};
use mysql::prelude::Queryable;
use node::*;
use proxy::{Proxy, Trick};

/// A fresh database with the tables, or a return.
macro_rules! database {
    ($name:literal) => {
        match server::database($name) {
            Some(database) => {
                init(&database.settings, &node::LOG).unwrap();
                database
            }
            None => return,
        }
    };
}

#[test]
fn an_epoch_goes_in_whole_and_exact() {
    let database = database!("an_epoch_goes_in_whole_and_exact");
    for local_infile in [true, false] {
        let mut settings = database.settings.clone();
        settings.local_infile = local_infile;
        let mut conn = database.conn();
        for table in [
            "account_balances",
            "balance_transactions",
            "consumer_offsets",
        ] {
            conn.query_drop(format!("DELETE FROM {table}")).unwrap();
        }
        let mut node = node::node(&settings, TTL, &[HashRange::ALL]);
        let mut writer = node.writer(&settings);
        assert_eq!(writer.loads_data(), local_infile);
        node.commit(&mut writer, &cut(1, 3), deposit(0, 1)).unwrap();
        node.commit(&mut writer, &cut(2, 30_000), deposits(4, 20_000))
            .unwrap();
        node.commit(&mut writer, &cut(3, 30_001), deposit(30_000, 2))
            .unwrap();
        assert_eq!(count(&database, "account_balances"), 20_001);
        assert_eq!(count(&database, "balance_transactions"), 20_002);
        type Row = (String, String, u64, String, Vec<u8>);
        let row: Row = conn
            .query_first(
                "SELECT CAST(b.available AS CHAR), CAST(t.available_before AS CHAR), b.version, \
                 CAST(t.created_at AS CHAR), t.transaction_id \
                 FROM account_balances AS b JOIN balance_transactions AS t USING (account_id) \
                 WHERE account_id = 7 AND t.`offset` = 30000",
            )
            .unwrap()
            .unwrap();
        assert_eq!(row.0, "0.000000000000000002");
        assert_eq!(row.1, "0.000000000000000001");
        assert_eq!(row.2, 2);
        assert_eq!(row.3, "1970-01-01 00:00:01.000");
        assert_eq!(row.4, b"t-\\\t\n'30000");
        node.lease.release(&mut node.db, &node.taken, true).unwrap();
    }
}

#[test]
fn what_is_known_is_committed_before() {
    let database = database!("what_is_known_is_committed_before");
    let mut node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let mut writer = node.writer(&database.settings);
    let rows = node.started.rows.clone();
    let now = node.commit(&mut writer, &cut(1, 3), deposit(0, 1)).unwrap();
    assert_eq!(now, Committed::Now);
    let once = dump(&database);
    node.started.rows = rows;
    let again = node.commit(&mut writer, &cut(1, 3), deposit(0, 1)).unwrap();
    assert_eq!(again, Committed::Before);
    assert_eq!(dump(&database), once);
}

#[test]
fn connections_that_break_anywhere_change_nothing() {
    let database = database!("connections_that_break_anywhere_change_nothing");
    let address = (database.settings.host.as_str(), database.settings.port)
        .to_socket_addrs()
        .unwrap()
        .next()
        .unwrap();
    let proxy = Proxy::to(address);
    let mut through = database.settings.clone();
    through.host = "127.0.0.1".into();
    through.port = proxy.port();
    let mut node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let mut writer = node.writer(&through);
    let tricks = [
        Trick::Before("COMMIT"),
        Trick::After("COMMIT"),
        Trick::Before("START TRANSACTION"),
        Trick::After("LOAD DATA LOCAL"),
        Trick::Within("INTO TABLE kilter_staging", 30_000),
        Trick::Within("INTO TABLE balance_transactions", 100_000),
        Trick::After("INSERT INTO account_balances"),
        Trick::After("LOCK IN SHARE MODE"),
        Trick::Before("INSERT INTO consumer_offsets"),
    ];
    let each = 2000;
    for (n, trick) in tricks.iter().enumerate() {
        let n = n as u64;
        proxy.play(trick.clone());
        let end = (n + 1) * each;
        node.commit(&mut writer, &cut(n + 1, end), deposits(n * each, each))
            .unwrap_or_else(|error| panic!("{trick:?}: {error:?}"));
        assert_eq!(proxy.played(), n + 1, "{trick:?} was not played");
        assert_eq!(count(&database, "balance_transactions"), end, "{trick:?}");
        assert_eq!(count(&database, "account_balances"), end, "{trick:?}");
    }
}

#[test]
fn locks_and_timeouts_are_tried_again_whole() {
    let database = database!("locks_and_timeouts_are_tried_again_whole");
    let mut settings = database.settings.clone();
    settings.lock_timeout = Duration::from_secs(1);
    let mut node = node::node(&settings, TTL, &[HashRange::ALL]);
    let mut writer = node.writer(&settings);
    node.commit(&mut writer, &cut(1, 1), deposit(0, 1)).unwrap();
    // Somebody holds the balance for longer than the lock's timeout.
    let mut other = database.conn();
    other.query_drop("START TRANSACTION").unwrap();
    other
        .query_drop("SELECT * FROM account_balances WHERE account_id = 7 FOR UPDATE")
        .unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(2500));
        other.query_drop("ROLLBACK").unwrap();
    });
    let mut part = deposit(1, 2);
    add_deposit(&mut part, 3, 2, 1);
    node.commit(&mut writer, &cut(2, 3), part).unwrap();
    release.join().unwrap();
    assert_eq!(count(&database, "account_balances"), 2);
    assert_eq!(count(&database, "balance_transactions"), 3);
}

#[test]
fn an_old_owner_commits_nothing() {
    let database = database!("an_old_owner_commits_nothing");
    let mut old = node::node(
        &database.settings,
        Duration::from_secs(1),
        &[HashRange::ALL],
    );
    let mut writer = old.writer(&database.settings);
    old.commit(&mut writer, &cut(1, 1), deposit(0, 1)).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let mut new = node::node(&database.settings, TTL, &[HashRange::ALL]);
    assert_eq!(new.taken.term, Term::new(old.taken.term.get() + 1));
    let before = dump(&database);
    let error = old
        .commit(&mut writer, &cut(2, 2), deposit(1, 2))
        .unwrap_err();
    assert!(error.is_fenced(), "{error}");
    assert_eq!(dump(&database), before);
    let error = old.lease.renew(&mut old.db, &old.taken).unwrap_err();
    assert!(error.is_fenced(), "{error}");
    let mut writer = new.writer(&database.settings);
    new.commit(&mut writer, &cut(2, 2), deposit(1, 2)).unwrap();
}

#[test]
fn a_stopped_owner_in_a_transaction_is_killed_by_the_taker() {
    let database = database!("a_stopped_owner_in_a_transaction_is_killed_by_the_taker");
    let address = (database.settings.host.as_str(), database.settings.port)
        .to_socket_addrs()
        .unwrap()
        .next()
        .unwrap();
    let proxy = Proxy::to(address);
    let mut through = database.settings.clone();
    through.host = "127.0.0.1".into();
    through.port = proxy.port();
    // Long enough that wait_timeout does not end the connection first.
    let mut old = node::node(
        &database.settings,
        Duration::from_secs(30),
        &[HashRange::ALL],
    );
    let mut writer = old.writer(&through);
    old.commit(&mut writer, &cut(1, 1), deposit(0, 1)).unwrap();
    // The clock of the lease is the database's: make it expire there.
    proxy.hold(true);
    let epoch = std::thread::spawn(move || {
        let result = old.commit(&mut writer, &cut(2, 2), deposit(1, 2));
        (result.map_err(|error| error.is_fenced()), old)
    });
    std::thread::sleep(Duration::from_millis(200));
    database
        .conn()
        .query_drop("UPDATE leader_locks SET expires_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
        .unwrap();
    let mut new = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let mut writer = new.writer(&database.settings);
    new.commit(&mut writer, &cut(2, 2), deposit(1, 2)).unwrap();
    let after = dump(&database);
    proxy.hold(false);
    let (result, _old) = epoch.join().unwrap();
    assert_eq!(result, Err(true));
    assert_eq!(dump(&database), after);
}

#[test]
fn an_expired_lease_that_nobody_took_is_regained() {
    let database = database!("an_expired_lease_that_nobody_took_is_regained");
    let mut node = node::node(
        &database.settings,
        Duration::from_secs(1),
        &[HashRange::ALL],
    );
    std::thread::sleep(Duration::from_millis(1200));
    node.lease.renew(&mut node.db, &node.taken).unwrap();
    let mut other = Db::open(&database.settings).unwrap();
    let taken = Lease::new(owner_name(), TTL)
        .take(&mut other, 1, usize::MAX)
        .unwrap();
    assert!(taken.partitions.is_empty());
}

#[test]
fn the_record_that_the_store_refuses_is_named() {
    let database = database!("the_record_that_the_store_refuses_is_named");
    for local_infile in [true, false] {
        let mut settings = database.settings.clone();
        settings.local_infile = local_infile;
        let mut node = node::node(&settings, TTL, &[HashRange::ALL]);
        let mut writer = node.writer(&settings);
        // With the ledger on the topic there are no entries to halve.
        let mut without_ledger = node.settings(&settings);
        (without_ledger.ledger, without_ledger.index) = (false, 1);
        let mut without_ledger = MysqlWriter::open(without_ledger, Arc::new(())).unwrap();
        let mut conn = database.conn();
        let base = if local_infile { 0 } else { 5000 };
        node.commit(&mut writer, &cut(base + 1, base + 1), deposits(base, 1))
            .unwrap();
        let before = dump(&database);
        for (ledger, table, column, wanted) in [
            (true, "balance_transactions", "`offset`", base + 777),
            (true, "account_balances", "account_id", base + 1777),
            (false, "account_balances", "account_id", base + 1777),
        ] {
            conn.query_drop(format!(
                "CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW IF NEW.{column} = \
                 {wanted} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF"
            ))
            .unwrap();
            let mut part = deposits(base + 1, 1000);
            let writer = if ledger {
                &mut writer
            } else {
                part.ledger.clear();
                &mut without_ledger
            };
            let error = node
                .commit(writer, &cut(base + 2, base + 1001), part)
                .unwrap_err();
            let MysqlError::Row { offset, why, .. } = &error else {
                panic!("{table} {error:?}");
            };
            assert_eq!(*offset, base + 777, "{table}: {why}");
            assert!(why.contains("not this one"), "{why}");
            assert!(error.to_string().contains("kilter log refuse"), "{error}");
            assert_eq!(dump(&database), before);
            conn.query_drop("DROP TRIGGER refuse").unwrap();
        }
        node.lease.release(&mut node.db, &node.taken, true).unwrap();
    }
}

#[test]
fn rows_that_are_there_already_roll_the_epoch_back() {
    let database = database!("rows_that_are_there_already_roll_the_epoch_back");
    let mut node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let mut writer = node.writer(&database.settings);
    node.commit(&mut writer, &cut(1, 1), deposit(0, 1)).unwrap();
    let before = dump(&database);
    // The same ledger position; the same version of a balance; a balance that should be there.
    let mut skips = deposit(1, 3);
    skips.balances[0].account_id = AccountId::new(8).unwrap();
    for part in [deposit(0, 2), deposit(1, 1), skips] {
        assert!(node.commit(&mut writer, &cut(2, 2), part).is_err());
        assert_eq!(dump(&database), before);
    }
    node.commit(&mut writer, &cut(2, 2), deposit(1, 2)).unwrap();
}

#[test]
fn accounts_belong_to_one_user_and_become_active_once() {
    let database = database!("accounts_belong_to_one_user_and_become_active_once");
    let mut node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let wish = |id: u64, user: &str| Wish {
        account_id: AccountId::new(id).unwrap(),
        user: user.into(),
        partition: P0,
    };
    let mut claims = Claims::default();
    let mut settle =
        |node: &mut Node, wishes: &[Wish]| claims.settle(&mut node.db, wishes).unwrap();
    let wishes = [
        wish(2, "b"),
        wish(1, "a"),
        wish(1, "thief"),
        wish(3, "a"),
        wish(4, "A"),
        wish(5, "a "),
        wish(1, "a"),
    ];
    let verdicts = [true, true, false, false, true, true, true];
    assert_eq!(settle(&mut node, &wishes), verdicts);
    assert_eq!(settle(&mut node, &wishes), verdicts);
    // What failed claimed nothing.
    assert_eq!(settle(&mut node, &[wish(3, "c")]), [true]);
    let mut writer = node.writer(&database.settings);
    let part = EpochPart {
        opened: vec![OpenedAccount {
            account_id: AccountId::new(1).unwrap(),
            user_id: "a".into(),
            time_ms: 1000,
        }],
        ..EpochPart::default()
    };
    let unclaimed = EpochPart {
        opened: vec![OpenedAccount {
            account_id: AccountId::new(99).unwrap(),
            user_id: "nobody".into(),
            time_ms: 1000,
        }],
        ..EpochPart::default()
    };
    assert!(node.commit(&mut writer, &cut(1, 1), unclaimed).is_err());
    node.commit(&mut writer, &cut(1, 1), part).unwrap();
    let active: Vec<u64> = database
        .conn()
        .query("SELECT id FROM accounts WHERE state = 'ACTIVE'")
        .unwrap();
    assert_eq!(active, [1]);
}

#[test]
fn rows_are_split_at_new_borders_and_joined_again() {
    let database = database!("rows_are_split_at_new_borders_and_joined_again");
    let halves = [HashRange::of_shard(0, 2), HashRange::of_shard(1, 2)];
    let mut node = node::node(&database.settings, TTL, &halves);
    // Only the second writer commits before the crash.
    node.started.rows.swap(0, 1);
    let mut writer = node.writer(&database.settings);
    node.commit(&mut writer, &cut(1, 4), deposit(0, 1)).unwrap();
    let thirds: Vec<HashRange> = (0..3).map(|n| HashRange::of_shard(n, 3)).collect();
    let again = started(&mut node.db, &node.lease, &node.taken, &thirds);
    let offsets =
        |rows: &[OffsetRow]| -> Vec<u64> { rows.iter().map(|row| row.offset.get()).collect() };
    let groups: Vec<Vec<u64>> = again.rows.iter().map(|rows| offsets(rows)).collect();
    assert_eq!(groups, [vec![0], vec![0, 4], vec![4]]);
    assert_eq!(again.last_epoch, EpochNumber::new(1));
}

#[test]
fn notes_are_about_records_ahead_only() {
    let database = database!("notes_are_about_records_ahead_only");
    let mut node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let mut writer = node.writer(&database.settings);
    node.commit(&mut writer, &cut(1, 2), deposit(0, 1)).unwrap();
    let note = |offset: u64| Note {
        generation: GENERATION,
        partition: P0,
        offset: Offset::new(offset),
        kind: NoteKind::Refuse,
    };
    let error = add_note(&mut node.db, GROUP, TOPIC, &note(1), "too late").unwrap_err();
    assert!(matches!(error, MysqlError::Note { .. }), "{error}");
    // Who leads may be past it in its memory.
    let error = add_note(&mut node.db, GROUP, TOPIC, &note(2), "too soon").unwrap_err();
    assert!(error.to_string().contains("leads"), "{error}");
    database
        .conn()
        .query_drop("UPDATE leader_locks SET expires_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
        .unwrap();
    add_note(&mut node.db, GROUP, TOPIC, &note(2), "in time").unwrap();
    // Who wakes up commits nothing that it decided without the note.
    let error = node
        .commit(&mut writer, &cut(2, 4), deposit(2, 2))
        .unwrap_err();
    assert!(error.is_fenced(), "{error}");
    let taken = node.lease.take(&mut node.db, 1, 1).unwrap();
    let again = started(&mut node.db, &node.lease, &taken, &[HashRange::ALL]);
    assert_eq!(again.notes, [note(2)]);
}

#[test]
fn a_store_belongs_to_one_group_topic_and_ledger() {
    let database = database!("a_store_belongs_to_one_group_topic_and_ledger");
    let mut db = Db::open(&database.settings).unwrap();
    let asked = StoreSettings {
        group: GROUP.into(),
        topic: TOPIC.into(),
        partitioner: "murmur2".into(),
        ledger: "mysql".into(),
    };
    store_settings(&mut db, &asked).unwrap();
    store_settings(&mut db, &asked).unwrap();
    for other in [
        StoreSettings {
            group: "g".into(),
            ..asked.clone()
        },
        StoreSettings {
            topic: "t".into(),
            ..asked.clone()
        },
        StoreSettings {
            partitioner: "crc32".into(),
            ..asked.clone()
        },
        StoreSettings {
            ledger: "topic".into(),
            ..asked.clone()
        },
    ] {
        let error = store_settings(&mut db, &other).unwrap_err();
        assert!(matches!(error, MysqlError::Differs { .. }), "{error}");
    }
}

#[test]
fn a_writer_on_another_store_is_refused() {
    let database = database!("a_writer_on_another_store_is_refused");
    let other = database!("a_writer_on_another_store_is_refused");
    let node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    drop(node.writer(&database.settings));
    let opened = MysqlWriter::open(node.settings(&other.settings), Arc::new(()));
    let error = opened.err().expect("it is another store");
    assert!(matches!(error, MysqlError::OtherStore { .. }), "{error}");
    assert!(error.to_string().contains(&other.settings.database));
}
