//! An epoch: everything that changed between two barriers, committed as one transaction.

use std::sync::Arc;

use crate::{
    AccountId, Amount, Code, Currency, EpochNumber, Generation, HashRange, Offset, Partition, Term,
    ledger::{LedgerEntry, Position},
    leg::{Leg, LegName},
};

/// The last record below an offset, by which a log is known again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastRecord {
    /// [`key_hash`](crate::hash::key_hash) of its key.
    pub key_hash: u64,
    /// Its own timestamp in ms since 1970, as the log holds it.
    pub timestamp_ms: i64,
}

/// How far one partition was read when an epoch was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCut {
    /// The partition.
    pub partition: Partition,
    /// Which life of the log the offset counts in.
    pub generation: Generation,
    /// The next offset to be read: every record below it belongs to this epoch or an earlier one.
    pub offset: Offset,
    /// The partition's clock there, in ms since 1970.
    pub clock_ms: i64,
    /// The record just below `offset`.
    pub last: LastRecord,
}

/// A barrier's content: where the poller cut the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The epoch that ends here. Numbers rise by one and never repeat within a store.
    pub epoch: EpochNumber,
    /// How far each partition was read.
    pub partitions: Vec<PartitionCut>,
    /// Whether the node stops behind it.
    pub last: bool,
}

/// The final image of one balance that changed in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceImage {
    /// The account.
    pub account_id: AccountId,
    /// The currency.
    pub currency: Currency,
    /// What may be spent.
    pub available: Amount,
    /// What is held.
    pub frozen: Amount,
    /// How many commands changed it with success; rises with every image.
    pub version: u64,
    /// The partition that its user's records come by: the account's `shard_id`, for projections
    /// that are spread by it.
    pub partition: Partition,
}

/// It lies in the padding that the amounts' alignment leaves.
const _: () = assert!(size_of::<BalanceImage>() == 64);

/// An account that became active in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedAccount {
    /// The account.
    pub account_id: AccountId,
    /// Its user.
    pub user_id: Box<str>,
    /// The partition's clock at the OPEN, in ms since 1970.
    pub time_ms: i64,
}

/// A record that was refused, with all that is needed to try it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which life of the log the offset counts in.
    pub generation: Generation,
    /// The log's partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
    /// Why.
    pub code: Code,
    /// Why, in words.
    pub message: Box<str>,
    /// The partition's clock at the record, in ms since 1970.
    pub failed_at_ms: i64,
    /// The record's `issuedAt`, or [`NOT_ISSUED`](crate::record::NOT_ISSUED).
    pub issued_at_ms: i64,
    /// The record's key.
    pub key: Box<[u8]>,
    /// The record's value.
    pub value: Box<[u8]>,
    /// The record's headers, as [`Headers`](crate::headers::Headers) reads them.
    pub headers: Box<[u8]>,
}

/// What a ledger entry of a leg has besides, in a list of its own, so that the others stay small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Which of the part's ledger entries.
    pub entry: u32,
    /// The leg's name.
    pub name: LegName,
    /// The user that it was for: the account that it names may be another's, or nobody's.
    pub user_id: Box<str>,
}

/// What one shard hands to its writer at a barrier. Recycled: the writer gives it back empty.
#[derive(Debug, Default)]
pub struct EpochPart {
    /// The barrier, from the hand-over until the commit.
    pub cut: Option<Arc<Cut>>,
    /// The dirty set: one final image a balance.
    pub balances: Vec<BalanceImage>,
    /// The record that changed each of them last, in the same order.
    pub changed_by: Vec<Position>,
    /// How many of the balances the store does not have yet.
    pub new_balances: u64,
    /// What the answered commands did, in log order within a partition, if the store is the ledger.
    pub ledger: Vec<LedgerEntry>,
    /// What those of legs have besides, in their order.
    pub landed: Vec<Landed>,
    /// Legs that leave for other users.
    pub legs: Vec<Leg>,
    /// Accounts that became active.
    pub opened: Vec<OpenedAccount>,
    /// Records that were refused, if they go with the epoch.
    pub dead_letters: Vec<DeadLetter>,
}

