//! The statements of the outbox: accepting, looking, marking, leases, trimming, looking up.

mod accept;
mod accounts;
mod fate;
mod insert;
mod leases;
mod legs;
mod lookup;
mod open;
mod place;
mod sent;
mod sequence;
mod trim;

pub(crate) use accept::{Accepter, Made, Request};
pub(crate) use fate::{Fate, Judge, Window};
pub(crate) use leases::Leases;
pub(crate) use open::{Cursor, OpenEvent, Unsent, figures, look, page, stamp};
pub(crate) use sent::{
    Sent, committed_ends, fail, generation, issue_anew, land, mark, note_failure,
};
pub(crate) use trim::{Trimmer, settled_up_to};

pub use legs::{Legs, ResendError};
pub use lookup::TransactionLookup;
