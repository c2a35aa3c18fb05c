//! Transfers and postings on a directory: money goes over or comes back, whatever is killed when.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use support::{Killed, Place, command, open, text};

const MAX: &str = "999999999999999999.999999999999999999";

/// A transfer from one account to another; `u-N` has account N.
fn transfer(id: &str, from: u64, to: u64, to_account: u64, amount: &str) -> String {
    let plain = command(id, from, "TRANSFER", amount);
    let open = plain.strip_suffix('}').unwrap();
    format!(r#"{open},"toUserId":"u-{to}","toAccountId":{to_account}}}"#)
}

fn postings(id: &str, account: u64, postings: &str) -> String {
    format!(
        r#"{{"transactionId":"{id}","userId":"u-{account}","accountId":{account},"postings":[{postings}]}}"#
    )
}

fn posting(kind: &str, currency: &str, amount: &str) -> String {
    format!(r#"{{"type":"{kind}","currencyCode":"{currency}","amount":"{amount}"}}"#)
}

/// Type, transaction id, account, outcome, available after, and the leg, of each ledger entry.
fn ledger(place: &Place) -> Vec<String> {
    let said = place.ok(&["ledger", "--json"]);
    let entries = said.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        format!(
            "{} {} {} {} {} {}",
            text("type"),
            text("transactionId"),
            row["accountId"],
            row["errorCode"].as_str().unwrap_or("SUCCESS"),
            text("availableAfter"),
            text("legName"),
        )
    });
    entries.collect()
}

#[test]
fn money_goes_over_or_comes_back() {
    let place = Place::new();
    let results = place.path("results.jsonl");
    let file = place.file(
        "commands.jsonl",
        [
            open(1),
            open(2),
            command("d", 1, "DEPOSIT", "10"),
            transfer("t", 1, 2, 2, "4"),
            // Two users may use one id.
            command("d", 2, "DEPOSIT", "1"),
            transfer("t", 2, 1, 1, "1"),
            transfer("t", 1, 2, 2, "4"),
            transfer("much", 1, 2, 2, "100"),
            transfer("nobody", 1, 9, 9, "2"),
            transfer("another", 1, 2, 7, "3"),
            transfer("self", 1, 1, 2, "1"),
            transfer("own", 1, 2, 1, "1"),
        ],
    );
    let arguments = [
        "apply",
        file.to_str().unwrap(),
        "--results",
        results.to_str().unwrap(),
    ];
    place.ok(&arguments);
    assert_eq!(
        ledger(&place),
        [
            "DEPOSIT d 1 SUCCESS 10 -",
            "TRANSFER t 1 SUCCESS 6 -",
            "DEPOSIT d 2 SUCCESS 1 -",
            "TRANSFER t 2 SUCCESS 0 -",
            "TRANSFER much 1 INSUFFICIENT_AVAILABLE 6 -",
            "TRANSFER nobody 1 SUCCESS 4 -",
            "TRANSFER another 1 SUCCESS 1 -",
            "CREDIT t 2 SUCCESS 4 1/0/3/0/CREDIT",
            "CREDIT t 1 SUCCESS 2 1/0/5/0/CREDIT",
            "CREDIT nobody 9 ACCOUNT_NOT_FOUND 0 1/0/8/0/CREDIT",
            "CREDIT another 7 ACCOUNT_MISMATCH 0 1/0/9/0/CREDIT",
            "REFUND nobody 1 SUCCESS 4 1/0/8/0/REFUND",
            "REFUND another 1 SUCCESS 7 1/0/9/0/REFUND",
        ]
    );
    assert_eq!(place.dead_letters(), ["MALFORMED"; 2]);
    let audited = place.ok(&["audit"]);
    assert!(audited.contains("legs in flight: 0\n"), "{audited}");

    // Both sides have a result by the client's id.
    let seen: Vec<serde_json::Value> = support::lines_of(&results)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |offset: u64| seen.iter().find(|one| one["offset"] == offset).unwrap();
    let debit = of(3);
    assert_eq!(
        (&debit["toUserId"], &debit["toAccountId"], debit.get("leg")),
        (&"u-2".into(), &2.into(), None)
    );
    let credit = seen.iter().find(|one| one["legName"] == "1/0/3/0/CREDIT");
    let credit = credit.unwrap();
    assert_eq!(credit["leg"], "CREDIT");
    assert_eq!(credit["transactionId"], "t");
    assert_eq!(credit["userId"], "u-2");
    assert_eq!(credit["fromUserId"], "u-1");
    assert_eq!(credit["fromAccountId"], 1);
    assert_eq!(of(6)["errorCode"], "DUPLICATE");

    // The debit's names the leg that left with it.
    assert_eq!(debit["creditLeg"], "1/0/3/0/CREDIT");
    assert_eq!(credit.get("creditLeg"), None);

    // A copy of a leg changes nothing, whoever sends it: by hand it is refused.
    let before = (ledger(&place), place.balances());
    let copy = r#"{"transactionId":"t","userId":"u-2","accountId":2,"type":"CREDIT","currencyCode":"USDT","amount":"4","leg":"1/0/3/0/CREDIT","fromUserId":"u-1","fromAccountId":1}"#;
    let copies = place.file("copies.jsonl", [copy]);
    place.ok(&["apply", copies.to_str().unwrap()]);
    assert_eq!((ledger(&place), place.balances()), before);
    assert_eq!(place.dead_letters(), ["MALFORMED"; 3]);
    place.ok(&["audit"]);
}

