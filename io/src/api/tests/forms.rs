//! Requests of REST that are wrong before their fields are.

use super::{
    get, post, rest,
    shapes::{as_json, good},
    unsigned,
};

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
}
