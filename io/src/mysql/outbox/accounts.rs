//! Which account is whose, as the front door has to know it.

use std::collections::HashMap;

use mysql::prelude::Queryable;

use crate::hex::hex;
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};

/// A row of `accounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) id: u64,
    pub(super) user: Vec<u8>,
    pub(super) is_active: bool,
}

/// Bindings that were seen. A binding never changes, so that one that was seen holds for ever; that
/// there is none may change any time, and is asked again.
#[derive(Debug)]
pub(super) struct Accounts {
    users: HashMap<u64, Box<[u8]>>,
    max: usize,
}

impl Accounts {
    /// Remembers about so many bindings: what one batch reads is always kept for that batch.
    pub(super) fn new(max: usize) -> Self {
        Self {
            users: HashMap::new(),
            max,
        }
    }

    /// Makes room for what a batch is about to read. Never within a batch: one that was told apart by
    /// what is remembered needs it until its end.
    pub(super) fn make_room(&mut self, count: usize) {
        if self.users.len() + count > self.max {
            self.users.clear();
        }
    }

    /// The user of an account, if it was seen.
    pub(super) fn user_of(&self, account_id: u64) -> Option<&[u8]> {
        self.users.get(&account_id).map(|user| &**user)
    }

    /// Reads accounts by id and by user, and remembers them.
    pub(super) fn read(
        &mut self,
        db: &mut Db,
        ids: &[u64],
        users: &[&[u8]],
    ) -> Result<Vec<Account>, MysqlError> {
        let select = "SELECT id, user_id, state = 'ACTIVE' FROM accounts WHERE";
        let mut parts = Vec::new();
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            parts.push(format!("{select} id IN ({})", ids.join(",")));
        }
        if !users.is_empty() {
            let users: Vec<String> = users
                .iter()
                .map(|user| format!("x'{}'", hex(user)))
                .collect();
            parts.push(format!("{select} user_id IN ({})", users.join(",")));
        }
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<(u64, Vec<u8>, bool)> = db
            .conn
            .query(parts.join(" UNION ALL "))
            .map_err(failed("read accounts"))?;
        let account = |(id, user, is_active): (u64, Vec<u8>, bool)| {
            self.users.insert(id, user.clone().into());
            Account {
                id,
                user,
                is_active,
            }
        };
        Ok(rows.into_iter().map(account).collect())
    }
}