#[test]
fn postings_are_all_or_nothing() {
    let place = Place::new();
    let trade = [
        posting("SETTLE", "BTC", "1"),
        posting("DEPOSIT", "USDT", "50"),
        // It sees what the one before it did.
        posting("FREEZE", "USDT", "20"),
    ];
    let too_much = [
        posting("DEPOSIT", "USDT", "5"),
        posting("WITHDRAW", "BTC", "1"),
    ];
    let paid = r#"{"type":"TRANSFER","currencyCode":"USDT","amount":"7","toUserId":"u-2","toAccountId":2}"#;
    place.apply([
        open(1),
        open(2),
        command("d", 1, "DEPOSIT", "1").replace("USDT", "BTC"),
        command("f", 1, "FREEZE", "1").replace("USDT", "BTC"),
        postings("trade", 1, &trade.join(",")),
        postings("trade", 1, &trade.join(",")),
        postings("much", 1, &too_much.join(",")),
        postings(
            "paid",
            1,
            &format!("{},{paid}", posting("DEPOSIT", "USDT", "1")),
        ),
        postings("none", 1, ""),
    ]);
    assert_eq!(
        ledger(&place)[2..],
        [
            "SETTLE trade 1 SUCCESS 0 -",
            "DEPOSIT trade 1 SUCCESS 50 -",
            "FREEZE trade 1 SUCCESS 30 -",
            "DEPOSIT much 1 INSUFFICIENT_AVAILABLE 30 -",
            "WITHDRAW much 1 INSUFFICIENT_AVAILABLE 0 -",
            "DEPOSIT paid 1 SUCCESS 31 -",
            "TRANSFER paid 1 SUCCESS 24 -",
            "CREDIT paid 2 SUCCESS 7 1/0/7/1/CREDIT",
        ]
    );
    assert_eq!(place.dead_letters(), ["MALFORMED"]);
    place.ok(&["audit"]);
}

#[test]
fn a_refund_without_room_stays_in_flight() {
    let place = Place::new();
    // The money comes back after the balance was filled up again.
    place.apply([
        open(1),
        command("a", 1, "DEPOSIT", MAX),
        transfer("t", 1, 9, 9, "5"),
        command("b", 1, "DEPOSIT", "5"),
    ]);
    assert_eq!(place.dead_letters(), ["BALANCE_OVERFLOW"]);
    let in_flight = "legs in flight: 1 (1 of 5 USDT), 1 of them refused";
    let audited = place.ok(&["audit"]);
    assert!(audited.contains(in_flight), "{audited}");

    // By hand it comes without the header that makes it expire: it could land again when its name
    // is forgotten.
    let letter = place.ok(&["dead-letters", "--json"]);
    let letter: serde_json::Value = serde_json::from_str(letter.trim()).unwrap();
    let refund = letter["originalValue"].as_str().unwrap().to_owned();
    let again = place.file("again.jsonl", [command("c", 1, "WITHDRAW", "6"), refund]);
    place.ok(&["apply", again.to_str().unwrap()]);
    assert_eq!(place.dead_letters(), ["BALANCE_OVERFLOW", "MALFORMED"]);
    let letters = place.ok(&["dead-letters", "--json"]);
    assert!(letters.contains("through the outbox"), "{letters}");
    let audited = place.ok(&["audit"]);
    assert!(audited.contains(in_flight), "{audited}");
}

