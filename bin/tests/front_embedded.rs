//! The front door of a directory: tried out as README says, its secret changed.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};
use support::{
    Place,
    directory::{client, serve},
    rest::{Rest, now_ms, signed},
    text, wait_for,
};

fn change(id: &str, kind: &str, amount: &str) -> Value {
    json!({
        "transaction_id": id, "account_id": 1, "user_id": "u-1", "currency_code": "USDT",
        "type": kind, "amount": amount, "wait": true,
    })
}

#[test]
fn a_directory_is_served_to_clients() {
    let place = Place::new();
    let node = serve(&place, &[]);
    let mut rest = client(&place, &node);
    let opened = rest
        .post("/api/v1/accounts", &json!({"user_id": "u-1"}))
        .unwrap()
        .json();
    assert_eq!(
        (&opened["account_id"], &opened["existed"]),
        (&json!(1), &json!(false))
    );
    let again = rest
        .post("/api/v1/accounts", &json!({"user_id": "u-1"}))
        .unwrap()
        .json();
    assert_eq!(
        (&again["account_id"], &again["existed"]),
        (&json!(1), &json!(true))
    );
    let path = "/api/v1/balance/change";
    let told = rest
        .post(path, &change("t-1", "DEPOSIT", "12.5"))
        .unwrap()
        .json();
    assert_eq!(told["outcome"], "SUCCESS", "{told}");
    assert_eq!(told["balances"][0]["available_after"], "12.5");
    let failed = rest
        .post(path, &change("t-2", "WITHDRAW", "99"))
        .unwrap()
        .json();
    assert_eq!(failed["error_code"], "INSUFFICIENT_AVAILABLE", "{failed}");
    let other = rest.post(path, &change("t-1", "DEPOSIT", "13")).unwrap();
    assert_eq!(other.status, 409, "{}", other.text());
    assert!(other.text().contains("another amount"), "{}", other.text());
    let mut foreign = change("t-3", "DEPOSIT", "1");
    foreign["user_id"] = json!("u-2");
    assert_eq!(rest.post(path, &foreign).unwrap().status, 404);
    let read = |rest: &mut Rest| rest.get("/api/v1/balance/1/USDT").unwrap().json();
    let balance = read(&mut rest);
    assert_eq!(balance["balance"]["available"], "12.5", "{balance}");
    assert_eq!(balance["source"], "memory");
    let newer = rest.get("/api/v1/balance/1/USDT?min_version=9").unwrap();
    let says = "version 9 is not there yet, 1 is";
    assert!(newer.text().contains(says), "{}", newer.text());
    assert_eq!(
        (newer.status, &newer.json()["error_code"]),
        (409, &json!("NOT_YET"))
    );

    let creditor = rest
        .post("/api/v1/accounts", &json!({"user_id": "u-2"}))
        .unwrap()
        .json();
    assert_eq!(creditor["account_id"], 2);
    let mut transfer = change("t-4", "TRANSFER", "2.5");
    transfer["to_user_id"] = json!("u-2");
    transfer["to_account_id"] = json!(2);
    let told = rest.post(path, &transfer).unwrap().json();
    assert_eq!(told["balances"][0]["available_after"], "10", "{told}");
    wait_for("the credit", || {
        let state = rest.get("/api/v1/transactions/u-1/t-4").unwrap().json();
        state["legs"][0]["outcome"] == "SUCCESS"
    });
    let theirs = rest.get("/api/v1/balance/2/USDT").unwrap().json();
    assert_eq!(theirs["balance"]["available"], "2.5");
    assert_eq!(
        rest.get("/api/v1/transactions/u-1/t-9").unwrap().status,
        404
    );
    let page = rest.get("/api/v1/ledger/1?page_size=2").unwrap().json();
    assert_eq!(page["entries"].as_array().unwrap().len(), 2);
    let token = page["next_page_token"].as_str().unwrap();
    let path = format!("/api/v1/ledger/1?page_size=2&page_token={token}");
    let next = rest.get(&path).unwrap().json();
    assert_eq!(next["entries"][0]["transaction_id"], "t-4", "{next}");
    assert_eq!(next["next_page_token"], "");

    // All results, from the first on and from the middle of what there is.
    let all = watch(&node.rest().unwrap(), "after=1:0:0:0", 4);
    let ids: Vec<&str> = all.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["t-1", "t-2", "t-4", "t-4"]);
    let (_, place_of_second) = &all[1];
    let rest_of_all = watch(
        &node.rest().unwrap(),
        &format!("after={place_of_second}"),
        2,
    );
    assert_eq!(rest_of_all, all[2..]);

    let before = place.available(1, "USDT");
    node.stop();
    let node = serve(&place, &[]);
    let mut rest = client(&place, &node);
    assert_eq!(Some("10".to_owned()), before);
    assert_eq!(read(&mut rest)["balance"]["available"], "10");
    node.stop();
    let said = place.ok(&["audit"]);
    assert!(said.contains("audited") || said.contains("exact"), "{said}");
}

