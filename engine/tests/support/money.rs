//! Money is neither made nor lost by transfers: told from the store alone.

use std::collections::{BTreeMap, BTreeSet};

use kilter_engine::{CommandKind, Currency, LegKind, LegName, Position, ledger::LedgerEntry};

use super::{
    check::{position, row_of},
    disk::Disk,
    traffic::{Entry, Meaning},
    twin::{Ending, Judged},
};

/// Σ balances + legs in flight = Σ deposits − withdrawals and settlements, in integers. Each leg
/// that left comes from one debit or one failed credit, and each of those has one; a name lands
/// once, and of one transfer's legs one pays.
///
/// A log that was written before may hold legs of debits that took another end than foreseen. What
/// they pay is money from outside; that it had to come to this is asked of the twin's `log`.
pub fn is_constant(disk: &Disk, log: &[(Entry, Judged)]) {
    causes_are_legs(disk);
    let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
    let mut add = |currency: Currency, units: i128| {
        let sum = sums.entry(currency).or_default();
        *sum = sum.checked_add(units).expect("a sum of few balances");
    };
    let mut names = BTreeSet::new();
    let mut paid = BTreeSet::new();
    let mut unforeseen = Vec::new();
    for (position, what) in &disk.landed {
        let entry = &disk.ledger[position];
        assert!(names.insert(what.name), "{} landed twice", what.name);
        if let Some(leg) = disk.legs.get(&what.name) {
            assert_eq!(
                (
                    entry.amount,
                    entry.currency,
                    entry.account_id,
                    &what.user_id
                ),
                (leg.amount, leg.currency, leg.account_id, &leg.user_id),
            );
            let pays = entry.failure.is_none();
            assert!(
                !pays || paid.insert(what.name.debit),
                "both legs of one transfer paid: {entry:?}"
            );
        } else {
            // A credit that fails pays its refund.
            add(entry.currency, -entry.amount.units());
            unforeseen.push(what.name);
        }
    }
    for entry in disk.ledger.values().filter(|it| it.failure.is_none()) {
        match entry.kind {
            CommandKind::Deposit => add(entry.currency, -entry.amount.units()),
            CommandKind::Withdraw | CommandKind::Settle => {
                add(entry.currency, entry.amount.units());
            }
            _ => {}
        }
    }
    for image in disk.balances.values() {
        add(
            image.currency,
            image.available.units() + image.frozen.units(),
        );
    }
    for leg in disk.legs.values().filter(|leg| !names.contains(&leg.name)) {
        add(leg.currency, leg.amount.units());
    }
    assert!(sums.values().all(|sum| *sum == 0), "money: {sums:?}");
    if !unforeseen.is_empty() {
        are_explained(&unforeseen, disk, log);
    }
}

/// What left and has no end.
pub fn in_flight(disk: &Disk) -> Vec<LegName> {
    let ended: BTreeSet<LegName> = disk.landed.values().map(|landed| landed.name).collect();
    let legs = disk.legs.keys().copied();
    legs.filter(|name| !ended.contains(name)).collect()
}

/// A debit has a credit, a failed credit has a refund, and nothing else ever leaves.
fn causes_are_legs(disk: &Disk) {
    let mut causes = BTreeMap::new();
    for (position, entry) in &disk.ledger {
        let leaves = match (entry.kind, entry.failure) {
            (CommandKind::Transfer, None) => LegName {
                debit: *position,
                kind: LegKind::Credit,
            },
            (CommandKind::Credit, Some(_)) => disk.landed[position].name.refund(),
            _ => continue,
        };
        let old = causes.insert(leaves, entry);
        assert!(old.is_none(), "{leaves} of two: {old:?} {entry:?}");
    }
    let terms = |entry: &LedgerEntry| (entry.amount, entry.currency, entry.transaction_id);
    for (name, entry) in &causes {
        let leg = disk.legs.get(name);
        let leg = leg.unwrap_or_else(|| panic!("{name} never left: {entry:?}"));
        assert_eq!(terms(entry), (leg.amount, leg.currency, leg.transaction_id));
    }
    assert_eq!(causes.len(), disk.legs.len(), "a leg of nothing");
}

/// Each of the legs landed, though no epoch let it leave: what it should have come from is not
/// committed, or the twin says that it ended otherwise.
fn are_explained(legs: &[LegName], disk: &Disk, log: &[(Entry, Judged)]) {
    let mut causes: BTreeSet<LegName> = BTreeSet::new();
    for (entry, judged) in log {
        if entry.offset >= row_of(&disk.rows, entry).offset.get() {
            continue;
        }
        for flight in &judged.legs {
            causes.extend(flight.name.parse::<LegName>());
        }
        if let (Meaning::Changes { .. }, Ending::Success) = (&entry.meaning, &judged.ending) {
            let posting: Position = position(entry, 0);
            assert!(disk.ledger.contains_key(&posting), "{entry:?}");
        }
    }
    for name in legs {
        assert!(!causes.contains(name), "{name} landed and never left");
    }
}
