//! A small HTTP/1.1 server for figures and health: `/metrics`, `/healthz`, `/readyz`.
//!
//! It serves scrapers and load balancers on a private address: a thread a connection, few of them
//! at once, one request each, `GET` and `HEAD` only. Every wait has a deadline and everything that
//! is read has a bound, so that nobody can keep it from answering for long.

mod connection;
mod health;
mod request;
mod response;
mod server;

#[cfg(test)]
mod tests;

pub use health::{Health, State};
pub use server::Server;
