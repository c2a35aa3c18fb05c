//! The thread that takes connections, and the answers.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use super::{
    connection,
    health::{Health, State},
    request::Request,
    response::{Response, Status},
};

/// Bounds that a test changes.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// The most connections at once; the next ones are told 503.
    pub connections_max: usize,
    /// The longest that a request, or the taking of its answer, may last.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 32,
            deadline: Duration::from_secs(5),
        }
    }
}

/// How long to do without connections when the system has none to give.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How often stopping tries to wake the thread.
const WAKE_TRIES: usize = 10;

/// How long each such try may last.
const WAKE_LIMIT: Duration = Duration::from_millis(500);

/// A running server. Dropping it stops it.
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` (port 0: any that is free) and answers: figures from `render`, health
    /// from `health`.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or the system gives no thread.
    pub fn start(
        address: SocketAddr,
        health: Arc<Health>,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_with(Limits::default(), address, health, render)
    }

    pub(super) fn start_with(
        limits: Limits,
        address: SocketAddr,
        health: Arc<Health>,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Answers {
            health,
            render: Box::new(render),
        });
        let is_stopped = Arc::clone(&stop);
        let thread = Builder::new()
            .name("http".to_owned())
            .spawn(move || accept(&listener, limits, &answers, &is_stopped))?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends open connections and waits for all threads.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        // The thread waits for a connection: it gets one.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        for _ in 0..WAKE_TRIES {
            if thread.is_finished() || TcpStream::connect_timeout(&address, WAKE_LIMIT).is_ok() {
                // A panic there has been told by its hook, and there is nothing to undo.
                let _ = thread.join();
                return;
            }
        }
        tracing::warn!(%address, "the HTTP server cannot be woken and is left behind");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection and its thread.
struct Open {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

fn accept(listener: &TcpListener, limits: Limits, answers: &Arc<Answers>, stop: &AtomicBool) {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::Acquire) {
            break;
        }
        open.retain(|connection| !connection.thread.is_finished());
        match accepted {
            Ok((stream, _)) if open.len() >= limits.connections_max => refuse(&stream),
            Ok((stream, from)) => match begin(stream, limits, answers) {
                Ok(connection) => open.push(connection),
                Err(error) => tracing::warn!(%from, %error, "an HTTP connection is dropped"),
            },
            Err(error) => {
                // Out of descriptors, most likely: trying at once would only take a core.
                tracing::warn!(%error, "no HTTP connection can be taken");
                std::thread::park_timeout(ACCEPT_BACK_OFF);
            }
        }
    }
    for connection in &open {
        // Wakes its thread; fails when the other side is gone already.
        let _ = connection.stream.shutdown(Shutdown::Both);
    }
    for connection in open {
        let _ = connection.thread.join();
    }
}

fn begin(stream: TcpStream, limits: Limits, answers: &Arc<Answers>) -> io::Result<Open> {
    let own = stream.try_clone()?;
    let answers = Arc::clone(answers);
    let body = move || {
        if let Err(error) = connection::serve(&own, limits.deadline, |it| answers.to(it)) {
            tracing::debug!(%error, "an HTTP connection ended early");
            // The descriptor has a twin: dropping it would not close the connection.
            let _ = own.shutdown(Shutdown::Both);
        }
    };
    let thread = Builder::new().name("http-answer".to_owned()).spawn(body)?;
    Ok(Open { stream, thread })
}

/// Tells a connection that there are too many. Does not wait: what does not go at once is lost.
fn refuse(mut stream: &TcpStream) {
    let bytes = Response::plain(Status::Unavailable).to_bytes(false);
    let _ = stream
        .set_nonblocking(true)
        .and_then(|()| stream.write_all(&bytes))
        .and_then(|()| stream.shutdown(Shutdown::Both));
}

/// What there is to answer from.
struct Answers {
    health: Arc<Health>,
    render: Box<dyn Fn() -> String + Send + Sync>,
}

impl Answers {
    fn to(&self, request: &Request) -> Response {
        match request.path.as_str() {
            "/metrics" => Response::metrics((self.render)()),
            "/healthz" => self.health(State::is_healthy),
            "/readyz" => self.health(State::is_ready),
            _ => Response::plain(Status::NotFound),
        }
    }

    fn health(&self, is_well: fn(&State) -> bool) -> Response {
        let state = self.health.state();
        let status = if is_well(&state) {
            Status::Ok
        } else {
            Status::Unavailable
        };
        match serde_json::to_string(&state) {
            Ok(json) => Response::json(status, json),
            Err(_) => Response::plain(status),
        }
    }
}
