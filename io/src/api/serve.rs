//! The services on connections.

use std::{net::SocketAddr, sync::Arc};

use super::{
    Api, Offered, Problem, ProblemKind, Signed, UnsignedError, WatchedResult, Watcher,
    caller::Caller,
    entry::entry,
    health::Listener,
    rest::{Handled, RestAnswer, RestRequest},
    rpc::{self, REFLECTION, WATCH_HEALTH, WATCH_RESULTS},
    signature::{KEY_ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER},
    to_json,
    wire::{
        balance as wire,
        health::{HealthCheckRequest, health_check_response::ServingStatus},
    },
};
use crate::net::{
    Headers, Reply, Request, Response, Service, Stream,
    grpc::{Call, Calls, Code, Grpc, Kind, Messages, Respond, Status},
};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

impl Api {
    /// The services by gRPC. `address` is where they will be served.
    ///
    /// # Errors
    ///
    /// When unsigned requests are taken and others can reach the address.
    pub fn grpc(self: &Arc<Self>, address: SocketAddr) -> Result<Arc<dyn Service>, UnsignedError> {
        self.settings.signing.check(address)?;
        let calls = Arc::clone(self) as Arc<dyn Calls>;
        Ok(Arc::new(Grpc::new(
            calls,
            None,
            self.settings.request_timeout,
        )))
    }

    /// The services by REST. `address` is where they will be served.
    ///
    /// # Errors
    ///
    /// When unsigned requests are taken and others can reach the address.
    pub fn rest_service(
        self: &Arc<Self>,
        address: SocketAddr,
    ) -> Result<Arc<dyn Service>, UnsignedError> {
        self.settings.signing.check(address)?;
        Ok(Arc::new(Paths(Arc::clone(self))))
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a Headers, name: &'a str) -> Option<&'a [u8]> {
    let mut values = headers.all(name);
    values.next().filter(|_| values.next().is_none())
}

fn signed(headers: &Headers) -> Signed<'_> {
    Signed {
        key_id: only(headers, KEY_ID_HEADER),
        timestamp: only(headers, TIMESTAMP_HEADER),
        signature: only(headers, SIGNATURE_HEADER),
    }
}

fn status(problem: Problem) -> Status {
    let code = Code::of(problem.kind.grpc()).unwrap_or(Code::Internal);
    Status::new(code, problem.message)
}

impl Calls for Api {
    fn kind(&self, path: &str) -> Option<Kind> {
        if rpc::is_unary(path) {
            return Some(Kind::Unary);
        }
        if REFLECTION.contains(&path) {
            return Some(Kind::Dialogue);
        }
        let streams = path == WATCH_RESULTS || path == WATCH_HEALTH;
        streams.then_some(Kind::Streaming)
    }

    fn unary(&self, call: Call, respond: Respond) {
        let caller = Caller {
            deadline: call.deadline,
            gone: call.cancelled.clone(),
        };
        let ours = rpc::Call {
            path: &call.path,
            signed: signed(&call.metadata),
            message: &call.message,
            caller: &caller,
        };
        let answer = Box::new(move |answer: Result<_, _>| respond.send(answer.map_err(status)));
        Self::unary(self, ours, answer);
    }

    fn streaming(&self, call: Call, messages: Messages) {
        let message = &call.message;
        match call.path.as_str() {
            WATCH_RESULTS => match self.watch_request(signed(&call.metadata), message) {
                Ok(request) => self.watch(&request, Box::new(MessageWatcher(messages))),
                Err(problem) => messages.finish(status(problem)),
            },
            _ => match rpc::decoded::<HealthCheckRequest>(message) {
                Ok(request) => {
                    let listener = Box::new(HealthWatcher(messages));
                    self.parts.health.listen(&request.service, listener);
                }
                Err(problem) => messages.finish(status(problem)),
            },
        }
    }

    fn settle(&self) {
        self.settled();
    }

    fn dialogue(&self, _call: &Call, message: &[u8]) -> Result<Vec<u8>, Status> {
        self.reflect(message).map_err(status)
    }
}

/// A result as it is streamed.
fn message(result: &WatchedResult) -> wire::Result {
    wire::Result {
        entry: Some(entry(&result.row)),
        error_message: result.error_message.clone(),
        term: result.term.get(),
    }
}

/// Who watches results by gRPC.
struct MessageWatcher(Messages);

impl Watcher for MessageWatcher {
    fn offer(&mut self, result: &WatchedResult) -> Offered {
        use prost::Message;

        if self.0.is_cancelled() {
            Offered::Gone
        } else if self.0.push(&message(result).encode_to_vec()) {
            Offered::Taken
        } else {
            Offered::Full
        }
    }

