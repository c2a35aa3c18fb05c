//! The statements of the outbox: accepting, looking, marking, leases, trimming, looking up.

mod accept;
mod accounts;
mod fate;
mod insert;
mod leases;
mod lookup;
mod open;
mod sent;
mod sequence;
mod trim;

pub(crate) use accept::{Accepter, Made, Request};
pub(crate) use fate::{Fate, Judge, Window};
pub(crate) use leases::Leases;
pub(crate) use open::{Cursor, OpenEvent, Unsent, figures, look, page};
pub(crate) use sent::{Sent, issue_anew, land, mark, note_failure};
pub(crate) use trim::Trimmer;

pub use lookup::TransactionLookup;
