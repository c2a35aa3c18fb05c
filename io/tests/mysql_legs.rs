//! Legs of transfers: they go into the outbox with the epoch that makes them, and only with it, and
//! what has landed is remembered after a reload. Against a real server.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/node.rs"]
mod node;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/mysql.rs"]
mod server;

use std::net::ToSocketAddrs;

use kilter_engine::{
    Code, CommandKind, HashRange, Leg, LegName,
    book::Book,
    decode::decode,
    epoch::{EpochPart, Landed, OpenedAccount},
    hash::key_hash,
    ledger::{BalanceState, LedgerEntry, TransactionId},
    loader::Loader,
    partitioner::Partitioner,
    record::Mark,
    result::{ResultRecord, Status},
    shard::{DeadLetters, Entries, Item, ShardSettings},
    store::Committed,
};
use kilter_io::{
    audit::{Audited, Kind, audit},
    flights::Flights,
    mysql::{LoadAsked, MysqlError, MysqlReader, MysqlSettings, StoreSettings, Wish, init, load},
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

fn name(text: &str) -> LegName {
    text.parse().unwrap()
}

/// A transfer at `offset` whose entry stands for its debit, and its leg.
fn transfer(offset: u64) -> EpochPart {
    let id = format!("t'\\\t\"{offset}");
    let debit = LedgerEntry {
        kind: CommandKind::Transfer,
        ..entry(7, offset, 1, &id)
    };
    EpochPart {
        legs: vec![Leg {
            name: name(&format!("1/0/{offset}/0/CREDIT")),
            user_id: "u\\\n'\"é".into(),
            account_id: debit.account_id,
            currency: debit.currency,
            amount: debit.amount,
            transaction_id: TransactionId::new(&id).unwrap(),
            from_user_id: "u-7".into(),
            from_account_id: debit.account_id,
            issued_at_ms: 1000,
        }],
        balances: vec![image(7, 1)],
        changed_by: vec![debit.position],
        new_balances: 1,
        ledger: vec![debit],
        ..EpochPart::default()
    }
}

/// What became of a leg that names an account that is not there.
fn lost(offset: u64, leg: &str) -> EpochPart {
    let none = BalanceState::default();
    EpochPart {
        landed: vec![Landed {
            entry: 0,
            name: name(leg),
            user_id: "u-9".into(),
        }],
        ledger: vec![LedgerEntry {
            kind: CommandKind::Credit,
            failure: Some(Code::AccountNotFound),
            before: none,
            after: none,
            ..entry(9, offset, 1, "t")
        }],
        ..EpochPart::default()
    }
}

#[test]
fn legs_go_with_their_epoch() {
    let database = database!("legs_go_with_their_epoch");
    for local_infile in [true, false] {
        let mut settings = database.settings.clone();
        settings.local_infile = local_infile;
        let mut conn = database.conn();
        for table in [
            "account_balances",
            "balance_transactions",
            "consumer_offsets",
            "outbox_events",
        ] {
            conn.query_drop(format!("DELETE FROM {table}")).unwrap();
        }
        let mut node = node::node(&settings, TTL, &[HashRange::ALL]);
        let mut writer = node.writer(&settings);
        let rows = node.started.rows.clone();
        let now = node.commit(&mut writer, &cut(1, 4), transfer(3)).unwrap();
        assert_eq!(now, Committed::Now);
        node.started.rows = rows;
        let again = node.commit(&mut writer, &cut(1, 4), transfer(3)).unwrap();
        assert_eq!(again, Committed::Before);

        type Row = (
            (String, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>),
            (Vec<u8>, String, String, i64, u64),
        );
        let first = "SELECT event_id, topic, partition_key, transaction_id, leg FROM outbox_events";
        let second = "SELECT payload, CAST(status AS CHAR), CAST(created_at AS CHAR), \
                      issued_at_ms, key_hash FROM outbox_events WHERE issues = 0";
        let held: Row = (
            conn.query_first(first).unwrap().unwrap(),
            conn.query_first(second).unwrap().unwrap(),
        );
        let leg = &transfer(3).legs[0];
        let user = leg.user_id.as_bytes();
        assert_eq!(
            held.0,
            (
                "leg:1/0/3/0/CREDIT".into(),
                TOPIC.into(),
                user.to_vec(),
                leg.transaction_id.as_bytes().to_vec(),
                b"1/0/3/0/CREDIT".to_vec()
            )
        );
        assert_eq!(
            held.1,
            (
                leg.payload(),
                "PENDING".into(),
                "1970-01-01 00:00:01.000".into(),
                1000,
                key_hash(user)
            )
        );
        let command = decode(&held.1.0).unwrap();
        assert_eq!(command.kind(), CommandKind::Credit);
        assert_eq!(count(&database, "outbox_events"), 1);
        node.lease.release(&mut node.db, &node.taken, true).unwrap();
    }
}

#[test]
fn no_leg_without_its_epoch() {
    let database = database!("no_leg_without_its_epoch");
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
        Trick::Before("INSERT INTO outbox_events"),
        Trick::After("INSERT INTO outbox_events"),
        Trick::Before("COMMIT"),
        Trick::After("COMMIT"),
    ];
    // One balance, moved once by each epoch.
    let part = |n: u64| EpochPart {
        new_balances: u64::from(n == 0),
        balances: vec![image(7, n + 1)],
        ..transfer(n)
    };
    for (n, trick) in (0..).zip(tricks) {
        proxy.play(trick.clone());
        node.commit(&mut writer, &cut(n + 1, n + 1), part(n))
            .unwrap_or_else(|error| panic!("{trick:?}: {error:?}"));
        assert_eq!(proxy.played(), n + 1, "{trick:?} was not played");
        assert_eq!(count(&database, "outbox_events"), n + 1, "{trick:?}");
        assert_eq!(count(&database, "balance_transactions"), n + 1, "{trick:?}");
    }
    // Another term: nothing of the epoch is there.
    let mut conn = database.conn();
    conn.query_drop("UPDATE leader_locks SET term = term + 1")
        .unwrap();
    let fenced = node.commit(&mut writer, &cut(5, 5), part(4));
    assert!(
        matches!(fenced, Err(MysqlError::Fenced { .. })),
        "{fenced:?}"
    );
    assert_eq!(count(&database, "outbox_events"), 4);
}

