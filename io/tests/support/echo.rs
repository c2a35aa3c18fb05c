//! A server that answers with what it was asked, for tests of connections.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kilter_io::net::{
    Limits, Reply, Request, Response, Server, Service, Stream, TlsSettings,
    grpc::{Call, Calls, Code, Grpc, Kind, Messages, Respond, Status},
};

/// How long anything is worked on at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the services do.
#[derive(Default)]
pub struct Seen {
    /// Threads that work for somebody.
    working: AtomicUsize,
    /// Bytes that were taken off them for slow readers.
    pushed: AtomicUsize,
}

impl Seen {
    pub fn working(&self) -> usize {
        self.working.load(Ordering::SeqCst)
    }

    pub fn pushed(&self) -> usize {
        self.pushed.load(Ordering::SeqCst)
    }

    fn work(self: &Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        let seen = Arc::clone(self);
        seen.working.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            work(&seen);
            seen.working.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn until(done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn stream(reply: Reply) -> Stream {
    reply.stream(Response {
        status: 200,
        ..Response::default()
    })
}

/// Whether a piece went before the reader did.
fn push(seen: &Seen, stream: &Stream, mut bytes: Vec<u8>) -> bool {
    let length = bytes.len();
    while let Err(back) = stream.push(bytes) {
        bytes = back;
        if stream.is_cancelled() {
            return false;
        }
        stream.wait_room(Instant::now() + Duration::from_secs(1));
    }
    seen.pushed.fetch_add(length, Ordering::SeqCst);
    !stream.is_cancelled()
}

/// Answers what is no call: `/` with the body, `/slow` never, `/later` from another thread, `/soon` a
/// little later,/// `/pieces` piece by piece, `/forever` without end, `/broken` without an end that it should have,
/// `/large` with a lot, `/expired` too late, `/begun` with an end that comes when time is up.
fn http(seen: &Arc<Seen>, request: Request, reply: Reply) {
    let soon = Instant::now() + Duration::from_millis(50);
    let otherwise = || Response::text(504, "too late");
    match request.path.as_str() {
        // Held until nobody waits for it.
        "/slow" => seen.work(move |_| until(|| reply.is_cancelled())),
        // Not before whatever was sent at once with the request has come.
        "/soon" => seen.work(move |_| {
            until(|| Instant::now() > soon);
            reply.send(Response::text(200, "soon enough"));
        }),
        "/later" => seen.work(|_| reply.send(Response::text(200, "later"))),
        "/pieces" => {
            let stream = stream(reply);
            seen.work(move |seen| {
                for piece in 0..100 {
                    let bytes = format!("{piece:04}").repeat(1000).into_bytes();
                    if !push(seen, &stream, bytes) {
                        return;
                    }
                }
                stream.finish(Vec::new());
            });
        }
        "/forever" => {
            let stream = stream(reply);
            seen.work(move |seen| while push(seen, &stream, vec![b'x'; 8 << 10]) {});
        }
        "/quiet" => {
            let stream = stream(reply);
            seen.work(move |_| until(|| stream.is_cancelled()));
        }
        "/broken" => {
            let stream = stream(reply);
            push(seen, &stream, b"some".to_vec());
        }
        "/begun" => {
            reply.expire(soon, otherwise);
            let stream = stream(reply);
            seen.work(move |seen| {
                push(seen, &stream, b"begun, ".to_vec());
                until(|| Instant::now() > soon + Duration::from_millis(100));
                push(seen, &stream, b"ended".to_vec());
                stream.finish(Vec::new());
            });
        }
        "/expired" => {
            reply.expire(soon, otherwise);
            seen.work(move |_| until(|| reply.is_cancelled()));
        }
        "/large" => reply.send(Response::text(200, "x".repeat(3 << 20))),
        "/none" => drop(reply),
        "/panic" => panic!("as it was asked"),
        "/" if request.body.is_empty() => reply.send(Response::text(200, "hello")),
        _ => {
            let length = request.body.len();
            let query = request.query.unwrap_or_default();
            let certificate = request.certificate.map_or(0, |der| der.len());
            reply.send(
                Response::of(200, "application/octet-stream", request.body)
                    .with("x-method", request.method)
                    .with("x-query", query)
                    .with("x-certificate", certificate.to_string())
                    .with("x-length", length.to_string()),
            );
        }
    }
}

/// `/echo.Echo/Once`, `/echo.Echo/Many` (the message again and again), `/echo.Echo/Forever` (without
/// end), `/echo.Echo/Turns` (each message as it comes), `/echo.Echo/Never`, `/echo.Echo/Fail`.
struct Echo(Arc<Seen>);

impl Calls for Echo {
    fn kind(&self, path: &str) -> Option<Kind> {
        match path {
            "/echo.Echo/Once" | "/echo.Echo/Never" | "/echo.Echo/Fail" => Some(Kind::Unary),
            "/echo.Echo/Many" | "/echo.Echo/Forever" => Some(Kind::Streaming),
            "/echo.Echo/Turns" => Some(Kind::Dialogue),
            _ => None,
        }
    }

    fn unary(&self, call: Call, respond: Respond) {
        match call.path.as_str() {
            "/echo.Echo/Never" => self.0.work(move |_| until(|| respond.is_cancelled())),
            "/echo.Echo/Fail" => {
                let status = Status::new(Code::NotFound, "nothing: 100 %, \"é\"");
                respond.send(Err(status.with("x-why", "so")));
            }
            _ => respond.send(Ok(call.message)),
        }
    }

    fn streaming(&self, call: Call, messages: Messages) {
        let count = match call.path.as_str() {
            "/echo.Echo/Many" => 1000,
            _ => usize::MAX,
        };
        self.0.work(move |seen| {
            for _ in 0..count {
                while !messages.push(&call.message) {
                    if messages.is_cancelled() {
                        return;
                    }
                    messages.wait_room(Instant::now() + Duration::from_secs(1));
                }
                seen.pushed.fetch_add(call.message.len(), Ordering::SeqCst);
            }
            messages.finish(Status::new(Code::Ok, ""));
        });
    }

    fn dialogue(&self, _call: &Call, message: &[u8]) -> Result<Vec<u8>, Status> {
        match message {
            b"bad" => Err(Status::new(Code::InvalidArgument, "bad")),
            message => Ok(message.to_vec()),
        }
    }
}

/// HTTP and gRPC on one port.
pub fn server(limits: Limits, tls: Option<TlsSettings>) -> Server {
    watched(limits, tls).0
}

/// The same, and what its services do.
pub fn watched(limits: Limits, tls: Option<TlsSettings>) -> (Server, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let own = Arc::clone(&seen);
    let other: Arc<dyn Service> = Arc::new(move |request, reply| http(&own, request, reply));
    let calls = Arc::new(Echo(Arc::clone(&seen)));
    let service = Grpc::new(calls, Some(other), Duration::from_secs(30));
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::start("echo", address, tls, limits, Arc::new(service)).unwrap();
    (server, seen)
}
