//! Answers, from whatever thread has them, back to the connection.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

use super::{
    bell::Bell,
    request::{Cancelled, Expiry},
    together::owes,
};

/// Header or trailer fields; names in small letters.
pub type Fields = Vec<(Cow<'static, str>, Cow<'static, str>)>;

/// An answer, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// Header fields; length and connection are added by whoever sends it.
    pub headers: Fields,
    /// The body.
    pub body: Vec<u8>,
    /// Fields behind the body, over HTTP/2 only.
    pub trailers: Option<Fields>,
}

impl Response {
    /// An answer of text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::of(
            status,
            "text/plain; charset=utf-8",
            body.into().into_bytes(),
        )
    }

    /// An answer of some type.
    pub fn of(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), content_type.into())],
            body,
            trailers: None,
        }
    }

    /// The same with one more header field.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// How many bytes of a streamed body may wait for a slow reader.
const STREAM_WAITING_MAX: usize = 256 << 10;

/// What is told to a connection from other threads.
#[derive(Debug)]
pub(super) enum News {
    /// A whole answer to a stream.
    Whole(Response),
    /// The head of a streamed one.
    Head(Response, Arc<Credit>),
    /// More of its body.
    More(Vec<u8>),
    /// Its end.
    End(Fields),
    /// There will be no end: whoever made it has given up.
    Broken,
}

/// What waits for a connection's thread.
#[derive(Debug)]
pub(super) struct Mailbox {
    news: Mutex<Vec<(i32, News)>>,
    bell: Bell,
    is_gone: AtomicBool,
}

impl Mailbox {
    pub(super) fn new(bell: Bell) -> Arc<Self> {
        Arc::new(Self {
            news: Mutex::default(),
            bell,
            is_gone: AtomicBool::new(false),
        })
    }

    /// What came since the last time; many letters ring once.
    pub(super) fn take(&self, into: &mut Vec<(i32, News)>) {
        into.append(&mut self.news.lock());
    }

    /// Nobody reads it any more.
    pub(super) fn close(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.news.lock().clear();
    }

    fn post(self: &Arc<Self>, stream: i32, news: News) {
        if self.is_gone.load(Ordering::Acquire) {
            return;
        }
        let was_empty = {
            let mut waiting = self.news.lock();
            let was_empty = waiting.is_empty();
            waiting.push((stream, news));
            was_empty
        };
        if was_empty && !owes(self) {
            self.bell.ring();
        }
    }

    /// Wakes whoever reads it.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }
}

/// The way back to whoever asked. Answers once, from any thread; dropped unanswered, it answers
/// with status 500.
#[derive(Debug)]
pub struct Reply {
    mailbox: Option<Arc<Mailbox>>,
    stream: i32,
    cancelled: Cancelled,
}

impl Reply {
    pub(super) fn new(mailbox: Arc<Mailbox>, stream: i32, cancelled: Cancelled) -> Self {
        Self {
            mailbox: Some(mailbox),
            stream,
            cancelled,
        }
    }

    /// Answers.
    pub fn send(mut self, response: Response) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.post(self.stream, News::Whole(response));
        }
    }

    /// Begins an answer whose body comes piece by piece; `head` is one without body and trailers.
    ///
    /// # Panics
    ///
    /// Never: a reply is used once.
    pub fn stream(mut self, head: Response) -> Stream {
        let Some(mailbox) = self.mailbox.take() else {
            unreachable!("a reply is used once");
        };
        let credit = Arc::<Credit>::default();
        mailbox.post(self.stream, News::Head(head, Arc::clone(&credit)));
        Stream {
            mailbox: Some(mailbox),
            stream: self.stream,
            credit,
            cancelled: self.cancelled.clone(),
        }
    }

    /// Has the connection answer `otherwise` when there is no answer by `until`; one that comes later
    /// goes nowhere, and one that has begun goes on. To be said while the service is being called; the
    /// first one counts.
    pub fn expire(&self, until: Instant, otherwise: fn() -> Response) {
        self.cancelled.expire(Expiry {
            until,
            otherwise,
            cuts: false,
        });
    }

    /// As [`Reply::expire`]; and over HTTP/2 a streamed answer that has begun ends then, too, with the
    /// fields of `otherwise` behind it.
    pub fn end_by(&self, until: Instant, otherwise: fn() -> Response) {
        self.cancelled.expire(Expiry {
            until,
            otherwise,
            cuts: true,
        });
    }

    /// Whether nobody waits for it any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_set()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            let response = Response::text(500, "the service gave no answer\n");
            mailbox.post(self.stream, News::Whole(response));
        }
    }
}

/// How much of a streamed body waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Credit {
    waiting: AtomicUsize,
    lock: Mutex<()>,
    room: Condvar,
}

impl Credit {
    pub(super) fn sent(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::AcqRel);
        let _held = self.lock.lock();
        self.room.notify_all();
    }

    /// The stream is over: nobody has to wait.
    pub(super) fn end(&self) {
        let _held = self.lock.lock();
        self.room.notify_all();
    }

    fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < STREAM_WAITING_MAX
    }
}

/// The body of an answer, piece by piece. Dropped without an end, it is seen to have none: over HTTP/2
/// the stream is reset, over HTTP/1.1 the last chunk is missing. (An HTTP/1.0 client cannot tell.)
#[derive(Debug)]
pub struct Stream {
    mailbox: Option<Arc<Mailbox>>,
    stream: i32,
    credit: Arc<Credit>,
    cancelled: Cancelled,
}

impl Stream {
    /// Sends a piece.
    ///
    /// # Errors
    ///
    /// The piece, when too much waits for the reader already.
    pub fn push(&self, piece: Vec<u8>) -> Result<(), Vec<u8>> {
        if !self.credit.has_room() {
            return Err(piece);
        }
        if let Some(mailbox) = &self.mailbox {
            self.credit.waiting.fetch_add(piece.len(), Ordering::AcqRel);
            mailbox.post(self.stream, News::More(piece));
        }
        Ok(())
    }

    /// Waits until there is room, the reader has gone, or time is up; whether there is room.
    pub fn wait_room(&self, until: Instant) -> bool {
        let mut held = self.credit.lock.lock();
        while !self.credit.has_room() && !self.cancelled.is_set() {
            if self.credit.room.wait_until(&mut held, until).timed_out() {
                break;
            }
        }
        self.credit.has_room()
    }

    /// Whether the reader has gone.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_set()
    }

    /// Ends the body.
    pub fn finish(mut self, trailers: Fields) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.post(self.stream, News::End(trailers));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.post(self.stream, News::Broken);
        }
    }
}
