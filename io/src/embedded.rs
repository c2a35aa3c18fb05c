//! The embedded mode: one directory, two SQLite files, one partition.
//!
//! `log.db` is the command log: appending commits in groups. `store.db` holds what Kilter's MySQL
//! schema holds: balances, ledger, accounts, offsets, dead letters. Two files, so that appending
//! and flushing do not wait for each other. Both are in WAL mode. What was acknowledged survives a
//! crash of the machine: a commit to the store waits for the disk; one to the log may be waited for
//! beside the next one ([`LogSync`]), and until then nobody reads what it wrote.
//!
//! A running node holds the directory's lock; reading works beside it.

mod append;
mod checkpoint;
mod claims;
mod connection;
mod dir;
mod error;
mod input;
mod legs;
mod load;
mod log_reader;
mod log_sync;
mod lookup;
mod mover;
mod outbox;
mod owners;
mod pages;
mod reader;
mod rows;
mod schema;
mod start;
mod store_writer;

pub mod audit;

pub use append::FullSize;
pub use append::{Appended, CommandLog, NewRecord};
pub use dir::DataDir;
pub use error::EmbeddedError;
pub use input::{Input, InputLine, KnownPrefix, LineBatch};
pub use legs::ResendError;
pub use load::{LoadProgress, load};
pub use log_reader::LogReader;
pub use log_sync::LogSync;
pub use mover::{LegMover, PendingLeg};
pub use outbox::Accepted;
pub use pages::{Place, RefusedRow};
pub use reader::StoreReader;
pub use start::{EmbeddedStore, Settings, Started};
pub use store_writer::StoreWriter;

use kilter_engine::{Generation, Partition};

/// The one partition of the embedded log.
pub const PARTITION: Partition = Partition::new(0);

/// The life of the embedded log: it has one.
pub const GENERATION: Generation = Generation::new(1);

/// The largest value that the log takes whole, in bytes. Of a larger one it keeps the beginning,
/// the length and the SHA-256, and the record is refused.
pub const RECORD_MAX_BYTES: usize = 16 << 20;

/// How much of a larger value is kept, in bytes.
pub const OVERSIZE_KEPT_BYTES: usize = 64 << 10;
