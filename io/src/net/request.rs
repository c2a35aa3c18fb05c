//! A request as a service sees it.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;

use super::reply::Response;

/// Which protocol a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Header fields in the order they came; names in small letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// One behind the other, as few pieces of memory for all fields.
    names: String,
    values: Vec<u8>,
    /// Where each field's name and value end.
    ends: Vec<(usize, usize)>,
}

impl Headers {
    /// Adds a field. The name is in small letters.
    pub(super) fn push(&mut self, name: &str, value: &[u8]) {
        if self.ends.is_empty() {
            // A usual request's.
            self.names.reserve(96);
            self.values.reserve(192);
            self.ends.reserve(8);
        }
        self.names.push_str(name);
        self.values.extend_from_slice(value);
        self.ends.push((self.names.len(), self.values.len()));
    }

    /// The first value of a field, by its name in small letters.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// The first value of a field, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.iter().filter(move |(other, _)| *other == name);
        fields.map(|(_, value)| value)
    }

    /// Every name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut begin = (0, 0);
        self.ends.iter().map(move |&end| {
            let (name, value) = begin;
            begin = end;
            (&self.names[name..end.0], &self.values[value..end.1])
        })
    }
}

/// What becomes of a request that is not answered in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    pub(super) until: Instant,
    /// What to answer then.
    pub(super) otherwise: fn() -> Response,
    /// Whether an answer that has begun is ended, too.
    pub(super) cuts: bool,
}

/// Whether the one who asked has gone or given up.
#[derive(Clone, Debug, Default)]
pub struct Cancelled(Arc<Fate>);

#[derive(Default)]
struct Fate {
    is_over: AtomicBool,
    expires: OnceLock<Expiry>,
    /// Who wants to know of it; nobody once it is over.
    hearers: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fate")
            .field("is_over", &self.is_over)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Cancelled {
    /// Whether nobody waits for the answer any more.
    pub fn is_set(&self) -> bool {
        // Relaxed: it only saves work.
        self.0.is_over.load(Ordering::Relaxed)
    }

    /// Calls `hear` once nobody waits any more; at once if that is so. It must not wait.
    pub fn when_set(&self, hear: impl FnOnce() + Send + 'static) {
        let mut hearers = self.0.hearers.lock();
        if self.is_set() {
            drop(hearers);
            hear();
        } else {
            hearers.push(Box::new(hear));
        }
    }

    pub(crate) fn set(&self) {
        // Before the lock: whoever comes to it later sees it.
        self.0.is_over.store(true, Ordering::Relaxed);
        let hearers = std::mem::take(&mut *self.0.hearers.lock());
        for hear in hearers {
            hear();
        }
    }

    /// Has the connection answer by itself at some moment; the first one counts.
    pub(super) fn expire(&self, expiry: Expiry) {
        // A second one changes nothing.
        let _ = self.0.expires.set(expiry);
    }

    pub(super) fn expires(&self) -> Option<Expiry> {
        self.0.expires.get().copied()
    }
}

/// What a client asks, whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST and so on.
    pub method: String,
    /// The path as it was sent, without what follows a `?`.
    pub path: String,
    /// What follows the `?`, if there is one.
    pub query: Option<String>,
    /// The header fields.
    pub headers: Headers,
    /// The body, exactly as it came.
    pub body: Vec<u8>,
    /// Who asks.
    pub peer: SocketAddr,
    /// The client's certificate (DER), if it showed one that was accepted.
    pub certificate: Option<Arc<[u8]>>,
    /// How it came.
    pub version: Version,
    /// When its last byte came.
    pub received: Instant,
    /// Whether somebody still waits for the answer.
    pub cancelled: Cancelled,
}

/// A path and what follows its `?`.
pub(super) fn split_target(mut target: String) -> (String, Option<String>) {
    let Some(at) = target.find('?') else {
        return (target, None);
    };
    let query = target.split_off(at + 1);
    target.truncate(at);
    (target, Some(query))
}
