//! What a door of a MySQL store accepts, and what it answers. Against real servers.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/outbox.rs"]
mod outbox;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/mysql.rs"]
mod server;

use std::{
    collections::BTreeSet,
    net::ToSocketAddrs,
    sync::{atomic::Ordering, mpsc},
    time::Duration,
};

use kilter_engine::AccountId;
use kilter_io::outbox::{Admitted, DoorError, DoorLimits, NotTaken, OutboxSettings, Status};
use outbox::*;
use proxy::{Proxy, Trick};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};

fn id(number: u64) -> AccountId {
    AccountId::new(number).unwrap()
}

#[test]
fn what_is_accepted_is_durable_sent_and_marked() {
    let Some(bed) = bed("what_is_accepted_is_durable_sent_and_marked", 3) else {
        return;
    };
    let front = Front::new(&bed.settings);
    let event_id = front.accept(deposit(1, "t-1", "1.5"));
    assert_eq!(bed.count("request_hash IS NOT NULL"), 1);
    bed.wait_until_sent();
    assert_eq!(
        bed.count(
            "status = 'SENT' AND sent_offset = 0 AND late = 0 AND sent_at IS NOT NULL \
                   AND open_hash IS NULL AND retry_count = 0 AND issues = 1"
        ),
        1
    );
    let log = bed.log();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0]["amount"], "1.5");
    assert_eq!(log[0]["description"], "it's a \\ ü");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &bed.settings.kafka.brokers)
        .set("group.id", "headers")
        .create()
        .unwrap();
    let place = bed.number("SELECT sent_partition FROM outbox_events") as i32;
    let mut assigned = TopicPartitionList::new();
    assigned
        .add_partition_offset(&bed.settings.kafka.commands, place, Offset::Beginning)
        .unwrap();
    consumer.assign(&assigned).unwrap();
    let record = consumer.poll(Duration::from_secs(30)).unwrap().unwrap();
    assert_eq!(record.key(), Some(&b"u-1"[..]));
    let header = |name: &str| {
        let headers = record.headers().unwrap();
        let found = headers.iter().find(|header| header.key == name);
        String::from_utf8(found.unwrap().value.unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("eventId"), event_id);
    assert_eq!(header("transactionId"), "t-1");
    let issued = bed.number("SELECT issued_at_ms FROM outbox_events");
    assert_eq!(header("issuedAt"), issued.to_string());
    front.end();
}

