//! What reads a directory for clients.

use kilter_engine::{AccountId, Currency, Partition, Position};
use kilter_io::{
    api::{BalanceRead, Problem, Source},
    embedded::{PARTITION, StoreReader},
    outbox::{Lookup, LookupError, TransactionState},
    rows::LedgerRow,
};

use crate::front::{Owner, Reader, away};

/// What one thread reads with.
pub struct DirReader(pub StoreReader);

impl Lookup for DirReader {
    fn transaction(
        &mut self,
        user_id: &str,
        transaction_id: &str,
    ) -> Result<Option<TransactionState>, LookupError> {
        self.0.transaction(user_id, transaction_id)
    }
}

impl Reader for DirReader {
    fn owner(&mut self, account_id: AccountId) -> Result<Option<Owner>, Problem> {
        let user_id = self.0.owner(account_id).map_err(|error| away(&error))?;
        Ok(user_id.map(|user_id| Owner {
            user_id: user_id.into(),
            partition: PARTITION,
        }))
    }

    fn balance(
        &mut self,
        _partition: Partition,
        (account_id, currency): (AccountId, Currency),
        _min_version: u64,
    ) -> Result<Option<BalanceRead>, Problem> {
        let found = self.0.timed_balance(account_id, currency.as_str());
        let found = found.map_err(|error| away(&error))?;
        Ok(found.map(|(row, updated_at_ms)| BalanceRead {
            row,
            updated_at_ms,
            source: Source::Store,
        }))
    }

    fn entries(
        &mut self,
        account_id: AccountId,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, Problem> {
        // There is one generation and one partition; a position in another one is behind or before
        // all that there is.
        let behind = match after {
            Some(at) if (at.generation.get(), at.partition.get()) > (1, 0) => return Ok(Vec::new()),
            Some(at) if (at.generation.get(), at.partition.get()) < (1, 0) => None,
            at => at.map(|at| (at.offset.get(), at.posting.get())),
        };
        let entries = self.0.entries(Some(account_id), behind, None, limit);
        entries.map_err(|error| away(&error))
    }
}