/// The first results of a stream: ids, and positions as they are given to go on behind.
fn watch(address: &str, query: &str, count: usize) -> Vec<(String, String)> {
    let path = format!("/api/v1/results?{query}");
    let results = Rest::new(address).lines(&path, count).unwrap();
    let results = results.iter().map(|result| {
        let entry = &result["entry"];
        let id = entry["transaction_id"].as_str().unwrap().to_owned();
        let place = ["generation", "partition", "offset", "posting"];
        (
            id,
            place
                .map(|name| entry["position"][name].to_string())
                .join(":"),
        )
    });
    results.collect()
}

#[test]
fn a_secret_is_changed_without_a_stop() {
    let place = Place::new();
    let file = place.file("secret", ["the first secret of this test, and a long one"]);
    let file = file.to_str().unwrap();
    let node = serve(&place, &[("KILTER_API_SECRET_FILE", file)]);
    let mut rest = Rest::new(&node.rest().unwrap());
    let mut ask = |secret: &str, time_ms: u64, id: &str| {
        let body = format!(r#"{{"user_id":"{id}"}}"#).into_bytes();
        let mut headers = signed(&body, time_ms, secret);
        headers.push(("content-type", "application/json".to_owned()));
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = rest.send("POST", "/api/v1/accounts", &headers, &body);
        answer.unwrap().status
    };
    let (first, second) = (
        "the first secret of this test, and a long one",
        "the second secret of this test, which is as long",
    );
    assert_eq!(ask(first, now_ms(), "a"), 200);
    assert_eq!(ask(second, now_ms(), "b"), 401);
    assert_eq!(ask(first, now_ms() - 301_000, "c"), 401);
    assert_eq!(ask(first, now_ms() + 301_000, "d"), 401);
    // One that is too short is told, and the one before stays.
    std::fs::write(file, "short").unwrap();
    node.signal(libc::SIGHUP);
    node.wait_for("the mistake", |node| node.log().contains("5 bytes"));
    assert_eq!(ask(first, now_ms(), "e"), 200);
    std::fs::write(file, second).unwrap();
    node.signal(libc::SIGHUP);
    wait_for("the second secret", || ask(second, now_ms(), "f") == 200);
    assert_eq!(ask(first, now_ms(), "g"), 401);
    node.stop();
}

#[test]
fn two_keys_are_live_at_once() {
    let place = Place::new();
    let (first, second) = (
        "the first secret of this test, and a long one",
        "the second secret of this test, which is as long",
    );
    let env = [
        ("HMAC_SECRET", first),
        ("KILTER_API_KEY_ID", "old"),
        ("KILTER_API_SECOND_SECRET", second),
        ("KILTER_API_SECOND_KEY_ID", "new"),
    ];
    let node = serve(&place, &env);
    let mut rest = Rest::new(&node.rest().unwrap());
    let mut ask = |key: &str, secret: &str, user: &str| {
        let body = format!(r#"{{"user_id":"{user}"}}"#).into_bytes();
        let mut headers = signed(&body, now_ms(), secret);
        headers.retain(|(name, _)| *name != "x-key-id");
        headers.push(("x-key-id", key.to_owned()));
        headers.push(("content-type", "application/json".to_owned()));
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = rest.send("POST", "/api/v1/accounts", &headers, &body);
        answer.unwrap().status
    };
    assert_eq!(ask("old", first, "a"), 200);
    assert_eq!(ask("new", second, "b"), 200);
    // Each secret goes by its own name.
    assert_eq!(ask("old", second, "c"), 401);
    assert_eq!(ask("new", first, "d"), 401);
    assert_eq!(ask("1", first, "e"), 401);
    node.stop();
    let users = place.ok(&["accounts", "--json"]);
    assert_eq!(users.lines().count(), 2, "{users}");
}

/// HTTP/2 by hand, as much of it as one call needs. Unlike curl it reads on behind a GOAWAY.
struct Call(TcpStream);

impl Call {
    /// Calls a method with an empty message.
    fn begin(address: &str, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
        let mut headers = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // Literal, not indexed, not compressed.
            headers.extend([0, name.len() as u8]);
            headers.extend(name.bytes());
            headers.push(value.len() as u8);
            headers.extend(value.bytes());
        }
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        let mut call = Self(stream);
        call.send((4, 0, 0), &[]);
        call.send((1, 4, 1), &headers);
        call.send((0, 1, 1), &[0; 5]);
        call
    }

    fn send(&mut self, (kind, flags, stream): (u8, u8, u8), payload: &[u8]) {
        let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        self.0.write_all(&[&head, payload].concat()).unwrap();
    }

    /// The next bytes of the answer; `None` at its end.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).unwrap();
            match (head[3], head[4]) {
                (0, _) if length > 0 => return Some(payload),
                // Settings, not yet acknowledged.
                (4, 0) => self.send((4, 1, 0), &[]),
                // The trailers, and an end without them.
                (1, flags) if flags & 1 == 1 => return None,
                (3, _) => panic!("the stream was reset: {payload:?}"),
                _ => {}
            }
        }
    }
}

