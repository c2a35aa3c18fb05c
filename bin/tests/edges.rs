//! Input at and over every edge.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use support::{Place, command, open};

#[test]
fn amounts_at_both_edges_and_exponents() {
    let place = Place::new();
    place.apply([
        open(1),
        command("a", 1, "DEPOSIT", "999999999999999999.999999999999999999"),
        command("b", 1, "WITHDRAW", "999999999999999999"),
        command("c", 1, "WITHDRAW", "9.99999999999999998e-1"),
        command("d", 1, "WITHDRAW", "1e-18"),
        command("e", 1, "DEPOSIT", "1E+3"),
        command("f", 1, "DEPOSIT", "1e18"),
        command("g", 1, "DEPOSIT", "1e-19"),
        command("h", 1, "DEPOSIT", "0"),
        command("i", 1, "DEPOSIT", "NaN"),
        command("j", 1, "DEPOSIT", "1e999999999999"),
        command("k", 1, "DEPOSIT", ""),
    ]);
    assert_eq!(place.available(1, "USDT").as_deref(), Some("1000"));
    assert_eq!(place.dead_letters(), ["INVALID_AMOUNT"; 6]);
    place.ok(&["audit"]);
}

#[test]
fn ids_of_64_and_65_bytes_and_empty_texts() {
    let place = Place::new();
    let (fits, long) = ("x".repeat(64), "x".repeat(65));
    let with_user = |user: &str| {
        format!(r#"{{"transactionId":"o","userId":"{user}","accountId":7,"type":"OPEN"}}"#)
    };
    place.apply([
        open(1),
        command(&fits, 1, "DEPOSIT", "1"),
        command(&long, 1, "DEPOSIT", "1"),
        command("", 1, "DEPOSIT", "1"),
        with_user(&long),
        with_user(""),
        with_user(&fits),
    ]);
    assert_eq!(place.available(1, "USDT").as_deref(), Some("1"));
    assert_eq!(
        place.dead_letters(),
        [
            "INVALID_TRANSACTION_ID",
            "INVALID_TRANSACTION_ID",
            "MALFORMED",
            "MALFORMED"
        ]
    );
    assert_eq!(place.ok(&["accounts", "--json"]).lines().count(), 2);
}

#[test]
fn currencies_known_and_unknown() {
    let place = Place::new();
    let with = |id: &str, currency: &str| command(id, 1, "DEPOSIT", "1").replace("USDT", currency);
    place.apply([
        open(1),
        with("a", "usdt"),
        with("b", "A"),
        with("c", "TEN-CHARS."),
        with("d", "ELEVENCHARS"),
        with("e", ""),
        with("f", "US DT"),
        with("g", "ÜSD"),
    ]);
    assert_eq!(place.balances().len(), 3);
    assert_eq!(place.dead_letters(), ["INVALID_CURRENCY"; 4]);
}

#[test]
fn no_json_at_all_and_json_that_is_no_command() {
    let place = Place::new();
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let good = command("deep", 1, "DEPOSIT", "1");
    let mut lines: Vec<Vec<u8>> = [
        open(1),
        String::new(),
        "null".into(),
        "[1,2,3]".into(),
        "{".into(),
        "{}".into(),
        deep.clone(),
        good.replace('}', r#","amount":"2"}"#),
        good.replace('}', r#","metadata":{"a":1,"a":2}}"#),
        good.replace("\"accountId\":1", "\"accountId\":1.0"),
        good.replace("\"accountId\":1", "\"accountId\":\"1\""),
        good.replace("DEPOSIT", "STEAL"),
        good.replace('}', &format!(",\"metadata\":{deep}}}")),
    ]
    .map(String::into_bytes)
    .into();
    lines.push(b"\xff\xfe{\"transactionId\":\"x\"}".to_vec());
    place.apply(&lines);
    assert_eq!(
        place.available(1, "USDT").as_deref(),
        Some("1"),
        "deep but ignored"
    );
    let letters = place.dead_letters();
    assert_eq!(letters.len(), 12);
    assert_eq!(
        letters.iter().filter(|code| *code == "MALFORMED").count(),
        11,
        "{letters:?}"
    );
    let json = place.ok(&["dead-letters", "--json"]);
    assert!(
        json.contains("originalValueBase64"),
        "what is no text goes as base64"
    );
    place.ok(&["audit"]);
}

#[test]
fn a_line_of_ten_megabytes_is_applied_and_one_of_twenty_is_refused() {
    let place = Place::new();
    let padded = |id: &str, bytes: usize| {
        let description = format!(r#","description":"{}"}}"#, "x".repeat(bytes));
        command(id, 1, "DEPOSIT", "1").replace('}', &description)
    };
    let said = place.apply([
        open(1),
        padded("ten", 10 << 20),
        padded("twenty", 20 << 20),
        command("after", 1, "DEPOSIT", "1"),
    ]);
    assert!(said.contains("4 lines"), "{said}");
    assert_eq!(place.available(1, "USDT").as_deref(), Some("2"));
    let json = place.ok(&["dead-letters", "--json"]);
    assert!(
        json.contains("originalValueSha256") && json.len() < 200_000,
        "cut to its beginning"
    );
    place.ok(&["audit"]);
    assert!(place.apply([open(1)]).contains("1 lines"));
}

#[test]
fn an_account_is_one_users_for_ever() {
    let place = Place::new();
    let bind = |user: &str, account: u64| {
        format!(r#"{{"transactionId":"o","userId":"{user}","accountId":{account},"type":"OPEN"}}"#)
    };
    place.apply([
        bind("a", 1),
        bind("a", 1),
        bind("b", 1),
        bind("a", 2),
        bind("b", 2),
        bind("c", 1 << 62),
        bind("d", (1 << 62) + 1),
        bind("e", 0),
        bind("f", 9).replace("OPEN", "\\u004fPEN"),
    ]);
    assert_eq!(
        place.dead_letters(),
        [
            "ACCOUNT_MISMATCH",
            "ACCOUNT_MISMATCH",
            "MALFORMED",
            "MALFORMED",
            "MALFORMED"
        ]
    );
    let accounts = place.ok(&["accounts", "--json"]);
    assert_eq!(accounts.lines().count(), 3, "{accounts}");
    place.ok(&["audit"]);
}
