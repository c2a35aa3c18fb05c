//! HTTP/1.1 on one connection: requests one after the other, each answered before the next is looked
//! at.
//!
//! Strict where two readers could understand a message differently, which is how requests are
//! smuggled: one framing, spelled one way, or 400 and the end of the connection.

mod body;
mod head;
mod outgoing;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use body::{Chunks, Step};
use head::{Framing, Head};
use outgoing::Outgoing;

use super::{
    budget::Held,
    counters::Counters,
    machine::{Context, Machine},
    reply::{Credit, News, Response},
    request::{Cancelled, Request, Version},
};

/// What a connection waits for.
enum Stage {
    /// The head of a request.
    Head,
    /// The rest of its body.
    Body {
        head: Box<Head>,
        body: Vec<u8>,
        left: Left,
    },
    /// The service's answer.
    Answer { head: Wanted },
    /// More of an answer that comes piece by piece.
    Pieces { head: Wanted, credit: Arc<Credit> },
    /// Nothing: what is to be sent is sent, and then it ends.
    Over,
}

enum Left {
    Bytes(usize),
    Chunks(Chunks),
}

/// How an answer has to look.
#[derive(Clone, Copy)]
struct Wanted {
    /// Only its head.
    is_head: bool,
    /// The connection goes on behind it.
    keeps: bool,
    /// By the request's version: whether pieces can be told apart.
    is_old: bool,
}

/// The server's side of an HTTP/1.1 connection.
pub(super) struct Http1 {
    context: Context,
    stage: Stage,
    input: Vec<u8>,
    /// What of the request is in memory counts towards the server's.
    held: Held,
    output: Outgoing,
    /// When the request, or the silence before it, began.
    since: Instant,
    has_begun: bool,
    is_stopping: bool,
    /// The other side sends nothing more.
    has_ended: bool,
    /// Tells apart the answers of one request from those of the one before.
    number: i32,
    cancelled: Cancelled,
}

impl Http1 {
    pub(super) fn new(context: Context, now: Instant) -> Self {
        Self {
            held: context.held(),
            context,
            stage: Stage::Head,
            input: Vec::new(),
            output: Outgoing::default(),
            since: now,
            has_begun: false,
            is_stopping: false,
            has_ended: false,
            number: 0,
            cancelled: Cancelled::default(),
        }
    }

    /// Goes as far as the bytes that are there allow.
    fn advance(&mut self, now: Instant) {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Head => match head::parse(&self.input, &self.context.limits) {
                    Ok(None) => {
                        self.stage = Stage::Head;
                        return;
                    }
                    Ok(Some((head, length))) => {
                        self.input.drain(..length);
                        self.begin(head);
                    }
                    Err((status, why)) => return self.refuse(status, why),
                },
                Stage::Body { head, body, left } => {
                    if !self.take_body(head, body, left, now) {
                        return;
                    }
                }
                stage => {
                    self.stage = stage;
                    return;
                }
            }
        }
    }

    fn begin(&mut self, head: Head) {
        let limit = self.context.limits.body_max_bytes;
        let left = match head.framing {
            Framing::Length(length) if length > limit => {
                return self.refuse(413, "the body is too large");
            }
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Chunks(Chunks::new(limit)),
        };
        let has_body = !matches!(left, Left::Bytes(0));
        if head.expects_continue && has_body && self.input.is_empty() {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.output.bytes().extend_from_slice(go_on);
        }
        self.stage = Stage::Body {
            head: Box::new(head),
            body: Vec::new(),
            left,
        };
    }

    /// Whether there is more to do now.
    fn take_body(
        &mut self,
        head: Box<Head>,
        mut body: Vec<u8>,
        mut left: Left,
        now: Instant,
    ) -> bool {
        let is_whole = match &mut left {
            Left::Bytes(left) => {
                let taken = (*left).min(self.input.len());
                body.extend(self.input.drain(..taken));
                *left -= taken;
                *left == 0
            }
            Left::Chunks(chunks) => match chunks.read(&self.input, &mut body) {
                Step::More(taken) => {
                    self.input.drain(..taken);
                    false
                }
                Step::Done(taken) => {
                    self.input.drain(..taken);
                    true
                }
                Step::TooLarge => {
                    self.refuse(413, "the body is too large");
                    return false;
                }
                Step::Bad(why) => {
                    self.refuse(400, why);
                    return false;
                }
            },
        };
        if !is_whole {
            self.stage = Stage::Body { head, body, left };
            return false;
        }
        self.number = self.number.wrapping_add(1);
        self.cancelled = Cancelled::default();
        self.stage = Stage::Answer {
            head: Wanted {
                is_head: head.method == "HEAD",
                keeps: head.keeps_alive && !self.is_stopping,
                is_old: head.is_old,
            },
        };
        let request = Request {
            method: head.method,
            path: head.path,
            query: head.query,
            headers: head.headers,
            body,
            peer: self.context.peer,
            certificate: self.context.certificate.clone(),
            version: Version::Http1,
            received: now,
            cancelled: self.cancelled.clone(),
        };
        self.context.clone().ask(self.number, request);
        false
    }

    /// Answers what no service is asked, and ends.
    fn refuse(&mut self, status: u16, why: &str) {
        Counters::add(&self.context.counters.refused);
        self.input = Vec::new();
        self.held.set(0);
        self.stage = Stage::Over;
        let response = Response::text(status, format!("{why}\n"));
        let length = head::Length::Known;
        head::write(self.output.bytes(), &response, false, false, length);
    }

    /// Counts what of requests is in memory.
    fn count(&mut self) -> Result<(), String> {
        const BUSY: &str = "too much is being sent at once";
        let body = match &self.stage {
            Stage::Body { body, .. } => body.len(),
            _ => 0,
        };
        if self.held.set(self.input.len() + body) {
            return Ok(());
        }
        match &self.stage {
            Stage::Head | Stage::Body { .. } => {
                self.refuse(503, BUSY);
                Ok(())
            }
            // What waits behind a request that is being answered.
            _ => Err(BUSY.to_owned()),
        }
    }

    /// Ends without an answer, or within one.
    fn break_off(&mut self) {
        self.cancelled.set();
        if let Stage::Pieces { credit, .. } = std::mem::replace(&mut self.stage, Stage::Over) {
            credit.end();
        }
    }

    fn answered(&mut self, wanted: Wanted, now: Instant) {
        self.since = now;
        self.has_begun = !self.input.is_empty();
        self.stage = match wanted.keeps && !self.is_stopping {
            true => Stage::Head,
            false => Stage::Over,
        };
        self.advance(now);
        if self.has_ended && matches!(self.stage, Stage::Head | Stage::Body { .. }) {
            // What is missing will not come.
            self.stage = Stage::Over;
        }
    }
}

