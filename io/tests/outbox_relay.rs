//! What is left reaches the log all the same, in order, once it can. Against real servers.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/outbox.rs"]
mod outbox;
#[path = "support/mysql.rs"]
mod server;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use kilter_io::{kafka::KafkaSettings, outbox::Hands};
use outbox::*;
use rdkafka::mocking::MockCluster;

#[test]
fn what_two_processes_leave_goes_in_each_users_order() {
    let Some(bed) = bed("what_two_processes_leave_goes_in_each_users_order", 3) else {
        return;
    };
    // One accepts and never sends; the other one may not pass it for any of its users.
    let stalled = Front::without_sender(&bed.settings);
    let front = Front::new(&bed.settings);
    for n in 0..40_u64 {
        let at = if n % 5 == 0 && n < 30 {
            &stalled
        } else {
            &front
        };
        for user in 1..=4 {
            let user_at = if user == 4 { &front } else { at };
            user_at.accept(deposit(user, &format!("t-{n:02}"), "1"));
        }
    }
    until("what may be sent is", || {
        bed.count("status <> 'SENT' AND partition_key = 'u-4'") == 0
    });
    assert_eq!(bed.count("status = 'SENT' AND partition_key <> 'u-4'"), 0);
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    assert_eq!(bed.first_copies(), bed.accepted());
    // Once nothing stands before them, events go the short way again.
    let before = front.counters().left_to_relay.load(Ordering::Relaxed);
    front.accept(deposit(1, "last", "1"));
    bed.wait_until_sent();
    assert_eq!(
        front.counters().left_to_relay.load(Ordering::Relaxed),
        before
    );
    assert_eq!(bed.first_copies(), bed.accepted());
    relay.end();
    stalled.end();
    front.end();
}

#[test]
fn a_user_whose_commands_were_left_comes_back_to_his_door() {
    for same_process in [true, false] {
        let Some(bed) = bed("a_user_whose_commands_were_left", 1) else {
            return;
        };
        let front = Front::new(&bed.settings);
        let hands = match same_process {
            true => front.hands.clone(),
            false => Hands::default(),
        };
        let relay = RelayThread::beside(&bed.settings, hands);
        // It stands before all that comes, until the relay takes it up.
        left(&bed, "u-1", "left", "", 0);
        let mut asked = 0;
        let sent_by_door = || front.counters().produced.load(Ordering::Relaxed);
        let since = Instant::now();
        while sent_by_door() < 50 {
            assert!(since.elapsed() < LIMIT, "{} of {asked}", sent_by_door());
            front.accept(deposit(1, &format!("t-{asked:05}"), "1"));
            asked += 1;
        }
        bed.wait_until_sent();
        if same_process {
            assert_eq!(relay.counters.relayed.load(Ordering::Relaxed), 1);
            assert_eq!(sent_by_door(), asked);
        }
        assert_eq!(front.counters().left_to_relay.load(Ordering::Relaxed), 0);
        assert_eq!(bed.first_copies(), bed.accepted());
        relay.end();
        front.end();
    }
}

#[test]
fn doors_that_die_under_load_lose_and_reorder_nothing() {
    let Some(bed) = bed("doors_that_die_under_load_lose_and_reorder_nothing", 3) else {
        return;
    };
    let relays = [
        RelayThread::new(&bed.settings),
        RelayThread::new(&bed.settings),
    ];
    std::thread::scope(|scope| {
        for user in 1..=6_u64 {
            let bed = &bed;
            scope.spawn(move || {
                let mut n = 0;
                for life in 0..6 {
                    // Every other life ends without having sent anything.
                    let front = if (life + user) % 2 == 0 {
                        Front::new(&bed.settings)
                    } else {
                        Front::without_sender(&bed.settings)
                    };
                    for _ in 0..20 {
                        front.accept(deposit(user, &format!("t-{n:03}"), "1"));
                        n += 1;
                    }
                }
            });
        }
    });
    bed.wait_until_sent();
    assert_eq!(bed.count("1"), 720);
    assert_eq!(bed.first_copies(), bed.accepted());
    relays.into_iter().for_each(RelayThread::end);
}

#[test]
fn a_relay_that_ends_at_any_step_is_gone_on_from() {
    let Some(bed) = bed("a_relay_that_ends_at_any_step_is_gone_on_from", 1) else {
        return;
    };
    for n in 0..50 {
        left(&bed, "u-1", &format!("t-{n:02}"), "", 1000);
    }
    // It cannot mark what it sends: it dies between the log and the store, again and again.
    bed.run(
        "CREATE TRIGGER refuse BEFORE UPDATE ON outbox_events FOR EACH ROW \
         IF NEW.status = 'SENT' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'crash here'; END IF",
    );
    for _ in 0..2 {
        let relay = RelayThread::new(&bed.settings);
        until("the relay dies", || relay.is_finished());
        relay.died();
    }
    assert_eq!(bed.count("status = 'SENT'"), 0);
    bed.run("DROP TRIGGER refuse");
    // A dead one's lease runs out.
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    relay.end();
    assert!(bed.log().len() >= 100, "copies of the first lives");
    assert_eq!(bed.first_copies(), bed.accepted());
    assert_eq!(bed.count("retry_count = 1"), 50);
}

