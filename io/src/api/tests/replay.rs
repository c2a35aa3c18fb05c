//! What was signed for one thing does nothing else, however often and wherever it is sent again.

use std::sync::Arc;

use prost::Message;
use serde_json::{Value, json};

use super::{
    front::Twin,
    post,
    shapes::{as_json, good},
    unary,
};
use crate::api::{
    Api, Key, Keys, Problem, ProblemKind, Signed, Signing, Verifier,
    rest::RestRequest,
    rpc::{self, WATCH_RESULTS},
    sign,
    wire::{
        DESCRIPTORS,
        balance::{
            ChangeBalanceRequest, ChangeBalanceResponse, ChangeBalancesRequest, GetBalanceRequest,
            GetBalanceResponse, GetTransactionRequest, ListLedgerRequest, OpenAccountRequest,
            TransactionType, WatchResultsRequest,
        },
    },
};

fn key() -> Key {
    Key::new("1", b"f2a9c1d47be0835516aa90cc31fe07bd").unwrap()
}

/// Services that take signed requests only, over a node with the accounts 42 and 43.
fn signed() -> (Arc<Twin>, Api) {
    let twin = Twin::new();
    twin.account(42, "u-42");
    twin.account(43, "u-43");
    let verifier = Arc::new(Verifier::new(Keys::new(vec![key()]).unwrap()));
    let api = Api::new(twin.parts(), Twin::settings(Signing::Everything(verifier)));
    (twin, api)
}

/// A signature of a body, made now.
struct Seal {
    timestamp: String,
    signature: String,
}

impl Seal {
    fn of(api: &Api, body: &[u8]) -> Self {
        let now_ms = api.now_ms();
        Self {
            timestamp: now_ms.to_string(),
            signature: sign(&key(), now_ms, body),
        }
    }

    fn signed(&self) -> Signed<'_> {
        Signed {
            key_id: Some(b"1"),
            timestamp: Some(self.timestamp.as_bytes()),
            signature: Some(self.signature.as_bytes()),
        }
    }
}

/// What a request signed as it should be is answered.
fn rest(api: &Api, path: &str, body: &Value, key: Option<&str>) -> (u16, Value) {
    let body = body.to_string();
    let seal = Seal::of(api, body.as_bytes());
    let request = RestRequest {
        signed: seal.signed(),
        idempotency_key: key,
        ..post(path, &body)
    };
    let (status, answer, _) = super::rest(api, &request);
    (status, answer)
}

#[test]
fn a_signed_body_takes_effect_under_its_own_id_only() {
    let (twin, api) = signed();
    let mut body = as_json(&good());
    body.as_object_mut().unwrap().remove("transaction_id");
    let mut transfer = body.clone();
    transfer["type"] = json!(4);
    transfer["to_user_id"] = json!("u-43");
    transfer["to_account_id"] = json!(43);
    // One signature, sent under as many keys as one likes: each would be another change.
    for (path, body) in [
        ("/api/v1/balance/change", &body),
        ("/api/v1/transfers", &transfer),
    ] {
        for key in ["k-1", "k-2"] {
            let (status, answer) = rest(&api, path, body, Some(key));
            assert_eq!((status, &answer["field"]), (400, &json!("transaction_id")));
            let says = answer["error_message"].as_str().unwrap();
            assert!(
                says.contains("Idempotency-Key") && says.contains("signature"),
                "{says}"
            );
        }
    }
    assert_eq!(twin.events(), 0);
    // What is in the body is signed, and the key may say it again.
    body["transaction_id"] = json!("k-1");
    let path = "/api/v1/balance/change";
    assert_eq!(rest(&api, path, &body, Some("k-1")).0, 200);
    assert_eq!(rest(&api, path, &body, None).0, 409);
    assert_eq!(rest(&api, path, &body, Some("k-2")).0, 400);
    assert_eq!(twin.events(), 1);
}

/// A good request for each signed method.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let change = ChangeBalanceRequest {
        // The name of a user, too, and of nobody yet.
        transaction_id: "u-44".into(),
        ..good()
    };
    vec![
        ("ChangeBalance", change.encode_to_vec()),
        (
            "ChangeBalances",
            ChangeBalancesRequest {
                changes: vec![good()],
                wait: true,
                wait_ms: 1,
            }
            .encode_to_vec(),
        ),
        (
            "OpenAccount",
            OpenAccountRequest {
                user_id: "u-45".into(),
                account_id: 45,
            }
            .encode_to_vec(),
        ),
        (
            "GetBalance",
            GetBalanceRequest {
                account_id: 42,
                currency_code: "USDT".into(),
                min_version: 0,
            }
            .encode_to_vec(),
        ),
        (
            "GetTransaction",
            GetTransactionRequest {
                user_id: "u-42".into(),
                transaction_id: "t-1".into(),
            }
            .encode_to_vec(),
        ),
        (
            "ListLedger",
            ListLedgerRequest {
                account_id: 42,
                page_size: 7,
                page_token: String::new(),
            }
            .encode_to_vec(),
        ),
        (
            "WatchResults",
            WatchResultsRequest {
                user_id: "u-42".into(),
                after: Vec::new(),
            }
            .encode_to_vec(),
        ),
    ]
}

