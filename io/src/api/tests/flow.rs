//! What requests come to.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use prost::Message;
use serde_json::json;

use super::{call, front::Trouble, get, post, rest, unsigned};
use crate::api::{
    ProblemKind, Signed,
    caller::Caller,
    rest::RestRequest,
    rpc::Call,
    wire::balance::{
        ChangeBalanceRequest, ChangeBalanceResponse, ChangeBalancesRequest, ChangeBalancesResponse,
        GetBalanceRequest, GetBalanceResponse, GetTransactionRequest, GetTransactionResponse,
        ListLedgerRequest, ListLedgerResponse, OpenAccountRequest, OpenAccountResponse, Outcome,
        TransactionType,
    },
};

fn change(id: &str, kind: TransactionType, amount: &str) -> ChangeBalanceRequest {
    ChangeBalanceRequest {
        transaction_id: id.into(),
        account_id: 42,
        user_id: "u-42".into(),
        currency_code: "USDT".into(),
        r#type: kind.into(),
        amount: amount.into(),
        ..ChangeBalanceRequest::default()
    }
}

fn deposit(id: &str, amount: &str) -> ChangeBalanceRequest {
    change(id, TransactionType::Deposit, amount)
}

fn waiting(request: ChangeBalanceRequest) -> ChangeBalanceRequest {
    ChangeBalanceRequest {
        wait: true,
        ..request
    }
}

#[test]
fn a_change_is_accepted_once_and_told_to_whoever_waits() {
    let (_twin, api) = unsigned();
    let send = |request| call::<ChangeBalanceResponse>(&api, "ChangeBalance", &request).unwrap();
    let first = send(deposit("t-1", "10"));
    assert!(
        first.success && first.pending && !first.duplicate,
        "{first:?}"
    );
    assert_eq!(first.error_message, "");
    // The prototype's answer to a duplicate, with what became of the first.
    let again = send(deposit("t-1", "10.0"));
    assert!(!again.success && again.duplicate, "{again:?}");
    assert_eq!(again.event_id, first.event_id);
    assert_eq!(again.outcome, i32::from(Outcome::Success));
    // Whoever waits is told what became of the id, never that it is a duplicate.
    let told = send(waiting(deposit("t-1", "10")));
    assert!(told.success && !told.pending && told.duplicate, "{told:?}");
    assert_eq!(
        (told.balances[0].available_after.as_str(), told.version),
        ("10", 1)
    );
    let other = send(deposit("t-1", "11"));
    assert!(!other.success && !other.duplicate);
    assert!(
        other
            .error_message
            .contains("another amount, currency_code"),
        "{other:?}"
    );
    let spent = send(waiting(change("t-2", TransactionType::Withdraw, "8")));
    assert!(spent.success && !spent.duplicate, "{spent:?}");
    assert_eq!(spent.balances[0].available_after, "2");
    let failed = send(waiting(change("t-3", TransactionType::Withdraw, "8")));
    assert!(!failed.success, "{failed:?}");
    assert_eq!(failed.outcome, i32::from(Outcome::Failed));
    assert_eq!(failed.error_code, "INSUFFICIENT_AVAILABLE");
    assert_eq!(failed.error_message, "FAILED: INSUFFICIENT_AVAILABLE");
}

