//! From requests to calls.

use std::{sync::Arc, time::Duration};

use super::{
    call::{Call, Messages, Respond},
    dialogue::Dialogue,
    frame,
    status::{Code, Status},
    timeout,
};
use crate::net::{Headers, Listener, Reply, Request, Response, Service, Version};

/// How many messages a method answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One.
    Unary,
    /// Any number.
    Streaming,
    /// One for each that comes, as it comes.
    Dialogue,
}

/// The methods of some services.
pub trait Calls: Send + Sync + 'static {
    /// How a method answers; `None` if there is no such method.
    fn kind(&self, path: &str) -> Option<Kind>;

    /// Answers a unary call, now or later, from any thread. Must not wait.
    fn unary(&self, call: Call, respond: Respond);

    /// Answers a streaming call. Must not wait.
    fn streaming(&self, call: Call, messages: Messages);

    /// As [`Service::settle`].
    fn settle(&self) {}

    /// Answers one message of a dialogue; `call` is what it began with. Must not wait.
    ///
    /// # Errors
    ///
    /// How the call ends instead.
    fn dialogue(&self, call: &Call, _message: &[u8]) -> Result<Vec<u8>, Status> {
        Err(no_method(&call.path))
    }
}

/// gRPC, and HTTP for what is not.
pub struct Grpc {
    calls: Arc<dyn Calls>,
    other: Option<Arc<dyn Service>>,
    timeout: Duration,
}

impl Grpc {
    /// Calls are answered by `calls`; requests that are none by `other`, or refused. A caller who
    /// does not say how long he waits is taken to wait for `timeout`; streams last for ever.
    pub fn new(calls: Arc<dyn Calls>, other: Option<Arc<dyn Service>>, timeout: Duration) -> Self {
        Self {
            calls,
            other,
            timeout,
        }
    }

    fn answer(&self, request: Request, reply: Reply) {
        let kind = match self.admit(&request) {
            Ok(kind) => kind,
            Err(response) => return reply.send(response),
        };
        let (mut call, body) = match self.begin(kind, request, &reply) {
            Ok(begun) => begun,
            Err(status) => return reply.send(status.into_response()),
        };
        if kind == Kind::Dialogue {
            let mut dialogue = self.dialogue(call, reply);
            dialogue.piece(&body);
            return dialogue.end();
        }
        call.message = match frame::only(body, &call.metadata) {
            Ok(message) => message,
            Err(status) => return reply.send(status.into_response()),
        };
        match kind {
            Kind::Unary => self.calls.unary(call, Respond::new(reply)),
            _ => self.calls.streaming(call, Messages::begin(reply)),
        }
    }

    fn dialogue(&self, call: Call, reply: Reply) -> Dialogue {
        Dialogue::new(Arc::clone(&self.calls), call, Messages::begin(reply))
    }

    /// Which method a request is for.
    fn admit(&self, request: &Request) -> Result<Kind, Response> {
        if request.version != Version::Http2 {
            return Err(Response::text(505, "gRPC needs HTTP/2\n"));
        }
        if request.method != "POST" {
            return Err(Response::text(405, "gRPC needs POST\n").with("allow", "POST"));
        }
        let kind = self.calls.kind(&request.path);
        kind.ok_or_else(|| no_method(&request.path).into_response())
    }

    /// The call that a request is, without its message, and the request's body.
    fn begin(
        &self,
        kind: Kind,
        request: Request,
        reply: &Reply,
    ) -> Result<(Call, Vec<u8>), Status> {
        let given = request.headers.text("grpc-timeout").map(|text| {
            timeout::parse(text).ok_or_else(|| {
                let message = format!("grpc-timeout {text:?} is no time");
                Status::new(Code::InvalidArgument, message)
            })
        });
        let given = given.transpose()?;
        let deadline = given.and_then(|given| request.received.checked_add(given));
        let late =
            || Status::new(Code::DeadlineExceeded, "no answer before the deadline").into_response();
        match (deadline, kind) {
            (Some(deadline), _) => reply.end_by(deadline, late),
            (None, Kind::Unary) => {
                if let Some(until) = request.received.checked_add(self.timeout) {
                    reply.expire(until, late);
                }
            }
            (None, _) => {}
        }
        let call = Call {
            path: request.path,
            metadata: request.headers,
            message: Vec::new(),
            deadline,
            peer: request.peer,
            certificate: request.certificate,
            received: request.received,
            cancelled: request.cancelled,
        };
        Ok((call, request.body))
    }
}

/// What a request's content type says of it.
enum Content {
    /// gRPC with protobuf.
    Ours,
    /// gRPC with something else.
    Foreign,
    /// No gRPC.
    Other,
}

fn content(headers: &Headers) -> Content {
    let text = headers.text("content-type").unwrap_or_default();
    match text.strip_prefix("application/grpc") {
        Some(rest) if rest.is_empty() || rest.starts_with(';') => Content::Ours,
        Some(rest) if rest.starts_with('+') => match rest[1..].split(';').next() {
            Some("proto") => Content::Ours,
            _ => Content::Foreign,
        },
        _ => Content::Other,
    }
}

impl Service for Grpc {
    fn call(&self, request: Request, reply: Reply) {
        match (content(&request.headers), &self.other) {
            (Content::Ours, _) => self.answer(request, reply),
            (Content::Foreign, _) => {
                let text = "nothing but application/grpc and application/grpc+proto is known\n";
                reply.send(Response::text(415, text));
            }
            (Content::Other, Some(other)) => other.call(request, reply),
            (Content::Other, None) => {
                let text = "the content type must be application/grpc\n";
                reply.send(Response::text(415, text));
            }
        }
    }

    fn settle(&self) {
        self.calls.settle();
        if let Some(other) = &self.other {
            other.settle();
        }
    }

    fn opens(&self, target: &str, headers: &Headers) -> bool {
        self.calls.kind(target) == Some(Kind::Dialogue) && matches!(content(headers), Content::Ours)
    }

    fn open(&self, request: Request, reply: Reply) -> Box<dyn Listener> {
        match self.admit(&request) {
            Ok(kind) => match self.begin(kind, request, &reply) {
                Ok((call, _)) => return Box::new(self.dialogue(call, reply)),
                Err(status) => reply.send(status.into_response()),
            },
            Err(response) => reply.send(response),
        }
        Box::new(())
    }
}

fn no_method(path: &str) -> Status {
    Status::new(Code::Unimplemented, format!("there is no method {path}"))
}