    fn is_gone(&self) -> bool {
        self.0.is_cancelled()
    }

    fn end(self: Box<Self>, problem: Option<Problem>) {
        let stopping = || Status::new(Code::Unavailable, "this node is stopping");
        self.0.finish(problem.map_or_else(stopping, status));
    }
}

/// Who watches health.
struct HealthWatcher(Messages);

impl Listener for HealthWatcher {
    fn tell(&mut self, status: ServingStatus) -> bool {
        !self.0.is_cancelled() && self.0.push(&rpc::serving_status(status))
    }

    fn is_gone(&self) -> bool {
        self.0.is_cancelled()
    }

    fn end(self: Box<Self>) {
        let message = "this node is stopping";
        self.0.finish(Status::new(Code::Unavailable, message));
    }
}

/// Who watches results by REST: a line of JSON each.
struct LineWatcher(Stream);

impl LineWatcher {
    fn line(value: &serde_json::Value) -> Vec<u8> {
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

impl Watcher for LineWatcher {
    fn offer(&mut self, result: &WatchedResult) -> Offered {
        if self.0.is_cancelled() {
            return Offered::Gone;
        }
        match self.0.push(Self::line(&to_json::result(&message(result)))) {
            Ok(()) => Offered::Taken,
            Err(_) => Offered::Full,
        }
    }

    fn is_gone(&self) -> bool {
        self.0.is_cancelled()
    }

    fn end(self: Box<Self>, problem: Option<Problem>) {
        if let Some(problem) = problem {
            // Without room the reader only misses why.
            let _ = self.0.push(Self::line(&to_json::problem(&problem)));
        }
        self.0.finish(Vec::new());
    }
}

/// The services by REST.
struct Paths(Arc<Api>);

impl Service for Paths {
    fn settle(&self) {
        self.0.settled();
    }

    fn call(&self, request: Request, reply: Reply) {
        let headers = &request.headers;
        let text = |name| match headers.all(name).count() {
            0 => Ok(None),
            1 => headers.text(name).map(Some).ok_or(name),
            _ => Err(name),
        };
        let caller = Caller {
            deadline: None,
            gone: request.cancelled.clone(),
        };
        let read = || {
            Ok(RestRequest {
                method: &request.method,
                path: &request.path,
                query: request.query.as_deref().unwrap_or_default(),
                signed: signed(headers),
                content_type: text("content-type")?,
                content_encoding: text("content-encoding")?,
                idempotency_key: text("idempotency-key")?,
                caller: &caller,
                body: &request.body,
            })
        };
        let ours = match read() {
            Ok(ours) => ours,
            Err(name) => {
                let name: &str = name;
                let what = "is no text, or there more than once";
                let problem = to_json::problem(&Problem::field(name, what));
                return reply.send(Response::of(400, JSON, problem.to_string().into_bytes()));
            }
        };
        // Whoever handles it takes the reply, unless it watches.
        let reply = Arc::new(parking_lot::Mutex::new(Some(reply)));
        let theirs = Arc::clone(&reply);
        let told = Box::new(move |answer: RestAnswer| {
            if let Some(reply) = theirs.lock().take() {
                reply.send(response(answer));
            }
        });
        match self.0.rest(&ours, told) {
            Handled::Watch(watch) => {
                if let Some(reply) = reply.lock().take() {
                    let stream = reply.stream(Response::of(200, LINES, Vec::new()));
                    self.0.watch(&watch, Box::new(LineWatcher(stream)));
                }
            }
            // A stream lasts as long as both sides like; an answer that is not there yet does not.
            Handled::Answered => {
                let timeout = self.0.settings.request_timeout;
                if let Some(reply) = &*reply.lock()
                    && let Some(until) = request.received.checked_add(timeout)
                {
                    reply.expire(until, late);
                }
            }
        }
    }
}

/// What is said when nothing else was in time.
fn late() -> Response {
    let message = "no answer in time; ask again with the same transaction_id";
    let problem = to_json::problem(&Problem::new(ProblemKind::Deadline, message));
    Response::of(504, JSON, problem.to_string().into_bytes())
}

fn response(answer: RestAnswer) -> Response {
    let response = Response::of(answer.status, JSON, answer.body);
    let headers = answer.headers.into_iter();
    headers.fold(response, |response, (name, value)| {
        response.with(name, value)
    })
}
