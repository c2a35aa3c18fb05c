//! What the engine reads from and writes to.
//!
//! | | |
//! | --- | --- |
//! | [`embedded`] | one directory with a log and a store: everything on one machine, no servers |
//! | [`kafka`] | the log: commands in, results and dead letters out |
//! | [`mysql`] | the store: an epoch is one transaction |
//! | [`redis`] | balances for readers: the newest image of each |
//! | [`api`] | what clients ask by gRPC and REST |
//! | [`outbox`] | what makes accepted commands safe on their way to the log |
//! | [`mod@audit`] | store, ledger and log held against each other |
//! | [`net`] | connections of clients: HTTP/1.1, HTTP/2, gRPC, TLS |
//! | [`waiters`] | who waits for the outcome of a command |
//! | [`rows`], [`json`] | balances, ledger entries, results and dead letters as the outside world reads them |
//!
//! It knows the engine; the engine knows nothing of it. Threads are started only by
//! [`redis::RedisWriter::spawn`], [`net::Server::start`] and [`api::Pool::start`]: those of Redis and
//! of a pool wait for servers, and a connection has one of its own.

pub mod api;
pub mod audit;
pub mod clock;
pub mod embedded;
pub mod flights;
pub mod hex;
pub mod json;
pub mod kafka;
pub mod mysql;
pub mod net;
pub mod outbox;
pub mod redis;
pub mod results;
pub mod rows;
pub mod waiters;

// Tests inside share files with those outside, which know this package by its name.
#[cfg(test)]
extern crate self as kilter_io;
