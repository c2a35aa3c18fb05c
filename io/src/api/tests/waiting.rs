//! How long an outcome is waited for, and what becomes of whoever waits.

use std::{
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use prost::Message;
use serde_json::json;

use super::{call, front::Trouble, front::Twin, post, rest, shapes, unsigned};
use crate::api::{
    Api, Signed, Signing,
    caller::Caller,
    rpc::Call,
    wire::balance::{
        ChangeBalanceRequest, ChangeBalanceResponse, ChangeBalancesRequest, ChangeBalancesResponse,
    },
};

/// A change whose outcome is waited for, by somebody who gives the call so much time.
fn send(api: &Api, wait_ms: i64, caller: &Caller) -> Receiver<ChangeBalanceResponse> {
    let request = ChangeBalanceRequest {
        wait: true,
        wait_ms,
        ..shapes::good()
    };
    let (tell, told) = mpsc::channel();
    let call = Call {
        path: "/balance.BalanceService/ChangeBalance",
        signed: Signed::default(),
        message: &request.encode_to_vec(),
        caller,
    };
    let answer = move |answer: Result<Vec<u8>, _>| {
        let answer = ChangeBalanceResponse::decode(&*answer.unwrap()).unwrap();
        tell.send(answer).unwrap();
    };
    api.unary(call, Box::new(answer));
    told
}

fn patient(seconds: u64) -> Caller {
    Caller {
        deadline: Some(Instant::now() + Duration::from_secs(seconds)),
        ..Caller::default()
    }
}

#[test]
fn a_result_that_passed_unheard_is_found_in_the_end() {
    let (twin, api) = unsigned();
    twin.trouble(Trouble::Slow);
    let start = Instant::now();
    let told = send(&api, 0, &patient(100));
    // Published before anybody listened, and committed after the first look.
    twin.catch_up_unheard();
    twin.waiters.expire(start + Duration::from_secs(99));
    assert!(told.try_recv().is_err());
    // Shortly before the time is up.
    twin.waiters.expire(start + Duration::from_millis(99_880));
    let answer = told.try_recv().expect("an outcome");
    assert!(answer.success && !answer.pending, "{answer:?}");
    assert_eq!(twin.waiters.count(), 0);
}

#[test]
fn a_repeated_request_hears_soon_what_was_known_all_along() {
    let (twin, api) = unsigned();
    twin.trouble(Trouble::Slow);
    let first = send(&api, 0, &patient(100));
    let again = send(&api, 0, &patient(100));
    twin.catch_up_unheard();
    // The first one waits for the result; whoever asked again looks again, and soon.
    let now = Instant::now();
    twin.waiters.expire(now + Duration::from_secs(1));
    assert!(first.try_recv().is_err());
    let answer = again.try_recv().expect("an outcome");
    assert!(
        answer.success && answer.duplicate && !answer.pending,
        "{answer:?}"
    );
    assert_eq!(twin.waiters.count(), 1);
    // In vain it looks now and then, until the time is up.
    twin.trouble(Trouble::Slow);
    let request = ChangeBalanceRequest {
        transaction_id: "t-2".into(),
        ..shapes::good()
    };
    call::<ChangeBalanceResponse>(&api, "ChangeBalance", &request).unwrap();
    let looks = twin.looks();
    let mut body = shapes::as_json(&request);
    body["wait_ms"] = json!(20_000);
    let (tell, told) = mpsc::channel();
    let text = body.to_string();
    let request = post("/api/v1/balance/change", &text);
    api.rest(
        &request,
        Box::new(move |answer| tell.send(answer.status).unwrap()),
    );
    twin.waiters.expire(now + Duration::from_secs(30));
    assert_eq!(told.try_recv(), Ok(200));
    let looks = twin.looks() - looks;
    assert!((5..20).contains(&looks), "{looks}");
}

#[test]
fn whoever_has_gone_holds_no_place() {
    let (twin, api) = unsigned();
    twin.trouble(Trouble::Slow);
    let caller = patient(100);
    let told = send(&api, 0, &caller);
    assert_eq!(twin.waiters.count(), 1);
    caller.gone.set();
    assert_eq!(twin.waiters.count(), 0);
    // Nobody is answered, and the change is accepted all the same.
    assert!(matches!(
        told.try_recv(),
        Err(mpsc::TryRecvError::Disconnected)
    ));
    twin.catch_up();
    assert_eq!(twin.events(), 1);
    // One who went before he was heard.
    let _told = send(&api, 0, &caller);
    assert_eq!(twin.waiters.count(), 0);
}

#[test]
fn more_time_than_a_call_has_is_refused() {
    let (twin, api) = unsigned();
    let caller = Caller::default();
    let answer = |told: Receiver<ChangeBalanceResponse>| told.try_recv().unwrap().error_message;
    let says = "wait_ms 29901 is more than 29900, the most for a call without a deadline";
    assert_eq!(answer(send(&api, 29_901, &caller)), says);
    let mut body = shapes::as_json(&shapes::good());
    body["wait_ms"] = json!(60_000);
    let path = "/api/v1/balance/change";
    let (status, refused, _) = rest(&api, &post(path, &body.to_string()));
    assert_eq!((status, &refused["field"]), (400, &json!("wait_ms")));
    let request = ChangeBalancesRequest {
        changes: vec![shapes::good()],
        wait: false,
        wait_ms: 60_000,
    };
    let refused = call::<ChangeBalancesResponse>(&api, "ChangeBalances", &request);
    assert_eq!(refused.unwrap_err().field.as_deref(), Some("wait_ms"));
    assert_eq!((twin.events(), twin.waiters.count()), (0, 0));
    // A call's own deadline counts, and so does a server that gives more.
    assert_eq!(answer(send(&api, 60_000, &patient(5))), "");
    let mut settings = Twin::settings(Signing::Off);
    settings.request_timeout = Duration::from_secs(61);
    let api = Api::new(twin.parts(), settings);
    assert_eq!(answer(send(&api, 60_000, &caller)), "");
}
