//! HTTP/2 and gRPC over sockets, frame by frame.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/echo.rs"]
mod echo;
#[path = "support/raw.rs"]
mod raw;

use std::time::Duration;

use kilter_io::net::Limits;
use raw::{
    ACK, Client, DATA, END_STREAM, GOAWAY, GRPC, HEADERS, PING, RST_STREAM, call, eventually,
    frame, head, message,
};

const INITIAL_WINDOW_SIZE: u16 = 4;

/// RFC 9113's codes.
const PROTOCOL_ERROR: u32 = 1;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn calls_end_with_a_status_and_one_message_or_many() {
    let server = echo::server(Limits::default(), None);
    let mut client = Client::with(server.address(), &[(INITIAL_WINDOW_SIZE, 1 << 20)]);
    client.send(&call(1, "/echo.Echo/Once", &[], b"hello"));
    let answer = client.answer(1);
    assert_eq!((answer.body, answer.frames), (message(b"hello"), 1));
    assert_eq!(answer.fields.last().unwrap().0, "grpc-status");
    client.send(&call(3, "/echo.Echo/Fail", &[], b""));
    let answer = client.answer(3);
    assert_eq!(answer.grpc(), ("5", "nothing: 100 %25, \"%C3%A9\""));
    assert_eq!(answer.field("x-why"), Some("so"));
    client.send(&call(5, "/echo.Echo/Many", &[], b"ab"));
    let answer = client.answer(5);
    assert_eq!(answer.grpc().0, "0");
    assert_eq!(answer.body, message(b"ab").repeat(1000));
    client.send(&call(7, "/echo.Echo/Nothing", &[], b""));
    assert_eq!(client.answer(7).grpc().0, "12");
    client.send(&call(9, "/echo.Echo/Once", &[("grpc-timeout", "1x")], b""));
    assert_eq!(client.answer(9).grpc().0, "3");
    client.send(&head(11, "POST", "/echo.Echo/Once", &[GRPC], true));
    assert_eq!(client.answer(11).grpc().0, "13");
}

#[test]
fn a_dialogue_is_answered_message_by_message() {
    let server = echo::server(Limits::default(), None);
    let mut client = Client::new(server.address());
    let begin = |client: &mut Client, stream| {
        client.send(&head(stream, "POST", "/echo.Echo/Turns", &[GRPC], false));
    };
    begin(&mut client, 1);
    for text in [&b"one"[..], b"", b"three"] {
        // In two pieces, and the stream stays open.
        let bytes = message(text);
        client.send(&frame(DATA, 0, 1, &bytes[..3]));
        client.send(&frame(DATA, 0, 1, &bytes[3..]));
        let found = client.find(|frame| frame.kind == DATA && frame.stream == 1);
        assert_eq!((found.payload, found.flags), (bytes, 0));
    }
    let two = [message(b"four"), message(b"five")].concat();
    client.send(&frame(DATA, END_STREAM, 1, &two));
    let answer = client.answer(1);
    assert_eq!((answer.grpc(), answer.body.clone()), (("0", ""), two));
    // Begun with all there is, or with nothing at all.
    client.send(&call(3, "/echo.Echo/Turns", &[], b"all"));
    assert_eq!(client.answer(3).body, message(b"all"));
    client.send(&head(5, "POST", "/echo.Echo/Turns", &[GRPC], true));
    assert_eq!(client.answer(5).grpc(), ("0", ""));
    for (stream, bytes, status) in [
        (7, message(b"bad"), "3"),
        (9, vec![0, 0, 1, 0, 1], "8"),
        (11, vec![1, 0, 0, 0, 0], "12"),
        (13, vec![7, 0, 0, 0, 0], "13"),
    ] {
        begin(&mut client, stream);
        client.send(&frame(DATA, 0, stream, &bytes));
        assert_eq!(client.answer(stream).grpc().0, status, "{bytes:?}");
    }
    begin(&mut client, 15);
    client.send(&frame(DATA, END_STREAM, 15, b"\0\0"));
    assert_eq!(client.answer(15).grpc().0, "13");
    client.send(&head(
        17,
        "POST",
        "/echo.Echo/Turns",
        &[GRPC, ("grpc-timeout", "50m")],
        false,
    ));
    assert_eq!(client.answer(17).grpc().0, "4");
}

