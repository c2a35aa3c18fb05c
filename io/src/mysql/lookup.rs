//! Single rows for whoever asks now: what is committed at this moment, not a snapshot.

use kilter_engine::AccountId;
use mysql::{Params, Row, prelude::Queryable};

use super::{
    connection::Db,
    error::{MysqlError, failed},
    held::Held,
    reader::{Cells, ENTRY, JOIN, account, entry, ms},
    settings::MysqlSettings,
};
use crate::rows::{AccountRow, BalanceRow, LedgerRow};

/// Where a page of the ledger begins: behind the entry of this generation, partition, offset and
/// posting.
pub type EntryPlace = (u32, u32, u64, u16);

/// A balance and when it changed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedBalance {
    /// The balance.
    pub row: BalanceRow,
    /// The log's time of the epoch that changed it, in ms since 1970.
    pub updated_at_ms: i64,
}

/// Reads single rows by their keys. Connects when it is asked, and once more when a connection that
/// was idle turns out to be gone; every statement has the deadline of its settings.
#[derive(Debug)]
pub struct MysqlLookup {
    held: Held,
}

impl MysqlLookup {
    /// A reader of this store; nothing is asked of it yet.
    pub fn new(settings: MysqlSettings) -> Self {
        Self {
            held: Held::new(settings),
        }
    }

    /// The account of an id, PENDING or ACTIVE.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn account(&mut self, id: AccountId) -> Result<Option<AccountRow>, MysqlError> {
        const SQL: &str = concat!(
            "SELECT id, user_id, shard_id, CAST(state AS CHAR), ",
            ms!("created_at"),
            " FROM accounts WHERE id = ?"
        );
        self.first("read an account", SQL, (id.get(),), account)
    }

    /// The account of a user, PENDING or ACTIVE.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn account_of(&mut self, user: &str) -> Result<Option<AccountRow>, MysqlError> {
        const SQL: &str = concat!(
            "SELECT id, user_id, shard_id, CAST(state AS CHAR), ",
            ms!("created_at"),
            " FROM accounts WHERE user_id = ?"
        );
        self.first("read an account", SQL, (user.as_bytes(),), account)
    }

    /// One balance.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn balance(
        &mut self,
        id: AccountId,
        currency: &str,
    ) -> Result<Option<TimedBalance>, MysqlError> {
        const SQL: &str = concat!(
            "SELECT account_id, currency_code, available, frozen, version, ",
            ms!("updated_at"),
            " FROM account_balances WHERE account_id = ? AND currency_code = ?"
        );
        let key = (id.get(), currency.as_bytes());
        self.first("read a balance", SQL, key, |mut cells| {
            Ok(TimedBalance {
                row: BalanceRow {
                    account_id: cells.next::<i64>()? as u64,
                    currency_code: cells.text()?,
                    available: cells.amount()?,
                    frozen: cells.amount()?,
                    version: cells.next()?,
                },
                updated_at_ms: cells.next()?,
            })
        })
    }

    /// The first ledger entries of an account behind a place, at most `most`, by generation,
    /// partition, offset and posting.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn entries(
        &mut self,
        id: AccountId,
        behind: Option<EntryPlace>,
        most: u32,
    ) -> Result<Vec<LedgerRow>, MysqlError> {
        let Some((generation, partition, offset, posting)) = behind else {
            return self.entries_where(id, "", most);
        };
        // Spelled out instead of compared as a row: no server uses the key for that.
        let here = format!(
            "AND t.generation = {generation} AND t.`partition` = {partition} AND t.`offset` >= {offset} \
             AND (t.`offset` > {offset} OR t.posting > {posting})"
        );
        let mut rows = self.entries_where(id, &here, most)?;
        let left = most.saturating_sub(rows.len() as u32);
        if left > 0 {
            let later = format!(
                "AND t.generation >= {generation} \
                 AND (t.generation > {generation} OR t.`partition` > {partition})"
            );
            rows.extend(self.entries_where(id, &later, left)?);
        }
        Ok(rows)
    }

    fn entries_where(
        &mut self,
        id: AccountId,
        place: &str,
        most: u32,
    ) -> Result<Vec<LedgerRow>, MysqlError> {
        let sql = format!(
            "SELECT {ENTRY} FROM balance_transactions AS t FORCE INDEX (account) {JOIN} \
             WHERE t.account_id = {id} {place} \
             ORDER BY t.generation, t.`partition`, t.`offset`, t.posting LIMIT {most}"
        );
        self.rows("read the ledger", entry, |db| db.conn.query(&sql))
    }

    fn first<T>(
        &mut self,
        what: &'static str,
        sql: &str,
        key: impl Into<Params>,
        read: impl Fn(Cells) -> Result<T, MysqlError>,
    ) -> Result<Option<T>, MysqlError> {
        let key = key.into();
        let rows = self.rows(what, read, |db| db.conn.exec(sql, key.clone()))?;
        Ok(rows.into_iter().next())
    }

    fn rows<T>(
        &mut self,
        what: &'static str,
        read: impl Fn(Cells) -> Result<T, MysqlError>,
        ask: impl Fn(&mut Db) -> mysql::Result<Vec<Row>>,
    ) -> Result<Vec<T>, MysqlError> {
        let rows = self.held.read(|db| ask(db).map_err(failed(what)))?;
        rows.into_iter()
            .map(|row| read(Cells::of(row, what)))
            .collect()
    }
}