#[test]
fn whoever_watches_health_does_not_hold_up_a_stop() {
    let place = Place::new();
    let mut node = serve(&place, &[]);
    let log = node.log();
    let grpc = log.split("grpc=").nth(1).unwrap();
    let grpc = grpc.split_whitespace().next().unwrap();
    let mut call = Call::begin(grpc, "/grpc.health.v1.Health/Watch");
    assert_eq!(call.next(), Some(vec![0, 0, 0, 0, 2, 8, 1]));
    node.signal(libc::SIGTERM);
    assert_eq!(call.next(), Some(vec![0, 0, 0, 0, 2, 8, 2]));
    assert_eq!(call.next(), None);
    let status = node.wait();
    assert!(status.success(), "{status}");
    let said = node.log();
    assert!(!said.contains("cut off"), "{said}");
}

#[test]
fn no_front_door_that_is_not_safe() {
    let place = Place::new();
    let refused = |env: &[(&str, &str)], args: &[&str]| {
        let mut command = place.kilter(args);
        let command = command.env("GRPC_PORT", "0").env("PORT", "0");
        let output = command.envs(env.iter().copied()).output().unwrap();
        assert!(!output.status.success(), "{}", text(&output));
        text(&output)
    };
    for secret in [
        "short",
        "your-secret-key-here",
        "changeme",
        "secretsecretsecretsecretsecretsecret",
    ] {
        let said = refused(&[("HMAC_SECRET", secret)], &["serve"]);
        assert!(said.contains("HMAC_SECRET"), "{said}");
        assert!(!said.contains("secretsecret"), "{said}");
    }
    let said = refused(
        &[
            ("KILTER_API_SIGNATURES", "off"),
            ("KILTER_API_BIND", "0.0.0.0"),
        ],
        &["serve"],
    );
    assert!(said.contains("loopback"), "{said}");
    let said = refused(&[], &["serve", "--role", "api"]);
    assert!(said.contains("--role"), "{said}");
    let said = refused(&[("KILTER_API_SECRET_FILE", "/nowhere")], &["serve"]);
    assert!(said.contains("/nowhere"), "{said}");
    let said = refused(
        &[
            ("KILTER_API_TLS_CERT", "/nowhere"),
            ("KILTER_API_TLS_KEY", "/nowhere"),
        ],
        &["serve"],
    );
    assert!(said.contains("/nowhere"), "{said}");
    // On servers, and before they are asked for anything.
    let said = refused(
        &[("MYSQL_HOST", "127.0.0.1"), ("MYSQL_PORT", "1")],
        &["config", "check"],
    );
    assert!(said.contains("HMAC_SECRET"), "{said}");
}
