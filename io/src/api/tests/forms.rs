//! Requests of REST that are wrong before their fields are, and requests with fields unset.

use super::{
    call, get, post, rest,
    shapes::{as_json, good},
    unsigned,
};
use crate::api::{
    Problem, ProblemKind,
    wire::balance::{
        ChangeBalanceRequest, ChangeBalanceResponse, ChangeBalancesRequest, ChangeBalancesResponse,
        GetTransactionRequest, GetTransactionResponse, ListLedgerRequest, ListLedgerResponse,
        OpenAccountRequest, OpenAccountResponse,
    },
};
use serde_json::json;

#[test]
fn bodies_of_the_wrong_form_are_refused() {
    let (twin, api) = unsigned();
    let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let table = [
        ("", "not JSON"),
        ("[]", "not an object"),
        ("{\"amount\":1,\"amount\":1}", "\"amount\" appears twice"),
        (
            "{\"metadata\":{\"a\":{\"b\":1,\"b\":1}}}",
            "\"b\" appears twice",
        ),
        (&deep, "more than 32"),
        (
            r#"{"transaction_id":1}"#,
            "transaction_id 1 is not a string",
        ),
        (r#"{"user_id":["u"]}"#, "user_id [\"u\"] is not a string"),
        (
            r#"{"account_id":42.0}"#,
            "account_id 42.0 is not a whole number",
        ),
        (r#"{"account_id":4e1}"#, "is not a whole number"),
        (r#"{"account_id":"0x2a"}"#, "is not a whole number"),
        (r#"{"account_id":"+42"}"#, "is not a whole number"),
        (
            r#"{"account_id":9223372036854775808}"#,
            "is not a whole number",
        ),
        (r#"{"account_id":true}"#, "account_id true"),
        (r#"{"type":"deposit"}"#, "type \"deposit\" is not a type"),
        (r#"{"type":0.0}"#, "is not a type"),
        (r#"{"type":"OPEN"}"#, "is not a type"),
        (r#"{"amount":true}"#, "amount true is not a decimal"),
        (r#"{"amount":{}}"#, "amount {} is not a decimal"),
        (r#"{"metadata":[]}"#, "metadata [] is not an object"),
        (r#"{"description":1}"#, "description 1"),
        (r#"{"wait":"true"}"#, "wait \"true\" is not true or false"),
        (r#"{"postings":[]}"#, "postings is empty"),
        (r#"{"postings":{}}"#, "postings {} is not a list"),
        (r#"{"postings":[1]}"#, "postings[0] 1 is not an object"),
        (
            r#"{"postings":[{},{"amount":[]}]}"#,
            "postings[1].amount [] is not a decimal",
        ),
    ];
    for (body, says) in table {
        let (status, answer, _) = rest(&api, &post("/api/v1/balance/change", body));
        let message = answer["error_message"].as_str().unwrap();
        assert!(
            status == 400 && message.contains(says),
            "{body:.60}: {message}"
        );
    }
    let wrong = |status: u16, request| {
        let (got, body, answer) = rest(&api, &request);
        assert_eq!(got, status, "{body}");
        answer
    };
    let body = as_json(&good()).to_string();
    let change = post("/api/v1/balance/change", &body);
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/json; charset=latin1"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonx"),
    ] {
        wrong(
            415,
            crate::api::rest::RestRequest {
                content_type,
                ..change
            },
        );
    }
    for content_encoding in [Some("gzip"), Some("br"), Some("identity, gzip")] {
        wrong(
            415,
            crate::api::rest::RestRequest {
                content_encoding,
                ..change
            },
        );
    }
    assert_eq!(twin.events(), 0);
    let answer = wrong(405, get("/api/v1/balance/change", ""));
    assert_eq!(answer.headers, [("allow", "POST".to_owned())]);
    wrong(404, get("/api/v2/balance/1/A", ""));
    wrong(400, get("/api/v1/balance/x/USDT", ""));
    wrong(400, get("/api/v1/balance/42/U%20", ""));
    wrong(400, get("/api/v1/balance/42/USDT", "min_version=-1"));
    wrong(
        400,
        get("/api/v1/balance/42/USDT", "min_version=1&min_version=2"),
    );
    wrong(400, get("/api/v1/ledger/42", "page_size=1001"));
    wrong(400, get("/api/v1/ledger/42", "page_size=-1"));
    wrong(400, get("/api/v1/ledger/42", "page_token=x"));
    wrong(400, get("/api/v1/results", "after=1:2:3"));
    wrong(400, get("/api/v1/results", "after=1:2:3:99999999999"));
    wrong(400, get("/api/v1/results", "after=%zz"));
    // A name that is not known could be one that was meant to narrow it down.
    for path in ["/api/v1/results", "/api/v1/ledger/42"] {
        let (status, answer, _) = rest(&api, &get(path, "user=u-42&x"));
        assert_eq!((status, &answer["field"]), (400, &json!("user")), "{path}");
    }
    // The prototype's path has always ignored what it does not know.
    wrong(404, get("/api/v1/balance/42/BTC", "x=1"));
}

#[test]
fn what_is_wrong_as_a_whole_has_no_field() {
    let (_twin, api) = unsigned();
    for request in [
        post("/api/v1/balance/change", "[1]"),
        post("/api/v1/balance/change", "{"),
        get("/api/v1/ledger/42", "%zz"),
    ] {
        let (status, answer, _) = rest(&api, &request);
        assert_eq!((status, answer.get("field")), (400, None), "{answer}");
    }
    let (_, answer, _) = rest(&api, &get("/", ""));
    let says = "no path \"/\"; /openapi.json says which there are";
    assert_eq!(answer["error_message"], json!(says));
    let (_, answer, _) = rest(&api, &post("/health", ""));
    let says = "POST is not for this path; allowed: GET, HEAD";
    assert_eq!(answer["error_message"], json!(says));
}

#[test]
fn whatever_is_unset_is_named() {
    let (twin, api) = unsigned();
    let id = || "x".to_owned();
    let named = |problem: Problem| (problem.kind, problem.field.unwrap());
    let no_user = GetTransactionRequest {
        user_id: String::new(),
        transaction_id: id(),
    };
    let no_id = GetTransactionRequest {
        user_id: id(),
        transaction_id: String::new(),
    };
    let long = GetTransactionRequest {
        user_id: id(),
        transaction_id: "x".repeat(65),
    };
    for (request, field) in [
        (no_user, "user_id"),
        (no_id, "transaction_id"),
        (long, "transaction_id"),
        (GetTransactionRequest::default(), "user_id"),
    ] {
        let refused = call::<GetTransactionResponse>(&api, "GetTransaction", &request);
        let wanted = (ProblemKind::Invalid, field.to_owned());
        assert_eq!(named(refused.unwrap_err()), wanted);
    }
    let entries = ListLedgerRequest::default();
    let refused = call::<ListLedgerResponse>(&api, "ListLedger", &entries);
    assert_eq!(named(refused.unwrap_err()).1, "account_id");
    for (request, field) in [
        (OpenAccountRequest::default(), "user_id"),
        (
            OpenAccountRequest {
                user_id: "x".repeat(65),
                account_id: 0,
            },
            "user_id",
        ),
        (
            OpenAccountRequest {
                user_id: id(),
                account_id: i64::MAX,
            },
            "account_id",
        ),
    ] {
        let refused = call::<OpenAccountResponse>(&api, "OpenAccount", &request);
        assert_eq!(named(refused.unwrap_err()).1, field);
    }
    let refused =
        call::<ChangeBalancesResponse>(&api, "ChangeBalances", &ChangeBalancesRequest::default());
    assert_eq!(named(refused.unwrap_err()).1, "changes");
    // One among others is refused by itself, as if it were alone.
    let request = ChangeBalancesRequest {
        changes: vec![ChangeBalanceRequest::default(), good()],
        ..ChangeBalancesRequest::default()
    };
    let answers: ChangeBalancesResponse = call(&api, "ChangeBalances", &request).unwrap();
    let fields: Vec<&str> = answers.answers.iter().map(|each| &*each.field).collect();
    assert_eq!(fields, ["transaction_id", ""]);
    // An account that there is not, and somebody else's: said alike.
    twin.account(43, "u-43");
    for account_id in [43, 44] {
        let request = ChangeBalanceRequest {
            transaction_id: "t-2".into(),
            account_id,
            ..good()
        };
        let refused: ChangeBalanceResponse = call(&api, "ChangeBalance", &request).unwrap();
        let says = format!("account_id {account_id} is not an account of user \"u-42\"");
        assert_eq!((refused.success, refused.error_message), (false, says));
    }
    for (path, field) in [
        ("/api/v1/transactions//t", "user_id"),
        ("/api/v1/transactions/u/", "transaction_id"),
        ("/api/v1/ledger/", "account_id"),
        ("/api/v1/ledger/0", "account_id"),
        ("/api/v1/balance//USDT", "account_id"),
        ("/api/v1/balance/42/", "currency_code"),
    ] {
        let (status, answer, _) = rest(&api, &get(path, ""));
        assert_eq!((status, &answer["field"]), (400, &json!(field)), "{path}");
    }
    for (path, body, field) in [
        ("/api/v1/accounts", "{}", "user_id"),
        ("/api/v1/balance/change", "{}", "transaction_id"),
        ("/api/v1/balance/changes", "{}", "changes"),
        ("/api/v1/transfers", "{}", "transaction_id"),
    ] {
        let (status, answer, _) = rest(&api, &post(path, body));
        assert_eq!((status, &answer["field"]), (400, &json!(field)), "{path}");
    }
}
