//! Everything that was accepted comes to an end that can be told: whatever a cache forgot, whichever
//! copy took effect, and whatever is in the way. Against real servers.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/outbox.rs"]
mod outbox;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/mysql.rs"]
mod server;

use std::{net::ToSocketAddrs, sync::atomic::Ordering, time::Duration};

use kilter_engine::{Generation, Offset, Partition, epoch::LastRecord};
use kilter_io::{
    kafka::{CommandConsumer, KafkaSettings},
    mysql::{AdoptFrom, Db, KnownLog, Lease, TransactionLookup, adopt, owner_name, put_log},
    outbox::{Admitted, Lookup, Outcome, Status, TransactionState},
};
use mysql::prelude::Queryable;
use outbox::*;
use proxy::{Proxy, Trick};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
    mocking::MockCluster,
};

fn lookup(bed: &Bed) -> impl FnMut(&str, &str) -> Option<TransactionState> {
    let kafka = &bed.settings.kafka;
    let mut lookup = TransactionLookup::new(
        bed.settings.mysql.clone(),
        kafka.group.clone(),
        kafka.commands.clone(),
    );
    move |user, id| lookup.transaction(user, id).unwrap()
}

/// The ledger entry of a leg.
fn leg_entry(bed: &Bed, offset: u64, account: u64, id: &str, leg: &str, failed: bool) {
    let (status, code) = match failed {
        true => ("FAILED", "'ACCOUNT_NOT_FOUND'"),
        false => ("SUCCESS", "NULL"),
    };
    let kind = leg.rsplit('/').next().unwrap();
    bed.run(&format!(
        "INSERT INTO balance_transactions VALUES (1, 0, {offset}, 0, {account}, 'USDT', '{id}', \
         '{kind}', 1, 0, 1, 0, 0, '{status}', {code}, UTC_TIMESTAMP(3), 1, NULL, '{leg}', NULL)"
    ));
}

#[test]
fn a_cache_that_is_full_makes_no_account_unknown() {
    let Some(mut bed) = bed("a_cache_that_is_full_makes_no_account_unknown", 1) else {
        return;
    };
    bed.settings.accounts_max = 4;
    bed.settings.batch_max = 4;
    // The first batch fills the cache; of the second, all but one account are in it.
    let events = [1, 2, 3, 4, 1, 2, 3, 5];
    let events = (0..)
        .zip(events)
        .map(|(n, account)| deposit(account, &format!("t-{n}"), "1"));
    let (front, answers) = Front::after(&bed.settings, events.collect());
    for (n, answer) in answers.iter().enumerate() {
        let accepted = matches!(answer, Ok(Admitted::Accepted { .. }));
        assert!(accepted, "request {n}: {answer:?}");
    }
    front.end();
}

#[test]
fn what_a_copy_that_nobody_saw_did_is_told() {
    let Some(mut bed) = bed("what_a_copy_that_nobody_saw_did_is_told", 1) else {
        return;
    };
    bed.settings.window_ms = 60_000;
    bed.settings.judge_interval = Duration::from_millis(50);
    // Applied by a copy at offset 2 before the relay met it: found to have landed, never sent.
    left(&bed, "u-1", "t", "", 40_000);
    answer(&bed, 1, "t", 2);
    commit(&bed, 3, 1000);
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    relay.end();
    assert_eq!(bed.log().len(), 0, "it was not sent again");
    assert_eq!(
        bed.count("sent_generation = 1 AND sent_partition = 0 AND sent_offset = 2"),
        1
    );
    let state = lookup(&bed)("u-1", "t").unwrap();
    assert_eq!(state.outcome.status, Status::Failed);
    let front = Front::new(&bed.settings);
    bed.run("UPDATE outbox_events SET request_hash = NULL, payload = NULL");
    let known = |outcome: &Option<Outcome>| outcome.as_ref().map(|outcome| outcome.status);
    bed.run(&format!(
        "UPDATE outbox_events SET request_hash = UNHEX(SHA2('{}', 256))",
        r#"{"transactionId":"t","userId":"u-1","accountId":1,"currencyCode":"USDT","type":"DEPOSIT","amount":"1","description":"it''s a \\\\ ü"}"#
    ));
    match front.ask(deposit(1, "t", "1")).unwrap() {
        Admitted::Duplicate { outcome, .. } => assert_eq!(known(&outcome), Some(Status::Failed)),
        other => panic!("{other:?}"),
    }
    front.end();
}

