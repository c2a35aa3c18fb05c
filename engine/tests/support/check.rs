//! Holds what the store has against what the twin says: the invariants of the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use bigdecimal::BigDecimal;
use kilter_engine::{
    Amount, Offset, Partition, Position,
    epoch::OffsetRow,
    hash::key_hash,
    ledger::{BalanceState, LedgerEntry},
    result::{ResultRecord, Status},
};

use super::{
    disk::{Disk, GENERATION},
    traffic::{Entry, Meaning},
    twin::{Ending, Judged, Purse},
};

/// The position of a record.
pub fn position(entry: &Entry) -> Position {
    Position {
        generation: GENERATION,
        partition: Partition::new(entry.partition),
        offset: Offset::new(entry.offset),
        posting: Default::default(),
    }
}

fn decimal(amount: Amount) -> BigDecimal {
    BigDecimal::from_str(&amount.to_string()).unwrap()
}

fn same(state: &BalanceState, purse: &Purse) -> bool {
    decimal(state.available) == purse.available
        && decimal(state.frozen) == purse.frozen
        && state.version == purse.version
}

fn row_of<'a>(rows: &'a [OffsetRow], entry: &Entry) -> &'a OffsetRow {
    let hash = key_hash(&entry.key);
    let mut found = rows
        .iter()
        .filter(|row| row.partition.get() == entry.partition && row.range.contains(hash));
    let row = found.next().expect("every hash has an offset row");
    assert!(found.next().is_none(), "a hash with two offset rows");
    row
}

/// Consistent cut: the store holds exactly what the records below the offsets of their hash
/// ranges did, and all of them were answered.
pub fn disk_is_exact(disk: &Disk, log: &[(Entry, Judged)]) {
    let mut ledger = BTreeMap::new();
    let mut balances: BTreeMap<(u64, String), Purse> = BTreeMap::new();
    let mut accounts = BTreeMap::new();
    let mut dead = BTreeSet::new();
    for (entry, judged) in log {
        let committed = entry.offset < row_of(&disk.rows, entry).offset.get();
        if committed {
            let result = disk
                .results
                .get(&position(entry))
                .unwrap_or_else(|| panic!("committed without a result: {entry:?}"));
            result_is_right(result, entry, judged);
        }
        if !committed {
            continue;
        }
        match judged.ending {
            Ending::Refused(code) => {
                dead.insert((entry.partition, entry.offset));
                let letter = &disk.dead.get(&(entry.partition, entry.offset));
                let letter = letter.unwrap_or_else(|| panic!("no dead letter: {entry:?}"));
                assert_eq!(letter.code, code, "{entry:?}");
                assert_eq!(*letter.value, *entry.value);
                assert_eq!(*letter.key, *entry.key);
                assert_eq!(letter.failed_at_ms, judged.clock_ms);
            }
            Ending::Duplicate => {}
            Ending::Success | Ending::Failed(_) => {
                if let Some((account, user)) = &judged.opened {
                    accounts.insert(*account, user.clone());
                }
                if let Some((account, currency, _, after)) = &judged.around {
                    ledger.insert(position(entry), (entry, judged));
                    if judged.ending == Ending::Success {
                        balances.insert((*account, (*currency).to_owned()), after.clone());
                    }
                }
            }
        }
    }
    assert_eq!(disk.accounts, accounts, "accounts");
    assert_eq!(
        disk.dead.keys().copied().collect::<BTreeSet<_>>(),
        dead,
        "dead letters"
    );
    assert_eq!(
        disk.ledger.keys().collect::<Vec<_>>(),
        ledger.keys().collect::<Vec<_>>(),
        "ledger positions"
    );
    for (place, (entry, judged)) in &ledger {
        entry_is_right(&disk.ledger[place], entry, judged);
    }
    assert_eq!(
        disk.balances.keys().collect::<Vec<_>>(),
        balances.keys().collect::<Vec<_>>(),
        "balance rows"
    );
    for (place, purse) in &balances {
        let image = &disk.balances[place];
        let state = BalanceState {
            available: image.available,
            frozen: image.frozen,
            version: image.version,
        };
        assert!(
            same(&state, purse),
            "{place:?}: {image:?}, the twin has {purse:?}"
        );
        assert!(!image.available.is_negative() && !image.frozen.is_negative());
    }
}

fn entry_is_right(held: &LedgerEntry, entry: &Entry, judged: &Judged) {
    let Meaning::Move {
        person,
        kind,
        currency,
        amount,
    } = &entry.meaning
    else {
        panic!("a ledger entry of no command: {entry:?}");
    };
    let Some((_, _, before, after)) = &judged.around else {
        panic!("a ledger entry without balances: {entry:?}");
    };
    let failure = match judged.ending {
        Ending::Failed(code) => Some(code),
        _ => None,
    };
    assert_eq!(held.failure, failure, "{entry:?}");
    assert_eq!(held.account_id.get(), person.account);
    assert_eq!(held.transaction_id.as_str(), person.transaction_id);
    assert_eq!((held.kind, held.currency.as_str()), (*kind, *currency));
    assert_eq!(decimal(held.amount), BigDecimal::from_str(amount).unwrap());
    assert!(
        same(&held.before, before),
        "{held:?}, the twin has {before:?}"
    );
    assert!(same(&held.after, after), "{held:?}, the twin has {after:?}");
    assert_eq!(held.time_ms, judged.clock_ms);
    assert_eq!(held.remembered_ms, judged.remembered_ms);
}

/// A result says what the twin says.
pub fn result_is_right(result: &ResultRecord, entry: &Entry, judged: &Judged) {
    let ending = match result.status {
        Status::Success => Ending::Success,
        Status::Failed(code) => Ending::Failed(code),
        Status::Duplicate => Ending::Duplicate,
        Status::Refused(code) => Ending::Refused(code),
    };
    assert_eq!(ending, judged.ending, "{entry:?}\n{result:?}");
    assert_eq!(result.timestamp_ms, judged.clock_ms);
    match (&result.around, &judged.around) {
        (None, None) => {}
        (Some(held), Some((account, currency, before, after))) => {
            assert!(
                same(&held.before, before) && same(&held.after, after),
                "{result:?}"
            );
            assert_eq!(result.account_id.map(|id| id.get()), Some(*account));
            assert_eq!(result.currency.unwrap().as_str(), *currency);
        }
        _ => panic!("balances where there are none, or the other way: {result:?} {judged:?}"),
    }
    if let Meaning::Open(person) | Meaning::Move { person, .. } = &entry.meaning {
        assert!(result.addressed, "{result:?}");
        assert_eq!(result.transaction_id.as_str(), person.transaction_id);
        assert_eq!(result.user_id.as_str(), person.user);
    }
}

/// The sum of a currency over the ledger's successes equals that over the balances, in integers.
pub fn sums_are_equal(disk: &Disk) {
    let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
    for entry in disk.ledger.values() {
        let change = |after: Amount, before: Amount| after.units() - before.units();
        *sums.entry(entry.currency.as_str()).or_default() +=
            change(entry.after.available, entry.before.available)
                + change(entry.after.frozen, entry.before.frozen);
    }
    for image in disk.balances.values() {
        *sums.entry(image.currency.as_str()).or_default() -=
            image.available.units() + image.frozen.units();
    }
    assert!(sums.values().all(|sum| *sum == 0), "{sums:?}");
}
