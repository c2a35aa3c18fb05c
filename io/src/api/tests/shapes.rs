//! Every bad input, through both decoders.

use prost::Message;
use serde_json::{Value, json};

use super::{call, post, rest, unsigned};
use crate::api::{
    Problem, ProblemKind,
    check::{Change, POSTINGS_MAX},
    draft::ChangeDraft,
    from_json::Fields,
    wire::balance::{ChangeBalanceRequest, ChangeBalanceResponse, Posting, TransactionType},
};

pub(super) fn good() -> ChangeBalanceRequest {
    ChangeBalanceRequest {
        transaction_id: "t-1".into(),
        account_id: 42,
        user_id: "u-42".into(),
        currency_code: "USDT".into(),
        r#type: TransactionType::Deposit.into(),
        amount: "12.340000000000000001".into(),
        ..ChangeBalanceRequest::default()
    }
}

fn transfer() -> ChangeBalanceRequest {
    ChangeBalanceRequest {
        r#type: TransactionType::Transfer.into(),
        to_user_id: "u-43".into(),
        to_account_id: 43,
        ..good()
    }
}

fn batch(count: usize) -> ChangeBalanceRequest {
    let posting = Posting {
        r#type: TransactionType::Freeze.into(),
        currency_code: "BTC".into(),
        amount: "1".into(),
        ..Posting::default()
    };
    ChangeBalanceRequest {
        currency_code: String::new(),
        amount: String::new(),
        postings: vec![posting; count],
        ..good()
    }
}

/// The request as a client of REST would write it.
pub(super) fn as_json(request: &ChangeBalanceRequest) -> Value {
    let mut value = json!({
        "transaction_id": request.transaction_id, "account_id": request.account_id,
        "user_id": request.user_id, "currency_code": request.currency_code,
        "type": request.r#type, "amount": request.amount, "description": request.description,
        "metadata": request.metadata, "to_user_id": request.to_user_id,
        "to_account_id": request.to_account_id, "wait": request.wait, "wait_ms": request.wait_ms,
    });
    if !request.postings.is_empty() {
        let one = |posting: &Posting| {
            json!({
                "type": posting.r#type, "currency_code": posting.currency_code,
                "amount": posting.amount, "to_user_id": posting.to_user_id,
                "to_account_id": posting.to_account_id,
            })
        };
        value["postings"] = request.postings.iter().map(one).collect();
        if request.r#type == 0 {
            value.as_object_mut().unwrap().remove("type");
        }
    }
    value
}

