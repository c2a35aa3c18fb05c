//! Loads shards from one consistent snapshot: accounts, balances, and the ids of the window.

use std::time::{Duration, Instant};

use kilter_engine::{
    AccountId, Amount, Currency, Generation, LegName, Partition,
    ledger::BalanceState,
    loader::{LoadError, Loader},
};
use mysql::{Row, prelude::Queryable};

use super::{
    connection::Db,
    error::{MysqlError, failed},
    rows::list,
};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How many ledger rows are read at once, from the end of a partition backwards.
const CHUNK: usize = 50_000;

/// What was loaded, and how much there is in all by the server's estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Accounts.
    pub accounts: u64,
    /// Balances.
    pub balances: u64,
    /// Transaction ids.
    pub ids: u64,
    /// About how many accounts and balances there are.
    pub expected: u64,
    /// Rows a second, so far.
    pub rows_per_s: u64,
}

/// Why loading failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] MysqlError),
    /// What it holds cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Somebody asked to stop.
    #[error("stopped while loading")]
    Stopped,
}

/// What to load.
#[derive(Clone, Debug)]
pub struct LoadAsked<'a> {
    /// The partitions, each with the clock where reading begins.
    pub partitions: &'a [(Partition, i64)],
    /// How many partitions the topic has.
    pub partition_count: u32,
    /// The present log generation.
    pub generation: Generation,
    /// The window, in ms.
    pub window_ms: u64,
    /// Whether ids come from the ledger here; else from the result topic.
    pub ids: bool,
}

/// Loads everything that a replay must know into `loader`, streamed, from one snapshot.
///
/// `tell` hears about once a second how far it is, and says whether to go on.
///
/// # Errors
///
/// When the store cannot be read, holds what cannot be, or `tell` says to stop.
pub fn load(
    db: &mut Db,
    loader: &mut Loader,
    asked: &LoadAsked<'_>,
    tell: &mut dyn FnMut(&Loaded) -> bool,
) -> Result<Loaded, LoadFailure> {
    db.run(
        "begin to load",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    )?;
    // READ COMMITTED would ignore the snapshot.
    db.run(
        "begin to load",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    )?;
    let expected: Option<Option<u64>> = db
        .conn
        .query_first(
            "SELECT CAST(sum(table_rows) AS UNSIGNED) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name IN ('accounts', 'account_balances')",
        )
        .map_err(failed("estimate how much there is"))?;
    let mut told = Told {
        now: Loaded {
            expected: expected.flatten().unwrap_or(0),
            ..Loaded::default()
        },
        began: Instant::now(),
        last: Instant::now(),
        tell,
    };
    accounts(db, loader, asked, &mut told)?;
    balances(db, loader, asked, &mut told)?;
    if asked.ids {
        ids(db, loader, asked, &mut told)?;
    }
    db.run("end loading", "COMMIT")?;
    Ok(told.now)
}

struct Told<'a> {
    now: Loaded,
    began: Instant,
    last: Instant,
    tell: &'a mut dyn FnMut(&Loaded) -> bool,
}

impl Told<'_> {
    fn count(&mut self, which: fn(&mut Loaded) -> &mut u64) -> Result<(), LoadFailure> {
        let count = which(&mut self.now);
        *count += 1;
        if count.is_multiple_of(4096) && self.last.elapsed() >= PROGRESS_INTERVAL {
            self.last = Instant::now();
            let rows = self.now.accounts + self.now.balances + self.now.ids;
            self.now.rows_per_s = rows * 1000 / (self.began.elapsed().as_millis() as u64).max(1);
            if !(self.tell)(&self.now) {
                return Err(LoadFailure::Stopped);
            }
        }
        Ok(())
    }
}

fn own(asked: &LoadAsked<'_>, column: &str) -> String {
    if asked.partitions.len() as u32 == asked.partition_count {
        "1".to_owned()
    } else {
        let own = list(
            asked
                .partitions
                .iter()
                .map(|(partition, _)| partition.get()),
        );
        format!("{column} IN ({own})")
    }
}

fn accounts(
    db: &mut Db,
    loader: &mut Loader,
    asked: &LoadAsked<'_>,
    told: &mut Told<'_>,
) -> Result<(), LoadFailure> {
    let failed = failed("read accounts");
    let rows = db
        .conn
        .query_iter(format!(
            "SELECT id, user_id FROM accounts WHERE state = 'ACTIVE' AND {}",
            own(asked, "shard_id")
        ))
        .map_err(failed)?;
    for row in rows {
        let (id, user): (i64, Vec<u8>) = cells(row.map_err(failed)?, "an account")?;
        let user = String::from_utf8(user).map_err(|_| MysqlError::Corrupt {
            what: format!("the user of account {id} is no text"),
        })?;
        loader.account(account_id(id)?, &user)?;
        told.count(|now| &mut now.accounts)?;
    }
    Ok(())
}

