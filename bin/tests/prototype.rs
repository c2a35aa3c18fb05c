//! What the prototype did wrong, each as a test.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use support::{Place, command, open};

#[test]
fn thirty_thousand_deposits_over_a_thousand_accounts() {
    let place = Place::new();
    let opens = (1..=1000).map(open);
    let deposits = (0..30_000).map(|n| command(&format!("t-{n}"), n % 1000 + 1, "DEPOSIT", "1"));
    place.apply(opens.chain(deposits));
    let balances = place.balances();
    assert_eq!(balances.len(), 1000);
    assert!(
        balances.iter().all(|row| row.2 == "30" && row.4 == 30),
        "{balances:?}"
    );
    place.ok(&["audit"]);
}

#[test]
fn two_withdrawals_of_8_from_10_in_one_batch() {
    let place = Place::new();
    place.apply([
        open(1),
        command("t-1", 1, "DEPOSIT", "10"),
        command("t-2", 1, "WITHDRAW", "8"),
        command("t-3", 1, "WITHDRAW", "8"),
    ]);
    assert_eq!(place.available(1, "USDT").as_deref(), Some("2"));
    assert_eq!(
        place.outcomes(),
        ["SUCCESS", "SUCCESS", "INSUFFICIENT_AVAILABLE"]
    );
}

#[test]
fn deposit_then_withdraw_on_a_new_account_in_one_batch() {
    let place = Place::new();
    place.apply([
        open(1),
        command("t-1", 1, "DEPOSIT", "10"),
        command("t-2", 1, "WITHDRAW", "4"),
    ]);
    assert_eq!(place.available(1, "USDT").as_deref(), Some("6"));
}

#[test]
fn a_negative_withdrawal_mints_nothing() {
    let place = Place::new();
    place.apply([
        open(1),
        command("t-1", 1, "DEPOSIT", "1"),
        command("t-2", 1, "WITHDRAW", "-100"),
    ]);
    assert_eq!(place.available(1, "USDT").as_deref(), Some("1"));
    assert_eq!(place.dead_letters(), ["INVALID_AMOUNT"]);
}

#[test]
fn ids_that_differ_only_in_case_are_two_and_the_same_is_one() {
    let place = Place::new();
    place.apply([
        open(1),
        command("abc", 1, "DEPOSIT", "1"),
        command("ABC", 1, "DEPOSIT", "1"),
        command("abc", 1, "DEPOSIT", "1"),
    ]);
    assert_eq!(place.available(1, "USDT").as_deref(), Some("2"));
    assert_eq!(place.outcomes().len(), 2);
}

#[test]
fn amounts_past_twenty_digits_keep_every_digit() {
    let place = Place::new();
    place.apply([
        open(1),
        command("t-1", 1, "DEPOSIT", "999999999999999999.999999999999999998"),
        command("t-2", 1, "DEPOSIT", "0.000000000000000001"),
        command("t-3", 1, "DEPOSIT", "0.000000000000000001"),
        command(
            "t-4",
            1,
            "WITHDRAW",
            "123456789012345678.123456789012345678",
        ),
    ]);
    assert_eq!(
        place.available(1, "USDT").as_deref(),
        Some("876543210987654321.876543210987654321")
    );
    assert_eq!(place.outcomes()[2], "BALANCE_OVERFLOW");
}

#[test]
fn one_bad_record_does_not_touch_its_neighbours() {
    let long_id = "x".repeat(70);
    for (bad, code) in [
        (command("t-2", 9, "DEPOSIT", "1"), "ACCOUNT_NOT_FOUND"),
        (
            command(&long_id, 1, "DEPOSIT", "1"),
            "INVALID_TRANSACTION_ID",
        ),
        (
            command("t-2", 1, "DEPOSIT", "1000000000000000000"),
            "INVALID_AMOUNT",
        ),
    ] {
        let place = Place::new();
        place.apply([
            open(1),
            command("t-1", 1, "DEPOSIT", "10"),
            bad,
            command("t-3", 1, "DEPOSIT", "20"),
        ]);
        assert_eq!(place.available(1, "USDT").as_deref(), Some("30"), "{code}");
        assert_eq!(place.dead_letters(), [code]);
        place.ok(&["audit"]);
    }
}

#[test]
fn the_same_failing_id_four_times_is_answered_once() {
    let place = Place::new();
    place.apply(
        std::iter::once(open(1))
            .chain((0..4).map(|_| command("t-1", 1, "WITHDRAW", "5")))
            .chain([command("t-2", 1, "DEPOSIT", "7")]),
    );
    assert_eq!(place.outcomes(), ["INSUFFICIENT_AVAILABLE", "SUCCESS"]);
    assert_eq!(place.available(1, "USDT").as_deref(), Some("7"));
}
