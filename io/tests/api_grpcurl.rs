//! The front door as grpcurl finds it, which knows nothing of it but what reflection tells.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/front.rs"]
mod front;

use std::{net::SocketAddr, path::PathBuf, process::Command, sync::Arc};

use front::Twin;
use kilter_engine::clock::Clock;
use kilter_io::{
    api::{Api, Key, Keys, Signing, Verifier, request_from_json, sign},
    clock::SystemClock,
    net::{Limits, Server},
};

const SECRET: &str = "f2a9c1d47be0835516aa90cc31fe07bd";

/// Where the program may be: on the path, or where `bin/test` puts it.
fn grpcurl() -> Option<PathBuf> {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/grpcurl");
    ["grpcurl", ours]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| {
            let found = Command::new(path).arg("-version").output();
            found.is_ok_and(|found| found.status.success())
        })
}

#[test]
fn grpcurl_lists_describes_and_calls() {
    let Some(grpcurl) = grpcurl() else {
        println!("SKIPPED grpcurl_lists_describes_and_calls: there is no grpcurl on this machine");
        return;
    };
    let twin = Twin::new();
    twin.account(42, "u-42");
    let key = || Key::new("1", SECRET.as_bytes()).unwrap();
    let signing = Signing::Changes(Arc::new(Verifier::new(Keys::new(vec![key()]).unwrap())));
    let api = Arc::new(Api::new(twin.parts(), Twin::settings(signing)));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let service = api.grpc(any).unwrap();
    let server = Server::start("grpc", any, None, Limits::default(), service).unwrap();
    let address = server.address().to_string();
    let run = |options: &[&str], what: &[&str]| {
        let output = Command::new(&grpcurl)
            .args(["-plaintext", "-max-time", "20"])
            .args(options)
            .arg(&address)
            .args(what)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    };
    let list = run(&[], &["list"]).unwrap();
    assert_eq!(
        list.lines().collect::<Vec<_>>(),
        [
            "balance.BalanceService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ]
    );
    let described = run(&[], &["describe", "balance.BalanceService"]).unwrap();
    for method in ["GetBalance", "ChangeBalance", "HealthCheck"] {
        assert!(
            described.contains(&format!("rpc {method} (")),
            "{described}"
        );
    }
    let field = run(&[], &["describe", "balance.ChangeBalanceRequest"]).unwrap();
    assert!(field.contains("string transaction_id = 1;"), "{field}");
    run(&[], &["describe", "balance.Nothing"]).unwrap_err();

    // One entry of metadata only: Go writes a map in any order, and the order is signed.
    let body = r#"{"transaction_id":"g-1","account_id":42,"user_id":"u-42","currency_code":"USDT","type":"DEPOSIT","amount":"2.5","metadata":{"a":"b"}}"#;
    let change = "balance.BalanceService/ChangeBalance";
    let unsigned = run(&["-d", body], &[change]).unwrap_err();
    assert!(unsigned.contains("Unauthenticated"), "{unsigned}");
    let now = SystemClock::new().wall_ms();
    let signature = sign(&key(), now, &request_from_json(change, body).unwrap());
    let headers = [
        "x-key-id: 1".to_owned(),
        format!("x-timestamp: {now}"),
        format!("x-signature: {signature}"),
    ];
    let mut options = vec!["-d", body];
    for header in &headers {
        options.extend(["-H", header]);
    }
    let changed = run(&options, &[change]).unwrap();
    let changed: serde_json::Value = serde_json::from_str(&changed).unwrap();
    assert_eq!(changed["success"], true, "{changed}");
    assert_eq!(changed["transactionId"], "g-1", "{changed}");
    let asked = ["-d", r#"{"account_id":42,"currency_code":"USDT"}"#];
    let balance = run(&asked, &["balance.BalanceService/GetBalance"]).unwrap();
    let balance: serde_json::Value = serde_json::from_str(&balance).unwrap();
    assert_eq!(balance["balance"]["available"], "2.5", "{balance}");
    let health = run(&[], &["grpc.health.v1.Health/Check"]).unwrap();
    assert!(health.contains("SERVING"), "{health}");
}
