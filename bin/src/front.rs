//! The front door of this process: what clients are answered from.

mod accounts;
mod awaited;
mod balances;
pub mod embedded;
mod keys;
mod leading;
mod reader;
mod roles;
mod secret;
mod serving;
mod tell;

pub use accounts::{Accounts, Owner};
pub use awaited::{Awaited, Expiry, seen_row};
pub use balances::MemoryFirst;
pub use keys::keys;
pub use leading::Leading;
pub use reader::{Pages, Reader, away};
pub use roles::{Role, Roles};
pub use serving::{Behind, FrontDoor, READS_MAX, door_limits, tell_outbox};
pub use tell::Tell;
