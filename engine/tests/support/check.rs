//! Holds what the store has against what the twin says: the invariants of the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use bigdecimal::BigDecimal;
use kilter_engine::{
    Amount, CommandKind, Leg, Offset, Partition, Position, Posting,
    epoch::OffsetRow,
    hash::key_hash,
    ledger::{BalanceState, LedgerEntry},
    result::{ResultRecord, Status},
};

use super::{
    disk::{Disk, GENERATION},
    traffic::{Entry, Meaning, Person},
    twin::{Ending, Flight, Judged, Purse},
};

/// The position of a record.
pub fn position(entry: &Entry, posting: usize) -> Position {
    Position {
        generation: GENERATION,
        partition: Partition::new(entry.partition),
        offset: Offset::new(entry.offset),
        posting: Posting::new(posting as u16),
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

/// The offset row that speaks of a record.
pub fn row_of<'a>(rows: &'a [OffsetRow], entry: &Entry) -> &'a OffsetRow {
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
    let mut legs = BTreeMap::new();
    for (entry, judged) in log {
        let committed = entry.offset < row_of(&disk.rows, entry).offset.get();
        if committed {
            for posting in 0..judged.results(entry) {
                let result = disk
                    .results
                    .get(&position(entry, posting))
                    .unwrap_or_else(|| panic!("committed without a result: {entry:?}"));
                result_is_right(result, entry, judged, posting);
            }
            for flight in &judged.legs {
                legs.insert(flight.name.clone(), flight);
            }
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
                for (posting, (account, currency, _, after)) in judged.around.iter().enumerate() {
                    ledger.insert(position(entry, posting), (entry, judged, posting));
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
    for (place, (entry, judged, posting)) in &ledger {
        entry_is_right(&disk.ledger[place], entry, judged, *posting);
        let landed = disk.landed.get(place);
        match &entry.meaning {
            Meaning::Leg(flight) => {
                let landed = landed.unwrap_or_else(|| panic!("a leg without its name: {entry:?}"));
                assert_eq!(landed.name.to_string(), flight.name);
                assert_eq!(*landed.user_id, *flight.to.user);
            }
            _ => assert!(landed.is_none(), "{landed:?}"),
        }
    }
    assert_eq!(
        disk.legs
            .keys()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        legs.keys().cloned().collect::<BTreeSet<_>>(),
        "legs"
    );
    for leg in disk.legs.values() {
        leg_is_right(leg, legs[&leg.name.to_string()]);
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

fn leg_is_right(leg: &Leg, flight: &Flight) {
    assert_eq!(*leg.user_id, *flight.to.user);
    assert_eq!(leg.account_id.get(), flight.to.account);
    assert_eq!(leg.transaction_id.as_str(), flight.to.transaction_id);
    assert_eq!(*leg.from_user_id, *flight.from.0);
    assert_eq!(leg.from_account_id.get(), flight.from.1);
    assert_eq!(leg.currency.as_str(), flight.currency);
    assert_eq!(
        decimal(leg.amount),
        BigDecimal::from_str(&flight.amount).unwrap()
    );
    assert_eq!(leg.issued_at_ms, flight.issued_at_ms);
}

/// Who asked for what by a posting of the record.
fn asked(entry: &Entry, posting: usize) -> Option<(&Person, CommandKind, &str, &str)> {
    match &entry.meaning {
        Meaning::Bad(_) | Meaning::Open(_) => None,
        Meaning::Move {
            person,
            kind,
            currency,
            amount,
        } => Some((person, *kind, currency, amount)),
        Meaning::Changes {
            person, changes, ..
        } => {
            let change = &changes[posting];
            Some((person, change.kind, change.currency, &change.amount))
        }
        Meaning::Leg(flight) => Some((&flight.to, flight.kind, flight.currency, &flight.amount)),
    }
}

fn entry_is_right(held: &LedgerEntry, entry: &Entry, judged: &Judged, posting: usize) {
    let Some((person, kind, currency, amount)) = asked(entry, posting) else {
        panic!("a ledger entry of no command: {entry:?}");
    };
    let (_, _, before, after) = &judged.around[posting];
    let failure = match judged.ending {
        Ending::Failed(code) => Some(code),
        _ => None,
    };
    assert_eq!(held.failure, failure, "{entry:?}");
    assert_eq!(held.account_id.get(), person.account);
    assert_eq!(held.transaction_id.as_str(), person.transaction_id);
    assert_eq!((held.kind, held.currency.as_str()), (kind, currency));
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
pub fn result_is_right(result: &ResultRecord, entry: &Entry, judged: &Judged, posting: usize) {
    let ending = match result.status {
        Status::Success => Ending::Success,
        Status::Failed(code) => Ending::Failed(code),
        Status::Duplicate => Ending::Duplicate,
        Status::Refused(code) => Ending::Refused(code),
    };
    assert_eq!(ending, judged.ending, "{entry:?}\n{result:?}");
    assert_eq!(result.timestamp_ms, judged.clock_ms);
    match (&result.around, judged.around.get(posting)) {
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
    let person = match &entry.meaning {
        Meaning::Bad(_) => return,
        Meaning::Open(person) => person,
        _ => asked(entry, posting).unwrap().0,
    };
    assert!(result.addressed, "{result:?}");
    assert_eq!(result.transaction_id.as_str(), person.transaction_id);
    assert_eq!(result.user_id.as_str(), person.user);
    let leg = match &entry.meaning {
        Meaning::Leg(flight) => Some(flight.name.clone()),
        _ => None,
    };
    let named = result.counterpart.as_ref().and_then(|other| other.leg);
    // What its mark alone refuses was not read.
    if result.kind.is_some() {
        assert_eq!(named.map(|name| name.to_string()), leg, "{result:?}");
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
