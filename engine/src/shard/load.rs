//! What a shard takes over from the store, before the first record.

use super::{Shard, ShardError};
use crate::{
    AccountId, Currency, Partition,
    book::{AccountHandle, Opened},
    hash::IdHash,
    ledger::BalanceState,
};

impl Shard {
    /// Makes room ahead, so that remembering `ids` ids allocates nothing.
    ///
    /// # Errors
    ///
    /// [`ShardError::WindowFull`] if the ids do not fit.
    pub fn reserve(&mut self, ids: u64) -> Result<(), ShardError> {
        for state in &mut self.partitions {
            state
                .window
                .reserve(ids)
                .map_err(|source| ShardError::WindowFull { source })?;
        }
        Ok(())
    }

    /// Takes over an account from the store.
    ///
    /// # Panics
    ///
    /// If its user is not in the shard's range, or user or account are bound otherwise already.
    pub fn load_account(
        &mut self,
        user_hash: u64,
        user: &str,
        account_id: AccountId,
    ) -> AccountHandle {
        assert!(
            self.settings.range.contains(user_hash),
            "user {user:?} lies outside the shard's range"
        );
        match self.book.open(user_hash, user.as_bytes(), account_id) {
            Opened::New(handle) => handle,
            other => panic!("account {account_id} of user {user:?} was loaded twice: {other:?}"),
        }
    }

    /// Takes over a balance from the store.
    ///
    /// # Panics
    ///
    /// If an amount is negative, the version is 0, or the balance was loaded before.
    pub fn load_balance(
        &mut self,
        user_hash: u64,
        account: AccountHandle,
        currency: Currency,
        state: BalanceState,
    ) {
        assert!(
            !state.available.is_negative() && !state.frozen.is_negative() && state.version > 0,
            "a stored balance that cannot be: {state:?}"
        );
        assert!(
            self.book.find_of(account, user_hash, currency).is_none(),
            "the {currency} balance of account {} was loaded twice",
            self.book.account_id(account)
        );
        let slot = self.book.create(account, user_hash, currency);
        self.book
            .slot_mut(slot)
            .restore(state.available, state.frozen, state.version);
    }

    /// Takes over a transaction id from the store. `now_ms` is the clock of its partition where
    /// reading begins; ids forgotten by then are passed over, later ones wait for the clock.
    ///
    /// # Errors
    ///
    /// [`ShardError::WindowFull`] if it does not fit.
    ///
    /// # Panics
    ///
    /// If the shard does not know the partition.
    pub fn load_id(
        &mut self,
        partition: Partition,
        id: &IdHash,
        remembered_ms: i64,
        now_ms: i64,
    ) -> Result<(), ShardError> {
        let index = self.partition_index(partition);
        self.partitions[index].load(id, remembered_ms, now_ms)
    }

    /// Whether the window holds an id already that [`load_id`](Self::load_id) was given.
    ///
    /// # Panics
    ///
    /// If the shard does not know the partition.
    pub(crate) fn has_loaded(&mut self, partition: Partition, id: &IdHash, now_ms: i64) -> bool {
        let index = self.partition_index(partition);
        let window = &mut self.partitions[index].window;
        window.advance(now_ms as u64);
        window.contains(id)
    }
}