#[test]
fn who_asks_and_does_not_listen_is_stopped() {
    let server = echo::server(Limits::default(), None);
    let mut client = Client::with(server.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    client.send(&head(1, "POST", "/echo.Echo/Turns", &[GRPC], false));
    client.find(|frame| frame.kind == HEADERS && frame.stream == 1);
    let bytes = message(&[b'x'; 10_000]);
    for _ in 0..40 {
        client.send(&frame(DATA, 0, 1, &bytes));
    }
    client.open(1, 1 << 20);
    let answer = client.answer(1);
    assert_eq!(answer.grpc().0, "8", "{:?}", answer.fields);
    assert!(answer.body.len() < 300 << 10, "{}", answer.body.len());
}

#[test]
fn a_head_has_no_data() {
    let (server, seen) = echo::watched(Limits::default(), None);
    let mut client = Client::new(server.address());
    client.send(&head(1, "HEAD", "/large", &[], true));
    let answer = client.answer(1);
    assert_eq!((answer.status(), answer.frames), ("200", 0));
    assert_eq!(answer.field("content-length"), Some("3145728"));
    client.send(&head(3, "HEAD", "/forever", &[], true));
    assert_eq!(client.answer(3).frames, 0);
    eventually("the stream ends", || seen.working() == 0);
}

#[test]
fn what_is_too_large_is_refused_in_the_callers_language() {
    let limits = Limits {
        body_max_bytes: 1000,
        header_max_bytes: 2000,
        ..Limits::default()
    };
    let server = echo::server(limits, None);
    let mut client = Client::new(server.address());
    let long = "x".repeat(2000);
    client.send(&call(1, "/echo.Echo/Once", &[], &[b'x'; 1000]));
    assert_eq!(client.answer(1).grpc(), ("8", "the body is too large"));
    client.send(&call(3, "/echo.Echo/Once", &[("a", &long)], b""));
    let answer = client.answer(3);
    assert_eq!(answer.status(), "200");
    assert_eq!(answer.grpc(), ("8", "the header fields are too large"));
    // Also when the type comes behind what is too large.
    client.send(&head(
        5,
        "POST",
        "/echo.Echo/Once",
        &[("a", &long), GRPC],
        true,
    ));
    assert_eq!(client.answer(5).grpc().0, "8");
    client.send(&head(7, "GET", "/", &[("a", &long)], true));
    assert_eq!(client.answer(7).status(), "431");
    client.send(&head(9, "POST", "/", &[], false));
    client.send(&frame(DATA, 0, 9, &[b'x'; 1001]));
    assert_eq!(client.answer(9).status(), "413");
    client.send(&call(11, "/echo.Echo/Once", &[], b"fine"));
    assert_eq!(client.answer(11).grpc().0, "0");
    assert_eq!(server.counters().refused(), 5);
}

#[test]
fn deadlines_and_cancellations_reach_the_service() {
    let (server, seen) = echo::watched(Limits::default(), None);
    let mut client = Client::with(server.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    let soon = [("grpc-timeout", "50m")];
    client.send(&call(1, "/echo.Echo/Never", &soon, b""));
    assert_eq!(
        client.answer(1).grpc(),
        ("4", "no answer before the deadline")
    );
    eventually("the call ends", || seen.working() == 0);
    client.send(&call(3, "/echo.Echo/Never", &[], b""));
    eventually("the call begins", || seen.working() == 1);
    client.send(&frame(RST_STREAM, 0, 3, &CANCEL.to_be_bytes()));
    eventually("the call ends", || seen.working() == 0);
    // A stream that has begun ends at the caller's deadline, too.
    client.open(3, 1 << 20);
    client.send(&call(5, "/echo.Echo/Forever", &soon, &[b'x'; 10_000]));
    client.find(|frame| frame.kind == HEADERS && frame.stream == 5);
    client.send(&frame(
        raw::WINDOW_UPDATE,
        0,
        5,
        &(1_u32 << 20).to_be_bytes(),
    ));
    client.find(|frame| frame.kind == DATA && frame.stream == 5);
    eventually("the stream ends", || seen.working() == 0);
    client.send(&head(7, "GET", "/expired", &[], true));
    client.find(|frame| frame.kind == HEADERS && frame.stream == 7);
    client.send(&call(9, "/echo.Echo/Never", &[], b""));
    eventually("the call begins", || seen.working() == 1);
    drop(client);
    eventually("the call ends", || seen.working() == 0);
}

#[test]
fn time_that_is_up_does_not_cut_what_has_begun() {
    let server = echo::server(Limits::default(), None);
    let mut client = Client::new(server.address());
    client.send(&head(1, "GET", "/begun", &[], true));
    let answer = client.answer(1);
    assert_eq!(
        (answer.text().as_str(), answer.reset),
        ("begun, ended", None)
    );
    client.send(&head(3, "GET", "/expired", &[], true));
    assert_eq!(client.answer(3).status(), "504");
}

#[test]
fn a_stream_without_its_end_is_reset() {
    let server = echo::server(Limits::default(), None);
    let mut client = Client::new(server.address());
    client.send(&head(1, "GET", "/broken", &[], true));
    assert_eq!(client.answer(1).reset, Some(INTERNAL_ERROR));
}

#[test]
fn a_client_without_window_is_given_up() {
    let (server, seen) = echo::watched(
        Limits {
            stalled: Duration::from_millis(300),
            ..Limits::default()
        },
        None,
    );
    let mut client = Client::with(server.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    client.send(&head(1, "GET", "/", &[], true));
    client.send(&call(3, "/echo.Echo/Forever", &[], b"x"));
    // Nothing to say is no fault.
    client.send(&head(5, "GET", "/quiet", &[], true));
    assert_eq!(client.answer(1).reset, Some(CANCEL));
    assert_eq!(client.answer(3).reset, Some(CANCEL));
    eventually("the stream ends", || seen.working() == 1);
    client.send(&head(7, "HEAD", "/", &[], true));
    assert_eq!(client.answer(7).status(), "200");
    assert_eq!(seen.working(), 1);
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
    let mut client = Client::with(server.address(), &[(INITIAL_WINDOW_SIZE, 1 << 30)]);
    client.send(&frame(
        raw::WINDOW_UPDATE,
        0,
        0,
        &(1_u32 << 30).to_be_bytes(),
    ));
    client.send(&head(1, "GET", "/forever", &[], true));
    eventually("the stream begins", || seen.pushed() > 0);
    eventually("the stream ends", || seen.working() == 0);
    assert!(seen.pushed() < 24 << 20, "{}", seen.pushed());
    eventually("the connection ends", || server.counters().open() == 0);
}

#[test]
fn who_sends_his_last_byte_gets_what_needs_nothing_of_him() {
    let (server, seen) = echo::watched(Limits::default(), None);
    let mut client = Client::new(server.address());
    client.send(&head(1, "GET", "/quiet", &[], true));
    client.find(|frame| frame.kind == HEADERS);
    client.send(&head(3, "GET", "/later", &[], true));
    client.send(&head(5, "POST", "/", &[], false));
    client.finish();
    assert_eq!(client.answer(3).text(), "later");
    assert_eq!(client.answer(1).reset, Some(CANCEL));
    client.end();
    eventually("the stream ends", || seen.working() == 0);
    eventually("the connection ends", || server.counters().open() == 0);
}

#[test]
fn a_silent_client_is_asked_and_a_dead_one_given_up() {
    let limits = Limits {
        idle: Duration::from_millis(200),
        ping: Duration::from_millis(200),
        ..Limits::default()
    };
    let (server, seen) = echo::watched(limits, None);
    let mut alive = Client::new(server.address());
    let mut dead = Client::new(server.address());
    for client in [&mut alive, &mut dead] {
        client.send(&head(1, "GET", "/quiet", &[], true));
    }
    eventually("both are served", || seen.working() == 2);
    dead.is_dead = true;
    let dead = std::thread::spawn(move || while dead.next().is_some() {});
    for _ in 0..3 {
        alive.find(|frame| frame.kind == PING && frame.flags & ACK == 0);
    }
    dead.join().unwrap();
    eventually("one is given up", || seen.working() == 1);
    assert_eq!(server.counters().broken(), 1);
}

#[test]
fn a_client_that_only_resets_is_told_to_calm_down() {
    let limits = Limits {
        resets_burst: 20,
        resets_per_second: 1,
        ..Limits::default()
    };
    let (server, seen) = echo::watched(limits, None);
    let mut client = Client::new(server.address());
    for stream in (1..2000).step_by(2) {
        let mut bytes = head(stream, "GET", "/slow", &[], true);
        bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        use std::io::Write;
        if client.socket.write_all(&bytes).is_err() {
            break;
        }
    }
    assert_eq!(client.end(), Some(ENHANCE_YOUR_CALM));
    assert!(server.counters().requests() <= 30);
    eventually("nothing is worked on", || seen.working() == 0);
}

#[test]
fn more_streams_than_agreed_are_refused() {
    let limits = Limits {
        streams_max: 2,
        ping: Duration::from_millis(300),
        ..Limits::default()
    };
    let (server, seen) = echo::watched(limits, None);
    let begin = |client: &mut Client| {
        for stream in [1, 3, 5] {
            client.send(&head(stream, "GET", "/slow", &[], true));
        }
    };
    // A client that may not have heard of the bound yet.
    let mut client = Client::new(server.address());
    client.is_dead = true;
    begin(&mut client);
    assert_eq!(client.answer(5).reset, Some(REFUSED_STREAM));
    eventually("two are worked on", || seen.working() == 2);
    drop(client);
    // One that has.
    let mut client = Client::new(server.address());
    client.find(|frame| frame.kind == raw::SETTINGS && frame.flags & ACK == 0);
    begin(&mut client);
    assert_eq!(client.end(), Some(PROTOCOL_ERROR));
    eventually("nothing is worked on", || seen.working() == 0);
}

#[test]
fn a_server_that_stops_says_so_twice_and_finishes_what_it_has() {
    let mut server = echo::server(Limits::default(), None);
    let mut client = Client::new(server.address());
    client.send(&head(1, "GET", "/begun", &[], true));
    client.find(|frame| frame.kind == HEADERS);
    let stopped = std::thread::spawn(move || server.stop(raw::PATIENCE));
    let first = client.find(|frame| frame.kind == GOAWAY);
    assert_eq!((first.number(0), first.number(4)), (i32::MAX as u32, 0));
    // Under way when the notice came: still taken.
    client.send(&head(3, "GET", "/later", &[], true));
    assert_eq!(client.answer(3).text(), "later");
    let second = client.find(|frame| frame.kind == GOAWAY);
    assert_eq!((second.number(0), second.number(4)), (3, 0));
    assert_eq!(client.answer(1).text(), "begun, ended");
    assert_eq!(client.end(), None);
    assert!(stopped.join().unwrap());
}
