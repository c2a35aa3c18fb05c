//! A shard: the one owner of a hash range of users, and everything that is decided about them.
//!
//! A shard is a state machine without threads: [`Shard::apply`] takes records in log order and
//! decides each of them. [`ShardAgent`](agent::ShardAgent) moves them out of a ring into it.

pub mod agent;
mod batch;
mod check;
mod error;
mod item;
mod land;
mod load;
mod partition;
pub mod question;
mod result;

pub use error::ShardError;
pub use item::{BATCH_MAX, Item};

use crate::{
    AccountId, Amount, Code, Command, Currency, Generation, HashRange, MoveKind, Partition, Term,
    book::{AccountHandle, Book, Opened, SlotId},
    command::Body,
    epoch::{BalanceImage, EpochPart, OpenedAccount},
    ledger::{BalanceState, LedgerEntry, Position, TransactionId},
    partitioner::Partitioner,
    record::Mark,
    result::{Around, ResultRecord, Status},
    rules::{Rules, Why},
    transition::transition,
    window::WindowBudget,
};
use item::Prepared;
use partition::PartitionState;
use result::address;

/// What a shard must know besides its users.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// The key hashes it owns.
    pub range: HashRange,
    /// The term everything is applied under.
    pub term: Term,
    /// The partitions whose records it may see, and the life of the log they are in.
    pub partitions: Vec<(Partition, Generation)>,
    /// How many partitions the topic has.
    pub partition_count: u32,
    /// How producers choose a partition.
    pub partitioner: Partitioner,
    /// How long a transaction id is remembered, in ms of record time.
    pub window_ms: u64,
    /// How many bytes all its windows may take together.
    pub window_bytes: u64,
    /// Where refused records go.
    pub dead_letters: DeadLetters,
    /// Where ledger entries go.
    pub entries: Entries,
}

impl ShardSettings {
    /// What its checks depend on.
    pub fn rules(&self) -> Rules {
        Rules {
            window_ms: self.window_ms,
            partition_count: self.partition_count,
            partitioner: self.partitioner,
        }
    }
}

/// Where a shard puts refused records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetters {
    /// Into the epoch's part: the store keeps them.
    WithEpoch,
    /// Beside their results: the sink publishes them.
    WithResults,
}

/// Where a shard puts ledger entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Into the epoch's part: the store is the ledger.
    WithEpoch,
    /// Nowhere but into the results, whose log is the ledger.
    WithResults,
}

/// Where results are written.
pub trait Results {
    /// The next result to fill in; holds old content.
    fn next(&mut self) -> &mut ResultRecord;
}

impl Results for Vec<ResultRecord> {
    fn next(&mut self) -> &mut ResultRecord {
        self.push(ResultRecord::default());
        match self.last_mut() {
            Some(last) => last,
            None => unreachable!("one was pushed just now"),
        }
    }
}

/// The state of one hash range of users, and its rules.
#[derive(Debug)]
pub struct Shard {
    settings: ShardSettings,
    book: Book,
    partitions: Vec<PartitionState>,
    /// Which epoch the marks of dirty balances are of; 0 is none.
    epoch_mark: u32,
}

impl Shard {
    /// A shard without users.
    pub fn new(settings: ShardSettings) -> Self {
        assert!(settings.window_ms > 0, "a window of no length");
        let budget = WindowBudget::new(settings.window_bytes);
        // A window begins with a fixed part of the most it may become. Of many partitions each may
        // become four times its fair share, so that skew has room and idle ones cost little.
        let many = (settings.partitions.len() as u64).max(4);
        let most_bytes = settings.window_bytes / many * 4;
        let partitions = settings
            .partitions
            .iter()
            .map(|&(partition, generation)| {
                PartitionState::new(
                    partition,
                    generation,
                    settings.window_ms,
                    most_bytes,
                    &budget,
                )
            })
            .collect();
        Self {
            settings,
            book: Book::new(),
            partitions,
            epoch_mark: 1,
        }
    }

    /// The key hashes it owns.
    pub fn range(&self) -> HashRange {
        self.settings.range
    }

    /// Its accounts and balances.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// How many transaction ids its windows hold.
    pub fn remembered(&self) -> u64 {
        self.partitions.iter().map(|p| p.window.len()).sum()
    }

    /// The resident bytes of balances, accounts and windows.
    pub fn bytes(&self) -> (u64, u64) {
        let windows = self.partitions.iter().map(|p| p.window.bytes()).sum();
        (self.book.bytes(), windows)
    }

