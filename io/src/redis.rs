//! Balances in Redis: a projection that only follows, and that nothing waits for.
//!
//! The thread that committed an epoch [offers](Offers::offer) its balances, which costs it some
//! short locks; [`RedisWriter`]s take the newest image of each and write them by a script that lets
//! the highest version win. So it does not matter in which order, how often or by whom a balance is
//! written. While Redis is away, refuses or is full, the newest image of each balance waits.
//!
//! A hash is named `<prefix>balance:<account>:<currency>`, in a cluster
//! `<prefix>balance:{<partition>}:<account>:<currency>`, and has the fields `value` (JSON),
//! `timestamp` (ms since 1970, when it was written) and `version` (decimal). Keys of ours beside
//! them are `<prefix>kilter:marker` and, for a while, `<prefix>kilter:offer:…`.
//!
//! What waits is lost with the process, and Redis may forget what it acknowledged. So every balance
//! is offered again in the background, from a [`BalanceSource`], at each start and whenever a
//! server's `run_id` or marker is not what it was. Keys that are deleted one by one are not noticed:
//! [`compare()`] finds them, and [`rebuild()`] brings them back.

mod back_off;
mod compare;
mod error;
mod full_offer;
mod key;
mod link;
mod lookup;
mod offers;
mod pass;
mod projection;
mod rebuild;
mod script;
mod sender;
mod servers;
mod settings;
mod source;
mod status;
mod stripe;
mod walk;
mod writer;

pub use compare::{Compared, Difference, DifferenceKind, compare};
pub use error::{RedisError, SourceError};
pub use lookup::{CachedBalance, RedisLookup};
pub use offers::Offers;
pub use projection::Projection;
pub use rebuild::{Rebuilt, rebuild};
pub use script::SCRIPT;
pub use settings::RedisSettings;
pub use source::{BalanceSource, OpenSource, SourceRow};
pub use status::RedisStatus;
pub use writer::RedisWriter;