#[test]
fn a_leg_that_was_refused_is_sent_again_by_its_name() {
    let place = Place::new();
    place.apply([
        open(1),
        command("a", 1, "DEPOSIT", MAX),
        transfer("t", 1, 9, 9, "5"),
        command("b", 1, "DEPOSIT", "5"),
    ]);
    let name = "1/0/2/0/REFUND";
    let flying = |state: &str| {
        let said = place.ok(&["legs", "--json"]);
        let leg: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(
            [&leg["leg"], &leg["userId"], &leg["amount"], &leg["state"]],
            [name, "u-1", "5", state],
            "{said}"
        );
    };
    flying("refused");
    assert!(place.ok(&["legs", "list"]).contains("5 USDT to u-1"));
    let resend = ["legs", "resend", name, "--reason", "there is room"];
    // Without room it is refused again, and stays in flight.
    place.ok(&resend);
    flying("on its way");
    let early = text(&place.run(&resend));
    assert!(early.contains("its record is not applied yet"), "{early}");
    place.apply([command("c", 1, "WITHDRAW", "1")]);
    flying("refused");
    place.apply([command("d", 1, "WITHDRAW", "6")]);
    place.ok(&resend);
    place.apply([command("e", 1, "WITHDRAW", "1")]);
    assert_eq!(
        place.available(1, "USDT").as_deref(),
        Some("999999999999999996.999999999999999999")
    );
    assert_eq!(place.ok(&["legs", "--json"]), "");
    let landed = place.run(&resend);
    assert_eq!(landed.status.code(), Some(1));
    assert!(text(&landed).contains("has landed"), "{}", text(&landed));
    let unknown = ["legs", "resend", "1/0/3/0/REFUND", "--reason", "-"];
    assert!(text(&place.run(&unknown)).contains("there is no leg"));
    let audited = place.ok(&["audit"]);
    assert!(audited.contains("legs in flight: 0\n"), "{audited}");
}

const USERS: u64 = 20;
const TRANSFERS: u64 = 8_000;
const KILLS: usize = 30;

#[test]
fn thirty_kills_lose_no_leg() {
    let place = Place::new();
    let opens = (1..=USERS).map(open);
    let deposits = (1..=USERS).map(|n| command("d", n, "DEPOSIT", "1000"));
    let transfers = (0..TRANSFERS).map(|n| {
        let from = n * 7919 % USERS + 1;
        // Now and then to somebody who is not there.
        let to = if n % 23 == 0 { 99 } else { from % USERS + 1 };
        let amount = format!("{}.{:018}", n % 40, n + 1);
        transfer(&format!("t-{n}"), from, to, to, &amount)
    });
    let file = place.file("commands.jsonl", opens.chain(deposits).chain(transfers));
    let seed = support::seed();
    let mut random = seed;
    let mut kills = 0;
    while kills < KILLS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let shards = ((random >> 60) % 4 + 1).to_string();
        let arguments = [
            "apply",
            file.to_str().unwrap(),
            "--shards",
            &shards,
            "--flush-max-commands",
            "100",
            "--flush-interval-ms",
            "2",
        ];
        let mut child = Killed(
            place
                .kilter(&arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let until = Instant::now() + Duration::from_micros((random >> 33) % 150_000);
        let mut ended = None;
        while Instant::now() < until && ended.is_none() {
            ended = child.0.try_wait().unwrap();
            std::thread::yield_now();
        }
        match ended {
            Some(status) if status.success() => break,
            Some(status) => panic!("seed {seed}: ended by itself with {status}"),
            None => kills += 1,
        }
        drop(child);
        if place.data().join("store.db").is_file() && kills % 5 == 0 {
            let output = place.run(&["audit"]);
            let said = text(&output);
            assert!(
                output.status.success() || said.contains("no Kilter data"),
                "seed {seed}: {said}"
            );
        }
    }
    println!("{kills} kills");
    place.ok(&["apply", file.to_str().unwrap()]);
    let audited = place.ok(&["audit"]);
    assert!(
        audited.contains("legs in flight: 0\n"),
        "seed {seed}: {audited}"
    );
    let units = |text: &str| text.parse::<kilter_engine::Amount>().unwrap().units();
    let total: i128 = place.balances().iter().map(|row| units(&row.2)).sum();
    assert_eq!(total, units("1000") * i128::from(USERS), "seed {seed}");
    let landed = ledger(&place)
        .iter()
        .filter(|entry| entry.starts_with("CREDIT"))
        .count();
    assert!(landed > 1000, "seed {seed}: only {landed} credits");
}