#[test]
fn rest_says_the_same_by_status() {
    let (twin, api) = unsigned();
    let body = r#"{"transaction_id":"t-1","account_id":42,"user_id":"u-42","currency_code":"USDT",
        "type":0,"amount":"10"}"#;
    let (status, answer, _) = rest(&api, &post("/api/v1/balance/change", body));
    assert_eq!(status, 200, "{answer}");
    for (name, value) in [
        ("success", json!(true)),
        ("transaction_id", json!("t-1")),
        ("event_id", json!("event-0")),
        ("error_message", json!("")),
    ] {
        assert_eq!(answer[name], value);
    }
    let (status, again, _) = rest(&api, &post("/api/v1/balance/change", body));
    assert_eq!((status, &again["event_id"]), (409, &json!("event-0")));
    assert_eq!(
        (&again["outcome"], &again["duplicate"]),
        (&json!("SUCCESS"), &json!(true))
    );
    let other = body.replace("\"10\"", "\"11\"");
    let (status, other, _) = rest(&api, &post("/api/v1/balance/change", &other));
    assert_eq!((status, &other["event_id"]), (409, &json!("event-0")));
    let stranger = body.replace("u-42", "u-43").replace("42,", "43,");
    for body in [&stranger, &body.replace("u-42", "u-43")] {
        // Somebody else's account, and none at all: alike but for what was asked.
        let (status, answer, _) = rest(&api, &post("/api/v1/balance/change", body));
        let message = answer["error_message"].as_str().unwrap();
        assert_eq!((status, &answer["event_id"]), (404, &json!("")));
        let message = message.replace("43", "N").replace("42", "N");
        assert_eq!(message, "account_id N is not an account of user \"u-N\"");
    }
    let (status, balance, _) = rest(&api, &get("/api/v1/balance/42/USDT", ""));
    assert_eq!(status, 200);
    assert_eq!(
        balance,
        json!({"success": true, "error_message": "", "source": "memory", "balance": {
            "account_id": 42, "currency_code": "USDT", "available": "10", "frozen": "0",
            "version": 1, "updated_at": 1_700_000_000_000_i64}})
    );
    assert_eq!(rest(&api, &get("/api/v1/balance/42/BTC", "")).0, 404);
    assert_eq!(
        rest(&api, &get("/api/v1/balance/42/USDT", "min_version=1")).0,
        200
    );
    let (status, newer, _) = rest(&api, &get("/api/v1/balance/42/USDT", "min_version=2"));
    assert_eq!((status, &newer["error_code"]), (409, &json!("NOT_YET")));
    let (status, health, _) = rest(&api, &get("/health", ""));
    assert_eq!(
        (status, &health["healthy"], &health["status"]),
        (200, &json!(true), &json!("OK"))
    );
    twin.health.set(false, "STOPPING");
    assert_eq!(rest(&api, &get("/health", "")).0, 503);
}

#[test]
fn the_idempotency_key_is_the_id() {
    let (twin, api) = unsigned();
    let body = r#"{"account_id":42,"user_id":"u-42","currency_code":"USDT","type":"DEPOSIT",
        "amount":1}"#;
    let with = |body, key| RestRequest {
        idempotency_key: Some(key),
        ..post("/api/v1/balance/change", body)
    };
    let (status, answer, _) = rest(&api, &with(body, "k-1"));
    assert_eq!((status, &answer["transaction_id"]), (200, &json!("k-1")));
    assert_eq!(rest(&api, &with(body, "k-1")).0, 409);
    let both = body.replacen('{', r#"{"transaction_id":"k-2","#, 1);
    assert_eq!(rest(&api, &with(&both, "k-2")).0, 200);
    let (status, answer, _) = rest(&api, &with(&both, "k-3"));
    assert_eq!((status, &answer["field"]), (400, &json!("transaction_id")));
    assert_eq!(rest(&api, &with(body, "")).0, 400);
    assert_eq!(twin.events(), 2);
}

#[test]
fn overload_and_outage_are_told_as_such() {
    let (twin, api) = unsigned();
    let body = r#"{"transaction_id":"t","account_id":42,"user_id":"u-42","currency_code":"USDT",
        "type":0,"amount":"10"}"#;
    for (trouble, kind) in [
        (Trouble::Full, ProblemKind::Overload),
        (Trouble::Away, ProblemKind::Unavailable),
    ] {
        twin.trouble(trouble);
        for request in [deposit("t", "10"), waiting(deposit("t", "10"))] {
            let refused = call::<ChangeBalanceResponse>(&api, "ChangeBalance", &request);
            assert_eq!(refused.unwrap_err().kind, kind);
        }
        let open = OpenAccountRequest {
            user_id: "n".into(),
            account_id: 0,
        };
        let refused = call::<OpenAccountResponse>(&api, "OpenAccount", &open);
        assert_eq!(refused.unwrap_err().kind, kind);
        for (path, body) in [
            ("/api/v1/balance/change", body),
            ("/api/v1/accounts", r#"{"user_id":"n"}"#),
        ] {
            let (status, _, answer) = rest(&api, &post(path, body));
            assert_eq!(
                (status, answer.headers),
                (kind.http(), vec![("retry-after", "1".to_owned())])
            );
        }
    }
    assert_eq!(twin.waiters.count(), 0, "nobody is left waiting");
    assert_eq!(twin.events(), 0);
}

