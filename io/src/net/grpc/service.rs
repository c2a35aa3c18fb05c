//! From requests to calls.

use std::{sync::Arc, time::Duration};

use super::{
    call::{Call, Messages, Respond},
    status::{Code, Status},
    timeout,
};
use crate::net::{Reply, Request, Response, Service, Version};

/// How many messages a method answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One.
    Unary,
    /// Any number.
    Streaming,
}

/// The methods of some services.
pub trait Calls: Send + Sync + 'static {
    /// How a method answers; `None` if there is no such method.
    fn kind(&self, path: &str) -> Option<Kind>;

    /// Answers a unary call, now or later, from any thread. Must not wait.
    fn unary(&self, call: Call, respond: Respond);

    /// Answers a streaming call. Must not wait.
    fn streaming(&self, call: Call, messages: Messages);
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
        if request.version != Version::Http2 {
            return reply.send(Response::text(505, "gRPC needs HTTP/2\n"));
        }
        if request.method != "POST" {
            return reply.send(Response::text(405, "gRPC needs POST\n").with("allow", "POST"));
        }
        let Some(kind) = self.calls.kind(&request.path) else {
            let message = format!("there is no method {}", request.path);
            return refuse(reply, Code::Unimplemented, message);
        };
        let given = match request.headers.text("grpc-timeout") {
            None => None,
            Some(text) => match timeout::parse(text) {
                Some(given) => Some(given),
                None => {
                    let message = format!("grpc-timeout {text:?} is no time");
                    return refuse(reply, Code::InvalidArgument, message);
                }
            },
        };
        let deadline = given.and_then(|given| request.received.checked_add(given));
        let until = match (deadline, kind) {
            (Some(deadline), _) => Some(deadline),
            (None, Kind::Unary) => request.received.checked_add(self.timeout),
            (None, Kind::Streaming) => None,
        };
        if let Some(until) = until {
            reply.expire(until, || {
                Status::new(Code::DeadlineExceeded, "no answer before the deadline").into_response()
            });
        }
        let message = match message(&request) {
            Ok(message) => message,
            Err(status) => return reply.send(status.into_response()),
        };
        let call = Call {
            path: request.path,
            metadata: request.headers,
            message,
            deadline,
            peer: request.peer,
            certificate: request.certificate,
            received: request.received,
            cancelled: request.cancelled,
        };
        match kind {
            Kind::Unary => self.calls.unary(call, Respond::new(reply)),
            Kind::Streaming => self.calls.streaming(call, Messages::begin(reply)),
        }
    }
}

impl Service for Grpc {
    fn call(&self, request: Request, reply: Reply) {
        let content = request.headers.text("content-type").unwrap_or_default();
        let is_grpc = content == "application/grpc"
            || content.starts_with("application/grpc+")
            || content.starts_with("application/grpc;");
        match &self.other {
            _ if is_grpc => {
                let of_another_kind = content
                    .strip_prefix("application/grpc+")
                    .is_some_and(|kind| kind.split(';').next() != Some("proto"));
                if of_another_kind {
                    let text = "nothing but application/grpc and application/grpc+proto is known\n";
                    return reply.send(Response::text(415, text));
                }
                self.answer(request, reply);
            }
            Some(other) => other.call(request, reply),
            None => {
                let text = "the content type must be application/grpc\n";
                reply.send(Response::text(415, text));
            }
        }
    }
}

fn refuse(reply: Reply, code: Code, message: String) {
    reply.send(Status::new(code, message).into_response());
}

/// The one message of a body.
fn message(request: &Request) -> Result<Vec<u8>, Status> {
    let body = &request.body;
    let invalid = |message: String| Status::new(Code::Internal, message);
    let Some((head, rest)) = body.split_first_chunk::<5>() else {
        return Err(invalid(format!(
            "a message has a head of 5 bytes, and {} came",
            body.len()
        )));
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    match head[0] {
        0 => {}
        1 => {
            let coding = request.headers.text("grpc-encoding").unwrap_or("identity");
            let message = format!("messages compressed by {coding:?} are not known here");
            return Err(
                Status::new(Code::Unimplemented, message).with("grpc-accept-encoding", "identity")
            );
        }
        flag => return Err(invalid(format!("a message begins with {flag}, not 0 or 1"))),
    }
    if rest.len() < length {
        let came = rest.len();
        return Err(invalid(format!(
            "a message of {length} bytes ends after {came}"
        )));
    }
    if rest.len() > length {
        let message = "one message is taken for a call, and more came".to_owned();
        return Err(Status::new(Code::Unimplemented, message));
    }
    Ok(rest.to_vec())
}
