//! What is known of an HTTP/2 connection's streams.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;

use super::stream::{Body, Incoming, Refusal};
use crate::net::{budget::Held, limits::Limits, request::Cancelled, server::Listener};

/// What nghttp2's callbacks change.
pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) streams: HashMap<i32, Stream, RandomState>,
    /// Streams of which something came that somebody may want.
    pub(super) ready: VecDeque<i32>,
    /// Bytes of requests that are coming in.
    pub(super) coming: usize,
    /// They count towards the server's.
    pub(super) held: Held,
    pub(super) pongs: u64,
    pub(super) resets: Resets,
    pub(super) now: Instant,
}

impl State {
    /// Takes a piece of a request's head or body, by `take`, and counts what it holds afterwards; a
    /// stream that takes more than there is room for is refused.
    pub(super) fn take(&mut self, id: i32, take: impl FnOnce(&mut Incoming, &Limits)) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let had_refusal = stream.incoming.refusal.is_some();
        take(&mut stream.incoming, &self.limits);
        let bytes = stream.incoming.bytes();
        self.coming = self.coming - stream.counted + bytes;
        stream.counted = bytes;
        if self.coming > self.limits.bodies_max_bytes || !self.held.set(self.coming) {
            stream.incoming.refuse(Refusal::Busy);
            let bytes = stream.incoming.bytes();
            self.coming = self.coming - stream.counted + bytes;
            stream.counted = bytes;
            self.held.set(self.coming);
        }
        if !had_refusal && stream.incoming.refusal.is_some() && stream.incoming.has_head {
            // Answered before it is whole: what still comes is thrown away.
            self.ready.push_back(id);
        }
    }

    /// Forgets what a stream's request took.
    pub(super) fn release(&mut self, id: i32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.coming -= std::mem::take(&mut stream.counted);
            self.held.set(self.coming);
        }
    }

    pub(super) fn close(&mut self, id: i32) {
        self.release(id);
        if let Some(stream) = self.streams.remove(&id) {
            stream.gone();
        }
    }
}

/// One stream.
pub(super) struct Stream {
    pub(super) incoming: Incoming,
    /// Its bytes that count towards the connection's.
    pub(super) counted: usize,
    /// The client sends nothing more.
    pub(super) has_ended: bool,
    pub(super) cancelled: Cancelled,
    pub(super) is_handed_over: bool,
    /// The method is HEAD: the answer has no body.
    pub(super) is_head: bool,
    /// Whoever takes its body piece by piece.
    pub(super) listener: Option<Box<dyn Listener>>,
    pub(super) since: Instant,
    pub(super) body: Body,
    /// Since when the client's windows let nothing of its answer go.
    pub(super) stuck: Option<Instant>,
}

impl Stream {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            incoming: Incoming::default(),
            counted: 0,
            has_ended: false,
            cancelled: Cancelled::default(),
            is_handed_over: false,
            is_head: false,
            listener: None,
            since: now,
            body: Body::default(),
            stuck: None,
        }
    }

    pub(super) fn gone(&self) {
        self.cancelled.set();
        self.body.gone();
    }
}

/// How many streams a client may still reset: a bucket that fills with time. nghttp2 has one, too,
/// but does not say ENHANCE_YOUR_CALM when it is empty.
#[derive(Debug)]
pub(super) struct Resets {
    burst: u64,
    per_second: u64,
    left: u64,
    filled: Instant,
}

impl Resets {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            burst: limits.resets_burst,
            per_second: limits.resets_per_second,
            left: limits.resets_burst,
            filled: now,
        }
    }

    /// Whether one more may be reset.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        if seconds > 0 {
            self.filled += Duration::from_secs(seconds);
            let more = self.per_second.saturating_mul(seconds);
            self.left = self.left.saturating_add(more).min(self.burst);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_come_back_by_the_second_up_to_the_burst() {
        let start = Instant::now();
        let limits = Limits {
            resets_burst: 3,
            resets_per_second: 2,
            ..Limits::default()
        };
        let mut resets = Resets::new(&limits, start);
        let mut taken = |ms| {
            let now = start + Duration::from_millis(ms);
            (0..10).filter(|_| resets.take(now)).count()
        };
        assert_eq!(taken(0), 3);
        assert_eq!(taken(999), 0);
        assert_eq!(taken(1500), 2);
        assert_eq!(taken(2000), 2);
        assert_eq!(taken(60_000), 3);
    }
}
