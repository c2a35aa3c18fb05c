//! The front door: what clients ask by gRPC and REST.
//!
//! | | |
//! | --- | --- |
//! | [`Api`] | the services over their [`Parts`]; nothing in it blocks |
//! | [`Door`], [`Balances`], [`Transactions`], [`Ledger`], [`Outcomes`], [`Results`] | what it needs of the rest of the node, answered by callback |
//! | [`Pool`], [`Health`] | for whoever provides that: threads for servers that take their time, how the node is |
//! | [`Signing`], [`Verifier`], [`Keys`], [`sign`] | who may ask |
//! | [`wire`], [`request_from_json`] | the messages |
//!
//! A request is read by one of two decoders, judged by one set of rules, and made a command whose
//! bytes are the same for equal requests. The methods that the prototype had answer what is wrong
//! with a request as it did: OK, and a message; all others by status codes.

mod caller;
mod change;
mod check;
mod draft;
mod entry;
mod from_json;
mod from_proto;
mod front;
mod health;
mod keys;
mod page;
mod pool;
mod problem;
mod reflection;
mod rest;
mod route;
mod rpc;
mod seams;
mod serve;
mod signature;
mod signing;
mod strict;
mod to_json;
pub mod wire;

pub use front::{Api, ApiSettings, Parts};
pub use health::{Health, SERVICE};
pub use keys::{KEYS_MAX, Key, KeyError, Keys, SECRET_MIN_BYTES, SecretSource};
pub use pool::Pool;
pub use problem::{Problem, ProblemKind};
pub use reflection::{RequestJsonError, request_from_json};
pub use rest::OPENAPI;
pub use seams::{
    Answer, BalanceRead, Balances, Door, Ledger, Offered, Outcomes, Patience, Results, Source,
    Transactions, WatchedResult, Watcher,
};
pub use signature::{
    KEY_ID_HEADER, SIGNATURE_HEADER, SKEW_MAX_MS, SignatureError, Signed, TIMESTAMP_HEADER,
    Verifier, sign,
};
pub use signing::{Signing, UnsignedError};

#[cfg(test)]
mod tests;
