//! What an audit found: how often each kind of difference, and the first few in words.

use std::{collections::BTreeMap, fmt};

use crate::flights::InFlight;

/// How many differences of a kind are told in words.
const FIRST: usize = 5;

/// Kinds of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A balance is not what its entries make it.
    Balance,
    /// A ledger entry does not follow the one before it, or contradicts itself.
    Ledger,
    /// A transaction id was answered twice.
    Id,
    /// An account is missing, not active, or not where its user belongs.
    Account,
    /// Offset rows, and entries that do not lie below them.
    Offset,
    /// The log does not go on where the store ends.
    Log,
    /// A leg of a transfer does not agree with its debit, or is not in the outbox.
    Leg,
    /// The log, applied once more, makes something else.
    Replay,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Balance => "balances",
            Self::Ledger => "ledger",
            Self::Id => "transaction ids",
            Self::Account => "accounts",
            Self::Offset => "offsets",
            Self::Log => "log",
            Self::Leg => "legs of transfers",
            Self::Replay => "replay",
        })
    }
}

/// The differences of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub count: u64,
    /// The first of them, in words.
    pub first: Vec<String>,
}

/// What an audit looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Accounts.
    pub accounts: u64,
    /// Those that are claimed, and whose OPEN is not applied yet.
    pub pending: u64,
    /// Balances.
    pub balances: u64,
    /// Ledger entries.
    pub entries: u64,
    /// Records that were applied once more.
    pub replayed: u64,
    /// Legs of transfers that have left and not landed.
    pub in_flight: InFlight,
    /// Differences by kind.
    pub differences: BTreeMap<Kind, Found>,
}

impl Report {
    /// Whether nothing differs.
    pub fn is_exact(&self) -> bool {
        self.differences.is_empty()
    }

    /// Notes a difference.
    pub fn differs(&mut self, kind: Kind, what: impl FnOnce() -> String) {
        let found = self.differences.entry(kind).or_default();
        found.count += 1;
        if found.first.len() < FIRST {
            found.first.push(what());
        }
    }
}