#[test]
fn whoever_waits_in_vain_hears_that_it_is_pending() {
    let (twin, api) = unsigned();
    twin.trouble(Trouble::Slow);
    let (tell, told) = mpsc::channel();
    let send = |request: &ChangeBalanceRequest, deadline| {
        let tell = tell.clone();
        let message = request.encode_to_vec();
        let call = Call {
            path: "/balance.BalanceService/ChangeBalance",
            signed: Signed::default(),
            message: &message,
            caller: &Caller {
                deadline,
                ..Caller::default()
            },
        };
        api.unary(call, Box::new(move |answer| tell.send(answer).unwrap()));
    };
    let answer = || ChangeBalanceResponse::decode(&*told.try_recv().unwrap().unwrap()).unwrap();
    let start = Instant::now();
    send(
        &waiting(deposit("t-1", "1")),
        Some(start + Duration::from_secs(100)),
    );
    assert!(told.try_recv().is_err());
    // A little before the call's own deadline, so that the answer still gets there.
    twin.waiters.expire(start + Duration::from_secs(99));
    assert!(told.try_recv().is_err());
    twin.waiters.expire(start + Duration::from_secs(100));
    let late = answer();
    assert!(
        late.success && late.pending && late.event_id == "event-0",
        "{late:?}"
    );
    // A duplicate of what is under way waits, too, and both hear the outcome.
    send(&waiting(deposit("t-1", "1")), None);
    send(&waiting(deposit("t-2", "1")), None);
    assert!(told.try_recv().is_err());
    twin.catch_up();
    let (one, two) = (answer(), answer());
    assert!(one.success && !one.pending && one.duplicate, "{one:?}");
    assert!(two.success && !two.pending && !two.duplicate, "{two:?}");
    assert_eq!(twin.waiters.count(), 0);
}

#[test]
fn several_changes_are_answered_each_by_itself() {
    let (_twin, api) = unsigned();
    let request = ChangeBalancesRequest {
        changes: vec![
            deposit("a", "5"),
            change("b", TransactionType::Withdraw, "7"),
            deposit("c", "x"),
            ChangeBalanceRequest {
                account_id: 7,
                ..deposit("d", "1")
            },
            deposit("a", "5"),
            waiting(deposit("e", "1")),
        ],
        wait: true,
        wait_ms: 0,
    };
    let response: ChangeBalancesResponse = call(&api, "ChangeBalances", &request).unwrap();
    let seen = response.answers.iter().map(|answer| {
        let response = answer.response.as_ref().unwrap();
        (
            response.transaction_id.as_str(),
            response.success,
            answer.code,
            answer.field.as_str(),
        )
    });
    let seen: Vec<_> = seen.collect();
    assert_eq!(
        seen,
        [
            ("a", true, 0, ""),
            ("b", false, 0, ""),
            ("c", false, 3, "amount"),
            ("d", false, 5, "account_id"),
            ("a", true, 0, ""),
            ("e", false, 3, "wait"),
        ]
    );
    for count in [0, 1001] {
        let request = ChangeBalancesRequest {
            changes: vec![deposit("a", "5"); count],
            ..ChangeBalancesRequest::default()
        };
        let refused = call::<ChangeBalancesResponse>(&api, "ChangeBalances", &request);
        assert_eq!(refused.unwrap_err().field.as_deref(), Some("changes"));
    }
    let body = r#"{"changes":[{"transaction_id":"z","account_id":42,"user_id":"u-42",
        "currency_code":"USDT","type":0,"amount":1},{"amount":[]}]}"#;
    let (status, body, _) = rest(&api, &post("/api/v1/balance/changes", body));
    let answers = &body["answers"];
    assert_eq!(
        (status, &answers[0]["status"], &answers[1]["status"]),
        (200, &json!(200), &json!(400))
    );
    assert_eq!(answers[1]["field"], json!("amount"));
}

