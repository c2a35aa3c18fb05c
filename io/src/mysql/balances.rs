//! All balances, a page at a time, for the projection.

use kilter_engine::{AccountId, Amount, Currency, Partition, epoch::BalanceImage};
use mysql::prelude::Queryable;

use super::{
    connection::Db,
    error::{MysqlError, failed},
    settings::MysqlSettings,
};
use crate::redis::{BalanceSource, OpenSource, SourceError, SourceRow};

/// Reads committed balances in the order of their key.
pub struct BalancePages {
    db: Db,
}

impl BalancePages {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub fn open(settings: &MysqlSettings) -> Result<Self, MysqlError> {
        Ok(Self {
            db: Db::open(settings)?,
        })
    }

    /// What opens such pages, again and again.
    pub fn opener(settings: MysqlSettings) -> OpenSource {
        Box::new(move || match Self::open(&settings) {
            Ok(pages) => Ok(Box::new(pages) as Box<dyn BalanceSource>),
            Err(error) => Err(error.into()),
        })
    }

    fn rows(
        &mut self,
        after: Option<(AccountId, Currency)>,
        limit: usize,
    ) -> Result<Vec<SourceRow>, MysqlError> {
        type Row = (u64, String, String, String, u64, Option<u32>);
        // Spelled out instead of compared as a pair: no server uses the key for that.
        let behind = match after {
            None => String::new(),
            Some((account, currency)) => format!(
                "WHERE b.account_id > {id} OR (b.account_id = {id} AND b.currency_code > '{code}')",
                id = account.get(),
                code = currency.as_str()
            ),
        };
        let rows: Vec<Row> = self
            .db
            .conn
            .query(format!(
                "SELECT b.account_id, b.currency_code, b.available, b.frozen, b.version, \
                 a.shard_id FROM account_balances AS b LEFT JOIN accounts AS a \
                 ON a.id = b.account_id {behind} \
                 ORDER BY b.account_id, b.currency_code LIMIT {limit}"
            ))
            .map_err(failed("read balances"))?;
        rows.into_iter().map(image).collect()
    }
}

fn image(
    (id, code, available, frozen, version, partition): (
        u64,
        String,
        String,
        String,
        u64,
        Option<u32>,
    ),
) -> Result<BalanceImage, MysqlError> {
    let corrupt = |what: &str| MysqlError::Corrupt {
        what: format!("account {id} has a {code:?} balance with {what}"),
    };
    let amount = |text: &str| text.parse::<Amount>().map_err(|_| corrupt("no amount"));
    Ok(BalanceImage {
        account_id: AccountId::new(id).ok_or_else(|| corrupt("an id that cannot be"))?,
        currency: Currency::parse(code.as_bytes()).map_err(|_| corrupt("no currency"))?,
        available: amount(&available)?,
        frozen: amount(&frozen)?,
        version,
        partition: Partition::new(partition.unwrap_or(0)),
    })
}

impl BalanceSource for BalancePages {
    fn page(
        &mut self,
        after: Option<(AccountId, Currency)>,
        limit: usize,
    ) -> Result<Vec<SourceRow>, SourceError> {
        Ok(self.rows(after, limit)?)
    }
}