#[test]
fn a_record_at_fault_is_named_beside_legs() {
    let database = database!("a_record_at_fault_is_named_beside_legs");
    let mut node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let mut writer = node.writer(&database.settings);
    node.commit(&mut writer, &cut(1, 4), lost(3, "1/0/1/0/CREDIT"))
        .unwrap();
    // The entry of offset 3 is there already, which no store may bend.
    let mut part = lost(3, "1/0/2/0/CREDIT");
    add_deposit(&mut part, 8, 5, 1);
    let refused = node.commit(&mut writer, &cut(2, 6), part);
    let named = matches!(&refused, Err(MysqlError::Row { offset: 3, .. }));
    assert!(named, "{refused:?}");
}

#[test]
fn names_of_legs_outlive_a_restart() {
    let database = database!("names_of_legs_outlive_a_restart");
    let mut node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let mut writer = node.writer(&database.settings);
    let wish = Wish {
        account_id: kilter_engine::AccountId::new(9).unwrap(),
        user: b"u-9".to_vec(),
        partition: P0,
    };
    let verdicts = kilter_io::mysql::Claims::default().settle(&mut node.db, &[wish]);
    assert_eq!(verdicts.unwrap(), [true]);
    node.commit(&mut writer, &cut(1, 4), lost(3, "1/0/1/0/CREDIT"))
        .unwrap();
    // The account is opened only now.
    let opened = EpochPart {
        opened: vec![OpenedAccount {
            account_id: kilter_engine::AccountId::new(9).unwrap(),
            user_id: "u-9".into(),
            time_ms: 1000,
        }],
        ..EpochPart::default()
    };
    node.commit(&mut writer, &cut(2, 5), opened).unwrap();

    let settings = ShardSettings {
        range: HashRange::ALL,
        term: node.taken.term,
        partitions: vec![(P0, GENERATION)],
        partition_count: 1,
        partitioner: Partitioner::Murmur2,
        window_ms: 86_400_000,
        window_bytes: 64 << 20,
        dead_letters: DeadLetters::WithEpoch,
        entries: Entries::WithEpoch,
    };
    let mut loader = Loader::new(2, &settings);
    let asked = LoadAsked {
        partitions: &[(P0, 1000)],
        partition_count: 1,
        generation: GENERATION,
        window_ms: 86_400_000,
        ids: true,
    };
    load(&mut node.db, &mut loader, &asked, &mut |_| true).unwrap();
    let mut shards = loader.finish();
    let hash = key_hash(b"u-9");
    let shard = shards.iter_mut().find(|it| it.range().contains(hash));
    let shard = shard.unwrap();
    assert_eq!(Book::accounts_len(shard.book()), 1);
    // The same leg again, and another one.
    let mut part = EpochPart::default();
    let mut results: Vec<ResultRecord> = Vec::new();
    for (offset, leg) in [(10, "1/0/1/0/CREDIT"), (11, "1/0/2/0/CREDIT")] {
        let value = format!(
            r#"{{"transactionId":"t","userId":"u-9","accountId":9,"type":"CREDIT","currencyCode":"USDT","amount":"1","leg":"{leg}","fromUserId":"u-7","fromAccountId":7}}"#
        );
        let item = Item {
            generation: GENERATION,
            partition: P0,
            offset: kilter_engine::Offset::new(offset),
            clock_ms: 2000,
            issued_at_ms: 1500,
            key_hash: hash,
            mark: Mark::None,
            key: b"u-9",
            value: value.as_bytes(),
            headers: &[],
            decoded: decode(value.as_bytes()),
        };
        shard.apply(&[item], &mut part, &mut results).unwrap();
    }
    let ends: Vec<Status> = results.iter().map(|result| result.status).collect();
    assert_eq!(ends, [Status::Duplicate, Status::Success]);

    // The ledger shows whose it was, though no account had it.
    let mut reader = MysqlReader::open(&database.settings).unwrap();
    let mut flights = Flights::default();
    let mut seen = Vec::new();
    reader
        .ledger(None, |row| {
            assert_eq!(flights.entry(&row), None);
            seen.push((row.user_id, row.leg, row.error_code));
            Ok::<(), MysqlError>(())
        })
        .unwrap();
    let leg = Some("1/0/1/0/CREDIT".to_owned());
    let code = Some("ACCOUNT_NOT_FOUND".to_owned());
    assert_eq!(seen, [("u-9".to_owned(), leg, code)]);
}