#[test]
fn a_credit_to_nobody_is_told_whichever_copy_is_marked() {
    let Some(bed) = bed("a_credit_to_nobody_is_told_whichever_copy_is_marked", 1) else {
        return;
    };
    // The transfer's own record lies at 0, the credit's copies at 1 and 2; the second is marked.
    left(&bed, "u-1", "t", "", 0);
    left(&bed, "u-77", "t", "1/0/0/0/CREDIT", 0);
    bed.run(
        "UPDATE outbox_events SET status = 'SENT', sent_generation = 1, sent_partition = 0, \
             sent_offset = IF(leg = '', 0, 2), sent_at = UTC_TIMESTAMP(3)",
    );
    bed.run(
        "INSERT INTO balance_transactions VALUES (1, 0, 0, 0, 1, 'USDT', 't', 'TRANSFER', 1, 1, \
             0, 0, 0, 'SUCCESS', NULL, UTC_TIMESTAMP(3), 1, NULL, NULL, NULL)",
    );
    // Of account 77 there is no row: the credit failed, and is entered all the same.
    leg_entry(&bed, 1, 77, "t", "1/0/0/0/CREDIT", true);
    commit(&bed, 3, 1000);
    let state = lookup(&bed)("u-1", "t").unwrap();
    let credit = &state.legs[0].outcome;
    assert_eq!(credit.status, Status::Failed);
    assert_eq!(credit.error_code.as_deref(), Some("ACCOUNT_NOT_FOUND"));
}

/// The log as the store knows it.
fn known(bed: &Bed, generation: u32, topic_id: &str, partitions: u32) -> KnownLog {
    KnownLog {
        generation: Generation::new(generation),
        cluster_id: "cluster".into(),
        topic: bed.settings.kafka.commands.clone(),
        topic_id: topic_id.into(),
        partitions,
    }
}

/// Adopts another log, from its first record on.
fn adopt_another(bed: &Bed) {
    let mut db = Db::open(&bed.settings.mysql).unwrap();
    let lease = Lease::new(owner_name(), Duration::from_secs(30));
    let taken = lease.take(&mut db, 1, usize::MAX).unwrap();
    let log = known(bed, 2, "another", 1);
    let from = AdoptFrom::At(Offset::new(0), LastRecord::default());
    let from = [(Partition::new(0), from)];
    let group = &bed.settings.kafka.group;
    adopt(&mut db, &lease, &taken, group, &log, &from, "a test").unwrap();
    lease.release(&mut db, &taken, true).unwrap();
}

#[test]
fn what_another_log_lacks_is_sent_to_it() {
    let Some(bed) = bed("what_another_log_lacks_is_sent_to_it", 1) else {
        return;
    };
    let mut db = Db::open(&bed.settings.mysql).unwrap();
    put_log(&mut db, &known(&bed, 1, "first", 1), "").unwrap();
    for id in ["committed", "late", "behind", "open", "trimmed"] {
        left(&bed, "u-1", id, "", 1000);
    }
    left(&bed, "u-2", "t", "1/0/0/0/CREDIT", 1000);
    bed.run("UPDATE outbox_events SET issues = 0 WHERE leg <> ''");
    bed.run(
        "UPDATE outbox_events SET status = 'SENT', sent_generation = 1, sent_partition = 0, \
         sent_offset = id WHERE transaction_id NOT IN ('open', 't')",
    );
    bed.run("UPDATE outbox_events SET late = 1 WHERE transaction_id = 'late'");
    // Of a row without its payload nothing could be sent: it is never one without an outcome.
    bed.run("UPDATE outbox_events SET payload = NULL WHERE transaction_id = 'trimmed'");
    commit(&bed, 3, 1000);
    adopt_another(&bed);
    let row = |id: &str, state: &str| {
        assert_eq!(
            bed.count(&format!("transaction_id = '{id}' AND {state}")),
            1,
            "{id}"
        );
    };
    row(
        "committed",
        "status = 'SENT' AND issues = 1 AND sent_offset = 1",
    );
    row("late", "status = 'SENT' AND late = 1 AND issues = 2");
    row(
        "behind",
        "status = 'PENDING' AND issues > 1 AND sent_offset IS NULL AND late = 0",
    );
    row("open", "status = 'PENDING' AND issues = 2");
    row("trimmed", "status = 'SENT' AND issues = 1");
    // One of which no copy is anywhere stays one.
    row("t", "status = 'PENDING' AND issues = 0");
}