/// Whether a method takes a message that is signed as it should be.
fn takes(api: &Api, method: &str, message: &[u8]) -> Result<(), Problem> {
    let seal = Seal::of(api, message);
    let path = format!("/balance.BalanceService/{method}");
    if path == WATCH_RESULTS {
        return api.watch_request(seal.signed(), message).map(|_| ());
    }
    let answer = unary(api, &path, seal.signed(), message)?;
    let refused = |message: String| Err(Problem::new(ProblemKind::Invalid, message));
    match method {
        "ChangeBalance" => {
            let answer = ChangeBalanceResponse::decode(&*answer).unwrap();
            match answer.success {
                true => Ok(()),
                false => refused(answer.error_message),
            }
        }
        "GetBalance" => {
            let answer = GetBalanceResponse::decode(&*answer).unwrap();
            match answer.success || answer.error_message.contains("no balance") {
                true => Ok(()),
                false => refused(answer.error_message),
            }
        }
        _ => Ok(()),
    }
}

#[test]
fn a_signed_message_works_for_its_own_method_only() {
    for (of, message) in requests() {
        for (to, _) in requests().iter().filter(|(to, _)| *to != of) {
            let (twin, api) = signed();
            let refused = takes(&api, to, &message);
            assert!(refused.is_err(), "{of} works as {to}");
            assert_eq!((twin.events(), twin.accounts()), (0, 2), "{of} at {to}");
        }
        let (_twin, api) = signed();
        let taken = takes(&api, of, &message);
        // Nothing was accepted before, so there is nothing to be found.
        let is_right = match of {
            "GetTransaction" => taken.unwrap_err().kind == ProblemKind::NotFound,
            _ => taken.is_ok(),
        };
        assert!(is_right, "{of}");
    }
}

#[test]
fn fields_that_a_method_does_not_have_are_refused() {
    let (twin, api) = signed();
    for (method, mut message) in requests() {
        // Number 2047, a number.
        message.extend([0xf8, 0x7f, 0x01]);
        let taken = takes(&api, method, &message);
        // The prototype's two ignore them, as they always did.
        if ["ChangeBalance", "GetBalance"].contains(&method) {
            assert!(taken.is_ok(), "{method}: {taken:?}");
            continue;
        }
        let problem = taken.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Invalid, "{method}");
        assert!(problem.message.contains("field 2047"), "{problem}");
    }
    assert_eq!((twin.events(), twin.accounts()), (1, 2));
}

#[test]
fn numbers_of_requests_are_their_own() {
    let pool = prost_reflect::DescriptorPool::decode(DESCRIPTORS).unwrap();
    let service = pool.get_service_by_name("balance.BalanceService").unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for method in service.methods() {
        let theirs: Vec<u32> = method
            .input()
            .fields()
            .map(|field| field.number())
            .collect();
        match rpc::numbers(method.name()) {
            Some(ours) => assert_eq!(theirs, ours.collect::<Vec<_>>(), "{}", method.name()),
            None => {
                let prototypes = ["GetBalance", "ChangeBalance", "HealthCheck"];
                assert!(prototypes.contains(&method.name()), "{}", method.name());
                assert!(theirs.iter().all(|number| *number < 16));
                continue;
            }
        }
        for number in theirs {
            assert!(number >= 16, "{}", method.name());
            let other = seen.insert(number, method.name().to_owned());
            assert_eq!(other, None, "{number} of {}", method.name());
        }
    }
}

#[test]
fn a_signed_body_works_on_its_own_path_only() {
    let change = as_json(&ChangeBalanceRequest {
        transaction_id: "u-44".into(),
        ..good()
    });
    let transfer = as_json(&ChangeBalanceRequest {
        r#type: TransactionType::Transfer.into(),
        to_user_id: "u-43".into(),
        to_account_id: 43,
        ..good()
    });
    let bodies = [
        ("/api/v1/balance/change", change.clone()),
        ("/api/v1/balance/changes", json!({"changes": [change]})),
        ("/api/v1/transfers", transfer),
        (
            "/api/v1/accounts",
            json!({"user_id": "u-45", "account_id": 45}),
        ),
    ];
    for (of, body) in &bodies {
        for (to, _) in bodies.iter().filter(|(to, _)| to != of) {
            let (twin, api) = signed();
            let (status, answer) = rest(&api, to, body, None);
            // A transfer is a change, with the same id there as here.
            if (*of, *to) == ("/api/v1/transfers", "/api/v1/balance/change") {
                assert_eq!(status, 200, "{answer}");
                assert_eq!(rest(&api, of, body, None).0, 409);
                continue;
            }
            assert_eq!(status, 400, "{of} at {to}: {answer}");
            assert_eq!((twin.events(), twin.accounts()), (0, 2), "{of} at {to}");
        }
        let (_twin, api) = signed();
        assert_eq!(rest(&api, of, body, None).0, 200, "{of}");
        let mut more = body.clone();
        more["surprise"] = json!(null);
        let mut less = body.clone();
        less["surprise"] = json!({"a": 1});
        for body in [more, less] {
            let (_twin, api) = signed();
            let (status, answer) = rest(&api, of, &body, None);
            if *of == "/api/v1/balance/change" {
                assert_eq!(status, 200, "{answer}");
                continue;
            }
            assert_eq!(
                (status, &answer["field"]),
                (400, &json!("surprise")),
                "{of}"
            );
        }
    }
}
