//! What the front door needs of the rest of the node.
//!
//! Nothing here may block the thread that calls it: whatever has to wait for a server does so on
//! threads of its own (a [`Pool`](super::Pool)) and answers by callback, once.

use std::time::Instant;

use kilter_engine::{AccountId, Currency, Position, Term};

use super::Problem;
use crate::{
    net::Cancelled,
    outbox::{self, Admitted, DoorError, NewEvent, NotTaken, Outcome, TransactionState},
    rows::{BalanceRow, LedgerRow},
};

/// Called once, from any thread; must not block it.
pub type Answer<T> = Box<dyn FnOnce(T) + Send>;

/// How long somebody waits for an answer.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Until when at most.
    pub until: Instant,
    /// Set once he has gone before; then nobody hears the answer.
    pub gone: Cancelled,
}

impl Patience {
    /// Of somebody who stays until a moment.
    pub fn until(until: Instant) -> Self {
        let gone = Cancelled::default();
        Self { until, gone }
    }
}

/// Where accepted commands go.
pub trait Door: Send + Sync {
    /// Hands a request over.
    ///
    /// # Errors
    ///
    /// [`NotTaken`]: nothing comes of it, and `answer` is not called.
    fn submit(
        &self,
        event: NewEvent,
        answer: Answer<Result<Admitted, DoorError>>,
    ) -> Result<(), NotTaken>;

    /// Called after some requests that were handed over together: whoever takes them may be woken as
    /// late as this.
    fn settle(&self) {}
}

impl Door for outbox::Door {
    fn submit(
        &self,
        event: NewEvent,
        answer: Answer<Result<Admitted, DoorError>>,
    ) -> Result<(), NotTaken> {
        Self::put(self, event, answer)
    }

    fn settle(&self) {
        Self::settle(self);
    }
}

/// Where a balance was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The shard that owns it.
    Memory,
    /// Redis.
    Redis,
    /// The store.
    Store,
}

impl Source {
    /// As answers spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Store => "store",
        }
    }
}

/// A balance and where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRead {
    /// The balance.
    pub row: BalanceRow,
    /// When it changed, in ms since 1970; 0 if that is not known.
    pub updated_at_ms: i64,
    /// Where it was read.
    pub source: Source,
}

/// Reads balances.
pub trait Balances: Send + Sync {
    /// Reads one; `None` if there is none. A balance older than `min_version` is an answer too, but
    /// only if no source has a newer one. Gives up when nobody waits any more.
    fn balance(
        &self,
        account_id: AccountId,
        currency: Currency,
        min_version: u64,
        patience: Patience,
        answer: Answer<Result<Option<BalanceRead>, Problem>>,
    );

    /// Called after some reads that were asked for together: what can be done for all of them at once
    /// may have been put off until now.
    fn settle(&self) {}
}

/// Finds what became of transaction ids.
pub trait Transactions: Send + Sync {
    /// Looks one up; `None` if it was never accepted. Gives up when nobody waits any more.
    fn transaction(
        &self,
        user_id: &str,
        transaction_id: &str,
        patience: Patience,
        answer: Answer<Result<Option<TransactionState>, Problem>>,
    );
}

/// Reads the ledger.
pub trait Ledger: Send + Sync {
    /// The first `limit` entries of an account behind a position, in the order of positions. Gives
    /// up when nobody waits any more.
    fn page(
        &self,
        account_id: AccountId,
        after: Option<Position>,
        limit: usize,
        patience: Patience,
        answer: Answer<Result<Vec<LedgerRow>, Problem>>,
    );
}

/// Tells outcomes as they come.
pub trait Outcomes: Send + Sync {
    /// From now on waits for what becomes of a user's transaction id, a command of so many
    /// postings. Answers with the outcome (never a duplicate's), or `None` at the deadline or when
    /// nothing more will come. Dropping what is returned ends the waiting, and `answer` may then
    /// not be called any more.
    ///
    /// # Errors
    ///
    /// When too many wait; `answer` is not called.
    fn wait(
        &self,
        name: (&str, &str),
        postings: usize,
        deadline: Instant,
        answer: Answer<Option<Outcome>>,
    ) -> Result<Box<dyn Send>, Problem>;
}

/// A result, as those see it who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedResult {
    /// What happened. Balances are empty texts where there are none.
    pub row: LedgerRow,
    /// Why it did not succeed, in words.
    pub error_message: String,
    /// The fencing number of whoever answered.
    pub term: Term,
}

/// What became of a result that was offered to a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is taken.
    Taken,
    /// There is no room now; offer it again later.
    Full,
    /// Nobody watches any more.
    Gone,
}

/// Somebody who watches results.
pub trait Watcher: Send {
    /// Offers a result; never waits.
    fn offer(&mut self, result: &WatchedResult) -> Offered;
    /// Whether nobody watches any more.
    fn is_gone(&self) -> bool;
    /// Ends the watching, with a problem unless this node just stops.
    fn end(self: Box<Self>, problem: Option<Problem>);
}

/// Feeds those who watch results.
pub trait Results: Send + Sync {
    /// Offers every result behind the positions given, one a partition, in order in each partition;
    /// in partitions not named, what comes from now on. Only those of one user if one is given. A
    /// watcher that has no room for longer than a bound of the implementation's is ended.
    fn watch(&self, user_id: Option<&str>, after: &[Position], watcher: Box<dyn Watcher>);
}
