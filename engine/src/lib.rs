//! The balance engine: money, commands, rings, shards and epochs.
//!
//! Records come in through a [`Log`](log::Log), epochs leave through a [`Store`](store::Store),
//! results through a [`ResultSink`](result::ResultSink). What is absent on purpose: files,
//! sockets, threads, clocks, floats. Whoever embeds the engine starts a thread for each
//! [`Agent`](agent::Agent) and hands a [`Clock`](clock::Clock) in.
//!
//! | | |
//! | --- | --- |
//! | money and commands | [`amount`], [`currency`], [`command`], [`mod@decode`], [`code`], [`transition`] |
//! | the log's side | [`record`], [`log`], [`notes`], [`partitioner`], [`poller`] |
//! | between threads | [`ring`], [`slot`], [`wait`], [`agent`] |
//! | state | [`shard`], [`book`], [`window`], [`hash`], [`range`], [`loader`] |
//! | the store's side | [`epoch`], [`ledger`], [`leg`], [`writer`], [`store`], [`regroup`] |
//! | results | [`result`], [`publisher`] |

pub mod agent;
pub mod amount;
pub mod book;
pub mod clock;
pub mod code;
pub mod command;
pub mod currency;
pub mod decode;
pub mod epoch;
pub mod hash;
pub mod headers;
pub mod ids;
pub mod ledger;
pub mod leg;
mod lines;
pub mod loader;
pub mod log;
pub mod notes;
pub mod partitioner;
pub mod poller;
mod prefetch;
pub mod publisher;
pub mod range;
pub mod record;
pub mod regroup;
pub mod result;
#[allow(
    unsafe_code,
    reason = "slots are shared by two threads, each owning its part of them"
)]
pub mod ring;
pub mod rules;
pub mod shard;
pub mod slot;
pub mod store;
pub mod sync;
pub mod transition;
pub mod wait;
pub mod window;
pub mod writer;

pub use amount::{Amount, AmountError};
pub use book::{AccountHandle, AccountRef, Balance, Book, Opened, SlotId, balance_hash};
pub use code::{Class, Code};
pub use command::{Body, Change, Command, CommandKind, LegBody, MoveKind, POSTINGS_MAX, Party};
pub use currency::{Currency, CurrencyError};
pub use decode::{Refusal, decode, decode_key, may_be_open};
pub use hash::{IdHash, key_hash};
pub use ids::{AccountId, EpochNumber, Generation, Offset, Partition, Posting, Term};
pub use ledger::Position;
pub use leg::{Leg, LegKind, LegName};
pub use range::{HashRange, shard_of};
pub use window::{Window, WindowBudget, WindowFull};