    /// Decides records in log order, and writes what became of them to `part` and `results`.
    ///
    /// Works in steps (hash and prefetch all, look all up, apply in order), so that the memory
    /// latency of one record overlaps with that of its neighbours.
    ///
    /// # Errors
    ///
    /// What stops the node: the record at fault and all behind it have no outcome then, and the
    /// shard must not be used again.
    ///
    /// # Panics
    ///
    /// If there are more than [`BATCH_MAX`] items, or they break the order of the log.
    pub fn apply(
        &mut self,
        items: &[Item<'_>],
        part: &mut EpochPart,
        results: &mut impl Results,
    ) -> Result<(), ShardError> {
        assert!(items.len() <= BATCH_MAX, "a batch of {}", items.len());
        let mut prepared = [Prepared::default(); BATCH_MAX];
        for (item, ready) in items.iter().zip(&mut prepared) {
            *ready = Prepared::of(item);
            ready.partition = self.partition_index(item.partition);
            if let Some(currency) = ready.currency {
                self.book.prefetch_index(item.key_hash, currency);
                self.partitions[ready.partition].window.prefetch(&ready.id);
            }
        }
        for (item, ready) in items.iter().zip(&mut prepared) {
            if let Some(currency) = ready.currency {
                ready.guess = self.book.prefetch_slot(item.key_hash, currency);
            }
        }
        for ready in &prepared[..items.len()] {
            if let Some(guess) = ready.guess {
                self.book.prefetch_user(guess);
            }
        }
        for (item, ready) in items.iter().zip(&prepared) {
            self.apply_one(item, ready, part, results)?;
        }
        Ok(())
    }

    /// The part that was filled is handed over: images go into an empty one from here on.
    pub fn end_epoch(&mut self) {
        self.epoch_mark = self.epoch_mark.checked_add(1).unwrap_or(1);
    }

    /// A number that two shards' sums of users share if and only if (almost surely) every
    /// balance is the same; adds up over shards.
    pub fn state_hash(&self) -> u128 {
        self.book.state_hash()
    }

    fn partition_index(&self, partition: Partition) -> usize {
        // A node has few partitions, and mostly the first one asked is the one.
        match self
            .partitions
            .iter()
            .position(|state| state.partition == partition)
        {
            Some(index) => index,
            None => panic!("a record of partition {partition}, which this shard does not own"),
        }
    }

    fn apply_one(
        &mut self,
        item: &Item<'_>,
        ready: &Prepared,
        part: &mut EpochPart,
        results: &mut impl Results,
    ) -> Result<(), ShardError> {
        let state = &mut self.partitions[ready.partition];
        state.advance(item)?;
        let command = match &item.decoded {
            _ if item.mark == Mark::OperatorRefused => {
                let why = (Code::OperatorRefused, "refused by the operator".into());
                return self.refuse(item, why, part, results);
            }
            Err(refusal) => {
                let why = (refusal.code, refusal.message.as_str().into());
                return self.refuse(item, why, part, results);
            }
            Ok(command) => command,
        };
        if let Err(why) = self.check(item, command) {
            return self.refuse(item, why, part, results);
        }
        match &command.body {
            Body::Open => self.open(item, command, part, results),
            Body::Leg(leg) => self.land(item, command, leg, ready, part, results),
            Body::Transfer(_) | Body::Batch(_) => {
                let user = command.user_id.as_bytes();
                let account = self.book.account(item.key_hash, user);
                match self.own(command, account.map(|account| account.handle)) {
                    Err(why) => self.refuse(item, why, part, results),
                    Ok(account) => {
                        self.answer_changes(item, command, ready, account, part, results)
                    }
                }
            }
            &Body::Move {
                kind,
                currency,
                amount,
            } => {
                let user = command.user_id.as_bytes();
                let found = self.book.find(ready.guess, item.key_hash, user, currency);
                let account = match found {
                    Some(slot) => Some(self.book.slot(slot).account()),
                    None => self
                        .book
                        .account(item.key_hash, user)
                        .map(|account| account.handle),
                };
                let account = match self.own(command, account) {
                    Err(why) => return self.refuse(item, why, part, results),
                    Ok(account) => account,
                };
                let movement = Movement {
                    kind,
                    currency,
                    amount,
                    account,
                    found,
                };
                self.answer(item, command, ready, movement, part, results)
            }
        }
    }

    /// The user's account, if it is the one that the command names.
    #[inline]
    fn own(
        &self,
        command: &Command<'_>,
        account: Option<AccountHandle>,
    ) -> Result<AccountHandle, Why> {
        let Some(account) = account else {
            let message = format!("user {:?} has no account", command.user_id);
            return Err((Code::AccountNotFound, message.into()));
        };
        if self.book.account_id(account) != command.account_id {
            let message = format!(
                "accountId {} is not the account of user {:?}",
                command.account_id, command.user_id
            );
            return Err((Code::AccountMismatch, message.into()));
        }
        Ok(account)
    }

    fn open(
        &mut self,
        item: &Item<'_>,
        command: &Command<'_>,
        part: &mut EpochPart,
        results: &mut impl Results,
    ) -> Result<(), ShardError> {
        if item.mark == Mark::ClaimRefused {
            let message = format!(
                "accountId {} and user {:?} cannot be bound: one of them is bound otherwise",
                command.account_id, command.user_id
            );
            return self.refuse(item, (Code::AccountMismatch, message.into()), part, results);
        }
        let user = command.user_id.as_bytes();
        match self.book.open(item.key_hash, user, command.account_id) {
            Opened::New(_) => part.opened.push(OpenedAccount {
                account_id: command.account_id,
                user_id: command.user_id.as_ref().into(),
                time_ms: item.clock_ms,
            }),
            Opened::Known(_) => {}
            Opened::Mismatch { existing } => {
                return Err(ShardError::ClaimBroken {
                    partition: item.partition,
                    offset: item.offset,
                    user_id: command.user_id.as_ref().into(),
                    claimed: command.account_id,
                    existing,
                });
            }
        }
        let result = results.next();
        self.fill(result, item, Status::Success);
        address(result, command);
        Ok(())
    }

    fn answer(
        &mut self,
        item: &Item<'_>,
        command: &Command<'_>,
        ready: &Prepared,
        movement: Movement,
        part: &mut EpochPart,
        results: &mut impl Results,
    ) -> Result<(), ShardError> {
        let before = movement
            .found
            .map_or_else(BalanceState::default, |slot| self.book.slot(slot).state());
        let state = &mut self.partitions[ready.partition];
        let duplicate = state.window.contains(&ready.id);
        let (status, after) = if duplicate {
            (Status::Duplicate, before)
        } else {
            let remembered_ms = item.remembered_ms();
            state.remember(&ready.id, remembered_ms)?;
            let outcome = transition(movement.kind, before, movement.amount);
            let after = outcome.unwrap_or(before);
            let failure = outcome.err();
            if self.settings.entries == Entries::WithEpoch {
                part.ledger.push(LedgerEntry {
                    position: item.position(),
                    account_id: command.account_id,
                    currency: movement.currency,
                    kind: movement.kind.into(),
                    failure,
                    amount: movement.amount,
                    transaction_id: transaction_id(&command.transaction_id),
                    before,
                    after,
                    time_ms: item.clock_ms,
                    remembered_ms,
                });
            }
            match failure {
                None => {
                    part.new_balances += u64::from(before.version == 0);
                    let (position, id) = (item.position(), command.account_id);
                    self.store(item, position, id, movement, after, part);
                    (Status::Success, after)
                }
                Some(code) => (Status::Failed(code), after),
            }
        };
        let result = results.next();
        self.fill(result, item, status);
        address(result, command);
        result.around = Some(Around { before, after });
        if !duplicate {
            result.remembered_ms = item.remembered_ms();
        }
        Ok(())
    }

    /// Changes the balance, and its image in the dirty set.
    ///
    /// The slot's mark says where the image is, and of which epoch. So an epoch ends without a pass
    /// over its balances, and no mark has to be taken back.
    fn store(
        &mut self,
        item: &Item<'_>,
        position: Position,
        account_id: AccountId,
        movement: Movement,
        after: BalanceState,
        part: &mut EpochPart,
    ) {
        let slot = match movement.found {
            Some(slot) => slot,
            None => self
                .book
                .create(movement.account, item.key_hash, movement.currency),
        };
        let balance = self.book.slot_mut(slot);
        balance.apply(after.available, after.frozen);
        assert_eq!(balance.version(), after.version, "a version was left out");
        let image = BalanceImage {
            account_id,
            currency: movement.currency,
            available: after.available,
            frozen: after.frozen,
            version: after.version,
            partition: item.partition,
        };
        let marked = balance.dirty_mark(self.epoch_mark);
        let known = marked.and_then(|index| {
            let index = index as usize;
            part.balances
                .get_mut(index)
                .zip(part.changed_by.get_mut(index))
        });
        match known {
            // Marks repeat after 2³² epochs, so the image itself has the last word.
            Some((old, by))
                if old.account_id == account_id && old.currency == movement.currency =>
            {
                *old = image;
                *by = position;
            }
            _ => {
                balance.set_dirty_mark(self.epoch_mark, part.balances.len() as u32);
                part.balances.push(image);
                part.changed_by.push(position);
            }
        }
    }
}

/// A command of an open account, ready to be answered.
#[derive(Clone, Copy)]
struct Movement {
    kind: MoveKind,
    currency: Currency,
    amount: Amount,
    account: AccountHandle,
    found: Option<SlotId>,
}

fn transaction_id(text: &str) -> TransactionId {
    match TransactionId::new(text) {
        Some(id) => id,
        None => panic!("a decoded command with the transaction id {text:?}"),
    }
}
