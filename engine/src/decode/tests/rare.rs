//! Transfers, legs and postings.

use super::*;

fn refused(record: &str) -> (Code, String) {
    let refused = refusal(record.as_bytes());
    (refused.code, refused.message)
}

#[test]
fn transfers_name_somebody_else() {
    let record = |to: &str| {
        format!(
            r#"{{"transactionId":"t","userId":"u","accountId":1,"type":"TRANSFER","currencyCode":"X","amount":"2"{to}}}"#
        )
    };
    let good = record(r#","toUserId":"v","toAccountId":2"#);
    let command = decode(good.as_bytes()).unwrap();
    assert_eq!(command.kind(), CommandKind::Transfer);
    let to = command.changes()[0].to.as_ref().unwrap();
    assert_eq!((&*to.user_id, to.account_id.get()), ("v", 2));
    let long = "v".repeat(65);
    let table = [
        ("", "toUserId is missing".to_owned()),
        (r#","toUserId":7"#, "toUserId is not a string: 7".into()),
        (
            r#","toUserId":"""#,
            r#"toUserId has 0 bytes, not 1 to 64: """#.into(),
        ),
        (
            &format!(r#","toUserId":"{long}""#),
            format!("toUserId has 65 bytes, not 1 to 64: \"{}…", "v".repeat(62)),
        ),
        (r#","toUserId":"v""#, "toAccountId is missing".into()),
        (
            r#","toUserId":"v","toAccountId":0"#,
            "toAccountId is not an integer from 1 to 2^62: 0".into(),
        ),
        (
            r#","toUserId":"v","toAccountId":4611686018427387905"#,
            "toAccountId is not an integer from 1 to 2^62: 4611686018427387905".into(),
        ),
        (
            r#","toUserId":"u","toAccountId":2"#,
            r#"toUserId is the sender's own: "u""#.into(),
        ),
        (
            r#","toUserId":"v","toAccountId":1"#,
            "toAccountId is the sender's own: 1".into(),
        ),
    ];
    for (to, message) in table {
        assert_eq!(refused(&record(to)), (Code::Malformed, message));
    }
}

#[test]
fn legs_are_strict() {
    let record = |kind: &str, rest: &str| {
        format!(
            r#"{{"transactionId":"t","userId":"u","accountId":1,"type":"{kind}","currencyCode":"X","amount":"2"{rest}}}"#
        )
    };
    let from = r#","fromUserId":"v","fromAccountId":2"#;
    for kind in ["CREDIT", "REFUND"] {
        let good = record(kind, &format!(r#","leg":"0/1/2/3/{kind}"{from}"#));
        let command = decode(good.as_bytes()).unwrap();
        assert_eq!(command.kind().as_str(), kind);
    }
    let table = [
        (from.to_owned(), "leg is missing"),
        (format!(r#","leg":1{from}"#), "leg is not a string: 1"),
        (
            format!(r#","leg":"0/1/2/3"{from}"#),
            r#"leg is not a leg's name such as 0/1/42/0/CREDIT: "0/1/2/3""#,
        ),
        (
            format!(r#","leg":"0/1/2/3/REFUND"{from}"#),
            r#"leg is not the name of a CREDIT: "0/1/2/3/REFUND""#,
        ),
        (
            r#","leg":"0/1/2/3/CREDIT""#.to_owned(),
            "fromUserId is missing",
        ),
        (
            r#","leg":"0/1/2/3/CREDIT","fromUserId":"v","fromAccountId":-1"#.to_owned(),
            "fromAccountId is not an integer from 1 to 2^62: -1",
        ),
    ];
    for (rest, message) in table {
        let refused = refused(&record("CREDIT", &rest));
        assert_eq!(refused, (Code::Malformed, message.to_owned()));
    }
}

#[test]
fn postings_are_named_by_their_number() {
    let record =
        |rest: &str| format!(r#"{{"transactionId":"t","userId":"u","accountId":1,{rest}}}"#);
    let one = r#"{"type":"SETTLE","currencyCode":"BTC","amount":"1"}"#;
    let sixteen = vec![one; 16].join(",");
    for good in [
        format!(r#""postings":[{one}]"#),
        format!(r#""type":"BATCH","postings":[{sixteen}]"#),
    ] {
        let good = record(&good);
        let command = decode(good.as_bytes()).unwrap();
        assert_eq!(command.kind(), CommandKind::Batch);
        assert!(matches!(command.changes().len(), 1 | 16));
    }
    let with = |posting: &str| format!(r#""postings":[{one},{posting}]"#);
    let table = [
        (
            r#""type":"BATCH""#.to_owned(),
            Code::Malformed,
            "postings is missing",
        ),
        (
            r#""postings":7"#.into(),
            Code::Malformed,
            "postings is not a list: 7",
        ),
        (
            r#""postings":[]"#.into(),
            Code::Malformed,
            "postings has 0 entries, not 1 to 16",
        ),
        (
            format!(r#""postings":[{sixteen},{one}]"#),
            Code::Malformed,
            "postings has 17 entries, not 1 to 16",
        ),
        (
            format!(r#""type":"DEPOSIT",{}"#, with(one)),
            Code::Malformed,
            r#"type has no place beside postings: "DEPOSIT""#,
        ),
        (
            format!(r#""amount":"1",{}"#, with(one)),
            Code::Malformed,
            r#"amount has no place beside postings: "1""#,
        ),
        (
            format!(r#""currencyCode":"X",{}"#, with(one)),
            Code::Malformed,
            r#"currencyCode has no place beside postings: "X""#,
        ),
        (
            with("7"),
            Code::Malformed,
            "postings[1] is not an object: 7",
        ),
        (with("{}"), Code::Malformed, "postings[1].type is missing"),
        (
            with(r#"{"type":"OPEN"}"#),
            Code::Malformed,
            r#"postings[1].type is none that a posting has: "OPEN""#,
        ),
        (
            with(r#"{"type":"STEAL"}"#),
            Code::UnknownType,
            r#"postings[1].type is not known: "STEAL""#,
        ),
        (
            with(r#"{"type":"DEPOSIT","currencyCode":"X"}"#),
            Code::Malformed,
            "postings[1].amount is missing",
        ),
        (
            with(r#"{"type":"DEPOSIT","currencyCode":"X","amount":"-1"}"#),
            Code::InvalidAmount,
            r#"postings[1].amount: an amount has no sign: "-1""#,
        ),
        (
            with(r#"{"type":"DEPOSIT","currencyCode":"X Y","amount":"1"}"#),
            Code::InvalidCurrency,
            r#"postings[1].currencyCode: a currency code is made of letters, digits, '.', '_' and '-', byte 1 is another: "X Y""#,
        ),
        (
            with(
                r#"{"type":"TRANSFER","currencyCode":"X","amount":"1","toUserId":"u","toAccountId":2}"#,
            ),
            Code::Malformed,
            r#"postings[1].toUserId is the sender's own: "u""#,
        ),
        (
            with(r#"{"type":"DEPOSIT","type":"DEPOSIT"}"#),
            Code::Malformed,
            "a key appears twice: type",
        ),
    ];
    for (rest, code, message) in table {
        assert_eq!(refused(&record(&rest)), (code, message.to_owned()));
    }
}