/// What both decoders make of a request; they must agree.
fn judged(request: &ChangeBalanceRequest) -> Result<Change, Problem> {
    let bytes = request.encode_to_vec();
    let by_grpc = ChangeDraft::from(ChangeBalanceRequest::decode(&*bytes).unwrap()).check();
    let body = as_json(request).to_string();
    let by_rest = Fields::of_body(body.as_bytes())
        .and_then(|fields| fields.change(None))
        .and_then(|draft| draft.check());
    assert_eq!(by_grpc, by_rest, "{request:?}");
    by_grpc
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn every_bad_field_is_named_with_its_value() {
    type Spoil = fn(&mut ChangeBalanceRequest);
    let table: &[(Spoil, &str, &str)] = &[
        (|r| r.transaction_id.clear(), "transaction_id", "is missing"),
        (
            |r| r.transaction_id = "x".repeat(65),
            "transaction_id",
            "65 bytes",
        ),
        (
            |r| r.transaction_id = "é".repeat(33),
            "transaction_id",
            "66 bytes",
        ),
        (|r| r.user_id.clear(), "user_id", "is missing"),
        (|r| r.user_id = "x".repeat(65), "user_id", "65 bytes"),
        (|r| r.account_id = 0, "account_id", "missing or 0"),
        (|r| r.account_id = -42, "account_id", "-42"),
        (
            |r| r.account_id = (1 << 62) + 1,
            "account_id",
            "4611686018427387905",
        ),
        (
            |r| r.account_id = i64::MIN,
            "account_id",
            "-9223372036854775808",
        ),
        (|r| r.r#type = 6, "type", "6 is not a type"),
        (|r| r.r#type = -1, "type", "-1 is not a type"),
        (|r| r.r#type = i32::MAX, "type", "2147483647"),
        (|r| r.currency_code.clear(), "currency_code", "is missing"),
        (
            |r| r.currency_code = "ELEVENBYTES".into(),
            "currency_code",
            "ELEVENBYTES",
        ),
        (
            |r| r.currency_code = "US DT".into(),
            "currency_code",
            "US DT",
        ),
        (|r| r.currency_code = "€".into(), "currency_code", "€"),
        (|r| r.amount.clear(), "amount", "is missing"),
        (|r| r.amount = "0".into(), "amount", "above zero"),
        (|r| r.amount = "0e5".into(), "amount", "above zero"),
        (|r| r.amount = "-1".into(), "amount", "no sign"),
        (|r| r.amount = "+1".into(), "amount", "no sign"),
        (|r| r.amount = "NaN".into(), "amount", "\"NaN\""),
        (|r| r.amount = "Infinity".into(), "amount", "Infinity"),
        (|r| r.amount = "1,000".into(), "amount", "1,000"),
        (|r| r.amount = " 1".into(), "amount", "\" 1\""),
        (|r| r.amount = "0x10".into(), "amount", "0x10"),
        (|r| r.amount = "1e-19".into(), "amount", "18 decimals"),
        (
            |r| r.amount = "0.1234567890123456789".into(),
            "amount",
            "18 decimals",
        ),
        (|r| r.amount = "1e18".into(), "amount", "10^18"),
        (|r| r.amount = "1".repeat(65), "amount", "64 bytes"),
        (|r| r.amount = "１".into(), "amount", "plain decimal"),
        (
            |r| r.description = "x".repeat(1025),
            "description",
            "1025 bytes",
        ),
        (
            |r| r.metadata = (0..33).map(|n| (n.to_string(), String::new())).collect(),
            "metadata",
            "33",
        ),
        (
            |r| r.metadata = [("a".into(), "x".repeat(4096))].into(),
            "metadata",
            "bytes",
        ),
        (
            |r| r.metadata = [(String::new(), "x".into())].into(),
            "metadata",
            "0 bytes",
        ),
        (
            |r| r.metadata = [("x".repeat(65), "x".into())].into(),
            "metadata",
            "65 bytes",
        ),
        (
            |r| r.to_user_id = "u-43".into(),
            "to_user_id",
            "TRANSFER only",
        ),
        (
            |r| r.to_account_id = 43,
            "to_account_id",
            "43 belongs to a TRANSFER only",
        ),
        (|r| r.wait_ms = -1, "wait_ms", "-1"),
        (|r| r.wait_ms = 60_001, "wait_ms", "60001"),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    to_user_id: String::new(),
                    ..transfer()
                }
            },
            "to_user_id",
            "is missing",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    to_user_id: "x".repeat(65),
                    ..transfer()
                }
            },
            "to_user_id",
            "65 bytes",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    to_user_id: "u-42".into(),
                    ..transfer()
                }
            },
            "to_user_id",
            "the sender",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    to_account_id: 0,
                    ..transfer()
                }
            },
            "to_account_id",
            "missing or 0",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    to_account_id: -1,
                    ..transfer()
                }
            },
            "to_account_id",
            "-1",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    to_account_id: 42,
                    ..transfer()
                }
            },
            "to_account_id",
            "the sender's",
        ),
        (|r| *r = batch(17), "postings", "17 entries"),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    r#type: 1,
                    ..batch(2)
                }
            },
            "type",
            "beside postings",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    amount: "1".into(),
                    ..batch(2)
                }
            },
            "amount",
            "beside postings",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    currency_code: "A".into(),
                    ..batch(2)
                }
            },
            "currency_code",
            "beside",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    to_user_id: "A".into(),
                    ..batch(2)
                }
            },
            "to_user_id",
            "beside",
        ),
        (
            |r| {
                *r = ChangeBalanceRequest {
                    to_account_id: 1,
                    ..batch(2)
                }
            },
            "to_account_id",
            "beside",
        ),
        (
            |r| {
                *r = batch(2);
                r.postings[1].amount = "-1".into();
            },
            "postings[1].amount",
            "\"-1\"",
        ),
        (
            |r| {
                *r = batch(2);
                r.postings[0].r#type = 9;
            },
            "postings[0].type",
            "9",
        ),
        (
            |r| {
                *r = batch(2);
                r.postings[1].r#type = 4;
            },
            "postings[1].to_user_id",
            "is missing",
        ),
    ];
    for (spoil, field, says) in table {
        let mut request = good();
        spoil(&mut request);
        let problem = judged(&request).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Invalid);
        assert_eq!(problem.field.as_deref(), Some(*field), "{problem}");
        assert!(problem.message.starts_with(field), "{problem}");
        assert!(problem.message.contains(says), "{problem}");
        assert!(problem.message.len() < 256, "{problem}");
        // As the prototype answered: OK and a message, or 400; nothing is accepted.
        let (twin, api) = unsigned();
        let response: ChangeBalanceResponse = call(&api, "ChangeBalance", &request).unwrap();
        assert!(!response.success);
        assert_eq!(response.error_message, problem.message);
        let body = as_json(&request).to_string();
        let (status, body, _) = rest(&api, &post("/api/v1/balance/change", &body));
        assert_eq!((status, &body["success"]), (400, &json!(false)));
        assert_eq!(body["error_message"], json!(problem.message));
        assert_eq!(body["field"], json!(field));
        assert_eq!(twin.events(), 0);
    }
}

