//! The two directions of a stream.

use std::{collections::VecDeque, mem::MaybeUninit, sync::Arc};

use crate::net::{
    limits::Limits,
    reply::{Credit, Fields},
    request::Headers,
};

/// Why a request is refused without asking a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Refusal {
    /// Its head is too large.
    Head,
    /// Its body is too large.
    Body,
    /// It may be fine, but there is no room for it now.
    Busy,
}

/// A request as far as it has come.
#[derive(Debug, Default)]
pub(in crate::net) struct Incoming {
    pub(in crate::net) method: String,
    pub(in crate::net) target: String,
    pub(in crate::net) headers: Headers,
    pub(in crate::net) body: Vec<u8>,
    /// Why not to ask a service.
    pub(in crate::net) refusal: Option<Refusal>,
    /// Whether a refusal has to be one of gRPC's.
    pub(in crate::net) is_grpc: bool,
    /// All of its head is there.
    pub(super) has_head: bool,
    header_bytes: usize,
    header_count: usize,
}

impl Incoming {
    /// Takes a header field; nghttp2 has checked it.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8], limits: &Limits) {
        if name == b"content-type" {
            self.is_grpc = value.starts_with(b"application/grpc");
        }
        if self.refusal.is_some() {
            return;
        }
        self.header_bytes += name.len() + value.len() + 32;
        self.header_count += 1;
        if self.header_bytes > limits.header_max_bytes || self.header_count > limits.headers_max {
            self.refuse(Refusal::Head);
            return;
        }
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            b":method" => self.method = text(),
            b":path" => self.target = text(),
            b":authority" => self.headers.push("host", value),
            [b':', ..] => {}
            _ => self
                .headers
                .push(std::str::from_utf8(name).unwrap_or_default(), value),
        }
    }

    /// Takes a piece of the body.
    pub(super) fn data(&mut self, data: &[u8], limits: &Limits) {
        if self.refusal.is_some() {
            return;
        }
        if self.body.len() + data.len() > limits.body_max_bytes {
            self.refuse(Refusal::Body);
        } else {
            self.body.extend_from_slice(data);
        }
    }

    /// Lets go of what there is: nobody will read it.
    pub(super) fn refuse(&mut self, why: Refusal) {
        self.refusal = Some(why);
        self.headers = Headers::default();
        self.body = Vec::new();
        self.header_bytes = 0;
    }

    /// How much memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.header_bytes + self.body.len()
    }
}

/// The body of an answer on its way out.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) has_begun: bool,
    pieces: VecDeque<Vec<u8>>,
    /// How much of the first piece is sent.
    sent: usize,
    end: Option<Fields>,
    credit: Option<Arc<Credit>>,
}

impl Body {
    pub(super) fn whole(bytes: Vec<u8>, trailers: Option<Fields>) -> Self {
        Self {
            has_begun: true,
            pieces: VecDeque::from([bytes]),
            sent: 0,
            end: Some(trailers.unwrap_or_default()),
            credit: None,
        }
    }

    pub(super) fn streamed(credit: Arc<Credit>) -> Self {
        Self {
            has_begun: true,
            credit: Some(credit),
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, piece: Vec<u8>) {
        if self.is_open() {
            self.pieces.push_back(piece);
        }
    }

    pub(super) fn finish(&mut self, trailers: Fields) {
        self.end.get_or_insert(trailers);
    }

    /// The same, all of it at once, as the head of an answer to HEAD: nothing follows.
    pub(super) fn bare(credit: Option<Arc<Credit>>) -> Self {
        Self {
            has_begun: true,
            end: Some(Fields::new()),
            credit,
            ..Self::default()
        }
    }

    /// Whether something of it is to be sent.
    pub(super) fn waits(&self) -> bool {
        self.has_begun && (!self.pieces.is_empty() || self.end.is_some())
    }

    /// Whether more of it may come.
    pub(super) fn is_open(&self) -> bool {
        self.credit.is_some() && self.end.is_none()
    }

    pub(super) fn gone(&self) {
        if let Some(credit) = &self.credit {
            credit.end();
        }
    }

    /// Copies out what there is; the trailers with the last byte. `None` when nothing is there yet.
    pub(super) fn read(&mut self, to: &mut [MaybeUninit<u8>]) -> Option<(usize, Option<Fields>)> {
        let mut count = 0;
        while count < to.len()
            && let Some(piece) = self.pieces.front()
        {
            let left = &piece[self.sent..];
            let taken = left.len().min(to.len() - count);
            to[count..count + taken].write_copy_of_slice(&left[..taken]);
            count += taken;
            self.sent += taken;
            if self.sent == piece.len() {
                self.pieces.pop_front();
                self.sent = 0;
            }
        }
        if count > 0
            && let Some(credit) = &self.credit
        {
            credit.sent(count);
        }
        if self.pieces.is_empty() && self.end.is_some() {
            return Some((count, self.end.take()));
        }
        (count > 0).then_some((count, None))
    }
}
