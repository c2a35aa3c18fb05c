//! A call, and the ways back to whoever made it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    frame::framed,
    status::{Code, Status},
};
use crate::net::{
    Cancelled, Headers, Response,
    reply::{Fields, Reply, Stream},
};

/// What is called, and with what.
#[derive(Clone, Debug)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: String,
    /// The caller's metadata.
    pub metadata: Headers,
    /// The message, as it came.
    pub message: Vec<u8>,
    /// Until when the caller waits, if he said so.
    pub deadline: Option<Instant>,
    /// Who calls.
    pub peer: SocketAddr,
    /// The caller's certificate (DER), if there is one.
    pub certificate: Option<Arc<[u8]>>,
    /// When the call came.
    pub received: Instant,
    /// Whether he still waits.
    pub cancelled: Cancelled,
}

/// The way back for one message. Dropped unanswered, it answers INTERNAL.
#[derive(Debug)]
pub struct Respond {
    reply: Option<Reply>,
}

impl Respond {
    pub(super) fn new(reply: Reply) -> Self {
        Self { reply: Some(reply) }
    }

    /// Answers with a message, or with why there is none.
    pub fn send(mut self, answer: Result<Vec<u8>, Status>) {
        let Some(reply) = self.reply.take() else {
            return;
        };
        reply.send(match answer {
            Ok(message) => Response {
                status: 200,
                headers: head(),
                body: framed(&message),
                trailers: Some(vec![("grpc-status".into(), "0".into())]),
            },
            Err(status) => status.into_response(),
        });
    }

    /// Whether nobody waits for it any more.
    pub fn is_cancelled(&self) -> bool {
        self.reply.as_ref().is_none_or(Reply::is_cancelled)
    }
}

impl Drop for Respond {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.send(Status::new(Code::Internal, "the service gave no answer").into_response());
        }
    }
}

/// The way back for many messages. Dropped without an end, it ends with INTERNAL.
#[derive(Debug)]
pub struct Messages {
    stream: Option<Stream>,
}

impl Messages {
    pub(super) fn begin(reply: Reply) -> Self {
        let stream = reply.stream(Response {
            status: 200,
            headers: head(),
            ..Response::default()
        });
        Self {
            stream: Some(stream),
        }
    }

    /// Sends a message; whether there was room for it.
    pub fn push(&self, message: &[u8]) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| stream.push(framed(message)).is_ok())
    }

    /// Waits until there is room, the caller has gone, or time is up; whether there is room.
    pub fn wait_room(&self, until: Instant) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| stream.wait_room(until))
    }

    /// Whether the caller has gone.
    pub fn is_cancelled(&self) -> bool {
        self.stream.as_ref().is_none_or(Stream::is_cancelled)
    }

    /// Ends the call.
    pub fn finish(mut self, status: Status) {
        if let Some(stream) = self.stream.take() {
            stream.finish(status.into_trailers());
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            let status = Status::new(Code::Internal, "the service broke off");
            stream.finish(status.into_trailers());
        }
    }
}

fn head() -> Fields {
    vec![("content-type".into(), "application/grpc".into())]
}
