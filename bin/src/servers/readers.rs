//! What reads for clients on servers: Redis first, else the store.

use kilter_engine::{AccountId, Currency, Partition, Position};
use kilter_io::{
    api::{BalanceRead, Problem, Source},
    mysql::{MysqlLookup, MysqlSettings, TransactionLookup},
    outbox::{Lookup, LookupError, TransactionState},
    redis::{RedisLookup, RedisSettings},
    rows::{BalanceRow, LedgerRow},
};

use super::settings::{kafka_settings, mysql_settings};
use crate::{
    config::Config,
    front::{Owner, Reader, away},
    servers::redis::redis_settings,
};

/// What one thread reads with; it connects when it is asked.
pub struct Readers {
    mysql: MysqlLookup,
    transactions: TransactionLookup,
    redis: Option<RedisLookup>,
}

impl Readers {
    /// Readers of the servers that the settings name.
    pub fn new(config: &Config) -> Self {
        let mysql = MysqlSettings {
            // Somebody waits.
            statement_timeout: config
                .mysql
                .statement_timeout
                .min(config.api.request_timeout),
            ..mysql_settings(config)
        };
        let kafka = kafka_settings(config);
        let redis = config.api.read_redis.then(|| redis_settings(config));
        Self {
            redis: redis
                .as_ref()
                .map(|redis: &RedisSettings| RedisLookup::new(redis)),
            transactions: TransactionLookup::new(mysql.clone(), kafka.group, kafka.commands),
            mysql: MysqlLookup::new(mysql),
        }
    }
}

impl Lookup for Readers {
    fn transaction(
        &mut self,
        user_id: &str,
        transaction_id: &str,
    ) -> Result<Option<TransactionState>, LookupError> {
        self.transactions.transaction(user_id, transaction_id)
    }
}

impl Reader for Readers {
    fn owner(&mut self, account_id: AccountId) -> Result<Option<Owner>, Problem> {
        let row = self
            .mysql
            .account(account_id)
            .map_err(|error| away(&error))?;
        Ok(row.map(|row| Owner {
            user_id: row.user_id.into(),
            partition: Partition::new(row.shard_id),
        }))
    }

    fn balance(
        &mut self,
        partition: Partition,
        (account_id, currency): (AccountId, Currency),
        min_version: u64,
    ) -> Result<Option<BalanceRead>, Problem> {
        let cached = self.redis.as_mut().and_then(|redis| {
            match redis.balance(account_id, currency, partition) {
                Ok(cached) => cached,
                Err(error) => {
                    tracing::debug!(%error, "Redis is asked in vain");
                    None
                }
            }
        });
        if let Some(cached) = cached.filter(|cached| cached.version >= min_version) {
            return Ok(Some(BalanceRead {
                row: BalanceRow {
                    account_id: account_id.get(),
                    currency_code: currency.as_str().to_owned(),
                    available: cached.available.to_string(),
                    frozen: cached.frozen.to_string(),
                    version: cached.version,
                },
                updated_at_ms: cached.written_at_ms,
                source: Source::Redis,
            }));
        }
        let stored = self
            .mysql
            .balance(account_id, currency.as_str())
            .map_err(|error| away(&error))?;
        Ok(stored.map(|stored| BalanceRead {
            row: stored.row,
            updated_at_ms: stored.updated_at_ms,
            source: Source::Store,
        }))
    }

    fn entries(
        &mut self,
        account_id: AccountId,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, Problem> {
        let behind = after.map(|at| {
            let (generation, partition) = (at.generation.get(), at.partition.get());
            (generation, partition, at.offset.get(), at.posting.get())
        });
        let most = u32::try_from(limit).unwrap_or(u32::MAX);
        let entries = self.mysql.entries(account_id, behind, most);
        entries.map_err(|error| away(&error))
    }
}
