//! HTTP/2 on one connection.

mod callbacks;
mod fault;
mod session;
mod state;
mod stream;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use session::{Event, Session};
use stream::{Incoming, Refusal};

use super::{
    counters::Counters,
    grpc::{Code, Status},
    machine::{Context, Machine},
    reply::{News, Response},
    request::{Cancelled, Request, Version, split_target},
};

/// What a client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long after the notice no new stream is taken any more: about a round trip, and some.
const NOTICE: Duration = Duration::from_millis(250);

/// RFC 9113: the client misbehaves.
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// RFC 9113: nothing is wrong.
const NO_ERROR: u32 = 0;
/// RFC 9113: something is broken here.
const INTERNAL_ERROR: u32 = 2;
/// RFC 9113: the stream is no longer needed.
const CANCEL: u32 = 8;

/// The server's side of an HTTP/2 connection.
pub(super) struct Http2 {
    session: Session,
    context: Context,
    /// When something came last, and when a request did or an answer left.
    heard: Instant,
    used: Instant,
    /// When the client was asked whether it is there, and how many answers there were then.
    asked: Option<(Instant, u64)>,
    /// When the notice of stopping was given; `None` once it is final.
    stopping: Option<Instant>,
    is_stopping: bool,
    is_over: bool,
}

impl Http2 {
    pub(super) fn new(context: Context, now: Instant) -> Result<Self, String> {
        let session = Session::server(&context.limits, context.held(), now)
            .map_err(|fault| fault.to_string())?;
        Ok(Self {
            session,
            context,
            heard: now,
            used: now,
            asked: None,
            stopping: None,
            is_stopping: false,
            is_over: false,
        })
    }

    fn handle(&mut self, id: i32, event: Event, now: Instant) {
        match event {
            Event::Request(incoming, _) if let Some(why) = incoming.refusal => {
                Counters::add(&self.context.counters.refused);
                // A stream that is gone needs no answer.
                let _ = self.session.respond(id, refused(why, incoming.is_grpc));
            }
            Event::Request(incoming, cancelled) => {
                let request = self.request(incoming, cancelled.clone(), now);
                self.context.ask(id, request);
                self.expires(&cancelled);
            }
            Event::Opened(incoming, cancelled) => {
                let request = self.request(incoming, cancelled.clone(), now);
                let listener = self.context.open(id, request);
                self.session.listen(id, listener);
                self.expires(&cancelled);
            }
        }
    }

    /// Has a stream looked at when its time is up.
    fn expires(&mut self, cancelled: &Cancelled) {
        if let Some(expiry) = cancelled.expires() {
            self.session.look_by(expiry.until);
        }
    }

    fn request(&self, incoming: Incoming, cancelled: Cancelled, now: Instant) -> Request {
        let (path, query) = split_target(incoming.target);
        Request {
            method: incoming.method,
            path,
            query,
            headers: incoming.headers,
            body: incoming.body,
            peer: self.context.peer,
            certificate: self.context.certificate.clone(),
            version: Version::Http2,
            received: now,
            cancelled,
        }
    }
}

/// The answer to what no service is asked.
fn refused(why: Refusal, is_grpc: bool) -> Response {
    let (status, text) = match why {
        Refusal::Head => (431, "the header fields are too large"),
        Refusal::Body => (413, "the body is too large"),
        Refusal::Busy => (503, "too much is being sent at once"),
    };
    match is_grpc {
        true => Status::new(Code::ResourceExhausted, text).into_response(),
        false => Response::text(status, format!("{text}\n")),
    }
}

impl Machine for Http2 {
    fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        self.heard = now;
        self.asked = None;
        let received = self.session.receive(bytes, now);
        let service = Arc::clone(&self.context.service);
        let wants = |incoming: &Incoming| service.opens(&incoming.target, &incoming.headers);
        while let Some((id, event)) = self.session.next(wants) {
            self.used = now;
            self.handle(id, event, now);
        }
        received.map_err(|fault| {
            self.session.go_away(ENHANCE_YOUR_CALM);
            fault.to_string()
        })
    }

    fn end_of_input(&mut self, now: Instant) {
        // Nobody can hear an answer that needs the client's frames; what needs none may still be
        // heard, but most likely the client is gone. It cannot say that it is not: so it is as if it
        // had been asked.
        self.session.abandon();
        self.asked = Some((now, self.session.pongs()));
        self.is_over = self.session.open() == 0;
        self.is_stopping = true;
    }

    fn deliver(&mut self, stream: i32, news: News, now: Instant) -> Result<(), String> {
        self.used = now;
        match news {
            News::Whole(response) => {
                if self.session.respond(stream, response).is_err() {
                    self.session.reset(stream, CANCEL);
                }
            }
            News::Head(head, credit) => {
                if self.session.begin_body(stream, head, credit).is_err() {
                    self.session.reset(stream, CANCEL);
                }
            }
            News::More(piece) => self.session.more(stream, piece),
            News::End(trailers) => self.session.end_body(stream, trailers),
            News::Broken => self.session.reset(stream, INTERNAL_ERROR),
        }
        Ok(())
    }

    fn fill(&mut self, to: &mut Vec<u8>, most: usize) -> Result<(), String> {
        self.session
            .fill(to, most)
            .map_err(|fault| fault.to_string())
    }

    fn tick(&mut self, now: Instant) -> Result<Duration, String> {
        let counters = &self.context.counters;
        let late = || Counters::add(&counters.refused);
        let next = self.session.expire(now, self.context.limits.request, late);
        let quiet = self.look(now)?;
        Ok(next.map_or(quiet, |next| quiet.min(next.saturating_duration_since(now))))
    }

    fn stop(&mut self, now: Instant) {
        if !self.is_stopping {
            self.is_stopping = true;
            self.session.notice();
            self.stopping = Some(now);
        }
    }

    fn is_finished(&mut self) -> bool {
        self.is_over
            || self.session.is_finished()
            || self.is_stopping && self.stopping.is_none() && self.session.open() == 0
    }
}

impl Http2 {
    /// Looks after the connection itself.
    fn look(&mut self, now: Instant) -> Result<Duration, String> {
        let limits = &self.context.limits;
        if let Some(since) = self.stopping {
            let left = NOTICE.saturating_sub(now.saturating_duration_since(since));
            if !left.is_zero() {
                return Ok(left);
            }
            self.session.go_away(NO_ERROR);
            self.stopping = None;
        }
        if let Some((asked, pongs)) = self.asked {
            if self.session.pongs() > pongs {
                self.asked = None;
                self.heard = now;
            } else if now.saturating_duration_since(asked) >= limits.ping {
                return Err("nothing is heard of the client".to_owned());
            } else {
                return Ok(limits.ping - now.saturating_duration_since(asked));
            }
        }
        let unused = now.saturating_duration_since(self.used);
        if unused >= limits.idle && self.session.open() == 0 && !self.is_stopping {
            // A client that wants more connects anew.
            self.session.go_away(NO_ERROR);
            self.is_stopping = true;
        }
        let half = limits.idle / 2;
        let quiet = now.saturating_duration_since(self.heard);
        if quiet >= half && self.asked.is_none() {
            self.asked = Some((now, self.session.pongs()));
            self.session.ping();
            return Ok(limits.ping);
        }
        let next = half.saturating_sub(quiet).min(limits.request);
        Ok(next.max(Duration::from_millis(1)))
    }
}
