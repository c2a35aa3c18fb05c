//! Whose accounts are, as far as that was asked: bound once, for ever, so what was read stays true.

use std::collections::HashMap;

use kilter_engine::AccountId;

/// How many are known at once; about 100 bytes each. One more, and all are forgotten.
const OWNERS_MAX: usize = 1 << 17;

/// Accounts and their users. Nothing comes in before it is durable.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<AccountId, Box<[u8]>>);

impl Owners {
    /// The user of an account, if that is known.
    pub(super) fn of(&self, account_id: AccountId) -> Option<&[u8]> {
        self.0.get(&account_id).map(|user| &**user)
    }

    /// Keeps what the log says.
    pub(super) fn learn(&mut self, account_id: AccountId, user: Box<[u8]>) {
        if self.0.len() >= OWNERS_MAX {
            self.0.clear();
        }
        self.0.insert(account_id, user);
    }
}