#[test]
fn accounts_are_opened_once_and_belong_to_one() {
    let (_twin, api) = unsigned();
    let open = |user: &str, account_id| {
        let user_id = user.to_owned();
        let request = OpenAccountRequest {
            user_id,
            account_id,
        };
        call::<OpenAccountResponse>(&api, "OpenAccount", &request)
    };
    let ours = open("n", 0).unwrap();
    assert_eq!((ours.account_id, ours.existed), (43, false));
    let again = open("n", 43).unwrap();
    assert_eq!((again.account_id, again.existed), (43, true));
    assert_eq!(again.event_id, ours.event_id);
    let taken = open("m", 42).unwrap_err();
    assert_eq!(taken.kind, ProblemKind::Conflict);
    assert_eq!(taken.message, "account_id 42 is not free");
    let has = open("n", 99).unwrap_err();
    assert_eq!(
        (has.kind, has.message.as_str()),
        (ProblemKind::Conflict, "the user has account 43")
    );
    assert_eq!(open("", 1).unwrap_err().field.as_deref(), Some("user_id"));
    assert_eq!(
        open("x", -1).unwrap_err().field.as_deref(),
        Some("account_id")
    );
    let (status, body, _) = rest(&api, &post("/api/v1/accounts", r#"{"user_id":"r"}"#));
    assert_eq!((status, &body["account_id"]), (200, &json!(44)));
    let taken = r#"{"user_id":"r2","account_id":"44"}"#;
    assert_eq!(rest(&api, &post("/api/v1/accounts", taken)).0, 409);
}

#[test]
fn an_id_tells_all_but_other_peoples_balances() {
    let (twin, api) = unsigned();
    twin.account(43, "u-43");
    call::<ChangeBalanceResponse>(&api, "ChangeBalance", &deposit("t-1", "10")).unwrap();
    let body = r#"{"transaction_id":"t-2","account_id":42,"user_id":"u-42","currency_code":"USDT",
        "amount":"3","to_user_id":"u-43","to_account_id":43,"wait":true}"#;
    let (status, answer, _) = rest(&api, &post("/api/v1/transfers", body));
    assert_eq!(
        (status, &answer["balances"][0]["available_after"]),
        (200, &json!("7"))
    );
    let request = GetTransactionRequest {
        user_id: "u-42".into(),
        transaction_id: "t-2".into(),
    };
    let found: GetTransactionResponse = call(&api, "GetTransaction", &request).unwrap();
    assert_eq!(found.outcome, i32::from(Outcome::Success));
    assert_eq!(found.entries[0].available_after, "7");
    let credit = &found.legs[0].entries[0];
    assert_eq!(
        (credit.amount.as_str(), credit.user_id.as_str()),
        ("3", "u-43")
    );
    assert_eq!((credit.available_after.as_str(), credit.version), ("", 0));
    let (status, body, _) = rest(&api, &get("/api/v1/transactions/u-42/t-2", ""));
    assert_eq!(
        (status, &body["legs"][0]["entries"][0]["available_after"]),
        (200, &json!(""))
    );
    assert_eq!(rest(&api, &get("/api/v1/transactions/u-43/t-2", "")).0, 404);
    let request = GetTransactionRequest {
        user_id: "u-43".into(),
        ..request
    };
    let unknown = call::<GetTransactionResponse>(&api, "GetTransaction", &request).unwrap_err();
    assert_eq!(unknown.kind, ProblemKind::NotFound);
    let wrong = r#"{"transaction_id":"t-9","type":0}"#;
    assert_eq!(rest(&api, &post("/api/v1/transfers", wrong)).0, 400);
}

#[test]
fn the_ledger_is_read_page_by_page() {
    let (_twin, api) = unsigned();
    for number in 0..25 {
        let request = deposit(&format!("t-{number}"), "1");
        call::<ChangeBalanceResponse>(&api, "ChangeBalance", &request).unwrap();
    }
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListLedgerRequest {
            account_id: 42,
            page_size: 10,
            page_token,
        };
        let page: ListLedgerResponse = call(&api, "ListLedger", &request).unwrap();
        seen.push(page.entries.len());
        assert_eq!(
            page.entries[0].transaction_id,
            format!("t-{}", 10 * (seen.len() - 1))
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        let other = ListLedgerRequest {
            account_id: 43,
            page_size: 0,
            page_token: page_token.clone(),
        };
        let refused = call::<ListLedgerResponse>(&api, "ListLedger", &other).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("page_token"));
    }
    assert_eq!(seen, [10, 10, 5]);
    let (status, body, _) = rest(&api, &get("/api/v1/ledger/42", "page_size=25"));
    assert_eq!(
        (status, body["entries"].as_array().unwrap().len()),
        (200, 25)
    );
    assert_eq!(body["next_page_token"], json!(""));
}

#[test]
fn a_balance_of_nobody_is_told_as_the_prototype_did() {
    let (twin, api) = unsigned();
    let ask = |account_id, currency: &str, min_version| {
        let currency_code = currency.to_owned();
        let request = GetBalanceRequest {
            account_id,
            currency_code,
            min_version,
        };
        call::<GetBalanceResponse>(&api, "GetBalance", &request)
    };
    for (account_id, currency, min_version, says) in [
        (42, "USDT", 0, "has no balance"),
        (0, "USDT", 0, "account_id"),
        (42, "", 0, "currency_code"),
        (42, "USDT", -1, "min_version"),
    ] {
        let answer = ask(account_id, currency, min_version).unwrap();
        assert!(!answer.success && answer.balance.is_none());
        assert!(answer.error_message.contains(says), "{answer:?}");
    }
    // What the prototype could not be asked has a status.
    let newer = ask(42, "USDT", 3).unwrap_err();
    assert_eq!((newer.kind, newer.kind.grpc()), (ProblemKind::NotYet, 9));
    assert_eq!(newer.message, "version 3 is not there yet, 0 is");
    twin.trouble(Trouble::Away);
    assert_eq!(
        ask(42, "USDT", 0).unwrap_err().kind,
        ProblemKind::Unavailable
    );
}
