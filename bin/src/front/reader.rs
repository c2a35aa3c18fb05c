//! What reads need of a store.

use kilter_engine::{AccountId, Currency, Partition, Position};
use kilter_io::{
    api::{Answer, BalanceRead, Ledger, Patience, Pool, Problem, ProblemKind},
    outbox::Lookup,
    rows::LedgerRow,
};

use super::{Owner, Tell};

/// Reads a store for clients, on a thread that may wait for it.
pub trait Reader: Lookup + Send + 'static {
    /// Whose an account is, from when it is bound to him: earlier than anything is applied to it.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    fn owner(&mut self, account_id: AccountId) -> Result<Option<Owner>, Problem>;

    /// A balance, from the fastest source that has this version.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    fn balance(
        &mut self,
        partition: Partition,
        name: (AccountId, Currency),
        min_version: u64,
    ) -> Result<Option<BalanceRead>, Problem>;

    /// The first ledger entries of an account behind a position.
    ///
    /// # Errors
    ///
    /// When the store does not answer.
    fn entries(
        &mut self,
        account_id: AccountId,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, Problem>;
}

/// What a client hears of a store that does not answer.
pub fn away(error: &dyn std::error::Error) -> Problem {
    tracing::warn!(%error, "the store could not be read for a client");
    Problem::new(ProblemKind::Unavailable, "the store is unavailable")
}

/// The ledger, by the threads of a pool.
pub struct Pages<R>(pub std::sync::Arc<Pool<R>>);

impl<R: Reader> Ledger for Pages<R> {
    fn page(
        &self,
        account_id: AccountId,
        after: Option<Position>,
        limit: usize,
        patience: Patience,
        answer: Answer<Result<Vec<LedgerRow>, Problem>>,
    ) {
        let tell = Tell::new(answer);
        let otherwise = tell.clone();
        self.0.submit(
            patience,
            move |reader| tell.tell(reader.entries(account_id, after, limit)),
            move |problem| otherwise.tell(Err(problem)),
        );
    }
}
