//! Connections: HTTP/1.1 and HTTP/2 on plain threads, encrypted or not, and gRPC on top. It knows
//! nothing of what is asked.
//!
//! | | |
//! | --- | --- |
//! | [`Server`], [`Limits`] | listens; a thread takes connections, a thread serves each |
//! | [`Service`], [`Request`], [`Reply`] | what a service is given, and how it answers: now or later, from any thread |
//! | [`together()`] | many answers, for each of which a connection is not woken |
//! | [`Stream`] | an answer that comes piece by piece, as fast as its reader |
//! | [`grpc`] | calls, deadlines, statuses |
//!
//! The protocols themselves are machines without sockets: bytes in, requests out, answers in, bytes
//! out. A connection's thread brings the bytes, and is woken when a service has answered.

mod bell;
mod budget;
mod connection;
mod counters;
#[cfg(test)]
mod fuzz;
pub mod grpc;
mod h1;
mod h2;
mod limits;
mod machine;
mod reply;
mod request;
mod server;
mod tls;
mod together;
mod wire;

pub use counters::Counters;
pub use limits::Limits;
pub use reply::{Fields, Reply, Response, Stream};
pub use request::{Cancelled, Headers, Request, Version};
pub use server::{Listener, NetError, Server, Service};
pub use tls::{TlsError, TlsSettings};
pub use together::together;
