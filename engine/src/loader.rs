//! Fills shards from a store, before the first record.

use std::collections::HashMap;

use crate::{
    AccountId, Currency, HashRange, Partition,
    book::AccountHandle,
    hash::{IdHash, key_hash},
    ledger::BalanceState,
    leg::LegName,
    partitioner::Partitioner,
    range::shard_of,
    shard::{Shard, ShardError, ShardSettings},
};

/// Why what a store holds cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A balance or a ledger entry of an account that the store does not have.
    #[error(
        "the store has no account {account_id}, but a balance or a ledger entry of it; run kilter audit"
    )]
    NoAccount {
        /// The account.
        account_id: AccountId,
    },
    /// An account is there twice.
    #[error("the store has account {account_id} twice; run kilter audit")]
    AccountTwice {
        /// The account.
        account_id: AccountId,
    },
    /// The window does not hold what must be remembered.
    #[error("the transaction ids of the idempotency window cannot be loaded")]
    Window(#[source] ShardError),
}

/// Spreads accounts, balances and remembered ids over shards, each to the one that owns its user.
pub struct Loader {
    shards: Vec<Shard>,
    accounts: HashMap<AccountId, Place>,
}

#[derive(Clone, Copy)]
struct Place {
    user_hash: u64,
    handle: AccountHandle,
}

impl Loader {
    /// A loader for `shards` empty shards with equal settings.
    ///
    /// # Panics
    ///
    /// If `shards` is 0.
    pub fn new(shards: usize, settings: &ShardSettings) -> Self {
        assert!(shards > 0, "no shards");
        let shards = (0..shards)
            .map(|index| {
                Shard::new(ShardSettings {
                    range: HashRange::of_shard(index as u32, shards as u32),
                    ..settings.clone()
                })
            })
            .collect();
        Self {
            shards,
            accounts: HashMap::new(),
        }
    }

    /// Takes an account. All accounts come before the first balance or id.
    ///
    /// # Errors
    ///
    /// [`LoadError::AccountTwice`].
    pub fn account(&mut self, account_id: AccountId, user: &str) -> Result<(), LoadError> {
        let user_hash = key_hash(user.as_bytes());
        if self.accounts.contains_key(&account_id) {
            return Err(LoadError::AccountTwice { account_id });
        }
        let shard = self.shard_of(user_hash);
        let handle = self.shards[shard].load_account(user_hash, user, account_id);
        self.accounts
            .insert(account_id, Place { user_hash, handle });
        Ok(())
    }

    /// Takes a balance.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoAccount`].
    pub fn balance(
        &mut self,
        account_id: AccountId,
        currency: Currency,
        state: BalanceState,
    ) -> Result<(), LoadError> {
        let place = self.place(account_id)?;
        let shard = self.shard_of(place.user_hash);
        self.shards[shard].load_balance(place.user_hash, place.handle, currency, state);
        Ok(())
    }

    /// Takes the id of a ledger entry that is not older than the window at `now_ms`, its
    /// partition's clock.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoAccount`], [`LoadError::Window`].
    pub fn remembered(
        &mut self,
        account_id: AccountId,
        transaction_id: &str,
        partition: Partition,
        remembered_ms: i64,
        now_ms: i64,
    ) -> Result<(), LoadError> {
        let place = self.place(account_id)?;
        let index = self.shard_of(place.user_hash);
        let shard = &mut self.shards[index];
        let id = IdHash::of(shard.book().user(place.handle), transaction_id.as_bytes());
        shard
            .load_id(partition, &id, remembered_ms, now_ms)
            .map_err(LoadError::Window)
    }

    /// As [`remembered`](Self::remembered), in the partition that the user has now among `count`,
    /// for entries of a log that had others; `now_ms` gives the clock of each partition that the
    /// shards own. Whether it was theirs.
    ///
    /// # Errors
    ///
    /// [`LoadError::Window`].
    pub fn remembered_by_user(
        &mut self,
        account_id: AccountId,
        transaction_id: &str,
        remembered_ms: i64,
        count: u32,
        now_ms: impl Fn(Partition) -> Option<i64>,
    ) -> Result<bool, LoadError> {
        let Some(place) = self.accounts.get(&account_id).copied() else {
            return Ok(false);
        };
        let index = self.shard_of(place.user_hash);
        let shard = &mut self.shards[index];
        let user = shard.book().user(place.handle);
        let partition = Partition::new(Partitioner::Murmur2.partition(user, count));
        let Some(now_ms) = now_ms(partition) else {
            return Ok(false);
        };
        let id = IdHash::of(user, transaction_id.as_bytes());
        shard
            .load_id(partition, &id, remembered_ms, now_ms)
            .map_err(LoadError::Window)?;
        Ok(true)
    }

    /// As [`remembered`](Self::remembered), for a source that may name an id several times.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remembered_once(
        &mut self,
        account_id: AccountId,
        transaction_id: &str,
        partition: Partition,
        remembered_ms: i64,
        now_ms: i64,
    ) -> Result<(), LoadError> {
        let place = self.place(account_id)?;
        let index = self.shard_of(place.user_hash);
        let shard = &mut self.shards[index];
        let id = IdHash::of(shard.book().user(place.handle), transaction_id.as_bytes());
        if shard.has_loaded(partition, &id, now_ms) {
            return Ok(());
        }
        shard
            .load_id(partition, &id, remembered_ms, now_ms)
            .map_err(LoadError::Window)
    }

    /// Takes the name of a leg that was answered for `user`, whatever account it named. `now_ms` is
    /// its partition's clock. A name may come several times.
    ///
    /// # Errors
    ///
    /// [`LoadError::Window`].
    pub fn remembered_leg(
        &mut self,
        user: &str,
        name: &LegName,
        partition: Partition,
        remembered_ms: i64,
        now_ms: i64,
    ) -> Result<(), LoadError> {
        let index = self.shard_of(key_hash(user.as_bytes()));
        let id = IdHash::of_leg(name);
        let shard = &mut self.shards[index];
        if shard.has_loaded(partition, &id, now_ms) {
            return Ok(());
        }
        shard
            .load_id(partition, &id, remembered_ms, now_ms)
            .map_err(LoadError::Window)
    }

    /// As [`remembered_leg`](Self::remembered_leg), in the partition that the user has now among
    /// `count`, as [`remembered_by_user`](Self::remembered_by_user) does for ids.
    ///
    /// # Errors
    ///
    /// [`LoadError::Window`].
    pub fn remembered_leg_by_user(
        &mut self,
        user: &str,
        name: &LegName,
        remembered_ms: i64,
        count: u32,
        now_ms: impl Fn(Partition) -> Option<i64>,
    ) -> Result<bool, LoadError> {
        let partition = Partitioner::Murmur2.partition(user.as_bytes(), count);
        let partition = Partition::new(partition);
        let Some(now_ms) = now_ms(partition) else {
            return Ok(false);
        };
        self.remembered_leg(user, name, partition, remembered_ms, now_ms)?;
        Ok(true)
    }

    /// The filled shards, in the order of their ranges.
    pub fn finish(self) -> Vec<Shard> {
        self.shards
    }

    fn shard_of(&self, user_hash: u64) -> usize {
        shard_of(user_hash, self.shards.len() as u32) as usize
    }

    fn place(&self, account_id: AccountId) -> Result<Place, LoadError> {
        self.accounts
            .get(&account_id)
            .copied()
            .ok_or(LoadError::NoAccount { account_id })
    }
}
