//! HTTP/1.1 over sockets.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/echo.rs"]
mod echo;
#[path = "support/raw.rs"]
mod raw;

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::{Arc, Mutex},
    time::Duration,
};

use kilter_io::net::{Limits, Reply, Request, Response, Server, Service};
use raw::{connect, eventually, exchange, read_until, rest};

#[test]
fn requests_sent_at_once_are_answered_in_turn() {
    let server = echo::server(Limits::default(), None);
    let answers = exchange(
        server.address(),
        b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n\
          POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
          POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
          GET http://y/absolute HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let bodies: Vec<&str> = answers
        .split("HTTP/1.1 200 OK\r\n")
        .skip(1)
        .map(|answer| answer.split_once("\r\n\r\n").unwrap().1)
        .collect();
    assert_eq!(bodies, ["later", "abc", "de", ""], "{answers}");
    assert!(answers.contains("x-query: b=c\r\n"), "{answers}");
    assert_eq!(answers.matches("connection: close").count(), 1);
    assert_eq!(server.counters().requests(), 4);
}

/// Answers nothing before it is told that nothing more comes for now.
#[derive(Default)]
struct Gathering(Mutex<Vec<Reply>>);

impl Service for Gathering {
    fn call(&self, _request: Request, reply: Reply) {
        self.0.lock().unwrap().push(reply);
    }

    fn settle(&self) {
        for reply in self.0.lock().unwrap().drain(..) {
            reply.send(Response::text(200, "settled"));
        }
    }
}

#[test]
fn a_service_is_told_when_to_go_on_whatever_a_request_waited_for() {
    let service = Arc::new(Gathering::default());
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::start("test", address, None, Limits::default(), service).unwrap();
    // The second and third are handed over when the one before is answered.
    let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let all = format!("{request}{request}{last}");
    let answers = exchange(server.address(), all.as_bytes());
    assert_eq!(answers.matches("settled").count(), 3, "{answers}");
}

#[test]
fn what_two_readers_could_understand_differently_is_refused_and_ends_the_connection() {
    let server = echo::server(Limits::default(), None);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}{hidden}")
    };
    for bytes in [
        post(
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        post(
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "0\r\n\r\n",
        ),
        post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"),
        post("Content-Length: 3, 3\r\n", "abc"),
        post("Content-Length: +3\r\n", "abc"),
        post(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        post("Content-Length : 3\r\n", "abc"),
        post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        post("a: b\r\n\tc\r\nContent-Length: 3\r\n", "abc"),
        post("a: b\nContent-Length: 3\r\n", "abc"),
        post("a: b\rContent-Length: 3\r\n", "abc"),
        post("Transfer-Encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "3 \r\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"),
        post("Host: y\r\n", ""),
    ] {
        let answer = exchange(server.address(), bytes.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{bytes:?}: {answer}"
        );
        assert!(answer.contains("connection: close"), "{bytes:?}: {answer}");
    }
    assert_eq!(server.counters().requests(), 0);
}

#[test]
fn a_streamed_answer_is_seen_to_be_whole_or_broken_off() {
    let server = echo::server(Limits::default(), None);
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        exchange(server.address(), request.as_bytes())
    };
    let whole = get("/pieces");
    assert!(whole.contains("\r\nfa0\r\n00000000"), "{}", whole.len());
    assert!(whole.ends_with("0099\r\n0\r\n\r\n"), "{}", whole.len());
    let broken = get("/broken");
    assert!(broken.ends_with("4\r\nsome\r\n"), "{broken}");
    // Time that is up does not cut what has begun.
    let begun = get("/begun");
    assert!(
        begun.ends_with("begun, \r\n5\r\nended\r\n0\r\n\r\n"),
        "{begun}"
    );
    assert!(get("/expired").starts_with("HTTP/1.1 504 "));
    assert!(get("/none").starts_with("HTTP/1.1 500 "));
}

#[test]
fn a_head_has_no_body_and_does_not_keep_whoever_would_make_it() {
    let (server, seen) = echo::watched(Limits::default(), None);
    let answers = exchange(
        server.address(),
        b"HEAD /large HTTP/1.1\r\nHost: x\r\n\r\n\
          HEAD /forever HTTP/1.1\r\nHost: x\r\n\r\n\
          GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let (head, rest) = answers.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 3145728"), "{head}");
    let (head, rest) = rest.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}");
    assert!(rest.ends_with("\r\n\r\nhello"), "{rest}");
    eventually("the stream ends", || seen.working() == 0);
}

#[test]
fn a_body_that_is_announced_is_asked_for() {
    let server = echo::server(Limits::default(), None);
    let mut socket = connect(server.address());
    socket
        .write_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        )
        .unwrap();
    let answer = read_until(&mut socket, "\r\n\r\n");
    assert_eq!(answer, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"ok").unwrap();
    assert!(read_until(&mut socket, "\r\n\r\nok").starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_reads_nothing_has_little_kept_for_him() {
    let (server, seen) = echo::watched(
        Limits {
            out_max_bytes: 64 << 10,
            stalled: Duration::from_secs(1),
            ..Limits::default()
        },
        None,
    );
    let mut socket = connect(server.address());
    socket
        .write_all(b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    read_until(&mut socket, "\r\n\r\n");
    // He is given up, and until then most of what was made for him lies in the system's buffers.
    eventually("the stream ends", || seen.working() == 0);
    assert!(seen.pushed() < 24 << 20, "{}", seen.pushed());
    eventually("the connection ends", || server.counters().open() == 0);
    assert_eq!(server.counters().broken(), 1);
}

#[test]
fn who_sends_his_last_byte_is_still_answered_unless_the_answer_has_no_end() {
    let (server, seen) = echo::watched(Limits::default(), None);
    for path in ["/quiet", "/forever"] {
        let mut socket = connect(server.address());
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        read_until(&mut socket, "\r\n\r\n");
        assert_eq!(seen.working(), 1);
        socket.shutdown(Shutdown::Write).unwrap();
        eventually("the stream ends", || seen.working() == 0);
    }
    // The last byte comes before the answer is there.
    let mut socket = connect(server.address());
    socket
        .write_all(&b"GET /soon HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2))
        .unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let answers = rest(&mut socket);
    assert_eq!(answers.matches("soon enough").count(), 2, "{answers}");
}

#[test]
fn who_is_gone_is_not_waited_for() {
    let (server, seen) = echo::watched(Limits::default(), None);
    let mut socket = connect(server.address());
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    eventually("the second request is asked", || seen.working() == 1);
    // With an answer unread, closing resets the connection.
    let mut byte = [0];
    assert_eq!(socket.peek(&mut byte).unwrap(), 1);
    drop(socket);
    eventually("the connection ends", || server.counters().open() == 0);
    eventually("the service hears of it", || seen.working() == 0);
}

#[test]
fn a_fault_of_a_service_ends_one_connection() {
    let server = echo::server(Limits::default(), None);
    let mut socket = connect(server.address());
    socket
        .write_all(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut nothing = Vec::new();
    // Closed or reset, as it happens.
    let _ = socket.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    eventually("the connection is forgotten", || {
        server.counters().open() == 0
    });
    let answer = exchange(
        server.address(),
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.ends_with("hello"));
}