#[test]
fn a_retry_is_a_duplicate_and_another_body_a_conflict() {
    let Some(bed) = bed("a_retry_is_a_duplicate_and_another_body_a_conflict", 1) else {
        return;
    };
    let front = Front::new(&bed.settings);
    let first = front.accept(deposit(1, "t", "1"));
    let duplicate = |status: Option<Status>| match front.ask(deposit(1, "t", "1")).unwrap() {
        Admitted::Duplicate {
            event_id,
            account_id,
            outcome,
        } => {
            assert_eq!(event_id.as_deref(), Some(first.as_str()));
            assert_eq!(account_id, id(1));
            outcome.map(|outcome| outcome.status) == status
        }
        other => panic!("{other:?}"),
    };
    bed.wait_until_sent();
    assert!(duplicate(None));
    // The epoch that applies it commits its ledger entry.
    bed.run(
        "INSERT INTO balance_transactions SELECT sent_generation, sent_partition, \
         sent_offset, 0, 1, 'USDT', 't', 'DEPOSIT', 1, 0, 1, 0, 0, 'SUCCESS', NULL, \
         UTC_TIMESTAMP(3), 1, NULL, NULL, NULL FROM outbox_events",
    );
    assert!(duplicate(Some(Status::Success)));
    let conflict = |differs: &[&str]| Admitted::Conflict {
        event_id: first.clone(),
        differs: differs.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert_eq!(front.ask(deposit(1, "t", "2")), Ok(conflict(&["amount"])));
    // Another user's id of the same name is another id; another case, too.
    front.accept(deposit(2, "t", "1"));
    front.accept(deposit(1, "T", "1"));
    front.accept(deposit(1, "t ", "1"));
    // Trimmed: a retry is still known, and a conflict no longer knows by what.
    bed.run("UPDATE outbox_events SET payload = NULL");
    assert!(duplicate(Some(Status::Success)));
    assert_eq!(front.ask(deposit(1, "t", "2")), Ok(conflict(&[])));
    front.end();
}

#[test]
fn accounts_are_checked_opened_and_never_shared() {
    let Some(bed) = bed("accounts_are_checked_opened_and_never_shared", 3) else {
        return;
    };
    let front = Front::new(&bed.settings);
    // Nobody's and somebody else's look the same.
    for account in [4711, 2] {
        let event = command("u-1", account, "t", "1", false);
        assert_eq!(front.ask(event), Ok(Admitted::NoAccount), "{account}");
    }
    assert_eq!(
        front.ask(command("stranger", 2, "t", "1", true)),
        Ok(Admitted::NoAccount)
    );
    assert_eq!(
        front.ask(command("u-1", 77, "t", "1", true)),
        Ok(Admitted::NoAccount)
    );
    assert_eq!(bed.count("1"), 0);
    assert_eq!(
        front.ask(open("stranger", Some(2))),
        Ok(Admitted::AccountTaken)
    );
    assert_eq!(
        front.ask(open("u-1", Some(77))),
        Ok(Admitted::HasAccount { account_id: id(1) })
    );
    assert_eq!(
        front.ask(open("u-1", None)),
        Ok(Admitted::Duplicate {
            event_id: None,
            account_id: id(1),
            outcome: Some(kilter_io::outbox::Outcome {
                status: Status::Success,
                error_code: None,
                entries: vec![]
            }),
        })
    );
    // Foreign rows lie in the sequence's way, and one at its end.
    bed.run(
        "INSERT INTO accounts SELECT 10 + seq, CONCAT('foreign-', seq), 0, UTC_TIMESTAMP(3), \
         UTC_TIMESTAMP(3), 'ACTIVE' FROM (SELECT a.id * 9 + b.id - 10 AS seq FROM accounts AS a, \
         accounts AS b) AS numbers",
    );
    bed.run(
        "INSERT INTO accounts VALUES (4611686018427387904, 'last', 0, UTC_TIMESTAMP(3), \
         UTC_TIMESTAMP(3), 'ACTIVE')",
    );
    bed.run("INSERT INTO kilter_settings VALUES ('account_sequence', '5')");
    let Ok(Admitted::Accepted {
        event_id,
        account_id,
    }) = front.ask(open("new", None))
    else {
        panic!("not opened");
    };
    assert_eq!(account_id, id(91));
    for asked in [None, Some(91)] {
        let again = front.ask(open("new", asked)).unwrap();
        let Admitted::Duplicate {
            event_id: first, ..
        } = again
        else {
            panic!("{again:?}");
        };
        assert_eq!(first.as_deref(), Some(event_id.as_str()));
    }
    // A first deposit opens: OPEN lies directly before it.
    front.accept(command("depositor", 5000, "d", "1", true));
    front.accept(command("depositor", 5000, "e", "1", false));
    bed.wait_until_sent();
    assert_eq!(
        bed.first_copies()["depositor"],
        ["open-5000", "d", "e"].map(str::to_owned)
    );
    assert_eq!(
        bed.number("SELECT count(*) FROM accounts WHERE state = 'PENDING'"),
        2
    );
    front.end();
}

#[test]
fn two_hundred_threads_with_the_same_ids_have_one_effect_each() {
    let Some(bed) = bed("two_hundred_threads_with_the_same_ids", 3) else {
        return;
    };
    let doors = [Front::new(&bed.settings), Front::new(&bed.settings)];
    let relay = RelayThread::new(&bed.settings);
    let events: BTreeSet<(u64, String)> = std::thread::scope(|scope| {
        let ask = |thread: usize| {
            let front = &doors[thread % 2];
            move || {
                let each = (0..10_u64).map(|n| {
                    let n = (n + thread as u64) % 10;
                    let event = match front.ask(deposit(1 + n % 3, &format!("t-{n}"), "1")) {
                        Ok(Admitted::Accepted { event_id, .. }) => event_id,
                        Ok(Admitted::Duplicate { event_id, .. }) => event_id.unwrap(),
                        other => panic!("{other:?}"),
                    };
                    (n, event)
                });
                each.collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..200).map(|thread| scope.spawn(ask(thread))).collect();
        let found = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        found.collect()
    });
    assert_eq!(events.len(), 10, "one event an id: {events:?}");
    assert_eq!(bed.count("1"), 10);
    bed.wait_until_sent();
    assert_eq!(bed.first_copies(), bed.accepted());
    relay.end();
    doors.into_iter().for_each(Front::end);
}

#[test]
fn threads_that_race_for_accounts_share_none() {
    let Some(bed) = bed("threads_that_race_for_accounts_share_none", 3) else {
        return;
    };
    let doors = [Front::new(&bed.settings), Front::new(&bed.settings)];
    let opened: Vec<(String, Admitted)> = std::thread::scope(|scope| {
        let ask = |thread: usize| {
            let front = &doors[thread % 2];
            move || {
                // Eight threads are one user; of them, half want an id that others want, too.
                let user = format!("racer-{}", thread % 10);
                let asked = thread.is_multiple_of(3).then_some(500 + thread as u64 % 4);
                (user.clone(), front.ask(open(&user, asked)).unwrap())
            }
        };
        let threads: Vec<_> = (0..80).map(|thread| scope.spawn(ask(thread))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut bound: BTreeSet<(String, u64)> = BTreeSet::new();
    for (user, answer) in opened {
        match answer {
            Admitted::Accepted { account_id, .. }
            | Admitted::Duplicate { account_id, .. }
            | Admitted::HasAccount { account_id } => {
                bound.insert((user, account_id.get()));
            }
            Admitted::AccountTaken => {}
            other => panic!("{other:?}"),
        }
    }
    let users: BTreeSet<_> = bound.iter().map(|(user, _)| user).collect();
    let accounts: BTreeSet<_> = bound.iter().map(|(_, account)| account).collect();
    assert_eq!((users.len(), accounts.len()), (bound.len(), bound.len()));
    assert_eq!(bound.len(), 10);
    assert_eq!(bed.count("leg = 'OPEN'"), 10);
    doors.into_iter().for_each(Front::end);
}

fn through(bed: &Bed) -> (Proxy, OutboxSettings) {
    let address = (
        bed.database.settings.host.as_str(),
        bed.database.settings.port,
    );
    let proxy = Proxy::to(address.to_socket_addrs().unwrap().next().unwrap());
    let mut settings = bed.settings.clone();
    settings.mysql.host = "127.0.0.1".into();
    settings.mysql.port = proxy.port();
    (proxy, settings)
}

#[test]
fn connections_that_break_anywhere_change_nothing() {
    let Some(bed) = bed("connections_that_break_anywhere_change_nothing", 1) else {
        return;
    };
    let (proxy, settings) = through(&bed);
    let front = Front::new(&settings);
    let relay = RelayThread::new(&bed.settings);
    front.accept(deposit(1, "warm", "1"));
    bed.wait_until_sent();
    let tricks = [
        Trick::Before("INSERT INTO outbox_events"),
        Trick::After("INSERT INTO outbox_events"),
        Trick::Within("INSERT INTO outbox_events", 200),
        Trick::Before("SELECT id, user_id"),
        Trick::After("SELECT id, partition_key"),
        Trick::Before("UPDATE (SELECT"),
        Trick::After("UPDATE (SELECT"),
        Trick::Before("START TRANSACTION"),
        Trick::After("INSERT INTO accounts"),
        Trick::Before("COMMIT"),
        Trick::After("COMMIT"),
    ];
    for (n, trick) in (0_u64..).zip(&tricks) {
        proxy.play(trick.clone());
        // A sequence of its own is taken in a transaction, too.
        bed.run("DELETE FROM kilter_settings WHERE name = 'account_sequence'");
        let account = 1000 + n;
        let user = format!("u-{account}");
        front.accept(command(&user, account, "first", "1", true));
        front.accept(command(&user, account, "second", "1", false));
        until("the trick is played", || proxy.played() > n);
        bed.wait_until_sent();
        let accepted = bed.accepted();
        let ids = [format!("open-{account}"), "first".into(), "second".into()];
        assert_eq!(accepted[&user], ids, "{trick:?}");
    }
    assert_eq!(bed.first_copies(), bed.accepted());
    relay.end();
    front.end();
}

#[test]
fn a_door_that_says_nothing_for_long_holds_nothing() {
    let Some(mut bed) = bed("a_door_that_says_nothing_for_long_holds_nothing", 1) else {
        return;
    };
    bed.settings.answer_limit = Duration::from_secs(1);
    let front = Front::new(&bed.settings);
    front.accept(deposit(1, "first", "1"));
    bed.wait_until_sent();
    // The thread that sends has a connection, too, and holds no lock between two statements.
    until("the server ends the connection", || {
        bed.number(
            "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() \
             AND id <> CONNECTION_ID()",
        ) == 1
    });
    front.accept(deposit(1, "second", "1"));
    assert_eq!(front.counters().store_retries.load(Ordering::Relaxed), 0);
    bed.wait_until_sent();
    front.end();
}

#[test]
fn a_store_that_is_away_is_told_within_a_bound() {
    let Some(bed) = bed("a_store_that_is_away_is_told_within_a_bound", 1) else {
        return;
    };
    let (proxy, mut settings) = through(&bed);
    settings.answer_limit = Duration::from_millis(500);
    let limits = DoorLimits {
        requests: 50,
        ..DoorLimits::default()
    };
    let front = Front::with(&settings, limits);
    let relay = RelayThread::new(&bed.settings);
    front.accept(deposit(1, "before", "1"));
    bed.wait_until_sent();
    proxy.refuse(true);
    proxy.cut();
    let (sender, answers) = mpsc::channel();
    let mut taken = 0;
    for n in 0..1000 {
        let sender = sender.clone();
        let event = deposit(1, &format!("away-{n}"), "1");
        match front
            .door
            .submit(event, move |answer| sender.send((n, answer)).unwrap())
        {
            Ok(()) => taken += 1,
            Err(NotTaken::Full { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(taken < 1000, "the door's bound was not met");
    for _ in 0..taken {
        let (_, answer) = answers.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(
            matches!(answer, Err(DoorError::Unavailable { .. })),
            "{answer:?}"
        );
    }
    assert_eq!(bed.count("transaction_id LIKE 'away-%'"), 0);
    assert!(front.counters().turned_away.load(Ordering::Relaxed) > 0);
    proxy.refuse(false);
    until("the store is back", || {
        front.ask(deposit(1, "after", "1")).is_ok()
    });
    bed.wait_until_sent();
    assert_eq!(
        bed.first_copies()["u-1"],
        ["before", "after"].map(str::to_owned)
    );
    relay.end();
    front.end();
}

#[test]
fn what_the_store_does_not_take_costs_its_neighbours_nothing() {
    let Some(bed) = bed("what_the_store_does_not_take", 1) else {
        return;
    };
    bed.run(
        "CREATE TRIGGER refuse BEFORE INSERT ON outbox_events FOR EACH ROW \
         IF NEW.transaction_id = 't-13' THEN SIGNAL SQLSTATE '45000' \
         SET MESSAGE_TEXT = 'not this one'; END IF",
    );
    let front = Front::new(&bed.settings);
    let (sender, answers) = mpsc::channel();
    for n in 0..40 {
        let sender = sender.clone();
        let event = deposit(1, &format!("t-{n}"), "1");
        front
            .door
            .submit(event, move |answer| sender.send((n, answer)).unwrap())
            .unwrap();
    }
    for _ in 0..40 {
        let (n, answer) = answers.recv_timeout(Duration::from_secs(30)).unwrap();
        match answer {
            Ok(Admitted::Accepted { .. }) => assert_ne!(n, 13),
            Err(DoorError::Refused { why }) => {
                assert!(n == 13 && why.contains("not this one"), "{n}: {why}");
            }
            other => panic!("{n}: {other:?}"),
        }
    }
    front.end();
    assert_eq!(bed.count("1"), 39);
}
