//! `kilter sign` against signatures that Python's hmac module made, and before a server by way of curl.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::process::Command;

use support::{Place, directory, process::Node, text};

const SECRET: &str = "f2a9c1d47be0835516aa90cc31fe07bd";
const AT: [&str; 2] = ["--timestamp-ms", "1700000000000"];

fn sign(place: &Place, secret: &str, args: &[&str]) -> (bool, String) {
    let mut command = place.kilter(&["sign"]);
    command.args(AT).args(args).env_remove("HMAC_SECRET");
    if !secret.is_empty() {
        command.env("HMAC_SECRET", secret);
    }
    let output = command.output().unwrap();
    if output.status.success() {
        return (true, String::from_utf8(output.stdout).unwrap());
    }
    (false, text(&output))
}

#[test]
fn bodies_are_signed_byte_by_byte() {
    let place = Place::new();
    let body = place.path("body.json");
    std::fs::write(&body, r#"{"a":1}"#).unwrap();
    let body = body.to_str().unwrap();
    let signature = "83d43d0afa65da7a070f1ab6dad4aabfbb3030abc795faa2e16b4e557f634866";
    let (ok, said) = sign(&place, SECRET, &[body, "--key-id", "2026-11"]);
    assert!(ok, "{said}");
    assert_eq!(
        said.trim(),
        format!("x-key-id: 2026-11\nx-timestamp: 1700000000000\nx-signature: {signature}")
    );
    let file = place.path("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let (ok, said) = sign(
        &place,
        "",
        &[body, "--args", "--secret-file", file.to_str().unwrap()],
    );
    assert!(ok, "{said}");
    assert_eq!(
        said.trim(),
        format!("-H 'x-key-id: 1' -H 'x-timestamp: 1700000000000' -H 'x-signature: {signature}'")
    );
}

#[test]
fn messages_are_signed_as_clients_serialise_them() {
    let place = Place::new();
    let (request, frame) = (place.path("request.json"), place.path("frame"));
    let json = r#"{"amount":"1.5","type":"FREEZE","currencyCode":"USDT","user_id":"u",
        "accountId":42,"transactionId":"t-1"}"#;
    std::fs::write(&request, json).unwrap();
    let request = request.to_str().unwrap();
    let args = [
        request,
        "--grpc",
        "ChangeBalance",
        "--frame",
        frame.to_str().unwrap(),
    ];
    let (ok, said) = sign(&place, SECRET, &args);
    assert!(ok, "{said}");
    let signature = "e7f1f660d6804a3465e8988115601cee460e577e03edec8de744948afb4e2764";
    assert!(
        said.contains(&format!("x-signature: {signature}")),
        "{said}"
    );
    let message = b"\x0a\x03t-1\x10\x2a\x1a\x01u\x22\x04USDT\x28\x02\x32\x031.5";
    assert_eq!(
        std::fs::read(&frame).unwrap(),
        [&[0, 0, 0, 0, 23], &message[..]].concat()
    );
    let (ok, said) = sign(&place, SECRET, &[request, "--grpc", "Change"]);
    assert!(!ok && said.contains("OpenAccount"), "{said}");
    let (ok, said) = sign(&place, SECRET, &[request, "--grpc", "GetBalance"]);
    assert!(!ok && said.contains("balance.GetBalanceRequest"), "{said}");
}

#[test]
fn the_help_says_how_to_send_what_was_signed() {
    let said = Place::new().ok(&["sign", "--help"]);
    for words in ["-H @headers", "--http2-prior-knowledge", "in another order"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn what_is_no_secret_signs_nothing() {
    let place = Place::new();
    for (secret, args, says) in [
        ("", &["/dev/null"][..], "--secret-file"),
        ("your-secret-key-here", &["/dev/null"], "example"),
        ("changeme", &["/dev/null"], "example"),
        (&SECRET[1..], &["/dev/null"], "31 bytes"),
        (SECRET, &["/dev/null", "--key-id", "a b"], "key id \"a b\""),
        (SECRET, &["/no/such/body"], "cannot read /no/such/body"),
        (
            SECRET,
            &["/dev/null", "--secret-file", "/no/secret"],
            "/no/secret",
        ),
    ] {
        let (ok, said) = sign(&place, secret, args);
        assert!(!ok && said.contains(says), "{said}");
        assert!(secret.len() < 30 || !said.contains(secret), "{said}");
    }
}

/// A node on a directory with the secret of these tests: where gRPC and REST are served.
fn serve(place: &Place) -> (Node, String, String) {
    let node = directory::serve(place, &[("HMAC_SECRET", SECRET)]);
    let log = node.log();
    let grpc = log.split("grpc=").nth(1).unwrap();
    let grpc = grpc.split_whitespace().next().unwrap().to_owned();
    let rest = node.rest().unwrap();
    (node, grpc, rest)
}

/// What curl is answered: head with trailers, and body; `None` after saying that there is no curl.
fn curl(test: &str, args: &[&str]) -> Option<(String, Vec<u8>)> {
    let output = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "60"])
        .args(args)
        .output();
    let Ok(output) = output else {
        println!("SKIPPED {test}: no curl");
        return None;
    };
    assert!(output.status.success(), "{}", text(&output));
    let end = output
        .stdout
        .windows(4)
        .position(|four| four == b"\r\n\r\n");
    let (head, body) = output.stdout.split_at(end.unwrap() + 4);
    Some((String::from_utf8_lossy(head).into_owned(), body.to_owned()))
}

