//! What the engine reads from and writes to.
//!
//! | | |
//! | --- | --- |
//! | [`embedded`] | one directory with a log and a store: everything on one machine, no servers |
//! | [`kafka`] | the log: commands in, results and dead letters out |
//! | [`mysql`] | the store: an epoch is one transaction |
//! | [`redis`] | balances for readers: the newest image of each |
//! | [`mod@audit`] | store, ledger and log held against each other |
//! | [`waiters`] | who waits for the outcome of a command |
//! | [`rows`], [`json`] | balances, ledger entries, results and dead letters as the outside world reads them |
//!
//! It knows the engine; the engine knows nothing of it. Threads are started only by
//! [`redis::RedisWriter::spawn`].

pub mod audit;
pub mod clock;
pub mod embedded;
pub mod json;
pub mod kafka;
pub mod mysql;
pub mod redis;
pub mod results;
pub mod rows;
pub mod waiters;