#[test]
fn good_requests_are_commands_that_the_engine_reads() {
    for (amount, canonical) in [
        ("12.340000000000000001", "12.340000000000000001"),
        ("007.50", "7.5"),
        ("1e-18", "0.000000000000000001"),
        (
            "999999999999999999.999999999999999999",
            "999999999999999999.999999999999999999",
        ),
    ] {
        let request = ChangeBalanceRequest {
            amount: amount.into(),
            ..good()
        };
        let change = judged(&request).unwrap();
        let command = kilter_engine::decode(change.payload.as_bytes()).unwrap();
        assert_eq!(command.transaction_id, "t-1");
        assert_eq!(
            (command.user_id.as_ref(), command.account_id.get()),
            ("u-42", 42)
        );
        let kilter_engine::Body::Move { amount, .. } = command.body else {
            panic!("no movement");
        };
        assert_eq!(amount.to_string(), canonical);
        assert!(
            change
                .payload
                .contains(&format!("\"amount\":\"{canonical}\""))
        );
    }
}

#[test]
fn equal_requests_are_equal_bytes() {
    let request = ChangeBalanceRequest {
        description: "a \"b\"\n".into(),
        metadata: [("z".into(), "1".into()), ("a".into(), "é".into())].into(),
        ..good()
    };
    let change = judged(&request).unwrap();
    assert_eq!(
        change.payload,
        r#"{"transactionId":"t-1","userId":"u-42","accountId":42,"type":"DEPOSIT","currencyCode":"USDT","amount":"12.340000000000000001","description":"a \"b\"\n","metadata":{"a":"é","z":"1"}}"#
    );
    let spelled = r#" { "metadata" : {"z":"\u0031", "a":"\u00e9"}, "unknown":[1,{"x":2}],
        "description":"a \u0022b\u0022\n", "amount" : 12.3400000000000000010, "type":"DEPOSIT",
        "currency_code":"USDT","user_id":"u-42","account_id":"42","transaction_id":"t-1",
        "to_user_id":null } "#;
    let draft = Fields::of_body(spelled.as_bytes())
        .unwrap()
        .change(None)
        .unwrap();
    assert_eq!(draft.check().unwrap(), change);
    let transfer = judged(&transfer()).unwrap().payload;
    assert!(transfer.ends_with(r#""type":"TRANSFER","currencyCode":"USDT","amount":"12.340000000000000001","toUserId":"u-43","toAccountId":43}"#), "{transfer}");
    let batch = judged(&batch(2)).unwrap().payload;
    let posting = r#"{"type":"FREEZE","currencyCode":"BTC","amount":"1"}"#;
    assert_eq!(
        batch,
        format!(
            r#"{{"transactionId":"t-1","userId":"u-42","accountId":42,"postings":[{posting},{posting}]}}"#
        )
    );
}

#[test]
fn transfers_and_batches_are_commands_too() {
    let change = judged(&transfer()).unwrap();
    let command = kilter_engine::decode(change.payload.as_bytes()).unwrap();
    let kilter_engine::Body::Transfer(body) = command.body else {
        panic!("no transfer");
    };
    let to = body.to.unwrap();
    assert_eq!((to.user_id.as_ref(), to.account_id.get()), ("u-43", 43));
    let mut request = batch(POSTINGS_MAX);
    request.postings[3] = Posting {
        r#type: TransactionType::Transfer.into(),
        to_user_id: "u-43".into(),
        to_account_id: 43,
        ..request.postings[3].clone()
    };
    let change = judged(&request).unwrap();
    let command = kilter_engine::decode(change.payload.as_bytes()).unwrap();
    let kilter_engine::Body::Batch(postings) = command.body else {
        panic!("no batch");
    };
    assert_eq!(postings.len(), POSTINGS_MAX);
    assert!(postings[3].to.is_some());
}

proptest::proptest! {
    /// What is accepted here can be refused for its account or its funds, never for its shape.
    #[test]
    fn the_engine_reads_whatever_is_accepted(
        transaction_id in ".{0,66}",
        user_id in ".{0,66}",
        currency_code in "[A-Za-z0-9._-]{1,11}",
        amount in "[0-9]{0,3}0{0,17}(\\.[0-9]{0,19})?([eE][+-]?[0-9]{1,2})?",
        number in 0..8_i32,
        description in ".{0,20}",
        metadata in proptest::collection::btree_map(".{0,8}", ".{0,8}", 0..4),
    ) {
        let is_transfer = number == 4;
        let request = ChangeBalanceRequest {
            transaction_id, user_id, currency_code, amount, r#type: number, description, metadata,
            to_user_id: if is_transfer { "u-43".into() } else { String::new() },
            to_account_id: if is_transfer { 43 } else { 0 },
            ..good()
        };
        if let Ok(change) = judged(&request) {
            let command = kilter_engine::decode(change.payload.as_bytes());
            let command = command.unwrap_or_else(|refusal| panic!("{}: {}", refusal.message, change.payload));
            proptest::prop_assert_eq!(command.transaction_id.as_ref(), &request.transaction_id);
            proptest::prop_assert_eq!(command.user_id.as_ref(), &request.user_id);
        }
    }
}
