//! What became of a transaction id.

use crate::rows::LedgerRow;

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is accepted, and has no outcome yet.
    Pending,
    /// It took effect.
    Success,
    /// It was answered and had no effect: see the error code.
    Failed,
    /// It was refused into the dead letters and used no id.
    Refused,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How far it is.
    pub status: Status,
    /// Why it FAILED.
    pub error_code: Option<String>,
    /// Its ledger entries, one a posting, in order: balances before and after, version, position.
    pub entries: Vec<LedgerRow>,
}

impl Outcome {
    /// The outcome that ledger entries of one record tell; pending if there are none.
    pub(crate) fn of(entries: Vec<LedgerRow>) -> Self {
        let error_code = entries.iter().find_map(|entry| entry.error_code.clone());
        let status = match (&error_code, entries.is_empty()) {
            (_, true) => Status::Pending,
            (None, false) => Status::Success,
            (Some(_), false) => Status::Failed,
        };
        Self {
            status,
            error_code,
            entries,
        }
    }

    /// An outcome without entries.
    pub(crate) fn bare(status: Status) -> Self {
        Self {
            status,
            error_code: None,
            entries: Vec::new(),
        }
    }
}

/// A transfer's leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegState {
    /// Its name: the record it comes from, and CREDIT or REFUND.
    pub name: String,
    /// Its name in the outbox.
    pub event_id: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// All that is known of a user's transaction id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionState {
    /// The event that was accepted.
    pub event_id: String,
    /// When it was issued last, in ms since 1970.
    pub issued_at_ms: i64,
    /// What became of it.
    pub outcome: Outcome,
    /// The legs that came of it so far.
    pub legs: Vec<LegState>,
}

/// Why a look-up failed.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The MySQL store.
    #[error(transparent)]
    Mysql(#[from] crate::mysql::MysqlError),
    /// The data directory.
    #[error(transparent)]
    Embedded(#[from] crate::embedded::EmbeddedError),
}

/// Looks transaction ids up, in the store. May wait for it: not for a thread that must not.
pub trait Lookup {
    /// What became of a user's transaction id; `None` if it was never accepted. The ids of other
    /// users are other ids.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn transaction(
        &mut self,
        user_id: &str,
        transaction_id: &str,
    ) -> Result<Option<TransactionState>, LookupError>;
}
