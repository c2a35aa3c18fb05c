//! What the front door answers.

use kilter_engine::AccountId;

use super::Outcome;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is durable and will reach the log.
    Accepted {
        /// Its name for ever.
        event_id: String,
        /// The account, for whoever asked for a new one.
        account_id: AccountId,
    },
    /// The same was accepted before.
    Duplicate {
        /// The first one's name; of an account that another producer opened there is none.
        event_id: Option<String>,
        /// Its account.
        account_id: AccountId,
        /// What became of it, as far as that is known at once.
        outcome: Option<Outcome>,
    },
    /// The user has used this id for something else.
    Conflict {
        /// The first one's name.
        event_id: String,
        /// The fields that differ, by name; none if the first one's are no longer kept.
        differs: Vec<String>,
    },
    /// There is no such account of this user: it does not exist, or is somebody else's.
    NoAccount,
    /// The account asked for cannot be this user's: somebody else has it.
    AccountTaken,
    /// The user has another account than the one asked for.
    HasAccount {
        /// The one he has.
        account_id: AccountId,
    },
}

/// Why a request that was taken has no answer. It may have been accepted or not; asking again with
/// the same transaction id tells, and is harmless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// The store did not answer in time.
    #[error("the store is unavailable: {why}; ask again with the same transaction id")]
    Unavailable {
        /// What happened.
        why: String,
    },
    /// The store does not take this request for what it holds.
    #[error("the store does not take the command: {why}")]
    Refused {
        /// What it said.
        why: String,
    },
    /// The process ends.
    #[error("the front door is closing; ask again with the same transaction id")]
    Stopped,
}

/// Why a request was not taken at all: nothing came of it, and its callback is never called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too many wait already; ask again later.
    #[error("{waiting} requests of {bytes} bytes wait already")]
    Full {
        /// How many wait.
        waiting: usize,
        /// How much memory they hold, in bytes.
        bytes: usize,
    },
    /// The process ends.
    #[error("the front door is closing")]
    Closed,
    /// Something is too long or empty.
    #[error("{field} has {length} bytes, where 1 to {max} are allowed")]
    Length {
        /// Which field.
        field: &'static str,
        /// Its length, in bytes.
        length: usize,
        /// The longest.
        max: usize,
    },
}
