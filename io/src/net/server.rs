//! The thread that takes connections.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use rustix::net::sockopt;
use rustls::ServerConfig;

use super::{
    budget::Budget,
    connection::{Leash, serve},
    counters::Counters,
    limits::Limits,
    machine::Context,
    reply::{Mailbox, Reply},
    request::{Headers, Request},
    tls::{TlsError, TlsSettings},
    wire::Wire,
};

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers a request, now or later, from any thread. Called on the connection's thread, which
    /// it must not hold up.
    fn call(&self, request: Request, reply: Reply);

    /// Called on a connection's thread after it has handed over the requests that came together, and
    /// before it waits: what was left to be done for all of them at once is done now.
    fn settle(&self) {}

    /// Whether a request's body is wanted as it comes; asked over HTTP/2 only, when its head is there.
    fn opens(&self, _target: &str, _headers: &Headers) -> bool {
        false
    }

    /// Answers such a request, whose body is still empty. As for [`Service::call`].
    fn open(&self, request: Request, reply: Reply) -> Box<dyn Listener> {
        self.call(request, reply);
        Box::new(())
    }
}

/// Hears a request's body as it comes. Called on the connection's thread, which it must not hold up;
/// dropped early when there will be no more of it.
pub trait Listener: Send {
    /// Takes a piece, which may be empty.
    fn piece(&mut self, piece: &[u8]);

    /// The body is whole.
    fn end(&mut self);
}

/// Hears nothing.
impl Listener for () {
    fn piece(&mut self, _piece: &[u8]) {}

    fn end(&mut self) {}
}

impl<F: Fn(Request, Reply) + Send + Sync + 'static> Service for F {
    fn call(&self, request: Request, reply: Reply) {
        self(request, reply);
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How long to do without connections when the system has none to give.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How often connections that have ended are forgotten, at least.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

struct Shared {
    limits: Arc<Limits>,
    service: Arc<dyn Service>,
    counters: Arc<Counters>,
    budget: Arc<Budget>,
    tls: RwLock<Option<Arc<ServerConfig>>>,
    leash: Arc<Leash>,
    name: &'static str,
}

/// A running server. Dropping it ends it at once.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    settings: Option<TlsSettings>,
    thread: Option<JoinHandle<Vec<Open>>>,
}