#[test]
fn legs_go_at_once_and_young_commands_are_left_to_their_door() {
    let Some(mut bed) = bed("legs_go_at_once", 1) else {
        return;
    };
    bed.settings.relay_delay = Duration::from_secs(3600);
    left(&bed, "u-1", "young", "", 0);
    left(&bed, "u-2", "t", "1/0/7/0/CREDIT", 0);
    left(&bed, "u-2", "behind", "", 0);
    left(&bed, "u-3", "before", "", 0);
    left(&bed, "u-3", "t", "1/0/8/0/CREDIT", 0);
    let relay = RelayThread::new(&bed.settings);
    // What is behind a leg is its door's all the same; a leg behind a young command waits for it.
    until("the leg is sent", || bed.count("status = 'SENT'") == 1);
    until("figures are read", || {
        relay.counters.unsent.load(Ordering::Relaxed) == 4
    });
    assert_eq!(bed.log().len(), 1);
    relay.end();
}

#[test]
fn two_relays_share_the_ranges_and_take_over() {
    let Some(mut bed) = bed("two_relays_share_the_ranges_and_take_over", 3) else {
        return;
    };
    bed.settings.ranges_max = 5;
    let held = |relay: &RelayThread| relay.counters.ranges_held.load(Ordering::Relaxed);
    let first = RelayThread::new(&bed.settings);
    until("the first has its share", || held(&first) == 5);
    let second = RelayThread::new(&bed.settings);
    until("the second has the rest", || held(&second) == 3);
    for user in 1..10 {
        left(&bed, &format!("u-{user}"), "t", "", 1000);
    }
    bed.wait_until_sent();
    assert_eq!(bed.log().len(), 9, "each by one relay");
    first.end();
    until("the second takes more", || held(&second) == 5);
    second.end();
    assert_eq!(bed.number("SELECT count(owner) FROM outbox_leases"), 0);
    assert!(bed.number("SELECT sum(term) FROM outbox_leases") >= 10);
}

#[test]
fn while_the_log_is_away_commands_are_accepted_and_sent_when_it_is_back() {
    let cluster = MockCluster::new(1).unwrap();
    let mut kafka = KafkaSettings::new(&cluster.bootstrap_servers());
    kafka.commands = "commands".into();
    // The mock's log tells no time of its own.
    cluster.create_topic("commands", 2, 1).unwrap();
    let Some(mut bed) = bed_on("while_the_log_is_away", kafka, 2) else {
        return;
    };
    bed.settings.in_flight_max = 20;
    bed.settings.ack_limit = Duration::from_millis(200);
    bed.settings.tries = 2;
    let front = Front::new(&bed.settings);
    let relay = RelayThread::new(&bed.settings);
    front.accept(deposit(1, "before", "1"));
    bed.wait_until_sent();
    cluster.broker_down(1).unwrap();
    for n in 0..100 {
        front.accept(deposit(1 + n % 3, &format!("t-{n:02}"), "1"));
    }
    // More than the queues hold; tries are counted, and nothing is given up.
    until("tries are noted", || {
        bed.count("status = 'FAILED' AND retry_count >= 2 AND error_message LIKE 'not ack%'") > 0
    });
    until("its age is told", || {
        relay.counters.oldest_unsent_ms.load(Ordering::Relaxed) > 200
            && relay.counters.unsent.load(Ordering::Relaxed) == 100
    });
    cluster.broker_up(1).unwrap();
    bed.wait_until_sent();
    assert_eq!(bed.first_copies(), bed.accepted());
    assert_eq!(bed.count("error_message IS NOT NULL"), 0);
    relay.end();
    front.end();
}

#[test]
fn a_long_backlog_is_counted_and_sent() {
    /// More than are looked at one by one, and than one page or one producer has room for.
    const ROWS: u64 = 10_500;
    let Some(bed) = bed("a_long_backlog_is_counted_and_sent", 3) else {
        return;
    };
    // Somebody accepted them an hour ago, and nobody has sent one since.
    let row = |n: u64| {
        let user = format!("u-{}", n % 3 + 1);
        let hash = kilter_engine::key_hash(user.as_bytes());
        format!(
            "('e-{n}', 'commands', '{user}', 't-{n:05}', '{{\"userId\": \"{user}\", \
             \"transactionId\": \"t-{n:05}\"}}', 'PENDING', UTC_TIMESTAMP(3) - INTERVAL 1 HOUR, \
             UNIX_TIMESTAMP() * 1000, {hash})"
        )
    };
    let rows: Vec<u64> = (0..ROWS).collect();
    for some in rows.chunks(500) {
        let values: Vec<String> = some.iter().copied().map(row).collect();
        bed.run(&format!(
            "INSERT INTO outbox_events (event_id, topic, partition_key, transaction_id, payload, \
             status, created_at, issued_at_ms, key_hash) VALUES {}",
            values.join(",")
        ));
    }
    let mut away = bed.settings.clone();
    away.kafka = KafkaSettings {
        brokers: "127.0.0.1:1".into(),
        ..away.kafka
    };
    away.in_flight_max = 20;
    let relay = RelayThread::new(&away);
    let told = |relay: &RelayThread, unsent, hours| {
        relay.counters.unsent.load(Ordering::Relaxed) == unsent
            && relay.counters.oldest_unsent_ms.load(Ordering::Relaxed) / 3_600_000 == hours
    };
    until("all are counted", || told(&relay, ROWS, 1));
    relay.end();
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    until("none are counted", || told(&relay, 0, 0));
    relay.end();
    assert_eq!(bed.first_copies(), bed.accepted());
}
