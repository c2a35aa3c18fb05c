//! Any bytes, and spoiled ones, against the protocols without sockets. Coverage-guided where a fuzzer
//! runs them, a bounded random run under `cargo test`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Counters, Headers, Limits, Listener, Reply, Request, Response, Service, Stream,
    bell::Bell,
    budget::Budget,
    h1::Http1,
    h2::{Http2, PREFACE},
    machine::{Context, Machine},
    reply::Mailbox,
};

const RUNS: usize = 5_000;

/// The most bytes of a run: fewer than a client may send before he has an answer.
const INPUT_MAX: usize = 512;

/// Answers everything with the same, and keeps what it was asked.
#[derive(Default)]
struct Keeper {
    asked: Mutex<Vec<String>>,
    turns: AtomicUsize,
}

struct Turns(Arc<Keeper>, Option<Stream>);

impl Listener for Turns {
    fn piece(&mut self, piece: &[u8]) {
        self.0.turns.fetch_add(piece.len(), Ordering::Relaxed);
        if let Some(stream) = &self.1 {
            // What has no room is only missed.
            let _ = stream.push(piece.to_vec());
        }
    }

    fn end(&mut self) {
        if let Some(stream) = self.1.take() {
            stream.finish(Vec::new());
        }
    }
}

/// A service needs no pointer to itself but for its listeners.
struct Shared(Arc<Keeper>);

impl Service for Shared {
    fn call(&self, request: Request, reply: Reply) {
        let Request {
            method,
            path,
            query,
            headers,
            body,
            ..
        } = request;
        self.0
            .asked
            .lock()
            .push(format!("{method} {path} {query:?} {headers:?} {body:?}"));
        reply.send(Response::text(200, "ok"));
    }

    fn opens(&self, target: &str, _headers: &Headers) -> bool {
        target == "/turns"
    }

    fn open(&self, _request: Request, reply: Reply) -> Box<dyn Listener> {
        self.0.asked.lock().push("turns".to_owned());
        let stream = reply.stream(Response {
            status: 200,
            ..Response::default()
        });
        Box::new(Turns(Arc::clone(&self.0), Some(stream)))
    }
}

/// A machine, and all it said.
struct Bench {
    machine: Box<dyn Machine>,
    context: Context,
    keeper: Arc<Keeper>,
    now: Instant,
    output: Vec<u8>,
    fault: Option<String>,
}

impl Bench {
    fn new(make: impl FnOnce(Context, Instant) -> Box<dyn Machine>) -> Self {
        let keeper = Arc::new(Keeper::default());
        let limits = Limits {
            header_max_bytes: 256,
            headers_max: 8,
            body_max_bytes: 64,
            streams_max: 8,
            resets_burst: 8,
            ..Limits::default()
        };
        let context = Context {
            budget: Budget::new(limits.coming_max_bytes),
            limits: Arc::new(limits),
            service: Arc::new(Shared(Arc::clone(&keeper))),
            mailbox: Mailbox::new(Bell::new().unwrap()),
            counters: Arc::<Counters>::default(),
            peer: "127.0.0.1:1".parse().unwrap(),
            certificate: None,
        };
        let now = Instant::now();
        Self {
            machine: make(context.clone(), now),
            context,
            keeper,
            now,
            output: Vec::new(),
            fault: None,
        }
    }

    fn http1() -> Self {
        Self::new(|context, now| Box::new(Http1::new(context, now)))
    }

    fn http2() -> Self {
        Self::new(|context, now| Box::new(Http2::new(context, now).unwrap()))
    }

    fn receive(&mut self, bytes: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.machine.receive(bytes, self.now).err();
            self.turn();
        }
    }

    /// What a connection's thread does between two reads.
    fn turn(&mut self) {
        let mut news = Vec::new();
        loop {
            self.context.mailbox.take(&mut news);
            if news.is_empty() {
                break;
            }
            for (stream, news) in news.drain(..) {
                self.machine.deliver(stream, news, self.now).unwrap();
            }
        }
        // A fault found by time is one, too.
        if let Err(why) = self.machine.tick(self.now) {
            self.fault.get_or_insert(why);
        }
        loop {
            let before = self.output.len();
            self.machine.fill(&mut self.output, before + 100).unwrap();
            assert!(self.output.len() < before + 100 + (20 << 10));
            if self.output.len() == before {
                break;
            }
        }
    }

    /// Time goes by, and then the client ends.
    fn end(&mut self) {
        for seconds in [16, 61, 121] {
            self.now += Duration::from_secs(seconds);
            self.turn();
        }
        self.machine.end_of_input(self.now);
        self.turn();
        self.machine.stop(self.now);
        self.now += Duration::from_secs(121);
        self.turn();
    }

    fn asked(&self) -> Vec<String> {
        self.keeper.asked.lock().clone()
    }
}