#[test]
fn what_the_log_before_acknowledges_says_nothing_about_this_one() {
    let cluster = MockCluster::new(1).unwrap();
    let mut kafka = KafkaSettings::new(&cluster.bootstrap_servers());
    kafka.commands = "commands".into();
    cluster.create_topic("commands", 1, 1).unwrap();
    let Some(bed) = bed_on("what_the_log_before_acknowledges", kafka, 1) else {
        return;
    };
    let mut db = Db::open(&bed.settings.mysql).unwrap();
    put_log(&mut db, &known(&bed, 1, "first", 1), "").unwrap();
    commit(&bed, 0, 1000);
    let front = Front::new(&bed.settings);
    front.accept(deposit(1, "before", "1"));
    bed.wait_until_sent();
    let relay = RelayThread::new(&bed.settings);
    left(&bed, "u-2", "relayed", "", 1000);
    bed.wait_until_sent();
    // On their way to the log when another one is adopted.
    cluster.broker_down(1).unwrap();
    front.accept(deposit(1, "by-door", "1"));
    left(&bed, "u-2", "by-relay", "", 1000);
    until("both are handed over", || {
        front.counters().produced.load(Ordering::Relaxed) == 2
            && relay.counters.relayed.load(Ordering::Relaxed) >= 2
    });
    adopt_another(&bed);
    front.accept(deposit(3, "afterwards", "1"));
    cluster.broker_up(1).unwrap();
    assert!(front.failure().contains("adopted log generation 2"));
    assert!(relay.failure().contains("adopted log generation 2"));
    // All of it, for the next process.
    assert_eq!(bed.count("status = 'PENDING'"), 5);
    assert_eq!(bed.count("sent_generation IS NULL"), 5);
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    assert_eq!(bed.count("sent_generation = 2"), 5);
    relay.end();
}

/// Waits for what librdkafka's own thread brings about.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn nobody_marks_while_another_log_is_adopted() {
    let Some(bed) = bed("nobody_marks_while_another_log_is_adopted", 1) else {
        return;
    };
    let mut db = Db::open(&bed.settings.mysql).unwrap();
    put_log(&mut db, &known(&bed, 1, "first", 1), "").unwrap();
    let mut adopts = bed.database.conn();
    adopts.query_drop("START TRANSACTION").unwrap();
    adopts
        .query_drop(
            "SELECT generation FROM kilter_logs ORDER BY generation DESC LIMIT 1 FOR UPDATE",
        )
        .unwrap();
    let front = Front::new(&bed.settings);
    front.accept(deposit(1, "t", "1"));
    until("marking waits", || {
        bed.number(
            "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() \
             AND info LIKE 'UPDATE (SELECT%'",
        ) > 0
    });
    assert_eq!(bed.count("status = 'SENT'"), 0);
    adopts.query_drop("COMMIT").unwrap();
    bed.wait_until_sent();
    front.end();
}

fn topic_id(bed: &Bed) -> (String, String) {
    let found = CommandConsumer::new(&bed.settings.kafka).unwrap();
    let found = found.identity().unwrap();
    (found.cluster_id, found.topic_id)
}

#[test]
fn a_topic_that_was_made_again_is_not_produced_to() {
    let Some(mut bed) = bed("a_topic_that_was_made_again", 1) else {
        return;
    };
    bed.settings.guard_interval = Duration::from_millis(50);
    let (cluster_id, id) = topic_id(&bed);
    let mut db = Db::open(&bed.settings.mysql).unwrap();
    let log = KnownLog {
        cluster_id,
        ..known(&bed, 1, &id, 1)
    };
    put_log(&mut db, &log, "").unwrap();
    commit(&bed, 0, 1000);
    let guard = RelayThread::guard(&bed.settings);
    let front = Front::new(&bed.settings);
    for n in 0..3 {
        front.accept(deposit(1, &format!("t-{n}"), "1"));
    }
    bed.wait_until_sent();
    assert!(!guard.is_finished());
    // Two of the three are committed.
    commit(&bed, 2, 1000);
    let topic = bed.settings.kafka.commands.clone();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &bed.settings.kafka.brokers)
        .create()
        .unwrap();
    let deleted = admin.delete_topics(&[&topic], &AdminOptions::new());
    for outcome in block_on(deleted).unwrap() {
        outcome.unwrap();
    }
    let told = guard.failure();
    assert!(
        told.contains("not the log that the store's offsets count in"),
        "{told}"
    );
    until("the topic is there again", || {
        let admin = kilter_io::kafka::Admin::new(&bed.settings.kafka).unwrap();
        admin.init(1, 1).is_ok() && topic_id(&bed).1 != id
    });
    // Whoever does not know yet hears it from the log itself.
    let late = Front::new(&bed.settings);
    late.accept(deposit(2, "late", "1"));
    let told = late.failure();
    assert!(told.contains("deleted and made again"), "{told}");
    assert_eq!(bed.count("status = 'SENT' AND transaction_id = 'late'"), 0);
    let guard = RelayThread::guard(&bed.settings);
    assert!(guard.failure().contains("not the log"));
    front.door.close();
}