/// What the audit says of legs, and what is in flight.
fn audited(settings: &MysqlSettings) -> (Vec<String>, String) {
    let own = StoreSettings {
        group: node::GROUP.into(),
        topic: node::TOPIC.into(),
        partitioner: "murmur2".into(),
        ledger: "mysql".into(),
    };
    let asked = Audited {
        settings: &own,
        partitioner: Partitioner::Murmur2,
        topic: None,
    };
    let mut reader = MysqlReader::open(settings).unwrap();
    let report = audit(&mut reader, asked, &mut |_| {}).unwrap();
    let told = report.differences.get(&Kind::Leg);
    let told = told.map(|found| found.first.clone()).unwrap_or_default();
    (told, report.in_flight.to_string())
}

#[test]
fn the_audit_holds_the_outbox_against_the_ledger() {
    let database = database!("the_audit_holds_the_outbox_against_the_ledger");
    let mut node = node::node(&database.settings, TTL, &[HashRange::ALL]);
    let mut writer = node.writer(&database.settings);
    // Another record's cut, so that the leg's record may lie below it.
    node.commit(&mut writer, &cut(1, 4), transfer(3)).unwrap();
    node.commit(&mut writer, &cut(2, 9), EpochPart::default())
        .unwrap();
    let mut conn = database.conn();
    conn.query_drop("CREATE TABLE kept AS SELECT * FROM outbox_events")
        .unwrap();
    let (told, in_flight) = audited(&database.settings);
    assert_eq!(told, Vec::<String>::new());
    assert!(in_flight.starts_with("1 (1 of "), "{in_flight}");
    assert!(!in_flight.contains("refused"), "{in_flight}");

    let sent = |offset: u64| {
        format!(
            "UPDATE outbox_events SET status = 'SENT', sent_generation = 1, sent_partition = 0, \
             sent_offset = {offset}"
        )
    };
    for (offset, refused) in [(9, false), (8, true)] {
        conn.query_drop(sent(offset)).unwrap();
        let (told, in_flight) = audited(&database.settings);
        assert_eq!(told, Vec::<String>::new());
        assert_eq!(in_flight.contains("1 of them refused"), refused, "{offset}");
    }
    for (change, tells) in [
        ("partition_key = 'u-8'", "not its key"),
        ("transaction_id = 't'", "not its debit's"),
        (
            "payload = REPLACE(payload, 'USDT', 'usdt')",
            "usdt, its debit of",
        ),
        (
            "payload = REPLACE(payload, '\"fromAccountId\":7', '\"fromAccountId\":8')",
            "names account 8 as the debtor",
        ),
        (
            "payload = REPLACE(payload, '1/0/3/0', '1/0/4/0')",
            "has the payload of 1/0/4/0/CREDIT",
        ),
        ("payload = NULL", "its payload is gone"),
        (
            "event_id = 'leg:1/0/4/0/CREDIT', leg = '1/0/4/0/CREDIT'",
            "nothing made the leg 1/0/4/0/CREDIT",
        ),
        ("event_id = 'e-1'", "not in the outbox"),
    ] {
        conn.query_drop(format!("UPDATE outbox_events SET {change}"))
            .unwrap();
        let (told, _) = audited(&database.settings);
        assert!(
            told.iter().any(|told| told.contains(tells)),
            "{change}: {told:?}"
        );
        let whole = "event_id, topic, partition_key, transaction_id, leg, payload, status, \
                     created_at, issued_at_ms, key_hash";
        conn.query_drop("DELETE FROM outbox_events").unwrap();
        conn.query_drop(format!(
            "INSERT INTO outbox_events ({whole}) SELECT {whole} FROM kept"
        ))
        .unwrap();
    }
    assert_eq!(audited(&database.settings).0, Vec::<String>::new());
    node.lease.release(&mut node.db, &node.taken, true).unwrap();
}

#[test]
fn a_migration_that_was_cut_off_is_done_again() {
    let database = database!("a_migration_that_was_cut_off_is_done_again");
    let mut conn = database.conn();
    // DDL commits by itself: what it does is done, and nothing says so.
    conn.query_drop("DELETE FROM refinery_schema_history WHERE version >= 3")
        .unwrap();
    let done = init(&database.settings, &node::LOG).unwrap();
    for version in ["version 3", "version 4"] {
        assert!(done.iter().any(|line| line.contains(version)), "{done:?}");
    }
    let columns: Option<u64> = conn
        .query_first(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = DATABASE() \
             AND table_name = 'balance_transactions' AND column_name LIKE 'leg%'",
        )
        .unwrap();
    assert_eq!(columns, Some(2));
    let format: Option<String> = conn
        .query_first(
            "SELECT row_format FROM information_schema.tables WHERE table_schema = DATABASE() \
             AND table_name = 'outbox_events'",
        )
        .unwrap();
    assert_eq!(format.as_deref(), Some("Redundant"));
}
