//! What a client may not take: connections, memory, time.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/echo.rs"]
mod echo;
#[path = "support/raw.rs"]
mod raw;

use std::{io::Write, net::TcpStream, time::Duration};

use kilter_io::net::Limits;
use raw::{Client, DATA, GRPC, connect, eventually, exchange, frame, head, read_until, rest};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn works(socket: &mut TcpStream) {
    socket.write_all(GET).unwrap();
    read_until(socket, "hello");
}

#[test]
fn one_connection_too_many_is_turned_away_whoever_makes_it() {
    let all = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let of_one = Limits {
        connections_per_peer_max: 2,
        ..Limits::default()
    };
    for limits in [all, of_one] {
        let server = echo::server(limits, None);
        let mut first = connect(server.address());
        let mut second = connect(server.address());
        works(&mut first);
        works(&mut second);
        let refused = rest(&mut connect(server.address()));
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(refused.contains("retry-after: 1"), "{refused}");
        assert_eq!(server.counters().turned_away(), 1);
        drop(first);
        eventually("one has ended", || server.counters().open() == 1);
        // It may take another look until its thread is seen to have ended.
        eventually("there is room again", || {
            let mut socket = connect(server.address());
            socket.write_all(GET).unwrap();
            read_until(&mut socket, "\r\n\r\n").starts_with("HTTP/1.1 200 ")
        });
        works(&mut second);
    }
}

#[test]
fn heads_and_bodies_have_a_size() {
    let limits = Limits {
        header_max_bytes: 500,
        headers_max: 5,
        body_max_bytes: 100,
        ..Limits::default()
    };
    let server = echo::server(limits, None);
    let status = |request: String| {
        let answer = exchange(server.address(), request.as_bytes());
        assert!(answer.contains("connection: close"), "{answer}");
        answer[9..12].to_owned()
    };
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    assert_eq!(status(get(&format!("a: {}\r\n", "b".repeat(500)))), "431");
    assert_eq!(status(get(&"a: b\r\n".repeat(5))), "431");
    assert_eq!(status(format!("GET /{}", "a".repeat(600))), "431");
    assert_eq!(status(post("Content-Length: 101\r\n")), "413");
    assert_eq!(
        status(post("Content-Length: 99999999999999999999\r\n")),
        "413"
    );
    let chunked = post("Transfer-Encoding: chunked\r\n");
    assert_eq!(
        status(format!("{chunked}40\r\n{}\r\n25\r\n", "x".repeat(64))),
        "413"
    );
    assert_eq!(server.counters().requests(), 0);
}

#[test]
fn requests_that_drip_in_are_not_waited_for() {
    let limits = Limits {
        request: Duration::from_millis(400),
        handshake: Duration::from_millis(400),
        idle: Duration::from_secs(2),
        ..Limits::default()
    };
    let server = echo::server(limits, None);
    // A byte now and then does not make more time.
    let drip = |socket: &mut TcpStream, byte: &[u8]| {
        let mut own = socket.try_clone().unwrap();
        let byte = byte.to_vec();
        std::thread::spawn(move || {
            while own.write_all(&byte).is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    };
    for start in [
        &b"GET / HTTP/1.1\r\nHost: x\r\na: "[..],
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n",
    ] {
        let mut socket = connect(server.address());
        socket.write_all(start).unwrap();
        drip(&mut socket, b"x");
        let answer = rest(&mut socket);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    }
    let mut client = Client::new(server.address());
    client.send(&head(1, "POST", "/", &[], false));
    drip(&mut client.socket, &frame(DATA, 0, 1, b"x"));
    assert_eq!(client.answer(1).reset, Some(8));
    drop(client);
    // Nothing at all, and the beginning of what could be HTTP/2.
    for start in [&b""[..], b"PRI * HT"] {
        let mut socket = connect(server.address());
        socket.write_all(start).unwrap();
        assert_eq!(rest(&mut socket), "");
    }
    eventually("all have ended", || server.counters().open() == 0);
}

#[test]
fn what_all_send_at_once_has_a_size() {
    let limits = Limits {
        coming_max_bytes: 256 << 10,
        ..Limits::default()
    };
    let server = echo::server(limits, None);
    // Each takes 64 KiB of its own, and the first almost all of what is shared.
    let mut first = connect(server.address());
    let length = 300 << 10;
    let start = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    first.write_all(start.as_bytes()).unwrap();
    first.write_all(&vec![b'x'; length - 1]).unwrap();
    eventually("the first one has almost all", || {
        server.coming_bytes() >= length - 1 - (64 << 10)
    });
    let much = format!("{start}{}", "x".repeat(200 << 10));
    eventually("there is no room for others", || {
        let mut socket = connect(server.address());
        // It may be refused before it has sent all.
        let _ = socket.write_all(much.as_bytes());
        let _ = socket.shutdown(std::net::Shutdown::Write);
        rest(&mut socket).starts_with("HTTP/1.1 503 ")
    });
    let mut client = Client::new(server.address());
    let body = vec![b'x'; 16 << 10];
    client.send(&head(1, "POST", "/echo.Echo/Once", &[GRPC], false));
    client.send(&head(3, "POST", "/", &[], false));
    for stream in [1, 3].repeat(7) {
        client.send(&frame(DATA, 0, stream, &body));
    }
    let refused = [client.answer(1), client.answer(3)];
    assert!(
        refused[0].grpc().0 == "8" || refused[1].status() == "503",
        "{refused:?}"
    );
    // Who sends little is served all the while.
    works(&mut connect(server.address()));
    first.write_all(b"x").unwrap();
    assert!(read_until(&mut first, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
    drop((first, client));
    eventually("there is room again", || {
        let mut socket = connect(server.address());
        let _ = socket.write_all(start.as_bytes());
        let _ = socket.write_all(&vec![b'x'; length]);
        read_until(&mut socket, "\r\n\r\n").starts_with("HTTP/1.1 200 ")
    });
}

#[test]
fn one_http2_connection_has_a_share() {
    let limits = Limits {
        bodies_max_bytes: 100 << 10,
        ..Limits::default()
    };
    let server = echo::server(limits, None);
    let mut client = Client::new(server.address());
    let body = vec![b'x'; 16 << 10];
    client.send(&head(1, "POST", "/echo.Echo/Once", &[GRPC], false));
    client.send(&head(3, "POST", "/", &[], false));
    for _ in 0..3 {
        client.send(&frame(DATA, 0, 1, &body));
    }
    for _ in 0..4 {
        client.send(&frame(DATA, 0, 3, &body));
    }
    assert_eq!(client.answer(3).status(), "503");
    for _ in 0..4 {
        client.send(&frame(DATA, 0, 1, &body));
    }
    assert_eq!(
        client.answer(1).grpc(),
        ("8", "too much is being sent at once")
    );
}