#[test]
fn what_cannot_be_sent_stands_in_nobodys_way() {
    let Some(mut bed) = bed("what_cannot_be_sent_stands_in_nobodys_way", 1) else {
        return;
    };
    bed.settings.window_ms = 60_000;
    for (id, age_ms) in [("gone", 1000), ("old-and-gone", 40_000), ("whole", 1000)] {
        left(&bed, "u-1", id, "", age_ms);
    }
    bed.run("UPDATE outbox_events SET payload = NULL WHERE transaction_id LIKE '%gone'");
    left(&bed, "u-2", "late-and-gone", "", 1000);
    bed.run(
        "UPDATE outbox_events SET payload = NULL, status = 'SENT', late = 1, sent_generation = 1, \
         sent_partition = 0, sent_offset = 0 WHERE transaction_id = 'late-and-gone'",
    );
    let relay = RelayThread::new(&bed.settings);
    until("they show", || {
        bed.count("status = 'FAILED' AND error_message LIKE 'its payload is no command%'") == 3
    });
    until("the other one is sent", || {
        bed.count("status = 'SENT'") == 1
    });
    assert!(!relay.is_finished());
    relay.end();
}

#[test]
fn an_entry_is_found_among_many_of_its_account() {
    let Some(mut bed) = bed("an_entry_is_found_among_many_of_its_account", 1) else {
        return;
    };
    bed.settings.window_ms = 60_000;
    bed.settings.judge_interval = Duration::from_millis(50);
    // 6561 entries, one each 100 ms, up to now: the one that is sought lies in the midst of them,
    // and one of the same id lies where it is forgotten.
    let nine = "(SELECT id - 1 AS n FROM accounts WHERE id < 10)";
    bed.run(&format!(
        "INSERT INTO balance_transactions SELECT 1, 0, a.n * 729 + b.n * 81 + c.n * 9 + d.n, 0, 1, \
         'USDT', CONCAT('other-', a.n, b.n, c.n, d.n), 'DEPOSIT', 1, 0, 1, 0, 0, 'SUCCESS', NULL, \
         UTC_TIMESTAMP(3) - INTERVAL (6561 - (a.n * 729 + b.n * 81 + c.n * 9 + d.n)) * 100000 \
         MICROSECOND, 1, NULL, NULL, NULL FROM {nine} AS a, {nine} AS b, {nine} AS c, {nine} AS d"
    ));
    bed.run("UPDATE balance_transactions SET transaction_id = 't' WHERE `offset` IN (10, 6300)");
    left(&bed, "u-1", "t", "", 40_000);
    left(&bed, "u-1", "lost", "", 40_000);
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    assert_eq!(
        bed.count("transaction_id = 't' AND sent_offset = 6300 AND late = 0"),
        1
    );
    assert_eq!(bed.count("transaction_id = 'lost' AND late = 1"), 1);
    relay.end();
}

#[test]
fn a_row_whose_fate_cannot_be_looked_up_holds_up_no_other() {
    let Some(mut bed) = bed("a_row_whose_fate_cannot_be_looked_up", 1) else {
        return;
    };
    bed.settings.window_ms = 60_000;
    for user in ["u-1", "u-2", "u-3"] {
        left(&bed, user, "t", "", 40_000);
        answer(
            &bed,
            user[2..].parse().unwrap(),
            "t",
            user[2..].parse().unwrap(),
        );
    }
    let server = (bed.settings.mysql.host.as_str(), bed.settings.mysql.port);
    let proxy = Proxy::to(server.to_socket_addrs().unwrap().next().unwrap());
    let mut through = bed.settings.clone();
    through.mysql.host = "127.0.0.1".into();
    through.mysql.port = proxy.port();
    // The first look-up breaks the connection, as one that takes too long does.
    proxy.play(Trick::Before(
        "SELECT COUNT(*) FROM (SELECT 1 FROM balance_transactions",
    ));
    let relay = RelayThread::new(&through);
    until("the others have landed", || {
        bed.count("late = 0 AND sent_offset > 0") >= 2
    });
    assert_eq!(proxy.played(), 1);
    assert!(!relay.is_finished());
    relay.end();
}