impl Server {
    /// Listens on `address` (port 0: any that is free). Its threads are called `name`.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, a certificate cannot be used, or the system gives no thread.
    pub fn start(
        name: &'static str,
        address: SocketAddr,
        tls: Option<TlsSettings>,
        limits: Limits,
        service: Arc<dyn Service>,
    ) -> Result<Self, NetError> {
        let config = tls.as_ref().map(TlsSettings::load).transpose()?;
        let failed = |source| NetError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            budget: Budget::new(limits.coming_max_bytes),
            limits: Arc::new(limits),
            service,
            counters: Arc::default(),
            tls: RwLock::new(config),
            leash: Leash::new().map_err(failed)?,
            name,
        });
        let own = Arc::clone(&shared);
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || accept(&listener, &own))
            .map_err(failed)?;
        Ok(Self {
            address: bound,
            shared,
            settings: tls,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How much of [`Limits::coming_max_bytes`] requests take that are coming in now.
    pub fn coming_bytes(&self) -> usize {
        self.shared.budget.used()
    }

    /// What it has seen.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Reads certificates and keys again, for connections to come.
    ///
    /// # Errors
    ///
    /// When they cannot be used; then those that were stay.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        if let Some(settings) = &self.settings {
            *self.shared.tls.write() = Some(settings.load()?);
        }
        Ok(())
    }

    /// Takes no more connections and requests, and lets those that are being worked on end until
    /// `limit`. Whether all did.
    pub fn stop(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        self.shared.leash.pull(false);
        let Some(thread) = self.thread.take() else {
            return true;
        };
        // A panic there has been told by its hook, and left nothing to wait for.
        let open = thread.join().unwrap_or_default();
        for connection in &open {
            connection.leash.pull(limit.is_zero());
        }
        let mut all = true;
        for connection in open {
            while !connection.thread.is_finished() && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(2));
            }
            if !connection.thread.is_finished() {
                all = false;
                connection.leash.pull(true);
            }
            let _ = connection.thread.join();
        }
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// A connection and its thread.
struct Open {
    from: IpAddr,
    leash: Arc<Leash>,
    thread: JoinHandle<()>,
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) -> Vec<Open> {
    let mut open: Vec<Open> = Vec::new();
    let leash = &shared.leash;
    while !leash.stop.load(Ordering::Acquire) {
        open.retain(|connection| !connection.thread.is_finished());
        let taken = match listener.accept() {
            Ok((socket, from)) if is_too_many(&open, from, &shared.limits) => {
                Counters::add(&shared.counters.turned_away);
                tracing::debug!(%from, "a connection is turned away: there are too many");
                turn_away(&socket, shared.tls.read().is_some());
                continue;
            }
            Ok((socket, from)) => begin(socket, from, shared).map(|connection| {
                open.push(connection);
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Fails only when there is no memory left; then it is tried again.
                let _ = leash.bell.wait(listener, true, false, LOOK_INTERVAL);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            // Out of descriptors or threads, most likely: trying at once would only take a core.
            tracing::warn!(%error, "no connection can be taken");
            std::thread::park_timeout(ACCEPT_BACK_OFF);
        }
    }
    open
}

/// Whether another one from there is one too many.
fn is_too_many(open: &[Open], from: SocketAddr, limits: &Limits) -> bool {
    let host = host(from.ip());
    let of_this = open.iter().filter(|connection| connection.from == host);
    open.len() >= limits.connections_max || of_this.count() >= limits.connections_per_peer_max
}

/// Who is behind an address: of IPv6 a host has a whole network of 64 bits.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

/// A connection that is open, for as long as it lives: also when its thread panics.
struct Counted(Arc<Counters>);

impl Counted {
    fn new(counters: &Arc<Counters>) -> Self {
        Counters::add(&counters.connections);
        Counters::add(&counters.open);
        Self(Arc::clone(counters))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn begin(socket: TcpStream, from: SocketAddr, shared: &Arc<Shared>) -> io::Result<Open> {
    let leash = Leash::new()?;
    look_after(&socket, &shared.limits)?;
    let wire = Wire::new(socket, shared.tls.read().clone())?;
    let context = Context {
        limits: Arc::clone(&shared.limits),
        service: Arc::clone(&shared.service),
        mailbox: Mailbox::new(leash.bell.clone()),
        counters: Arc::clone(&shared.counters),
        budget: Arc::clone(&shared.budget),
        peer: from,
        certificate: None,
    };
    let counted = Counted::new(&shared.counters);
    let own = Arc::clone(&leash);
    let thread = Builder::new()
        .name(format!("{}-conn", shared.name))
        .spawn(move || {
            if context.limits.niceness != 0 {
                // On Linux this is the thread's own. One that stays as it was is as good as others.
                let _ = rustix::process::nice(context.limits.niceness);
            }
            if let Err(why) = serve(wire, context, &own) {
                Counters::add(&counted.0.broken);
                tracing::debug!(%from, why, "a connection ended early");
            }
        })?;
    Ok(Open {
        from: host(from.ip()),
        leash,
        thread,
    })
}

/// Has the system ask whether the other side is there: of one that has sent its last byte, and to
/// which nothing is sent, nobody would ever learn that it is gone.
fn look_after(socket: &TcpStream, limits: &Limits) -> io::Result<()> {
    const PROBES: u32 = 3;
    let second = Duration::from_secs(1);
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, (limits.idle / 2).max(second))?;
    sockopt::set_tcp_keepintvl(socket, (limits.ping / PROBES).max(second))?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    Ok(())
}

/// Tells a connection that there are too many. Does not wait: what does not go at once is lost.
fn turn_away(mut socket: &TcpStream, is_encrypted: bool) {
    const TEXT: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
        content-length: 0\r\nconnection: close\r\n\r\n";
    if is_encrypted || socket.set_nonblocking(true).is_err() {
        return;
    }
    let _ = socket.write_all(TEXT);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}
