//! How much a client may ask of a server.

use std::time::Duration;

/// Bounds of a server; each client meets them before it can hurt the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whether HTTP/1.1 is spoken, too; else a connection that does not begin as HTTP/2 is closed.
    pub http1: bool,
    /// Connections at once; the next ones are turned away.
    pub connections_max: usize,
    /// Of those, from one address (for IPv6: from one network of 64 bits).
    pub connections_per_peer_max: usize,
    /// Streams of one HTTP/2 connection at once.
    pub streams_max: u32,
    /// Bytes of a request's header fields, by HTTP/2's count: 32 more for each field.
    pub header_max_bytes: usize,
    /// Header fields of a request.
    pub headers_max: usize,
    /// Bytes of a request's body.
    pub body_max_bytes: usize,
    /// Bytes of the requests that one HTTP/2 connection sends at once.
    pub bodies_max_bytes: usize,
    /// Bytes of the requests that all connections together send at once, before anybody knows who
    /// they are; a few of each connection's do not count.
    pub coming_max_bytes: usize,
    /// Bytes that may wait for a connection that does not read; beyond that nothing more of its
    /// answers is taken out.
    pub out_max_bytes: usize,
    /// How long a TLS handshake and the first bytes of a connection may take.
    pub handshake: Duration,
    /// How long a request may take to come.
    pub request: Duration,
    /// How long a reader may take nothing of what waits for it.
    pub stalled: Duration,
    /// How long a connection may be idle before it is closed; an HTTP/2 one is asked before.
    pub idle: Duration,
    /// How long an HTTP/2 client may take to answer when it is asked whether it is there.
    pub ping: Duration,
    /// How much the threads of connections give way to others when there are too few CPUs: 0 as
    /// all do, 19 the most.
    pub niceness: i32,
    /// Streams that a client may reset: at once, and then for each second.
    pub resets_burst: u64,
    /// See above.
    pub resets_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http1: true,
            connections_max: 1024,
            connections_per_peer_max: 512,
            streams_max: 128,
            header_max_bytes: 16 << 10,
            headers_max: 100,
            body_max_bytes: 4 << 20,
            bodies_max_bytes: 16 << 20,
            coming_max_bytes: 256 << 20,
            out_max_bytes: 1 << 20,
            handshake: Duration::from_secs(10),
            request: Duration::from_secs(15),
            stalled: Duration::from_secs(20),
            idle: Duration::from_secs(120),
            ping: Duration::from_secs(10),
            niceness: 0,
            resets_burst: 200,
            resets_per_second: 50,
        }
    }
}