fn balances(
    db: &mut Db,
    loader: &mut Loader,
    asked: &LoadAsked<'_>,
    told: &mut Told<'_>,
) -> Result<(), LoadFailure> {
    let failed = failed("read balances");
    let all = asked.partitions.len() as u32 == asked.partition_count;
    let from = if all {
        "account_balances AS b".to_owned()
    } else {
        format!(
            "account_balances AS b JOIN accounts AS a ON a.id = b.account_id AND {}",
            own(asked, "a.shard_id")
        )
    };
    let rows = db
        .conn
        .query_iter(format!(
            "SELECT b.account_id, b.currency_code, b.available, b.frozen, b.version FROM {from}"
        ))
        .map_err(failed)?;
    for row in rows {
        type Balance = (i64, String, String, String, u64);
        let (id, code, available, frozen, version): Balance =
            cells(row.map_err(failed)?, "a balance")?;
        let amount = |text: &str| {
            text.parse::<Amount>().map_err(|_| MysqlError::Corrupt {
                what: format!("account {id} has the balance {text:?}"),
            })
        };
        let currency = Currency::parse(code.as_bytes()).map_err(|_| MysqlError::Corrupt {
            what: format!("account {id} has the currency {code:?}"),
        })?;
        let state = BalanceState {
            available: amount(&available)?,
            frozen: amount(&frozen)?,
            version,
        };
        if state.available.is_negative() || state.frozen.is_negative() || version == 0 {
            return Err(LoadFailure::Store(MysqlError::Corrupt {
                what: format!("the {code} balance of account {id} cannot be: {state:?}"),
            }));
        }
        loader.balance(account_id(id)?, currency, state)?;
        told.count(|now| &mut now.balances)?;
    }
    Ok(())
}

/// The ids that may still be alive: those of the present log by its partitions, those of earlier ones
/// wherever they lie, each in the partition that its user has now.
fn ids(
    db: &mut Db,
    loader: &mut Loader,
    asked: &LoadAsked<'_>,
    told: &mut Told<'_>,
) -> Result<(), LoadFailure> {
    for &(partition, clock_ms) in asked.partitions {
        let place = Place {
            generation: asked.generation.get(),
            partition: partition.get(),
            clock_ms,
        };
        newest_first(
            db,
            asked,
            place,
            told,
            &mut |account, name, remembered_ms| {
                match name {
                    Name::Id(text) => {
                        loader.remembered(account, text, partition, remembered_ms, clock_ms)?;
                    }
                    Name::Leg(user, leg) => {
                        loader.remembered_leg(user, &leg, partition, remembered_ms, clock_ms)?;
                    }
                }
                Ok(true)
            },
        )?;
    }
    legacy_ids(db, loader, asked, told)?;
    let earlier: Vec<(u32, u32)> = db
        .conn
        .exec(
            "SELECT generation, partitions FROM kilter_logs WHERE generation < ? \
             ORDER BY generation DESC",
            (asked.generation.get(),),
        )
        .map_err(failed("read transaction ids"))?;
    let clock = |partition: Partition| {
        let own = asked.partitions.iter().find(|(own, _)| *own == partition);
        own.map(|(_, clock_ms)| *clock_ms)
    };
    let oldest_clock = asked.partitions.iter().map(|(_, clock_ms)| *clock_ms).min();
    for (generation, partitions) in earlier {
        for partition in 0..partitions {
            let place = Place {
                generation,
                partition,
                clock_ms: oldest_clock.unwrap_or(0),
            };
            newest_first(
                db,
                asked,
                place,
                told,
                &mut |account, name, remembered_ms| {
                    let count = asked.partition_count;
                    match name {
                        Name::Id(text) => {
                            loader.remembered_by_user(account, text, remembered_ms, count, clock)
                        }
                        Name::Leg(user, leg) => {
                            loader.remembered_leg_by_user(user, &leg, remembered_ms, count, clock)
                        }
                    }
                },
            )?;
        }
    }
    Ok(())
}

