mod rare;

use super::*;
use crate::Code;

const COMMAND: &str = r#"{"transactionId":"t-1","accountId":42,"userId":"u-42","currencyCode":"USDT","type":"DEPOSIT","amount":"12.340000000000000001","description":"optional","metadata":{"any":"json"}}"#;

fn refusal(record: &[u8]) -> Refusal<'_> {
    match decode(record) {
        Ok(command) => panic!("{command:?}"),
        Err(refusal) => *refusal,
    }
}

/// The command above with one field's JSON replaced, or dropped by an empty text.
fn with(field: &str, json: &str) -> String {
    let fields = [
        ("transactionId", r#""t-1""#),
        ("accountId", "42"),
        ("userId", r#""u-42""#),
        ("currencyCode", r#""USDT""#),
        ("type", r#""DEPOSIT""#),
        ("amount", r#""1.5""#),
    ];
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, usual)| (name, if name == field { json } else { usual }))
        .filter(|(_, json)| !json.is_empty())
        .map(|(name, json)| format!("\"{name}\":{json}"))
        .collect();
    format!("{{{}}}", fields.join(","))
}

#[test]
fn the_command_of_the_contract() {
    let command = decode(COMMAND.as_bytes()).unwrap();
    assert_eq!(command.transaction_id, "t-1");
    assert_eq!(command.user_id, "u-42");
    assert_eq!(command.account_id.get(), 42);
    assert_eq!(command.kind(), CommandKind::Deposit);
    let body = Body::Move {
        kind: MoveKind::Deposit,
        currency: "USDT".parse().unwrap(),
        amount: "12.340000000000000001".parse().unwrap(),
    };
    assert_eq!(command.body, body);
    assert!(matches!(command.transaction_id, Cow::Borrowed(_)));
    assert!(matches!(command.user_id, Cow::Borrowed(_)));
    assert_eq!(decode_key(COMMAND.as_bytes()).as_deref(), Some("u-42"));
}

#[test]
fn every_type_is_known() {
    for kind in CommandKind::ALL {
        let mut record = with("type", &format!("\"{kind}\""));
        let rest = match kind {
            CommandKind::Transfer => r#","toUserId":"v","toAccountId":7}"#,
            CommandKind::Credit => r#","leg":"0/0/0/0/CREDIT","fromUserId":"v","fromAccountId":7}"#,
            CommandKind::Refund => r#","leg":"0/0/0/0/REFUND","fromUserId":"v","fromAccountId":7}"#,
            // A batch has postings instead of a balance of its own.
            CommandKind::Batch => continue,
            _ => "}",
        };
        record.replace_range(record.len() - 1.., rest);
        assert_eq!(decode(record.as_bytes()).unwrap().kind(), kind);
        assert_eq!(
            may_be_open(record.as_bytes()),
            kind == CommandKind::Open,
            "{kind}"
        );
    }
    let record = with("type", r#""STEAL""#);
    let refusal = refusal(record.as_bytes());
    assert_eq!(refusal.code, Code::UnknownType);
    assert_eq!(refusal.message, r#"type is not known: "STEAL""#);
    assert_eq!(refusal.kind, None);
}

#[test]
fn open_has_no_amount_and_ignores_one() {
    for more in ["", r#","amount":null,"currencyCode":{}"#, r#","amount":-1"#] {
        let record =
            format!(r#"{{"transactionId":"o","userId":"u","accountId":1,"type":"OPEN"{more}}}"#);
        assert_eq!(decode(record.as_bytes()).unwrap().body, Body::Open);
    }
    let twice =
        r#"{"transactionId":"o","userId":"u","accountId":1,"type":"OPEN","amount":1,"amount":1}"#;
    assert_eq!(refusal(twice.as_bytes()).code, Code::Malformed);
}

#[test]
fn an_open_spelled_with_escapes_gets_past_the_picker() {
    let record = with("type", r#""\u004fPEN""#);
    assert_eq!(decode(record.as_bytes()).unwrap().kind(), CommandKind::Open);
    assert!(!may_be_open(record.as_bytes()));
}

#[test]
fn each_field_is_refused_with_its_code_and_value() {
    use Code::*;
    let long = format!("\"{}\"", "x".repeat(65));
    let long_message = format!("65 bytes, not 1 to 64: \"{}…", "x".repeat(62));
    // Field, its JSON, the code, the message.
    let table: &[(&str, &str, Code, &str)] = &[
        ("transactionId", "", Malformed, "transactionId is missing"),
        (
            "transactionId",
            "7",
            Malformed,
            "transactionId is not a string: 7",
        ),
        (
            "transactionId",
            "null",
            Malformed,
            "transactionId is not a string: null",
        ),
        (
            "transactionId",
            r#""""#,
            InvalidTransactionId,
            r#"transactionId has 0 bytes, not 1 to 64: """#,
        ),
        (
            "transactionId",
            &long,
            InvalidTransactionId,
            &format!("transactionId has {long_message}"),
        ),
        (
            "transactionId",
            r#""\udc00""#,
            Malformed,
            r#"transactionId has half of a surrogate pair in it: "\udc00""#,
        ),
        ("userId", "", Malformed, "userId is missing"),
        ("userId", "[]", Malformed, "userId is not a string: []"),
        (
            "userId",
            r#""""#,
            Malformed,
            r#"userId has 0 bytes, not 1 to 64: """#,
        ),
        (
            "userId",
            &long,
            Malformed,
            &format!("userId has {long_message}"),
        ),
        ("accountId", "", Malformed, "accountId is missing"),
        (
            "accountId",
            "0",
            Malformed,
            "accountId is not an integer from 1 to 2^62: 0",
        ),
        (
            "accountId",
            "-1",
            Malformed,
            "accountId is not an integer from 1 to 2^62: -1",
        ),
        (
            "accountId",
            "42.0",
            Malformed,
            "accountId is not an integer from 1 to 2^62: 42.0",
        ),
        (
            "accountId",
            "4e1",
            Malformed,
            "accountId is not an integer from 1 to 2^62: 4e1",
        ),
        (
            "accountId",
            r#""42""#,
            Malformed,
            r#"accountId is not an integer from 1 to 2^62: "42""#,
        ),
        (
            "accountId",
            "true",
            Malformed,
            "accountId is not an integer from 1 to 2^62: true",
        ),
        (
            "accountId",
            "4611686018427387905",
            Malformed,
            "accountId is not an integer from 1 to 2^62: 4611686018427387905",
        ),
        (
            "accountId",
            "18446744073709551617",
            Malformed,
            "accountId is not an integer from 1 to 2^62: 18446744073709551617",
        ),
        ("type", "", Malformed, "type is missing"),
        ("type", "0", Malformed, "type is not a string: 0"),
        (
            "type",
            r#""deposit""#,
            UnknownType,
            r#"type is not known: "deposit""#,
        ),
        ("type", r#""""#, UnknownType, r#"type is not known: """#),
        ("currencyCode", "", Malformed, "currencyCode is missing"),
        (
            "currencyCode",
            "1",
            Malformed,
            "currencyCode is not a string: 1",
        ),
        (
            "currencyCode",
            r#""""#,
            InvalidCurrency,
            r#"currencyCode: a currency code has at least one byte: """#,
        ),
        (
            "currencyCode",
            r#""ELEVENBYTES""#,
            InvalidCurrency,
            r#"currencyCode: a currency code has at most 10 bytes, this has 11: "ELEVENBYTES""#,
        ),
        (
            "currencyCode",
            r#""US/D""#,
            InvalidCurrency,
            r#"currencyCode: a currency code is made of letters, digits, '.', '_' and '-', byte 2 is another: "US/D""#,
        ),
        ("amount", "", Malformed, "amount is missing"),
        (
            "amount",
            "null",
            Malformed,
            "amount is neither a string nor a number: null",
        ),
        (
            "amount",
            r#"["1"]"#,
            Malformed,
            r#"amount is neither a string nor a number: ["1"]"#,
        ),
        (
            "amount",
            "-5",
            InvalidAmount,
            "amount: an amount has no sign: -5",
        ),
        (
            "amount",
            "0.00",
            InvalidAmount,
            "amount: an amount is above zero: 0.00",
        ),
        (
            "amount",
            r#""""#,
            InvalidAmount,
            r#"amount: an amount has at least one digit: """#,
        ),
        (
            "amount",
            r#""+5""#,
            InvalidAmount,
            r#"amount: an amount has no sign: "+5""#,
        ),
        (
            "amount",
            r#"" 5""#,
            InvalidAmount,
            r#"amount: an amount is a plain decimal number, this is not one from byte 0: " 5""#,
        ),
        (
            "amount",
            r#""1,000""#,
            InvalidAmount,
            r#"amount: an amount is a plain decimal number, this is not one from byte 1: "1,000""#,
        ),
        (
            "amount",
            "1e18",
            InvalidAmount,
            "amount: an amount is below 10^18: 1e18",
        ),
        (
            "amount",
            "1e-19",
            InvalidAmount,
            "amount: an amount has at most 18 decimals: 1e-19",
        ),
        (
            "amount",
            "1e999999999999",
            InvalidAmount,
            "amount: an amount is below 10^18: 1e999999999999",
        ),
        (
            "amount",
            r#""NaN""#,
            InvalidAmount,
            r#"amount: an amount is a plain decimal number, this is not one from byte 0: "NaN""#,
        ),
    ];
    for (field, json, code, message) in table {
        let record = with(field, json);
        let refusal = refusal(record.as_bytes());
        assert_eq!((refusal.code, refusal.message.as_str()), (*code, *message));
    }
}

#[test]
fn what_can_be_read_is_kept() {
    let record = with("amount", "0");
    let refused = refusal(record.as_bytes());
    assert_eq!(refused.transaction_id.as_deref(), Some("t-1"));
    assert_eq!(refused.user_id.as_deref(), Some("u-42"));
    assert_eq!(refused.account_id, AccountId::new(42));
    assert_eq!(refused.kind, Some(CommandKind::Deposit));
    assert_eq!(refused.currency, "USDT".parse().ok());
    assert_eq!(refused.amount, None);

    // Too long is readable all the same, and does not hide what stands behind it.
    let long = "é".repeat(33);
    let record = with("transactionId", &format!("\"{long}\""));
    let refused = refusal(record.as_bytes());
    assert_eq!(refused.transaction_id, Some(long.into()));
    assert_eq!(refused.amount, "1.5".parse().ok());

    let record = with("userId", "42");
    let refused = refusal(record.as_bytes());
    assert_eq!(refused.transaction_id.as_deref(), Some("t-1"));
    assert_eq!(refused.user_id, None);
}

#[test]
fn the_first_bad_field_decides() {
    let bad = [
        ("transactionId", "1", Code::Malformed),
        ("userId", r#""""#, Code::Malformed),
        ("accountId", "0", Code::Malformed),
        ("type", r#""?""#, Code::UnknownType),
        ("currencyCode", r#""?""#, Code::InvalidCurrency),
        ("amount", r#""?""#, Code::InvalidAmount),
    ];
    for first in 0..bad.len() {
        // Written backwards: the order in the record does not matter.
        let mut fields: Vec<_> = [
            ("transactionId", r#""t""#),
            ("userId", r#""u""#),
            ("accountId", "1"),
            ("type", r#""SETTLE""#),
        ]
        .into_iter()
        .take(first)
        .chain(
            [("currencyCode", r#""A""#)]
                .into_iter()
                .filter(|_| first > 4),
        )
        .map(|(name, json)| format!("\"{name}\":{json}"))
        .collect();
        fields.extend(
            bad[first..]
                .iter()
                .map(|(name, json, _)| format!("\"{name}\":{json}")),
        );
        fields.reverse();
        let record = format!("{{{}}}", fields.join(","));
        let refused = refusal(record.as_bytes());
        assert_eq!(refused.code, bad[first].2, "{record}");
        assert!(refused.message.starts_with(bad[first].0), "{record}");
    }
}

#[test]
fn ids_are_counted_in_bytes() {
    for id in ["x".repeat(64), "é".repeat(32), "😀".repeat(16)] {
        for field in ["transactionId", "userId"] {
            let record = with(field, &format!("\"{id}\""));
            assert!(decode(record.as_bytes()).is_ok());
            let record = with(field, &format!("\"{id}x\""));
            assert!(decode(record.as_bytes()).is_err());
        }
    }
    // Escapes count as what they stand for.
    let record = with("transactionId", &format!("\"{}\"", r"\u0041".repeat(64)));
    let command = decode(record.as_bytes()).unwrap();
    assert_eq!(command.transaction_id, "A".repeat(64));
}

#[test]
fn escapes_are_read() {
    let record = r#" { "\u0074ransactionId" : "a\"\\\/\n\u00e9\ud83d\ude00" ,
        "userId":"\u0075", "accountId":4611686018427387904 , "type":"SETTL\u0045",
        "currencyCode":"\u0041" , "amount" : "1\u002e5" }
    "#;
    let command = decode(record.as_bytes()).unwrap();
    assert_eq!(command.transaction_id, "a\"\\/\né😀");
    assert_eq!(command.user_id, "u");
    assert_eq!(command.account_id, AccountId::MAX);
    let body = Body::Move {
        kind: MoveKind::Settle,
        currency: "A".parse().unwrap(),
        amount: "1.5".parse().unwrap(),
    };
    assert_eq!(command.body, body);
    assert_eq!(decode_key(record.as_bytes()).as_deref(), Some("u"));
}

#[test]
fn what_is_no_json_object_is_malformed() {
    let table: &[(&[u8], &str)] = &[
        (b"", "the record is not a JSON object"),
        (b"  ", "the record is not a JSON object"),
        (b"[]", "the record is not a JSON object"),
        (b"null", "the record is not a JSON object"),
        (b"\xef\xbb\xbf{}", "the record is not a JSON object"),
        (b"{\"a\":\"\xff\"}", "the record is not UTF-8 from byte 6"),
        (
            b"{\"a\":\"\xed\xa0\x80\"}",
            "the record is not UTF-8 from byte 6",
        ),
        (b"{", "the record is not JSON at line 1, column 1"),
        (b"{\"a\":1,}", "the record is not JSON at line 1, column 8"),
        (
            b"{\"a\":1}\n{",
            "the record is not JSON at line 2, column 1",
        ),
        (b"{'a':1}", "the record is not JSON at line 1, column 2"),
        (b"{\"a\":01}", "the record is not JSON at line 1, column 7"),
        (b"{\"a\":NaN}", "the record is not JSON at line 1, column 6"),
        (
            b"{\"a\":\"\n\"}",
            "the record is not JSON at line 1, column 6",
        ),
        (
            b"{\"\\ud800\":1}",
            "the record is not JSON at line 1, column 9",
        ),
        (
            b"{\"a\":{\"\\ud800\":1}}",
            "a key has half of a surrogate pair in it",
        ),
        (b"{}", "transactionId is missing"),
    ];
    for (record, message) in table {
        let refused = refusal(record);
        assert_eq!(refused.message, *message);
        assert_eq!(refused.code, Code::Malformed);
        assert_eq!(refused.transaction_id, None);
    }
}

#[test]
fn a_key_twice_is_malformed_wherever_it_is() {
    let plain = with("", "");
    let open = plain.strip_suffix('}').unwrap();
    let table = [
        (r#""amount":"1.5""#, "amount"),
        (r#""\u0061mount":null"#, "amount"),
        (r#""x":1,"x":1"#, "x"),
        (r#""x":1,"\u0078":1"#, "x"),
        (r#""metadata":{"a":1,"b":[],"a":1}"#, "a"),
        (r#""metadata":[0,{"a":{"b":1,"b\u0000":2,"b":3}}]"#, "b"),
        (r#""x":1,"metadata":{"x":1},"x":1"#, "x"),
        (r#""a\nb":1,"a\u000ab":1"#, r"a\u000ab"),
    ];
    for (more, key) in table {
        let record = format!("{open},{more}}}");
        let refused = refusal(record.as_bytes());
        assert_eq!(refused.code, Code::Malformed);
        assert_eq!(refused.message, format!("a key appears twice: {key}"));
        assert_eq!(refused.user_id, None, "nothing of it is to be trusted");
    }
    for more in [
        r#""metadata":{"amount":1,"metadata":{"amount":2}}"#,
        r#""amounts":1,"Amount":2"#,
        r#""x":"\ud800""#,
        r#""x":1e999999,"y":-0"#,
    ] {
        let record = format!("{open},{more}}}");
        assert!(decode(record.as_bytes()).is_ok(), "{record}");
    }
}

#[test]
fn many_keys_and_large_records_take_linear_time() {
    let plain = with("", "");
    let open = plain.strip_suffix('}').unwrap();
    let keys: Vec<_> = (0..1_000_000).map(|n| format!("\"{n}\":0")).collect();
    let keys = keys.join(",");
    for record in [
        format!("{open},{keys}}}"),
        format!("{open},\"metadata\":{{{keys}}}}}"),
    ] {
        assert!(decode(record.as_bytes()).is_ok());
    }
    for record in [
        format!("{open},{keys},\"500\":1}}"),
        format!("{open},\"metadata\":{{{keys},\"\\u0035\":1}}}}"),
    ] {
        assert_eq!(refusal(record.as_bytes()).code, Code::Malformed);
    }
    let record = format!("{open},\"description\":\"{}\"}}", "é".repeat(5_000_000));
    assert!(decode(record.as_bytes()).is_ok());
    let id = with("transactionId", &format!("\"{}\"", "é".repeat(5_000_000)));
    let refused = refusal(id.as_bytes());
    assert_eq!(refused.code, Code::InvalidTransactionId);
    assert!(refused.message.len() < 200);
}

#[test]
fn deep_nesting_takes_no_stack() {
    let plain = with("", "");
    let open = plain.strip_suffix('}').unwrap();
    let levels = 1_000_000;
    for (left, right) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
        let (lefts, rights) = (left.repeat(levels), right.repeat(levels));
        let record = format!("{open},\"metadata\":{lefts}0{rights}}}");
        assert!(decode(record.as_bytes()).is_ok(), "{left}");
        assert!(decode_key(record.as_bytes()).is_some());
        let record = format!("{open},\"metadata\":{lefts}0{rights}");
        assert_eq!(refusal(record.as_bytes()).code, Code::Malformed);
        let record = format!("{open},\"amount\":{lefts}0{rights}}}");
        assert_eq!(refusal(record.as_bytes()).code, Code::Malformed);
    }
}

#[test]
fn keys_are_read_of_records_that_will_be_refused() {
    let table: &[(&str, Option<&str>)] = &[
        (r#"{"userId":"u"}"#, Some("u")),
        (r#"{"userId":"\u0075","amount":{"a":1,"a":1}}"#, Some("u")),
        (r#"{"userId":""}"#, Some("")),
        (r#"{"userId":1}"#, None),
        (r#"{"userId":"u","userId":"u"}"#, None),
        (r#"{"userId":"\ud800"}"#, None),
        (r#"{"userId":"u"} x"#, None),
        (r#"{"userId":"u""#, None),
        (r#"{"metadata":{"userId":"u"}}"#, None),
        (r#"["userId","u"]"#, None),
    ];
    for (record, key) in table {
        assert_eq!(decode_key(record.as_bytes()).as_deref(), *key, "{record}");
    }
}