#[test]
fn curl_sends_what_was_signed_to_rest() {
    let test = "curl_sends_what_was_signed_to_rest";
    let place = Place::new();
    let (node, _, rest) = serve(&place);
    let (body, headers) = (place.path("body.json"), place.path("headers"));
    let (at_body, at_headers) = (
        format!("@{}", body.display()),
        format!("@{}", headers.display()),
    );
    let kind = "content-type:application/json";
    let post = |path: &str, json: &str| {
        std::fs::write(&body, json).unwrap();
        let said = Command::new(env!("CARGO_BIN_EXE_kilter"))
            .args(["sign", body.to_str().unwrap()])
            .env("HMAC_SECRET", SECRET)
            .output()
            .unwrap();
        std::fs::write(&headers, said.stdout).unwrap();
        let url = format!("http://{rest}{path}");
        curl(
            test,
            &[
                "-H",
                &at_headers,
                "-H",
                kind,
                "--data-binary",
                &at_body,
                &url,
            ],
        )
    };
    let Some((head, _)) = post("/api/v1/accounts", r#"{"user_id":"u","account_id":7}"#) else {
        return;
    };
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let change = r#"{"transaction_id":"t-1", "account_id":7, "user_id":"u",
        "currency_code":"USDT", "type":"DEPOSIT", "amount":"1.5", "wait":true}"#;
    let (head, answer) = post("/api/v1/balance/change", change).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["balances"][0]["available_after"], "1.5", "{answer}");
    // The same headers on another body, and on none; and the line of arguments, by a shell.
    let url = format!("http://{rest}/api/v1/balance/change");
    let other = change.replace("1.5", "9.5");
    for body in [other.as_str(), ""] {
        let args = ["-H", &at_headers, "-H", kind, "--data-binary", body, &url];
        let (head, _) = curl(test, &args).unwrap();
        assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    }
    std::fs::write(&body, change.replace("t-1", "t-2")).unwrap();
    let line = format!(
        "eval curl -sS $({kilter} sign --args {body}) -H {kind} --data-binary {at_body} {url}",
        kilter = env!("CARGO_BIN_EXE_kilter"),
        body = body.display(),
    );
    let output = Command::new("sh")
        .args(["-c", &line])
        .env("HMAC_SECRET", SECRET)
        .output()
        .unwrap();
    assert!(
        text(&output).contains(r#""available_after":"3""#),
        "{}",
        text(&output)
    );
    node.stop();
    assert_eq!(place.available(7, "USDT"), Some("3".to_owned()));
}

#[test]
fn curl_sends_what_was_signed_to_grpc() {
    let test = "curl_sends_what_was_signed_to_grpc";
    let place = Place::new();
    let (node, grpc, _) = serve(&place);
    let (request, frame, headers) = (
        place.path("request.json"),
        place.path("frame"),
        place.path("headers"),
    );
    let (at_frame, at_headers) = (
        format!("@{}", frame.display()),
        format!("@{}", headers.display()),
    );
    let sign = |method: &str, json: &str| {
        std::fs::write(&request, json).unwrap();
        let said = Command::new(env!("CARGO_BIN_EXE_kilter"))
            .args(["sign", "--grpc", method, "--frame"])
            .args([&frame, &request])
            .env("HMAC_SECRET", SECRET)
            .output()
            .unwrap();
        assert!(said.status.success(), "{}", text(&said));
        std::fs::write(&headers, said.stdout).unwrap();
    };
    let send = |method: &str, kind: &str| {
        let url = format!("http://{grpc}/balance.BalanceService/{method}");
        let kind = format!("content-type: {kind}");
        let args = [
            "--http2-prior-knowledge",
            "-H",
            &at_headers,
            "-H",
            &kind,
            "-H",
            "te: trailers",
            "--data-binary",
            &at_frame,
            &url,
        ];
        let (head, body) = curl(test, &args)?;
        // Trailers come behind the body.
        Some((head, String::from_utf8_lossy(&body).into_owned()))
    };
    sign("OpenAccount", r#"{"userId":"u","accountId":"7"}"#);
    let Some((head, body)) = send("OpenAccount", "application/grpc") else {
        return;
    };
    assert!(head.starts_with("HTTP/2 200"), "{head}");
    assert!(body.contains("grpc-status: 0"), "{body}");
    let change = r#"{"transactionId":"t-1","accountId":"7","userId":"u","currencyCode":"USDT",
        "amount":"1.5","metadata":{"b":"2","a":"1"},"wait":true}"#;
    sign("ChangeBalance", change);
    // The signature is good for this method only, whatever the others make of the message.
    for method in ["OpenAccount", "ChangeBalances", "GetTransaction"] {
        let (head, body) = send(method, "application/grpc").unwrap();
        let said = head + &body;
        assert!(said.contains("grpc-status: 3"), "{method}: {said}");
        assert!(said.contains("field 1"), "{method}: {said}");
    }
    let (_, body) = send("ChangeBalance", "application/grpc+proto").unwrap();
    assert!(
        body.contains("grpc-status: 0") && body.contains("t-1"),
        "{body}"
    );
    for kind in ["application/json", "application/grpc+json", "text/plain"] {
        let (head, _) = send("ChangeBalance", kind).unwrap();
        assert!(head.starts_with("HTTP/2 415"), "{kind}: {head}");
    }
    // A message that says it is compressed: what is known here is said.
    let mut bytes = std::fs::read(&frame).unwrap();
    bytes[0] = 1;
    std::fs::write(&frame, &bytes).unwrap();
    let (head, body) = send("ChangeBalance", "application/grpc").unwrap();
    let said = head + &body;
    assert!(said.contains("grpc-status: 12"), "{said}");
    assert!(said.contains("grpc-accept-encoding: identity"), "{said}");
    node.stop();
    assert_eq!(place.available(7, "USDT"), Some("1.5".to_owned()));
    assert_eq!(place.outcomes(), ["SUCCESS"]);
}
