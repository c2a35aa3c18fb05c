//! The front door over sockets, and clients that others wrote: Google's gRPC for Python, grpc-js, curl.
//! bin/test installs them; what is not there is reported as skipped.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/front.rs"]
mod front;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use front::{Trouble, Twin};
use kilter_io::{
    api::{Api, ApiSettings, Key, Keys, Signing, Verifier, sign},
    clock::SystemClock,
    net::{Limits, Server},
};

use kilter_engine::clock::Clock;

const SECRET: &str = "f2a9c1d47be0835516aa90cc31fe07bd";

/// A front door on free ports, over a naive node with the account 42 of u-42.
struct Door {
    twin: Arc<Twin>,
    grpc: Server,
    rest: Server,
}

fn key() -> Key {
    Key::new("1", SECRET.as_bytes()).unwrap()
}

fn door(is_signed: bool) -> Door {
    let signing = if is_signed {
        let keys = Keys::new(vec![key()]).unwrap();
        Signing::Changes(Arc::new(Verifier::new(keys)))
    } else {
        Signing::Off
    };
    open(Twin::settings(signing))
}

fn open(settings: ApiSettings) -> Door {
    let twin = Twin::new();
    twin.account(42, "u-42");
    let api = Arc::new(Api::new(twin.parts(), settings));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let start = |name, service| Server::start(name, any, None, Limits::default(), service).unwrap();
    Door {
        twin,
        grpc: start("grpc", api.grpc(any).unwrap()),
        rest: start("rest", api.rest_service(any).unwrap()),
    }
}

fn root() -> PathBuf {
    let io = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    io.parent().unwrap().to_owned()
}

fn file(name: &str) -> String {
    root().join("io").join(name).to_str().unwrap().to_owned()
}

/// Python with gRPC, if there is one.
fn python() -> Option<PathBuf> {
    let ours = root().join("target/tools/venv/bin/python");
    let modules = "import grpc, grpc_tools, grpc_health.v1, grpc_reflection.v1alpha";
    [ours, "python3".into()].into_iter().find(|python| {
        let tried = Command::new(python).args(["-c", modules]).output();
        tried.is_ok_and(|tried| tried.status.success())
    })
}

