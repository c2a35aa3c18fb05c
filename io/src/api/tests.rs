//! The services without a transport, over a naive node.

#[path = "../../tests/support/front.rs"]
mod front;

mod contract;
mod flow;
mod forms;
mod paths;
mod replay;
mod shapes;
mod waiting;

use std::sync::{Arc, LazyLock, mpsc};

use prost::Message;

use self::front::Twin;
use super::{
    Api, Problem, Signed, Signing,
    caller::Caller,
    rest::{Handled, RestAnswer, RestRequest},
    rpc::Call,
};

/// Somebody who waits for ever.
static NOBODY: LazyLock<Caller> = LazyLock::new(Caller::default);

/// Services that take unsigned requests, over a node with the account 42 of u-42.
fn unsigned() -> (Arc<Twin>, Api) {
    let twin = Twin::new();
    twin.account(42, "u-42");
    let api = Api::new(twin.parts(), Twin::settings(Signing::Off));
    (twin, api)
}

/// What a call is answered, if that is at once.
fn call<A: Message + Default>(
    api: &Api,
    method: &str,
    request: &impl Message,
) -> Result<A, Problem> {
    let path = format!("/balance.BalanceService/{method}");
    let answer = unary(api, &path, Signed::default(), &request.encode_to_vec());
    answer.map(|answer| A::decode(&*answer).unwrap())
}

/// What a message is answered, if that is at once.
fn unary(api: &Api, path: &str, signed: Signed<'_>, message: &[u8]) -> Result<Vec<u8>, Problem> {
    let (tell, told) = mpsc::channel();
    let call = Call {
        path,
        signed,
        message,
        caller: &NOBODY,
    };
    api.unary(call, Box::new(move |answer| tell.send(answer).unwrap()));
    told.try_recv().expect("an answer")
}

/// A request with a body of JSON.
fn post<'a>(path: &'a str, body: &'a str) -> RestRequest<'a> {
    RestRequest {
        method: "POST",
        path,
        query: "",
        signed: Signed::default(),
        content_type: Some("application/json"),
        content_encoding: None,
        idempotency_key: None,
        caller: &NOBODY,
        body: body.as_bytes(),
    }
}

/// A request without a body.
fn get<'a>(path: &'a str, query: &'a str) -> RestRequest<'a> {
    RestRequest {
        method: "GET",
        query,
        content_type: None,
        ..post(path, "")
    }
}

/// What a request is answered, if that is at once: status, body, headers.
fn rest(api: &Api, request: &RestRequest<'_>) -> (u16, serde_json::Value, RestAnswer) {
    let (tell, told) = mpsc::channel();
    let handled = api.rest(request, Box::new(move |answer| tell.send(answer).unwrap()));
    assert!(matches!(handled, Handled::Answered), "{request:?}");
    let answer = told.try_recv().expect("an answer");
    let body = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, body, answer)
}