impl Machine for Http1 {
    fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        if matches!(self.stage, Stage::Over) {
            // What comes behind a refusal is nobody's.
            return Ok(());
        }
        if !self.has_begun {
            self.has_begun = true;
            self.since = now;
        }
        // Whoever sends the next requests before he has the answer does so at his own expense.
        let limits = &self.context.limits;
        let waiting = limits.header_max_bytes + limits.body_max_bytes;
        if self.input.len() + bytes.len() > waiting.saturating_mul(2) {
            return Err("too much is sent before an answer".to_owned());
        }
        self.input.extend_from_slice(bytes);
        self.advance(now);
        self.count()
    }

    fn end_of_input(&mut self, _now: Instant) {
        self.has_ended = true;
        match &self.stage {
            Stage::Head | Stage::Body { .. } => self.stage = Stage::Over,
            // An answer without a known end would have none: most likely nobody reads it.
            Stage::Pieces { .. } => self.break_off(),
            // A client that shuts its side down may still read.
            Stage::Answer { .. } | Stage::Over => {}
        }
    }

    fn deliver(&mut self, stream: i32, news: News, now: Instant) -> Result<(), String> {
        if stream != self.number {
            return Ok(());
        }
        match (std::mem::replace(&mut self.stage, Stage::Over), news) {
            (Stage::Answer { head }, News::Whole(response)) => {
                let keeps = head.keeps && !self.is_stopping;
                let length = head::Length::Known;
                head::write(self.output.bytes(), &response, head.is_head, keeps, length);
                self.answered(head, now);
                return self.count();
            }
            (Stage::Answer { mut head }, News::Head(response, credit)) => {
                // An old client knows the end of the body by the end of the connection.
                head.keeps &= !head.is_old;
                let length = match head.is_old {
                    true => head::Length::Unknown,
                    false => head::Length::Chunked,
                };
                let keeps = head.keeps && !self.is_stopping;
                head::write(self.output.bytes(), &response, true, keeps, length);
                self.stage = Stage::Pieces { head, credit };
                if self.has_ended {
                    self.break_off();
                } else if head.is_head {
                    // That was all of the answer, whatever is still to come.
                    self.break_off();
                    self.answered(head, now);
                    return self.count();
                }
            }
            (Stage::Pieces { head, credit }, News::More(piece)) => {
                if !piece.is_empty() {
                    head::piece(self.output.bytes(), &piece, head.is_old);
                    self.output.owe(piece.len(), &credit);
                }
                self.stage = Stage::Pieces { head, credit };
            }
            (Stage::Pieces { head, .. }, News::End(_)) => {
                if !head.is_old {
                    self.output.bytes().extend_from_slice(b"0\r\n\r\n");
                }
                self.answered(head, now);
                return self.count();
            }
            // Without its last chunk, or its length, an answer is seen to be broken off.
            (stage @ Stage::Pieces { .. }, News::Broken) => {
                self.stage = stage;
                self.break_off();
            }
            (stage, _) => self.stage = stage,
        }
        Ok(())
    }

    fn fill(&mut self, to: &mut Vec<u8>, most: usize) -> Result<(), String> {
        self.output.move_to(to, most);
        Ok(())
    }

    fn tick(&mut self, now: Instant) -> Result<Duration, String> {
        let limits = Arc::clone(&self.context.limits);
        let limit = match &self.stage {
            Stage::Head if !self.has_begun => limits.idle,
            Stage::Head | Stage::Body { .. } => limits.request,
            Stage::Answer { .. } if let Some(expiry) = self.cancelled.expires() => {
                let left = expiry.until.saturating_duration_since(now);
                if left.is_zero() {
                    self.cancelled.set();
                    let response = (expiry.otherwise)();
                    self.deliver(self.number, News::Whole(response), now)?;
                    return Ok(Duration::ZERO);
                }
                return Ok(left);
            }
            _ => return Ok(limits.idle),
        };
        let left = limit.saturating_sub(now.saturating_duration_since(self.since));
        if left.is_zero() {
            if self.has_begun {
                self.refuse(408, "the request took too long to come");
            } else {
                self.stage = Stage::Over;
            }
            return Ok(limits.idle);
        }
        Ok(left)
    }

    fn stop(&mut self, _now: Instant) {
        self.is_stopping = true;
        if matches!(self.stage, Stage::Head) && !self.has_begun {
            self.stage = Stage::Over;
        }
    }

    fn is_finished(&mut self) -> bool {
        matches!(self.stage, Stage::Over) && self.output.is_empty()
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        self.cancelled.set();
        if let Stage::Pieces { credit, .. } = &self.stage {
            credit.end();
        }
    }
}
