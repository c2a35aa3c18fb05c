//! Which account is whose: claimed once, for ever, before any shard sees the OPEN.

use std::collections::HashMap;

use kilter_engine::{AccountId, Partition};
use mysql::prelude::Queryable;

use super::{
    connection::Db,
    error::{MysqlError, failed},
};
use crate::hex::hex;

/// How many pairs go in one statement.
const CHUNK: usize = 1000;

/// An OPEN's wish, in log order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The account.
    pub account_id: AccountId,
    /// Its user.
    pub user: Vec<u8>,
    /// The user's partition.
    pub partition: Partition,
}

/// Claims pairs of account and user by the unique keys of `accounts`. The first in the store wins,
/// whichever node or partition it came from, and a claim is durable when this returns.
#[derive(Debug, Default)]
pub struct Claims {
    by_account: HashMap<u64, Vec<u8>>,
    by_user: HashMap<Vec<u8>, u64>,
}

impl Claims {
    /// Settles wishes; whether each is bound now, by this call or an earlier one. A wish that fails
    /// claims nothing.
    ///
    /// # Errors
    ///
    /// When the store cannot be used. What was claimed stays claimed, and asking again gives the
    /// same verdicts.
    pub fn settle(&mut self, db: &mut Db, wishes: &[Wish]) -> Result<Vec<bool>, MysqlError> {
        let mut verdicts = Vec::with_capacity(wishes.len());
        for chunk in wishes.chunks(CHUNK) {
            verdicts.extend(self.settle_chunk(db, chunk)?);
        }
        Ok(verdicts)
    }

    /// Which wishes are bound now; claims nothing.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn look(&mut self, db: &mut Db, wishes: &[Wish]) -> Result<Vec<bool>, MysqlError> {
        let mut verdicts = Vec::with_capacity(wishes.len());
        for chunk in wishes.chunks(CHUNK) {
            self.by_account.clear();
            self.by_user.clear();
            self.read(db, chunk)?;
            verdicts.extend(chunk.iter().map(|wish| self.is_bound(wish)));
        }
        Ok(verdicts)
    }

    fn is_bound(&self, wish: &Wish) -> bool {
        self.by_account.get(&wish.account_id.get()) == Some(&wish.user)
    }

    fn settle_chunk(&mut self, db: &mut Db, wishes: &[Wish]) -> Result<Vec<bool>, MysqlError> {
        self.by_account.clear();
        self.by_user.clear();
        self.read(db, wishes)?;
        // In log order, in memory: who of this batch comes first.
        let mut winners: Vec<&Wish> = Vec::new();
        for wish in wishes {
            let account = wish.account_id.get();
            if self.by_account.contains_key(&account) || self.by_user.contains_key(&wish.user) {
                continue;
            }
            self.by_account.insert(account, wish.user.clone());
            self.by_user.insert(wish.user.clone(), account);
            winners.push(wish);
        }
        if !winners.is_empty() {
            // Ascending, so that two nodes never wait for each other in a circle.
            winners.sort_by_key(|wish| wish.account_id);
            insert(db, &winners)?;
            // Another node may have been first after all.
            self.by_account.clear();
            self.by_user.clear();
            self.read(db, wishes)?;
        }
        Ok(wishes.iter().map(|wish| self.is_bound(wish)).collect())
    }

    fn read(&mut self, db: &mut Db, wishes: &[Wish]) -> Result<(), MysqlError> {
        let ids: Vec<String> = wishes
            .iter()
            .map(|wish| wish.account_id.get().to_string())
            .collect();
        let users: Vec<String> = wishes
            .iter()
            .map(|wish| format!("x'{}'", hex(&wish.user)))
            .collect();
        let rows: Vec<(u64, Vec<u8>)> = db
            .conn
            .query(format!(
                "SELECT id, user_id FROM accounts WHERE id IN ({}) \
                 UNION ALL SELECT id, user_id FROM accounts WHERE user_id IN ({})",
                ids.join(","),
                users.join(",")
            ))
            .map_err(failed("read account claims"))?;
        for (id, user) in rows {
            self.by_user.insert(user.clone(), id);
            self.by_account.insert(id, user);
        }
        Ok(())
    }
}

fn insert(db: &mut Db, winners: &[&Wish]) -> Result<(), MysqlError> {
    let values: Vec<String> = winners
        .iter()
        .map(|wish| {
            format!(
                "({},x'{}',{},UTC_TIMESTAMP(3),UTC_TIMESTAMP(3),'PENDING')",
                wish.account_id.get(),
                hex(&wish.user),
                wish.partition.get()
            )
        })
        .collect();
    db.run(
        "claim accounts",
        &format!(
            "INSERT INTO accounts (id, user_id, shard_id, created_at, updated_at, state) \
             VALUES {} ON DUPLICATE KEY UPDATE id = accounts.id",
            values.join(",")
        ),
    )
}
