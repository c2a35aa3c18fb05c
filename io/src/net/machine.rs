//! What a connection does with bytes, whatever brings them: no sockets, no threads, and no clock but
//! the one it is told.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    budget::{Budget, Held},
    counters::Counters,
    limits::Limits,
    reply::{Mailbox, News, Reply},
    request::Request,
    server::{Listener, Service},
};

/// What all requests of a connection share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) limits: Arc<Limits>,
    pub(super) service: Arc<dyn Service>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) budget: Arc<Budget>,
    pub(super) peer: SocketAddr,
    pub(super) certificate: Option<Arc<[u8]>>,
}

impl Context {
    /// Asks the service.
    pub(super) fn ask(&self, stream: i32, request: Request) {
        let reply = self.reply(stream, &request);
        self.service.call(request, reply);
    }

    /// Asks it something whose body comes later.
    pub(super) fn open(&self, stream: i32, request: Request) -> Box<dyn Listener> {
        let reply = self.reply(stream, &request);
        self.service.open(request, reply)
    }

    /// What this connection takes of the budget: nothing yet.
    pub(super) fn held(&self) -> Held {
        Held::new(Arc::clone(&self.budget))
    }

    fn reply(&self, stream: i32, request: &Request) -> Reply {
        Counters::add(&self.counters.requests);
        let cancelled = request.cancelled.clone();
        Reply::new(Arc::clone(&self.mailbox), stream, cancelled)
    }
}

/// One protocol's side of a connection.
pub(super) trait Machine: Send {
    /// Takes what came. An error ends the connection, after what is left to be sent.
    fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), String>;

    /// The other side sends nothing more.
    fn end_of_input(&mut self, now: Instant);

    /// Takes what services answered.
    fn deliver(&mut self, stream: i32, news: News, now: Instant) -> Result<(), String>;

    /// Appends what is to be sent, until about `most` bytes are in `to`.
    fn fill(&mut self, to: &mut Vec<u8>, most: usize) -> Result<(), String>;

    /// Does what is due, and says how long nothing else will be.
    fn tick(&mut self, now: Instant) -> Result<Duration, String>;

    /// Begins to stop: nothing new is taken, what is being worked on is finished.
    fn stop(&mut self, now: Instant);

    /// Whether the connection is over once everything is sent.
    fn is_finished(&mut self) -> bool;
}