impl EpochPart {
    /// An empty part with room for an epoch of `commands`, so that the steady loop never grows it.
    /// Legs are fewer: there is room for an eighth of them, and it grows to what epochs need.
    pub fn with_capacity(commands: usize) -> Self {
        Self {
            balances: Vec::with_capacity(commands),
            changed_by: Vec::with_capacity(commands),
            ledger: Vec::with_capacity(commands),
            landed: Vec::with_capacity(commands / 8),
            legs: Vec::with_capacity(commands / 8),
            ..Self::default()
        }
    }

    /// Whether nothing was answered or refused in it.
    pub fn is_empty(&self) -> bool {
        self.balances.is_empty()
            && self.ledger.is_empty()
            && self.legs.is_empty()
            && self.opened.is_empty()
            && self.dead_letters.is_empty()
    }

    /// What the ledger entry of this number has besides, if it is a leg's.
    pub fn landed(&self, entry: usize) -> Option<&Landed> {
        let found = self
            .landed
            .binary_search_by_key(&entry, |landed| landed.entry as usize);
        found.ok().map(|index| &self.landed[index])
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.cut = None;
        self.balances.clear();
        self.changed_by.clear();
        self.new_balances = 0;
        self.ledger.clear();
        self.landed.clear();
        self.legs.clear();
        self.opened.clear();
        self.dead_letters.clear();
    }
}

/// How far a hash range of one partition is committed: a row of `consumer_offsets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRow {
    /// The partition.
    pub partition: Partition,
    /// The key hashes it speaks of.
    pub range: HashRange,
    /// Which life of the log the offset counts in.
    pub generation: Generation,
    /// The next offset to apply: everything below is in the store.
    pub offset: Offset,
    /// The partition's clock there, in ms since 1970.
    pub clock_ms: i64,
    /// The record just below `offset`.
    pub last: LastRecord,
    /// The term it was committed under.
    pub term: Term,
    /// The epoch it was committed with.
    pub epoch: EpochNumber,
}

impl OffsetRow {
    /// The row of a partition of which nothing was applied yet.
    pub fn first(partition: Partition, generation: Generation) -> Self {
        Self {
            partition,
            range: HashRange::ALL,
            generation,
            offset: Offset::default(),
            clock_ms: 0,
            last: LastRecord::default(),
            term: Term::default(),
            epoch: EpochNumber::default(),
        }
    }

    /// What the row becomes when `cut` is committed under `term`.
    ///
    /// A row that is ahead of the cut (it came from another grouping before a crash) is left alone.
    pub fn advanced_to(&self, cut: &Cut, term: Term) -> Self {
        let Some(end) = cut
            .partitions
            .iter()
            .find(|end| end.partition == self.partition)
        else {
            return *self;
        };
        assert_eq!(
            end.generation, self.generation,
            "partition {}: an epoch of another log generation",
            self.partition
        );
        if end.offset <= self.offset {
            return *self;
        }
        Self {
            offset: end.offset,
            clock_ms: end.clock_ms,
            last: end.last,
            term,
            epoch: cut.epoch,
            ..*self
        }
    }
}

/// One row's step in an epoch: what the store must hold before, and holds after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowStep {
    /// The row as this node last committed or loaded it.
    pub before: OffsetRow,
    /// The row after this epoch.
    pub after: OffsetRow,
}

/// All that one writer commits in one transaction.
#[derive(Debug)]
pub struct Epoch<'a> {
    /// The barrier.
    pub cut: &'a Cut,
    /// The term all of it was consumed under.
    pub term: Term,
    /// The offset rows of the writer's hash range.
    pub rows: &'a [RowStep],
    /// What its shards handed over.
    pub parts: &'a [Box<EpochPart>],
}
