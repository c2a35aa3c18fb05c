//! Loads shards from the store: accounts, balances, and the ids of the window.

use kilter_engine::{
    AccountId, Amount, Currency,
    ledger::BalanceState,
    loader::{LoadError, Loader},
};

use super::{EmbeddedStore, PARTITION, error::EmbeddedError};

/// How often progress is told, in rows.
const PROGRESS_ROWS: u64 = 100_000;

/// How far loading got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadProgress {
    /// Accounts loaded.
    pub accounts: u64,
    /// Balances loaded.
    pub balances: u64,
    /// Transaction ids loaded.
    pub ids: u64,
}

/// Why loading failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] EmbeddedError),
    /// What it holds cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Loads everything that a replay from `clock_ms` on must know into `loader`, in one snapshot.
///
/// # Errors
///
/// When the store cannot be read, or holds what cannot be.
pub fn load(
    store: &EmbeddedStore,
    loader: &mut Loader,
    clock_ms: i64,
    window_ms: u64,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<LoadProgress, LoadFailure> {
    store.db.batch("begin to load", "BEGIN")?;
    let mut told = Told {
        now: LoadProgress::default(),
        progress,
    };
    let loaded = accounts(store, loader, &mut told)
        .and_then(|()| balances(store, loader, &mut told))
        .and_then(|()| ids(store, loader, clock_ms, window_ms, &mut told));
    store.db.batch("end the loading", "COMMIT")?;
    loaded.map(|()| told.now)
}

struct Told<'a> {
    now: LoadProgress,
    progress: &'a mut dyn FnMut(LoadProgress),
}

impl Told<'_> {
    fn count(&mut self, which: fn(&mut LoadProgress) -> &mut u64) {
        let count = which(&mut self.now);
        *count += 1;
        if count.is_multiple_of(PROGRESS_ROWS) {
            (self.progress)(self.now);
        }
    }
}

fn accounts(
    store: &EmbeddedStore,
    loader: &mut Loader,
    told: &mut Told<'_>,
) -> Result<(), LoadFailure> {
    let db = &store.db;
    let failed = db.failed("read its accounts");
    let mut statement = db
        .connection
        .prepare("SELECT id, user_id FROM accounts WHERE state = 'ACTIVE'")
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let number: i64 = row.get(0).map_err(&failed)?;
        let user: Vec<u8> = row.get(1).map_err(&failed)?;
        let user = String::from_utf8(user)
            .map_err(|_| db.corrupt(format!("the user of account {number} is no text")))?;
        loader.account(account_id(store, number)?, &user)?;
        told.count(|now| &mut now.accounts);
    }
    Ok(())
}

fn balances(
    store: &EmbeddedStore,
    loader: &mut Loader,
    told: &mut Told<'_>,
) -> Result<(), LoadFailure> {
    let db = &store.db;
    let failed = db.failed("read its balances");
    let mut statement = db
        .connection
        .prepare(
            "SELECT account_id, currency_code, available, frozen, version FROM account_balances",
        )
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let number: i64 = row.get(0).map_err(&failed)?;
        let text = |index: usize| {
            row.get_ref(index)
                .map_err(&failed)?
                .as_str()
                .map_err(|_| db.corrupt(format!("a balance of account {number} is no text")))
        };
        let amount = |index: usize| {
            let text = text(index)?;
            text.parse::<Amount>()
                .map_err(|_| db.corrupt(format!("account {number} has the balance {text:?}")))
        };
        let currency = text(1)?;
        let currency = Currency::parse(currency.as_bytes())
            .map_err(|_| db.corrupt(format!("account {number} has the currency {currency:?}")))?;
        let state = BalanceState {
            available: amount(2)?,
            frozen: amount(3)?,
            version: row.get::<_, i64>(4).map_err(&failed)? as u64,
        };
        if state.available.is_negative() || state.frozen.is_negative() || state.version == 0 {
            let what = format!("the {currency} balance of account {number} cannot be: {state:?}");
            return Err(db.corrupt(what).into());
        }
        loader.balance(account_id(store, number)?, currency, state)?;
        told.count(|now| &mut now.balances);
    }
    Ok(())
}

/// The ids that may still be alive, from the end of the ledger backwards: the entries' times
/// only rise, so the first one that is too old ends it.
fn ids(
    store: &EmbeddedStore,
    loader: &mut Loader,
    clock_ms: i64,
    window_ms: u64,
    told: &mut Told<'_>,
) -> Result<(), LoadFailure> {
    let db = &store.db;
    let failed = db.failed("read its transaction ids");
    // A window and a granule back, and the quarter that an id may be remembered from later.
    let oldest_ms = clock_ms.saturating_sub(2 * window_ms as i64);
    let mut statement = db
        .connection
        .prepare(
            "SELECT account_id, transaction_id, created_at, remembered_at, leg, leg_user
             FROM balance_transactions
             ORDER BY generation DESC, partition DESC, offset DESC, posting DESC",
        )
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let created_ms: i64 = row.get(2).map_err(&failed)?;
        if created_ms < oldest_ms {
            break;
        }
        let number: i64 = row.get(0).map_err(&failed)?;
        let id =
            row.get_ref(1).map_err(&failed)?.as_str().map_err(|_| {
                db.corrupt(format!("a transaction id of account {number} is no text"))
            })?;
        let later_ms: Option<i64> = row.get(3).map_err(&failed)?;
        let remembered_ms = later_ms.unwrap_or(created_ms);
        let leg: Option<String> = row.get(4).map_err(&failed)?;
        if let Some(leg) = leg {
            let unread = || {
                db.corrupt(format!(
                    "the leg {leg:?} of account {number} cannot be read"
                ))
            };
            let name = leg.parse().map_err(|_| unread())?;
            let user: Vec<u8> = row.get(5).map_err(&failed)?;
            let user = String::from_utf8(user).map_err(|_| unread())?;
            loader.remembered_leg(&user, &name, PARTITION, remembered_ms, clock_ms)?;
        } else {
            let account_id = account_id(store, number)?;
            loader.remembered(account_id, id, PARTITION, remembered_ms, clock_ms)?;
        }
        told.count(|now| &mut now.ids);
    }
    Ok(())
}

fn account_id(store: &EmbeddedStore, number: i64) -> Result<AccountId, EmbeddedError> {
    u64::try_from(number)
        .ok()
        .and_then(AccountId::new)
        .ok_or_else(|| store.db.corrupt(format!("an account with the id {number}")))
}
