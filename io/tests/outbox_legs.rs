//! Legs of transfers in the outbox: when their time begins, and how an operator sends one again.
//! Against real servers.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/outbox.rs"]
mod outbox;
#[path = "support/mysql.rs"]
mod server;

use std::sync::atomic::Ordering;

use kilter_engine::clock::Clock;
use kilter_io::{
    clock::SystemClock,
    mysql::{Db, Legs, MysqlError},
    outbox::LegProgress,
};
use outbox::*;

#[test]
fn a_legs_time_counts_from_when_it_is_first_handed_over() {
    let Some(mut bed) = bed("a_legs_time_counts_from_its_first_hand_over", 1) else {
        return;
    };
    bed.settings.window_ms = 60_000;
    // As an epoch left it, and then no process ran for most of a window.
    left(&bed, "u-2", "t", "1/0/0/0/CREDIT", 50_000);
    bed.run("UPDATE outbox_events SET issues = 0");
    let old = bed.number("SELECT issued_at_ms FROM outbox_events");
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    relay.end();
    assert_eq!(bed.count("issues = 1 AND late = 0"), 1);
    assert!(bed.number("SELECT issued_at_ms FROM outbox_events") >= old + 50_000);
    assert_eq!(bed.log().len(), 1);
}

#[test]
fn a_late_leg_is_an_operators_where_nobody_can_tell_what_became_of_it() {
    let Some(mut bed) = bed("a_late_leg_is_an_operators", 1) else {
        return;
    };
    bed.settings.window_ms = 60_000;
    bed.settings.ledger = false;
    left(&bed, "u-2", "t", "1/0/0/0/CREDIT", 50_000);
    left(&bed, "u-2", "behind", "", 1000);
    let relay = RelayThread::new(&bed.settings);
    until("what is behind it is sent", || {
        bed.count("status = 'SENT'") == 1
    });
    until("it shows", || {
        bed.count("status = 'FAILED' AND error_message LIKE '%kilter legs resend%'") == 1
            && relay.counters.oldest_unsent_ms.load(Ordering::Relaxed) > 40_000
    });
    // A door is not held up by it, and nobody sends it again.
    let front = Front::new(&bed.settings);
    front.accept(deposit(2, "later", "1"));
    until("what comes later is sent", || {
        bed.count("status = 'SENT'") == 2
    });
    assert_eq!(front.counters().left_to_relay.load(Ordering::Relaxed), 0);
    assert_eq!(bed.log().len(), 3);
    relay.end();
    front.end();
}

fn flying(bed: &Bed) -> Vec<(String, LegProgress)> {
    let mut db = Db::open(&bed.settings.mysql).unwrap();
    let mut found = Vec::new();
    Legs::new(&bed.settings)
        .flying::<MysqlError>(&mut db, |leg| {
            found.push((leg.name, leg.progress));
            Ok(())
        })
        .unwrap();
    found
}

fn resend(bed: &Bed, name: &str, known_not_landed: bool) -> Result<(), String> {
    let mut db = Db::open(&bed.settings.mysql).unwrap();
    let name = name.parse().unwrap();
    let now_ms = SystemClock::new().wall_ms();
    Legs::new(&bed.settings)
        .resend(&mut db, name, "mended", known_not_landed, now_ms)
        .map_err(|error| error.to_string())
}

#[test]
fn a_leg_that_was_refused_is_issued_anew_by_an_operator() {
    let Some(mut bed) = bed("a_leg_that_was_refused_is_issued_anew", 1) else {
        return;
    };
    bed.settings.window_ms = 60_000;
    let leg = |number: u32| format!("1/0/{number}/0/CREDIT");
    for number in 0..4 {
        left(&bed, "u-2", "t", &leg(number), 20_000);
    }
    bed.run(
        "UPDATE outbox_events SET status = 'SENT', sent_generation = 1, sent_partition = 0, \
         sent_offset = id WHERE id < 4",
    );
    // The first was refused, the second landed by an older copy, the third is not applied yet.
    bed.run(
        "INSERT INTO balance_transactions SELECT 1, 0, 0, 0, 2, 'USDT', 't', 'CREDIT', 1, 0, 1, \
         0, 0, 'SUCCESS', NULL, created_at, 1, NULL, leg, NULL FROM outbox_events WHERE id = 2",
    );
    // The partition's clock was not moved for so long that an issue of now could outlive its name.
    let issued = bed.number("SELECT issued_at_ms FROM outbox_events WHERE id = 1");
    commit(&bed, 3, issued as i64 - 15_000);
    assert_eq!(
        flying(&bed),
        [
            (leg(0), LegProgress::Refused),
            (leg(2), LegProgress::OnItsWay),
            (leg(3), LegProgress::OnItsWay)
        ]
    );
    for (number, why) in [
        (1, "has landed"),
        (2, "its record is not applied yet"),
        (3, "the relay sends it"),
        (7, "there is no leg"),
    ] {
        let told = resend(&bed, &leg(number), false).unwrap_err();
        assert!(told.contains(why), "{number}: {told}");
    }
    resend(&bed, &leg(0), false).unwrap();
    let is_open = "id = 1 AND status = 'PENDING' AND sent_offset IS NULL";
    assert_eq!(
        bed.count(&format!(
            "{is_open} AND issues = 2 AND issued_at_ms = {issued}"
        )),
        1
    );
    // Refused again, and now the clock is near.
    let sent = "UPDATE outbox_events SET status = 'SENT', sent_generation = 1, sent_partition = 0, \
                sent_offset = 2 WHERE id = 1";
    bed.run(sent);
    commit(&bed, 3, SystemClock::new().wall_ms());
    resend(&bed, &leg(0), false).unwrap();
    // The log of this test has nothing of all that yet.
    commit(&bed, 0, 1000);
    assert_eq!(
        bed.count(&format!(
            "{is_open} AND issues = 3 AND issued_at_ms > {issued}"
        )),
        1
    );
    let relay = RelayThread::new(&bed.settings);
    bed.wait_until_sent();
    relay.end();
    assert_eq!(
        bed.count("id = 1 AND error_message = 'resent by an operator: mended'"),
        1
    );
    // Where the ledger is in the result topic, the operator has to say what it says.
    bed.settings.ledger = false;
    commit(&bed, 3, SystemClock::new().wall_ms());
    bed.run("UPDATE outbox_events SET status = 'FAILED', sent_offset = 2 WHERE id = 1");
    assert_eq!(flying(&bed), [(leg(0), LegProgress::Unknown)]);
    let told = resend(&bed, &leg(0), false).unwrap_err();
    assert!(told.contains("--not-landed"), "{told}");
    resend(&bed, &leg(0), true).unwrap();
    assert_eq!(bed.count(&format!("{is_open} AND issues = 4")), 1);
}