fn lines(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_python_client_of_the_prototype_works_with_a_signature_alone() {
    let Some(python) = python() else {
        println!(
            "SKIPPED a_python_client_of_the_prototype_works_with_a_signature_alone: no Python with grpcio"
        );
        return;
    };
    let door = door(true);
    let seen = lines(Command::new(python).args([
        &file("tests/clients/prototype.py"),
        &door.grpc.address().to_string(),
        &file("tests/data/prototype.proto"),
        SECRET,
    ]));
    let wanted = [
        "health True OK True",
        "deposit True t-1 True ''",
        "again False True transaction_id \"t-1\" was accepted before",
        "amount False amount \"-100\" is no amount: an amount has no sign",
        "nothing False transaction_id is missing",
        "stranger False account_id 42 is not an account of user \"u-43\"",
        "unsigned UNAUTHENTICATED: x-signature is missing, or there more than once",
        "forged UNAUTHENTICATED: x-signature does not fit body, x-timestamp and x-key-id",
        "key UNAUTHENTICATED: x-signature does not fit body, x-timestamp and x-key-id",
        "old UNAUTHENTICATED: x-timestamp is more than 300000 ms away from the server's clock",
        "gzip UNIMPLEMENTED",
        "unknown UNIMPLEMENTED",
        "torn INVALID_ARGUMENT",
        "huge True",
        "balance True 42 USDT 10.000000000000000001 0 1",
        "none False False account 42 has no balance in BTC",
    ];
    assert_eq!(seen, wanted);
    assert_eq!(door.twin.events(), 1);
}

#[test]
fn what_came_after_the_prototype_works_from_python() {
    let Some(python) = python() else {
        println!("SKIPPED what_came_after_the_prototype_works_from_python: no Python with grpcio");
        return;
    };
    let door = door(false);
    let mut child = Command::new(python)
        .args([
            &file("tests/clients/additions.py"),
            &door.grpc.address().to_string(),
            &file("proto/balance.proto"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        seen.push(line.unwrap());
        if seen.last().unwrap().starts_with("watching") {
            door.twin.health.set(false, "STOPPING");
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
        }
    }
    assert!(child.wait().unwrap().success(), "{seen:#?}");
    let wanted = [
        "open 1 False",
        "taken ALREADY_EXISTS: account_id 1 is not free",
        "empty INVALID_ARGUMENT: user_id is missing",
        "batch [(True, '', 0, ''), (False, 'INSUFFICIENT_AVAILABLE', 0, ''), (True, '', 0, ''), (False, '', 3, 'amount')]",
        "watched [('a', True, '5'), ('b', False, '5'), ('c', True, '3')]",
        "resumed ['b', 'c']",
        "found OUTCOME_SUCCESS 3 2",
        "lost NOT_FOUND: transaction_id \"a\" of this user is not known",
        "pages ['a', 'b'] ['c'] True",
        "serving 1",
        "nobody NOT_FOUND",
        "watching 1",
        "watched on 2",
        "services ['balance.BalanceService', 'grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection']",
        "file balance.proto 8",
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn a_node_client_of_the_prototype_works_with_a_signature_alone() {
    let modules = root().join("target/tools/node/node_modules");
    let node = Command::new("node").arg("--version").output();
    if !modules.join("@grpc/grpc-js").is_dir() || !node.is_ok_and(|node| node.status.success()) {
        println!(
            "SKIPPED a_node_client_of_the_prototype_works_with_a_signature_alone: no Node.js with grpc-js"
        );
        return;
    }
    let door = door(true);
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).args([
        &file("tests/clients/prototype.js"),
        &door.grpc.address().to_string(),
        &file("tests/data/prototype.proto"),
        SECRET,
    ]);
    let wanted = [
        "health true OK",
        "deposit true js-1 true",
        "again false true",
        "unsigned UNAUTHENTICATED",
        "balance true 0.000000000000000001 1",
    ];
    assert_eq!(lines(&mut command), wanted);
}

/// What curl is answered: the body, then status, content type and Retry-After.
fn curl(door: &Door, args: &[&str]) -> Option<(String, String)> {
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "--max-time",
        "30",
        "-w",
        "\n%{http_code} %{content_type}",
    ]);
    let output = command.args(args).output().ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors} {}", door.rest.address());
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    Some((status.to_owned(), body.to_owned()))
}

#[test]
fn curl_changes_and_reads() {
    let door = door(true);
    let url = |path: &str| format!("http://{}{path}", door.rest.address());
    let Some((status, body)) = curl(&door, &[&url("/health")]) else {
        println!("SKIPPED curl_changes_and_reads: no curl");
        return;
    };
    assert_eq!(status, "200 application/json");
    assert!(body.contains(r#""healthy":true"#), "{body}");
    let body = r#"{"transaction_id":"c-1","account_id":42,"user_id":"u-42","currency_code":"USDT","type":0,"amount":"2.5","wait":true}"#;
    let now = SystemClock::new().wall_ms();
    let headers = |body: &str, time: i64| {
        [
            "x-key-id: 1".to_owned(),
            format!("x-timestamp: {time}"),
            format!("x-signature: {}", sign(&key(), time, body.as_bytes())),
        ]
    };
    let post_as = |kind: &str, path: &str, body: &str, headers: &[String], more: &[&str]| {
        let (url, kind) = (url(path), format!("content-type: {kind}"));
        let mut args = vec!["-H", &kind, "--data-binary", body];
        for header in headers {
            args.extend(["-H", header]);
        }
        args.extend(more);
        args.push(&url);
        curl(&door, &args).unwrap()
    };
    let post = |path: &str, body: &str, headers: &[String], more: &[&str]| {
        post_as("application/json", path, body, headers, more)
    };
    let change = "/api/v1/balance/change";
    let (status, answer) = post(change, body, &headers(body, now), &[]);
    assert_eq!(status, "200 application/json", "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["balances"][0]["available_after"], "2.5");
    // By HTTP/2 as well, a second time.
    let again = body.replace(",\"wait\":true", "");
    let more = ["--http2-prior-knowledge"];
    let (status, answer) = post(change, &again, &headers(&again, now), &more);
    assert_eq!(status, "409 application/json", "{answer}");
    assert!(answer.contains(r#""outcome":"SUCCESS""#), "{answer}");
    let old = now - 300_100;
    let upper = headers(body, now)
        .into_iter()
        .map(|header| match header.split_once(": ") {
            Some(("x-signature", value)) => format!("x-signature: {}", value.to_uppercase()),
            _ => header,
        });
    let upper: Vec<String> = upper.collect();
    let twice = [headers(body, now).to_vec(), vec!["x-key-id: 1".into()]].concat();
    for bad in [
        &[][..],
        &headers(body, old),
        &headers("{}", now),
        &upper,
        &twice,
    ] {
        let (status, answer) = post(change, body, bad, &[]);
        assert_eq!(status, "401 application/json", "{answer}");
    }
    let gzip = ["-H", "content-encoding: gzip"];
    assert_eq!(
        post(change, body, &headers(body, now), &gzip).0,
        "415 application/json"
    );
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        // Without a value curl leaves the header out.
        let (status, answer) = post_as(kind, change, body, &headers(body, now), &[]);
        assert_eq!(status, "415 application/json", "{kind}: {answer}");
    }
    let twice = ["-H", "content-type: application/json"];
    assert_eq!(
        post(change, body, &headers(body, now), &twice).0,
        "400 application/json"
    );
    assert_eq!(door.twin.events(), 1);
    for (path, wanted) in [
        ("/api/v1/balance/42/USDT", "200"),
        ("/api/v1/balance/42/BTC", "404"),
        ("/api/v1/transactions/u-42/c-1", "200"),
        ("/api/v1/transactions/u-42/c-2", "404"),
        ("/api/v1/ledger/42?page_size=1", "200"),
        ("/openapi.json", "200"),
        ("/nothing", "404"),
    ] {
        let (status, body) = curl(&door, &[&url(path)]).unwrap();
        assert_eq!(status, format!("{wanted} application/json"), "{body}");
    }
    assert_eq!(
        curl(&door, &["-X", "DELETE", &url(change)]).unwrap().0,
        "405 application/json"
    );
    assert_eq!(
        curl(&door, &["-I", &url("/health")]).unwrap().0,
        "200 application/json"
    );
    let big = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(big.path(), vec![b' '; 10 << 20]).unwrap();
    let data = format!("@{}", big.path().display());
    let json = "content-type: application/json";
    let args = [
        "-H",
        json,
        "-H",
        "expect:",
        "--data-binary",
        &data,
        &url(change),
    ];
    let (status, _) = curl(&door, &args).unwrap();
    assert!(status.starts_with("413"), "{status}");
}

/// A curl that is killed when the test is done with it.
struct Curl(Child);

impl Curl {
    /// `None` after saying that there is none.
    fn start(test: &str, args: &[&str]) -> Option<Self> {
        let mut command = Command::new("curl");
        let command = command.args(["-sSN", "--max-time", "100"]).args(args);
        match command.stdout(Stdio::piped()).spawn() {
            Ok(child) => Some(Self(child)),
            Err(_) => {
                println!("SKIPPED {test}: no curl");
                None
            }
        }
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

const CHANGE: &str = r#"{"transaction_id":"w-1","account_id":42,"user_id":"u-42","currency_code":"USDT","type":0,"amount":"2.5","wait":true}"#;

#[test]
fn whoever_goes_leaves_no_waiter_behind() {
    let test = "whoever_goes_leaves_no_waiter_behind";
    let mut settings = Twin::settings(Signing::Off);
    settings.request_timeout = Duration::from_secs(3600);
    let door = open(settings);
    door.twin.trouble(Trouble::Slow);
    let url = format!("http://{}/api/v1/balance/change", door.rest.address());
    let json = "content-type: application/json";
    // Over HTTP/1.1 somebody who ends his side may still read, and is waited for.
    let version = "--http2-prior-knowledge";
    let args = [version, "-H", json, "--data-binary", CHANGE, &url];
    let Some(curl) = Curl::start(test, &args) else {
        return;
    };
    wait_for("a waiter", || door.twin.waiters.count() == 1);
    drop(curl);
    // Nobody looks at deadlines here, and the call has an hour: it is the going that ends it.
    wait_for("nobody", || door.twin.waiters.count() == 0);
    assert_eq!(door.twin.events(), 1);
}

#[test]
fn a_stream_outlives_the_time_of_a_request() {
    let test = "a_stream_outlives_the_time_of_a_request";
    let mut settings = Twin::settings(Signing::Off);
    settings.request_timeout = Duration::from_millis(200);
    let door = open(settings);
    let url = |path: &str| format!("http://{}{path}", door.rest.address());
    for (number, version) in ["--http1.1", "--http2-prior-knowledge"]
        .into_iter()
        .enumerate()
    {
        let args = [version, &url("/api/v1/results?user_id=u-42")];
        let Some(mut watching) = Curl::start(test, &args) else {
            return;
        };
        let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
        wait_for("a watcher", || door.twin.watchers() == 1);
        // A request that came later than the stream has used up its time.
        door.twin.trouble(Trouble::Slow);
        let json = "content-type: application/json";
        let body = CHANGE.replace("w-1", &format!("w-{number}"));
        let args = [
            "-H",
            json,
            "--data-binary",
            &body,
            &url("/api/v1/balance/change"),
        ];
        let (status, answer) = curl(&door, &args).unwrap();
        assert_eq!(status, "504 application/json", "{answer}");
        door.twin.trouble(Trouble::None);
        door.twin.catch_up();
        let line = lines.next().expect("a result").unwrap();
        assert!(line.contains(&format!("w-{number}")), "{line}");
        drop(watching);
        wait_for(version, || door.twin.watchers() == 0);
    }
}