/// The ids that an older system answered.
fn legacy_ids(
    db: &mut Db,
    loader: &mut Loader,
    asked: &LoadAsked<'_>,
    told: &mut Told<'_>,
) -> Result<(), LoadFailure> {
    let failed = failed("read transaction ids of an older system");
    let clock = |partition: Partition| {
        let own = asked.partitions.iter().find(|(own, _)| *own == partition);
        own.map(|(_, clock_ms)| *clock_ms)
    };
    let rows = db
        .conn
        .query_iter("SELECT account_id, transaction_id, remembered_ms FROM kilter_legacy_ids")
        .map_err(failed)?;
    for row in rows {
        let (id, transaction_id, remembered_ms): (i64, Vec<u8>, i64) =
            cells(row.map_err(failed)?, "an older transaction id")?;
        let Ok(text) = std::str::from_utf8(&transaction_id) else {
            continue;
        };
        let count = asked.partition_count;
        if loader.remembered_by_user(account_id(id)?, text, remembered_ms, count, clock)? {
            told.count(|now| &mut now.ids)?;
        }
    }
    Ok(())
}

/// A partition of the ledger, and the clock by which its entries are old.
#[derive(Clone, Copy)]
struct Place {
    generation: u32,
    partition: u32,
    clock_ms: i64,
}

/// What a window remembers an entry by.
enum Name<'a> {
    /// The client's id.
    Id(&'a str),
    /// A leg's name, and the user that it was for.
    Leg(&'a str, LegName),
}

type Remember<'a> = dyn FnMut(AccountId, Name<'_>, i64) -> Result<bool, LoadError> + 'a;

/// From the end of the partition's ledger backwards: the entries' times only rise, so the first one
/// that is too old ends it.
fn newest_first(
    db: &mut Db,
    asked: &LoadAsked<'_>,
    place: Place,
    told: &mut Told<'_>,
    remember: &mut Remember<'_>,
) -> Result<(), LoadFailure> {
    let failed = failed("read transaction ids");
    // A window and a granule back, and the quarter that an id may be remembered from later.
    let oldest_ms = place.clock_ms.saturating_sub(2 * asked.window_ms as i64);
    let sql = "SELECT `offset`, posting, account_id, transaction_id, \
               TIMESTAMPDIFF(MICROSECOND, '1970-01-01', created_at) DIV 1000, remembered_ms, \
               leg, leg_user FROM balance_transactions FORCE INDEX (PRIMARY) \
               WHERE generation = ? AND `partition` = ? AND `offset` <= ? \
               ORDER BY `offset` DESC, posting DESC LIMIT ?";
    let mut below: Option<u64> = Some(i64::MAX as u64);
    while let Some(from) = below {
        type Bytes = Option<Vec<u8>>;
        type Entry = (u64, u16, i64, Vec<u8>, i64, Option<i64>, Bytes, Bytes);
        let rows: Vec<Entry> = db
            .conn
            .exec(sql, (place.generation, place.partition, from, CHUNK))
            .map_err(failed)?;
        below = match rows.last() {
            // A record's entries may go over the border: they are read again, which is harmless.
            Some((offset, ..)) if rows.len() == CHUNK && *offset < from => Some(*offset),
            Some((offset, ..)) if rows.len() == CHUNK => offset.checked_sub(1),
            _ => None,
        };
        for (_, _, id, transaction_id, created_ms, later_ms, leg, user) in rows {
            if created_ms < oldest_ms {
                return Ok(());
            }
            let text = std::str::from_utf8(&transaction_id).map_err(|_| MysqlError::Corrupt {
                what: format!("a transaction id of account {id} is no text"),
            })?;
            let user = user.unwrap_or_default();
            let name = match leg {
                None => Name::Id(text),
                Some(leg) => {
                    let user = std::str::from_utf8(&user).ok();
                    let leg = std::str::from_utf8(&leg)
                        .ok()
                        .and_then(|leg| leg.parse().ok());
                    match user.zip(leg) {
                        Some((user, leg)) => Name::Leg(user, leg),
                        None => {
                            let what = format!("a leg's name of account {id} cannot be read");
                            return Err(MysqlError::Corrupt { what }.into());
                        }
                    }
                }
            };
            if remember(account_id(id)?, name, later_ms.unwrap_or(created_ms))? {
                told.count(|now| &mut now.ids)?;
            }
        }
    }
    Ok(())
}

fn cells<T: mysql::prelude::FromRow>(row: Row, what: &str) -> Result<T, MysqlError> {
    mysql::from_row_opt(row).map_err(|error| MysqlError::Corrupt {
        what: format!("{what} cannot be read: {error}"),
    })
}

fn account_id(number: i64) -> Result<AccountId, MysqlError> {
    u64::try_from(number)
        .ok()
        .and_then(AccountId::new)
        .ok_or_else(|| MysqlError::Corrupt {
            what: format!("an account with the id {number}"),
        })
}
