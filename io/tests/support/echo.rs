//! A server that answers with what it was asked, for tests of connections.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_io::net::{
    Limits, Reply, Request, Response, Server, Service, TlsSettings,
    grpc::{Call, Calls, Code, Grpc, Kind, Messages, Respond, Status},
};

/// Answers what is no call: `/` with the body, `/slow` never, `/later` from another thread,
/// `/pieces` piece by piece, `/large` with a lot.
pub fn http(request: Request, reply: Reply) {
    match request.path.as_str() {
        "/slow" => {
            // Held until nobody waits for it.
            std::thread::spawn(move || {
                let until = Instant::now() + Duration::from_secs(60);
                while !reply.is_cancelled() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        "/later" => {
            std::thread::spawn(move || reply.send(Response::text(200, "later")));
        }
        "/pieces" => {
            let stream = reply.stream(Response {
                status: 200,
                ..Response::default()
            });
            std::thread::spawn(move || {
                for piece in 0..100 {
                    let mut bytes = format!("{piece:04}").repeat(1000).into_bytes();
                    while let Err(back) = stream.push(bytes) {
                        bytes = back;
                        if stream.is_cancelled() {
                            return;
                        }
                        stream.wait_room(Instant::now() + Duration::from_secs(1));
                    }
                }
                stream.finish(Vec::new());
            });
        }
        "/large" => reply.send(Response::text(200, "x".repeat(3 << 20))),
        "/none" => drop(reply),
        "/" if request.body.is_empty() => reply.send(Response::text(200, "hello")),
        _ => {
            let length = request.body.len();
            let query = request.query.unwrap_or_default();
            reply.send(
                Response::of(200, "application/octet-stream", request.body)
                    .with("x-method", request.method)
                    .with("x-query", query)
                    .with("x-length", length.to_string()),
            );
        }
    }
}

/// `/echo.Echo/Once`, `/echo.Echo/Many` (the message again and again), `/echo.Echo/Never`,
/// `/echo.Echo/Fail`.
pub struct Echo;

impl Calls for Echo {
    fn kind(&self, path: &str) -> Option<Kind> {
        match path {
            "/echo.Echo/Once" | "/echo.Echo/Never" | "/echo.Echo/Fail" => Some(Kind::Unary),
            "/echo.Echo/Many" => Some(Kind::Streaming),
            _ => None,
        }
    }

    fn unary(&self, call: Call, respond: Respond) {
        match call.path.as_str() {
            "/echo.Echo/Never" => {
                std::thread::spawn(move || {
                    let until = Instant::now() + Duration::from_secs(60);
                    while !respond.is_cancelled() && Instant::now() < until {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            "/echo.Echo/Fail" => {
                let status = Status::new(Code::NotFound, "nothing: 100 %, \"é\"");
                respond.send(Err(status.with("x-why", "so")));
            }
            _ => respond.send(Ok(call.message)),
        }
    }

    fn streaming(&self, call: Call, messages: Messages) {
        std::thread::spawn(move || {
            for _ in 0..1000 {
                while !messages.push(&call.message) {
                    if messages.is_cancelled() {
                        return;
                    }
                    messages.wait_room(Instant::now() + Duration::from_secs(1));
                }
            }
            messages.finish(Status::new(Code::Ok, ""));
        });
    }
}

/// HTTP and gRPC on one port.
pub fn server(limits: Limits, tls: Option<TlsSettings>) -> Server {
    let other: Arc<dyn Service> = Arc::new(http);
    let service = Grpc::new(Arc::new(Echo), Some(other), Duration::from_secs(30));
    let address = "127.0.0.1:0".parse().unwrap();
    Server::start("echo", address, tls, limits, Arc::new(service)).unwrap()
}