/// What requests were understood and what was answered, if they come in pieces of such lengths, again
/// and again.
fn http1(input: &[u8], lengths: &[usize]) -> (Vec<String>, String) {
    let mut bench = Bench::http1();
    let mut left = input;
    let mut lengths = lengths.iter().cycle();
    while !left.is_empty() {
        let length = (*lengths.next().unwrap()).clamp(1, left.len());
        let (piece, rest) = left.split_at(length);
        bench.receive(piece);
        left = rest;
    }
    assert_eq!(bench.fault, None);
    let asked = bench.asked();
    let refused = bench.context.counters.refused() as usize;
    let output = String::from_utf8(bench.output.clone()).unwrap();
    // One answer each, and at most one refusal, which is the last.
    assert!(refused <= 1, "{output}");
    assert_eq!(output.matches("HTTP/1.1 ").count(), asked.len() + refused);
    assert_eq!(output.matches("HTTP/1.1 200 OK").count(), asked.len());
    assert!(output.len() <= 200 * (asked.len() + refused));
    if refused == 1 {
        assert!(bench.machine.is_finished());
    }
    bench.end();
    assert!(bench.machine.is_finished());
    assert_eq!(bench.asked(), asked);
    (asked, output)
}

fn assert_split_does_not_matter(input: &[u8], lengths: &[usize]) {
    let input = &input[..input.len().min(INPUT_MAX)];
    let whole = http1(input, &[input.len()]);
    assert_eq!(http1(input, &[1]), whole);
    if !lengths.is_empty() {
        assert_eq!(http1(input, lengths), whole);
    }
}

const REQUESTS: &str = "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
    PUT http://x/ HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\na: b\r\n\r\n\
    GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\
    HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Pieces that mean something in HTTP/1.1.
const PIECES: [&str; 24] = [
    "",
    "\r\n",
    "\r",
    "\n",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ",",
    "0",
    "1",
    "f",
    "0\r\n\r\n",
    "Host: y\r\n",
    "Content-Length: 3\r\n",
    "Content-Length:3",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding : chunked\r\n",
    "Connection: close\r\n",
    "HTTP/1.1",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "http://",
    "\0",
    "\u{e9}",
];

#[test]
fn any_bytes_over_http1() {
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(Vec<u8>, Vec<u8>)>()
        .for_each(|(input, lengths)| {
            let lengths: Vec<usize> = lengths.iter().map(|length| usize::from(*length)).collect();
            assert_split_does_not_matter(input, &lengths);
        });
}

#[test]
fn spoiled_requests_over_http1() {
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(Vec<(u16, u8, u8)>, Vec<u8>)>()
        .for_each(|(edits, lengths)| {
            let mut input = REQUESTS.as_bytes().to_vec();
            for &(at, cut, piece) in edits.iter().take(6) {
                let at = usize::from(at) % (input.len() + 1);
                let cut = (usize::from(cut) % 4).min(input.len() - at);
                let piece = PIECES[usize::from(piece) % PIECES.len()];
                input.splice(at..at + cut, piece.bytes());
            }
            let lengths: Vec<usize> = lengths.iter().map(|length| usize::from(*length)).collect();
            assert_split_does_not_matter(&input, &lengths);
        });
}

