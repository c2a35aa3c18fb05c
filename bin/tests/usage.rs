//! How the program behaves as a program.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{io::Write, process::Stdio};

use support::{Killed, Place, command, open, text, wait_for};

fn code(place: &Place, args: &[&str]) -> (i32, String) {
    let output = place.run(args);
    (output.status.code().unwrap(), text(&output))
}

#[test]
fn exit_codes_and_words() {
    let place = Place::new();
    for (args, wanted, words) in [
        (&["balances"][..], 1, "holds no Kilter data"),
        (&["audit"], 1, "log.db is missing"),
        (&["apply", "/no/such/file"], 1, "cannot read /no/such/file"),
        (&["apply"], 2, "FILE"),
        (&["nonsense"], 2, "nonsense"),
        (&["demo", "--shards", "0"], 2, "--shards"),
        (
            &["demo", "--shards", "2", "--writers", "3"],
            1,
            "--writers 3",
        ),
        (&["demo", "--wait", "sleep"], 2, "busy-spin"),
        (&["demo", "--pin", "4095"], 1, "--pin 4095"),
        (&["demo", "--zipf", "NaN"], 2, "--zipf"),
        (&["demo", "--window", "5"], 2, "whole number with a unit"),
        (&["window", "1h"], 1, "holds no Kilter data"),
    ] {
        let (code, said) = code(&place, args);
        assert_eq!(code, wanted, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert!(!place.data().exists(), "a mistake makes no directory");
    place.apply([open(1), command("t", 1, "DEPOSIT", "1")]);
    for (args, wanted, words) in [
        (&["balance", "1", "USDT"][..], 0, "USDT"),
        (&["balance", "1", "BTC"], 1, "has no BTC balance"),
        (&["balance", "0", "BTC"], 1, "account ids go from 1"),
        (&["apply", "/"], 1, "directory"),
        (
            &["log", "refuse", "--offset", "0", "--reason", "x"],
            1,
            "committed already",
        ),
        (&["window"], 0, "24 h"),
        (&["window", "12h"], 0, "12 h"),
        (
            &["apply", "/dev/null", "--window", "1h"],
            1,
            "kilter window",
        ),
        (&["audit"], 0, "the store is exact"),
    ] {
        let (code, said) = code(&place, args);
        assert_eq!(code, wanted, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn a_directory_has_one_node_and_many_readers() {
    let place = Place::new();
    let mut child = Killed(
        place
            .kilter(&["apply", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut input = child.0.stdin.take().unwrap();
    for line in [open(1), command("t", 1, "DEPOSIT", "1")] {
        writeln!(input, "{line}").unwrap();
    }
    input.flush().unwrap();
    wait_for("the lock", || place.data().join("store.db").is_file());
    wait_for("a second node to be refused", || {
        let (code, said) = code(&place, &["apply", "/dev/null"]);
        code == 1 && said.contains("in use by process")
    });
    // The pipe is still open: what came is applied, not what will have come.
    wait_for("a balance beside the running node", || {
        place.run(&["balance", "1", "USDT"]).status.success()
    });
    drop(input);
    assert!(child.0.wait().unwrap().success());
    assert_eq!(place.available(1, "USDT").as_deref(), Some("1"));
}

#[test]
fn a_signal_stops_cleanly_and_the_same_command_goes_on() {
    let place = Place::new();
    let lines: Vec<String> = (1..=100)
        .map(open)
        .chain((0..400_000).map(|n| command(&format!("t-{n}"), n % 100 + 1, "DEPOSIT", "1")))
        .collect();
    let file = place.file("commands.jsonl", &lines);
    let child = place
        .kilter(&["apply", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the first balances", || {
        let output = place.run(&["balances", "--json"]);
        output.status.success() && !output.stdout.is_empty()
    });
    let pid = child.id().to_string();
    let status = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(status.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let (code, said) = code(&place, &["audit"]);
    assert_eq!(code, 0, "{said}");
    place.ok(&["apply", file.to_str().unwrap()]);
    assert!(place.balances().iter().all(|row| row.2 == "4000"));
}

#[test]
fn the_demo_is_exact_and_the_same_for_the_same_seed() {
    let dumps = ["1", "3"].map(|shards| {
        let place = Place::new();
        let said = place.ok(&[
            "demo",
            "--users",
            "300",
            "--commands",
            "20000",
            "--seed",
            "5",
            "--shards",
            shards,
        ]);
        assert!(said.contains("the store is exact"), "{said}");
        place.dump()
    });
    assert!(dumps[0] == dumps[1]);
}

#[test]
fn a_planted_difference_is_found() {
    for (sql, words) in [
        (
            "UPDATE account_balances SET available = '2'",
            "available is 2",
        ),
        ("UPDATE account_balances SET version = 9", "version 9"),
        ("DELETE FROM account_balances", "the balance is missing"),
        (
            "UPDATE balance_transactions SET amount = '3'",
            "amount is 3",
        ),
        (
            "UPDATE balance_transactions SET error_code = 'X'",
            "outcome is X",
        ),
        ("DELETE FROM balance_transactions", "one ledger entry"),
        ("DELETE FROM dead_letters", "refused as INVALID_AMOUNT"),
        ("UPDATE dead_letters SET code = 'X'", "refused as X"),
        ("DELETE FROM accounts", "accounts are missing"),
        ("UPDATE accounts SET user_id = x'41'", "never opened"),
        (
            "UPDATE consumer_offsets SET offset = 1",
            "it is not committed",
        ),
        (
            "UPDATE consumer_offsets SET offset = 9",
            "the log ends at 3",
        ),
        (
            "INSERT INTO balance_transactions SELECT generation, partition, 77, posting, account_id, \
             currency_code, transaction_id, type, amount, available_before, available_after, \
             frozen_before, frozen_after, version, error_code, created_at, remembered_at, leg, leg_user \
             FROM balance_transactions",
            "a ledger entry of no record",
        ),
    ] {
        let place = Place::new();
        place.apply([
            open(1),
            command("t", 1, "DEPOSIT", "1"),
            command("u", 1, "DEPOSIT", "-1"),
        ]);
        let store = rusqlite::Connection::open(place.data().join("store.db")).unwrap();
        assert!(store.execute(sql, []).unwrap() > 0, "{sql}");
        drop(store);
        let (code, said) = code(&place, &["audit"]);
        assert_eq!(code, 1, "{sql}: {said}");
        assert!(said.contains(words), "{sql}: {said}");
    }
}

#[test]
fn another_log_is_refused() {
    let place = Place::new();
    place.apply([open(1), command("t", 1, "DEPOSIT", "1")]);
    let log = rusqlite::Connection::open(place.data().join("log.db")).unwrap();
    log.execute("DELETE FROM records WHERE offset = 1", [])
        .unwrap();
    let (code_, said) = code(&place, &["apply", "/dev/null"]);
    assert_eq!(code_, 1);
    assert!(
        said.contains("the store is at offset 2, the log ends before"),
        "{said}"
    );

    let other = Place::new();
    other.apply([open(2)]);
    drop(log);
    std::fs::copy(other.data().join("log.db"), place.data().join("log.db")).unwrap();
    let (code_, said) = code(&place, &["apply", "/dev/null"]);
    assert_eq!(code_, 1);
    assert!(
        said.contains("files of two directories were mixed"),
        "{said}"
    );

    std::fs::write(other.data().join("store.db"), "this is no database").unwrap();
    let (code_, said) = code(&other, &["audit"]);
    assert_eq!(code_, 1);
    assert!(said.contains("store.db"), "{said}");
}

#[test]
fn a_record_that_stops_the_node_is_decided_by_a_note() {
    let place = Place::new();
    place.apply([open(1), command("t", 1, "DEPOSIT", "1")]);
    // As if the machine's clock had been wrong by a year while two records were appended.
    let year_ms = 366 * 86_400_000_i64;
    let log = rusqlite::Connection::open(place.data().join("log.db")).unwrap();
    for (offset, id) in [(2, "u"), (3, "v")] {
        log.execute(
            "INSERT INTO records (offset, timestamp_ms, mark, key, value)
             SELECT ?1, timestamp_ms + ?2, 0, key, ?3 FROM records WHERE offset = 1",
            rusqlite::params![offset, year_ms, command(id, 1, "DEPOSIT", "1").into_bytes()],
        )
        .unwrap();
    }
    drop(log);
    let (answer, said) = code(&place, &["apply", "/dev/null"]);
    assert_eq!(answer, 1, "{said}");
    assert!(
        said.contains("offset 2") && said.contains("kilter log ignore-time"),
        "{said}"
    );
    place.ok(&["audit"]);
    place.ok(&[
        "log",
        "ignore-time",
        "--offset",
        "2",
        "--reason",
        "the clock was wrong",
    ]);
    place.ok(&[
        "log",
        "ignore-time",
        "--offset",
        "3",
        "--reason",
        "the clock was wrong",
    ]);
    place.ok(&["log", "refuse", "--offset", "3", "--reason", "not that one"]);
    place.ok(&["apply", "/dev/null"]);
    assert_eq!(place.available(1, "USDT").as_deref(), Some("2"));
    assert_eq!(place.dead_letters(), ["OPERATOR_REFUSED"]);
    place.ok(&["audit"]);
}

#[test]
fn a_full_window_stops_the_node_and_more_memory_lets_it_go_on() {
    let place = Place::new();
    let (answer, said) = code(
        &place,
        &[
            "demo",
            "--users",
            "100",
            "--commands",
            "450000",
            "--window-memory",
            "4MiB",
        ],
    );
    assert_eq!(answer, 1, "{said}");
    assert!(said.contains("window is full"), "{said}");
    assert!(said.contains("--window-memory"), "{said}");
    place.ok(&["audit"]);
    let said = place.ok(&["apply", "/dev/null", "--window-memory", "256MiB"]);
    assert!(said.contains("durable"), "{said}");
    place.ok(&["audit"]);
}
