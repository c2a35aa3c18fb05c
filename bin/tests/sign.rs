//! `kilter sign` against signatures that Python's hmac module made.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use support::{Place, text};

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