#[test]
fn requests_that_are_right_are_understood_however_they_come() {
    let whole = http1(REQUESTS.as_bytes(), &[REQUESTS.len()]);
    assert_eq!(whole.0.len(), 4);
    for first in 1..REQUESTS.len() {
        assert_eq!(http1(REQUESTS.as_bytes(), &[first, REQUESTS.len()]), whole);
    }
    // Where a bound lies, too.
    for length in 120..140 {
        let line = "0".repeat(length);
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;{line}\r\nx\r\n0\r\n\r\n"
        );
        assert_split_does_not_matter(request.as_bytes(), &[7]);
    }
    for length in 200..240 {
        let value = "0".repeat(length);
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\na: {value}\r\n\r\n\0");
        assert_split_does_not_matter(request.as_bytes(), &[7]);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn head(flags: u8, stream: u32, method: &str, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
    ] {
        block.extend([0, name.len() as u8]);
        block.extend(name.bytes());
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    frame(1, flags, stream, &block)
}

/// A frame of the kind that a number chooses.
fn chosen(kind: u8, stream: u32) -> Vec<u8> {
    match kind % 16 {
        0 | 1 => head(5, stream, "GET", "/"),
        2 => head(4, stream, "POST", "/"),
        3 => head(4, stream, "POST", "/turns"),
        4 => head(1, stream, "HEAD", "/"),
        5 => frame(0, 0, stream, b"data"),
        6 => frame(0, 1, stream, b"end"),
        7 => frame(0, 8, stream, &[200; 100]),
        8 => frame(3, 0, stream, &[0, 0, 0, 8]),
        9 => frame(4, 0, 0, &[0, 4, 0, 0, 0, stream as u8]),
        10 => frame(6, 0, 0, b"pingpong"),
        11 => frame(8, 0, stream, &[0, 0, 1, 0]),
        12 => frame(8, 0, 0, &[0x7f, 0xff, 0, 0]),
        13 => frame(9, 4, stream, &[0x82]),
        14 => frame(7, 0, 0, &[0; 8]),
        _ => frame(stream as u8, kind, stream, &[kind; 70]),
    }
}

/// Takes what a server of HTTP/2 said apart, and looks for what it may not say.
fn check_http2(mut output: &[u8]) {
    let mut ended: BTreeMap<u32, bool> = BTreeMap::new();
    while !output.is_empty() {
        let length = u32::from_be_bytes([0, output[0], output[1], output[2]]) as usize;
        let (kind, flags) = (output[3], output[4]);
        let stream = u32::from_be_bytes(output[5..9].try_into().unwrap());
        output = &output[9 + length..];
        if kind <= 1 {
            let has_ended = ended.entry(stream).or_default();
            assert!(!*has_ended, "stream {stream} is answered twice");
            *has_ended = flags & 1 != 0;
        } else if kind == 3 {
            ended.insert(stream, true);
        }
    }
}

fn http2(input: &[u8]) {
    let mut bench = Bench::http2();
    for piece in input.chunks(100) {
        bench.receive(piece);
    }
    bench.end();
    check_http2(&bench.output);
    let most = 8192 + 32 * input.len();
    assert!(bench.output.len() < most, "{}", bench.output.len());
    assert!(bench.asked().len() * 9 <= input.len());
    assert!(bench.keeper.turns.load(Ordering::Relaxed) <= input.len());
    drop(bench.machine);
    assert_eq!(bench.context.budget.used(), 0);
}

#[test]
fn any_bytes_over_http2() {
    bolero::check!()
        .with_iterations(RUNS)
        .for_each(|input: &[u8]| http2(&[PREFACE, &frame(4, 0, 0, b""), input].concat()));
}

#[test]
fn spoiled_frames_over_http2() {
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<Vec<(u8, u8, u8, u8)>>()
        .for_each(|frames| {
            let mut input = [PREFACE, &frame(4, 0, 0, b"")].concat();
            let mut next = 1;
            for &(kind, stream, at, change) in frames.iter().take(64) {
                // Mostly streams that there are, and new ones in order.
                let is_head = kind % 16 < 5;
                let id = match stream % 8 {
                    0 => u32::from(stream),
                    _ if is_head => next,
                    back => (next + 1).saturating_sub(2 * u32::from(back)) | 1,
                };
                next = if is_head { next.max(id) + 2 } else { next };
                let mut bytes = chosen(kind, id);
                if at < 32 {
                    let at = usize::from(at) % bytes.len();
                    bytes[at] ^= change;
                }
                input.extend(bytes);
            }
            http2(&input);
        });
}

#[test]
fn requests_over_http2_are_each_answered() {
    let mut bench = Bench::http2();
    bench.receive(PREFACE);
    bench.receive(&frame(4, 0, 0, b""));
    for stream in (1..200).step_by(2) {
        bench.receive(&head(5, stream, "GET", "/"));
    }
    assert_eq!(bench.asked().len(), 100);
    check_http2(&bench.output);
}
