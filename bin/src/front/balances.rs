//! Balances for readers: from the shard that owns the user, else from where the store is read.

use std::sync::Arc;

use kilter_engine::{
    AccountId, Currency, Partition,
    shard::question::{Question, Seen},
};
use kilter_io::{
    api::{Answer, BalanceRead, Balances, Patience, Pool, Problem, Source},
    rows::BalanceRow,
};

use super::{Accounts, Leading, Owner, Reader, Tell};

/// Reads balances from memory where this process has them.
pub struct MemoryFirst<R> {
    leading: Arc<Leading>,
    accounts: Arc<Accounts>,
    pool: Arc<Pool<R>>,
}

impl<R> Clone for MemoryFirst<R> {
    fn clone(&self) -> Self {
        Self {
            leading: Arc::clone(&self.leading),
            accounts: Arc::clone(&self.accounts),
            pool: Arc::clone(&self.pool),
        }
    }
}

/// One question on its way from source to source.
struct Wish {
    account_id: AccountId,
    currency: Currency,
    min_version: u64,
    patience: Patience,
    /// What memory had, if that was too old.
    older: Option<BalanceRead>,
    answer: Tell<Found>,
}

/// The newer of two answers; of equals the first.
fn newer(one: Option<BalanceRead>, other: Option<BalanceRead>) -> Option<BalanceRead> {
    let version = |read: &Option<BalanceRead>| read.as_ref().map(|read| read.row.version);
    match version(&one) >= version(&other) {
        true => one,
        false => other,
    }
}

type Found = Result<Option<BalanceRead>, Problem>;

impl<R: Reader> MemoryFirst<R> {
    /// Asks what `leading` leads, and reads the rest on the threads of `pool`.
    pub fn new(leading: Arc<Leading>, accounts: Arc<Accounts>, pool: Arc<Pool<R>>) -> Self {
        Self {
            leading,
            accounts,
            pool,
        }
    }

    /// From the shard that owns the user, if it is in this process; else from elsewhere. The shard is
    /// not woken yet.
    fn ask(&self, owner: Owner, mut wish: Wish) {
        let Some(asker) = self.leading.asker(owner.partition) else {
            return self.read(Some(owner.partition), wish);
        };
        let this = self.clone();
        let partition = owner.partition;
        let (user_id, currency) = (owner.user_id, wish.currency);
        let heard = move |seen| match seen {
            Seen::Account {
                account_id,
                balance: Some(state),
                ..
            } if account_id == wish.account_id => {
                let found = Some(BalanceRead {
                    row: BalanceRow {
                        account_id: account_id.get(),
                        currency_code: currency.as_str().to_owned(),
                        available: state.available.to_string(),
                        frozen: state.frozen.to_string(),
                        version: state.version,
                    },
                    // A shard does not keep it, and its clock would be a wrong answer.
                    updated_at_ms: 0,
                    source: Source::Memory,
                });
                if state.version >= wish.min_version {
                    return wish.answer.tell(Ok(found));
                }
                wish.older = found;
                this.read(Some(partition), wish);
            }
            Seen::Account { balance: None, .. } if wish.min_version == 0 => {
                wish.answer.tell(Ok(None));
            }
            // The node stops, or another one has gone further: the others know.
            _ => this.read(Some(partition), wish),
        };
        // One that is too many comes back as an answer, too.
        let _ = asker.ask(Question::new(
            &user_id,
            currency,
            partition,
            Box::new(heard),
        ));
    }

    /// From where the store is read; first whose account it is, if that is not known.
    fn read(&self, partition: Option<Partition>, wish: Wish) {
        let this = self.clone();
        let otherwise = wish.answer.clone();
        self.pool.submit(
            wish.patience.clone(),
            move |reader| match partition {
                Some(partition) => {
                    let name = (wish.account_id, wish.currency);
                    let found = reader.balance(partition, name, wish.min_version);
                    wish.answer
                        .tell(found.map(|found| newer(wish.older, found)));
                }
                None => match reader.owner(wish.account_id) {
                    Ok(Some(owner)) => {
                        this.accounts.learn(wish.account_id, owner.clone());
                        this.ask(owner, wish);
                        this.leading.wake();
                    }
                    Ok(None) => wish.answer.tell(Ok(None)),
                    Err(problem) => wish.answer.tell(Err(problem)),
                },
            },
            move |problem| otherwise.tell(Err(problem)),
        );
    }
}

impl<R: Reader> Balances for MemoryFirst<R> {
    fn balance(
        &self,
        account_id: AccountId,
        currency: Currency,
        min_version: u64,
        patience: Patience,
        answer: Answer<Found>,
    ) {
        let wish = Wish {
            account_id,
            currency,
            min_version,
            patience,
            older: None,
            answer: Tell::new(answer),
        };
        match self.accounts.owner(account_id) {
            Some(owner) => self.ask(owner, wish),
            None => self.read(None, wish),
        }
    }

    fn settle(&self) {
        self.leading.wake();
    }
}
