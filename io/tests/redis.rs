//! Redis follows the store: the highest version wins, and it converges after whatever happened to
//! it. Against real servers, started and killed here.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "support/redis.rs"]
mod server;

use std::{sync::atomic::Ordering, time::Duration};

use kilter_engine::epoch::EpochPart;
use kilter_io::redis::{Difference, DifferenceKind, RedisLookup, RedisSettings, compare, rebuild};
use redis::Commands;
use server::{Server, Store, Watcher, converges, image, projection, wait_for};

const STOP: Duration = Duration::from_secs(60);

/// The version in a hash.
fn version(server: &Server, account: u64) -> Option<String> {
    let key = format!("test:balance:{account}:USDT");
    server.connection().hget(key, "version").unwrap()
}

#[test]
fn the_newest_image_wins_in_whatever_order_they_come() {
    let Some(server) = Server::start("newest", &[]) else {
        return;
    };
    let watcher = Watcher::start(server.port, 20);
    let projection = projection(&server.settings(), None);
    // A fixed walk through versions 1 to 210, up and down.
    for step in 0..210 {
        let part = EpochPart {
            balances: (1..=20)
                .map(|account| image(account, 1 + (step * 89 + account * 7) % 210))
                .collect(),
            ..EpochPart::default()
        };
        projection.offers().offer(&part);
        if step % 10 == 0 {
            wait_for("what waits to be written", || {
                projection.offers().waiting() == 0
            });
        }
    }
    let store = Store::default();
    (1..=20).for_each(|account| store.put(image(account, 210)));
    converges(&server.settings(), &store);
    assert!(projection.status().left_alone() > 0);
    assert!(projection.status().is_connected());
    let mut connection = server.connection();
    let fields: Vec<Option<String>> = connection
        .hmget("test:balance:7:USDT", &["value", "timestamp"])
        .unwrap();
    assert_eq!(
        fields[0].as_deref(),
        Some(r#"{"available":"0.00000021000000147","frozen":"0.00000000000000021","version":210}"#)
    );
    assert!(fields[1].as_ref().unwrap().parse::<u64>().unwrap() > 1_700_000_000_000);
    let seven = image(7, 210);
    let mut lookup = RedisLookup::new(&server.settings());
    let mut look = |account| lookup.balance(account, seven.currency, seven.partition);
    let found = look(seven.account_id).unwrap().unwrap();
    assert_eq!(
        (found.available, found.frozen, found.version),
        (seven.available, seven.frozen, 210)
    );
    assert_eq!(look(image(99, 1).account_id).unwrap(), None);
    assert!(projection.stop(STOP));
    watcher.end();
}

#[test]
fn versions_above_2_to_the_53_are_told_apart() {
    let Some(server) = Server::start("versions", &[]) else {
        return;
    };
    let projection = projection(&server.settings(), None);
    let base = 1_u64 << 53;
    let steps = [
        (base + 2, base + 2),
        (base + 1, base + 2),
        (base + 3, base + 3),
        (9, base + 3),
        (10_000_000_000_000_000_000, 10_000_000_000_000_000_000),
        (9_999_999_999_999_999_999, 10_000_000_000_000_000_000),
        (u64::MAX, u64::MAX),
        (u64::MAX - 1, u64::MAX),
    ];
    for (offered, found) in steps {
        let status = projection.status();
        let done = status.written() + status.left_alone();
        projection.offers().offer_image(&image(1, offered));
        wait_for("an answer", || {
            status.written() + status.left_alone() > done
        });
        assert_eq!(version(&server, 1), Some(found.to_string()));
    }
    assert!(projection.stop(STOP));
}

#[test]
fn what_the_prototype_or_others_left_gives_way() {
    let Some(server) = Server::start("prototype", &[]) else {
        return;
    };
    server.run("HSET test:balance:1:USDT value {\"version\":900} timestamp 99999999999999");
    server.run("SET test:balance:2:USDT text");
    server.run("HSET test:balance:3:USDT version 00000000000000000000000000900");
    server.run("HSET test:balance:4:USDT version zzzzzzzzzzzzzzz");
    let store = Store::with(4);
    let projection = projection(&server.settings(), Some(&store));
    wait_for("the full offer", || projection.status().full_offers() == 1);
    converges(&server.settings(), &store);
    assert!(projection.stop(STOP));
}

#[test]
fn a_server_that_forgot_the_script_learns_it_again() {
    let Some(server) = Server::start("noscript", &[]) else {
        return;
    };
    let store = Store::default();
    let projection = projection(&server.settings(), None);
    for round in 1..=5 {
        let part = EpochPart {
            balances: (1..=100).map(|account| store.commit(account)).collect(),
            ..EpochPart::default()
        };
        projection.offers().offer(&part);
        converges(&server.settings(), &store);
        server.run("SCRIPT FLUSH");
        assert_eq!(projection.status().outages(), 0, "round {round}");
    }
    assert_eq!(projection.status().retries(), 0);
    assert!(projection.stop(STOP));
}

/// Runs `lose` on a server full of balances while more are committed, and waits until it converges;
/// most balances are idle, so only a full offer brings them back.
fn converges_after(test: &str, lose: impl FnOnce(&mut Server, &Store)) {
    let Some(mut server) = Server::start(test, &[]) else {
        return;
    };
    let settings = server.settings();
    let store = Store::with(500);
    let watcher = Watcher::start(server.port, 30);
    let projection = projection(&settings, Some(&store));
    wait_for("the first full offer", || {
        projection.status().full_offers() == 1
    });
    converges(&settings, &store);
    let commit = |accounts: std::ops::RangeInclusive<u64>| {
        accounts.for_each(|account| projection.offers().offer_image(&store.commit(account)));
    };
    commit(1..=20);
    converges(&settings, &store);
    watcher.unseen(|| lose(&mut server, &store));
    commit(5..=25);
    converges(&settings, &store);
    wait_for("another full offer", || {
        projection.status().full_offers() >= 2
    });
    commit(1..=30);
    converges(&settings, &store);
    assert!(projection.stop(STOP));
    watcher.end();
}

#[test]
fn killed_and_started_empty_it_converges() {
    converges_after("killed", |server, _| {
        server.kill();
        server.restart();
    });
}

#[test]
fn flushed_it_converges() {
    converges_after("flushed", |server, _| server.run("FLUSHALL"));
}

#[test]
fn started_with_old_data_it_converges() {
    let Some(mut server) = Server::start("old data", &[]) else {
        return;
    };
    let settings = server.settings();
    let store = Store::with(300);
    let watcher = Watcher::start(server.port, 30);
    let projection = projection(&settings, Some(&store));
    wait_for("the first full offer", || {
        projection.status().full_offers() == 1
    });
    server.run("SAVE");
    for _ in 0..3 {
        (1..=200).for_each(|account| projection.offers().offer_image(&store.commit(account)));
    }
    converges(&settings, &store);
    watcher.unseen(|| {
        server.kill();
        server.restart();
    });
    // Nothing is committed: the marker is there again, and only the run_id tells.
    converges(&settings, &store);
    assert!(projection.stop(STOP));
    watcher.end();
}

#[test]
fn flushed_in_the_middle_of_a_full_offer_it_converges() {
    let Some(server) = Server::start("flushed twice", &[]) else {
        return;
    };
    // It is not looked at between the pages, nor afterwards: the end of the full offer must tell.
    let settings = RedisSettings {
        page: 10,
        check_interval: Duration::from_secs(600),
        ..server.settings()
    };
    let store = Store::with(100);
    store.gate.store(50, Ordering::SeqCst);
    let projection = projection(&settings, Some(&store));
    wait_for("half of it", || store.at_gate.load(Ordering::SeqCst) == 1);
    server.run("FLUSHALL");
    store.gate.store(0, Ordering::SeqCst);
    converges(&settings, &store);
    assert!(projection.status().offered_rows() > 100);
    assert!(projection.stop(STOP));
}

#[test]
fn full_and_then_given_room_it_converges_and_never_goes_back() {
    let Some(server) = Server::start("full", &["--maxmemory-policy", "noeviction"]) else {
        return;
    };
    let settings = server.settings();
    let store = Store::with(300);
    let watcher = Watcher::start(server.port, 30);
    let projection = projection(&settings, Some(&store));
    converges(&settings, &store);
    server.run("CONFIG SET maxmemory 1000");
    for _ in 0..5 {
        (1..=400).for_each(|account| projection.offers().offer_image(&store.commit(account)));
        let retries = projection.status().retries();
        wait_for("a refusal", || projection.status().retries() > retries);
    }
    wait_for("the reason", || {
        let reason = projection.status().reason();
        reason.is_some_and(|reason| reason.contains("OOM"))
    });
    assert!(!projection.status().is_connected());
    server.run("CONFIG SET maxmemory 0");
    converges(&settings, &store);
    wait_for("the end of the outage", || {
        projection.status().is_connected()
    });
    assert!(projection.stop(STOP));
    watcher.end();
}

#[test]
fn while_it_hangs_one_image_a_balance_waits_and_offering_goes_on() {
    let Some(server) = Server::start("hangs", &[]) else {
        return;
    };
    let settings = server.settings();
    let store = Store::with(1000);
    let projection = projection(&settings, Some(&store));
    wait_for("the first full offer", || {
        projection.status().full_offers() == 1
    });
    server.signal("-STOP");
    let mut most = 0;
    let mut rounds = 0;
    // Until it was noticed, at least; the offers of those rounds ended while the server hung.
    while rounds < 50 || projection.status().retries() == 0 {
        let part = EpochPart {
            balances: (1..=1000).map(|account| store.commit(account)).collect(),
            ..EpochPart::default()
        };
        projection.offers().offer(&part);
        most = most.max(projection.offers().waiting());
        rounds += 1;
    }
    assert!(most <= 1000, "{most} images of 1000 balances");
    server.signal("-CONT");
    converges(&settings, &store);
    assert!(projection.stop(STOP));
}

#[test]
fn a_wrong_password_is_told_once_and_a_right_one_mends_it() {
    let Some(server) = Server::start("password", &["--requirepass", "right"]) else {
        return;
    };
    let settings = RedisSettings {
        password: Some("wrong".into()),
        ..server.settings()
    };
    let store = Store::with(50);
    let projection = projection(&settings, Some(&store));
    (1..=50).for_each(|account| projection.offers().offer_image(&store.commit(account)));
    wait_for("several tries", || projection.status().retries() > 500);
    let reason = projection.status().reason().unwrap();
    assert!(reason.to_lowercase().contains("password"), "{reason}");
    assert!(!reason.contains("wrong"), "{reason}");
    assert_eq!(projection.status().outages(), 1);
    let client = redis::Client::open(format!("redis://:right@127.0.0.1:{}", server.port));
    let mut connection = client.unwrap().get_connection().unwrap();
    let mut mend = redis::cmd("CONFIG");
    mend.arg("SET").arg("requirepass").arg("wrong");
    mend.query::<()>(&mut connection).unwrap();
    converges(&settings, &store);
    wait_for("the end of the outage", || {
        projection.status().is_connected()
    });
    assert_eq!(projection.status().outages(), 1);
    assert_eq!(projection.status().reason(), None);
    assert!(projection.stop(STOP));
}

#[test]
fn a_source_that_fails_is_opened_again_and_gone_on_with() {
    let Some(server) = Server::start("source", &[]) else {
        return;
    };
    let settings = server.settings();
    let store = Store::with(300);
    store.faults.store(5, Ordering::Relaxed);
    let projection = projection(&settings, Some(&store));
    wait_for("the first full offer", || {
        projection.status().full_offers() == 1
    });
    assert_eq!(projection.status().offered_rows(), 300);
    converges(&settings, &store);
    assert!(projection.stop(STOP));
}

#[test]
fn nodes_share_a_marker() {
    let Some(server) = Server::start("marker", &[]) else {
        return;
    };
    let settings = server.settings();
    let marker = || {
        let read = server.connection().get("test:kilter:marker");
        read.unwrap()
    };
    let store = Store::with(100);
    let first = projection(&settings, Some(&store));
    wait_for("the first full offer", || first.status().full_offers() == 1);
    let before: Option<String> = marker();
    assert!(before.is_some());
    let second = projection(&settings, Some(&store));
    wait_for("the second one's", || second.status().full_offers() == 1);
    // Else the first would begin anew, and then the second, for ever.
    assert_eq!(marker(), before);
    let keys: Vec<String> = server.connection().keys("test:kilter:*").unwrap();
    assert_eq!(keys, ["test:kilter:marker"]);
    assert!(first.stop(STOP) && second.stop(STOP));
}

#[test]
fn stopping_writes_what_waits() {
    let Some(server) = Server::start("stopping", &[]) else {
        return;
    };
    let settings = RedisSettings {
        interval: Duration::from_secs(600),
        batch: 1000,
        ..server.settings()
    };
    let store = Store::with(99);
    let projection = projection(&settings, None);
    (1..=99).for_each(|account| projection.offers().offer_image(&store.commit(account)));
    assert!(projection.stop(STOP));
    let compared = server::differences(&settings, &store).unwrap();
    assert!(compared.is_equal(), "{compared:?}");
}

#[test]
fn an_empty_redis_is_rebuilt_and_compared() {
    let Some(server) = Server::start("rebuild", &[]) else {
        return;
    };
    let settings = server.settings();
    let store = Store::with(200);
    let compared = server::differences(&settings, &store).unwrap();
    assert_eq!((compared.rows, compared.missing), (200, 200));
    store.faults.store(2, Ordering::Relaxed);
    let mut told = Vec::new();
    let rebuilt = rebuild(&settings, store.source(), &mut |now| told.push(now.rows)).unwrap();
    assert_eq!((rebuilt.rows, rebuilt.written), (200, 200));
    assert_eq!(told, [64, 128, 192, 200]);
    let again = rebuild(&settings, store.source(), &mut |_| {}).unwrap();
    assert_eq!((again.rows, again.written), (200, 0));

    server.run("DEL test:balance:1:USDT");
    store.commit(2);
    server
        .run("HSET test:balance:3:USDT value {\"available\":\"1\",\"frozen\":\"0\",\"version\":1}");
    store.put(image(4, 0));
    let mut found = Vec::new();
    let mut note = |difference: &Difference| {
        found.push((difference.expected.account_id.get(), difference.kind));
    };
    let compared = compare(&settings, store.source(), &mut note).unwrap();
    assert_eq!(compared.rows, 200);
    assert_eq!(
        found,
        [
            (1, DifferenceKind::Missing),
            (2, DifferenceKind::Behind),
            (3, DifferenceKind::Different),
            (4, DifferenceKind::Ahead),
        ]
    );
}

#[test]
fn a_rebuild_of_nothing_that_answers_says_so() {
    let Some(mut server) = Server::start("rebuild of nothing", &[]) else {
        return;
    };
    server.kill();
    let store = Store::with(1);
    let error = rebuild(&server.settings(), store.source(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("cannot connect"), "{error}");
}
