//! Whose an account is: bound once, for ever, so what was read once stays true.

use kilter_engine::{AccountId, Partition};
use quick_cache::sync::Cache;

/// How many accounts are known at once; about 100 bytes each.
const ACCOUNTS_MAX: usize = 1 << 20;

/// Who owns an account, and where his records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user_id: Box<str>,
    /// The partition that his records come by.
    pub partition: Partition,
}

/// Owners that were looked up before. Those that were not asked for lately make room for others.
pub struct Accounts(Cache<AccountId, Owner>);

impl Default for Accounts {
    fn default() -> Self {
        Self(Cache::new(ACCOUNTS_MAX))
    }
}

impl Accounts {
    /// The owner, if he is known already.
    pub fn owner(&self, account_id: AccountId) -> Option<Owner> {
        self.0.get(&account_id)
    }

    /// Keeps what was read.
    pub fn learn(&self, account_id: AccountId, owner: Owner) {
        self.0.insert(account_id, owner);
    }
}
