//! What has to be true at every committed cut, from the store alone; and what was met on the way.

use std::collections::{BTreeMap, BTreeSet};

use kilter_engine::{Amount, Code, LegKind, LegName, ledger::BalanceState, transition::transition};

use super::{
    sights::{Sight, saw},
    table::Table,
};
use crate::support::{
    disk::Disk,
    money,
    traffic::{Entry, Meaning},
    twin::{Ending, Judged},
};

/// What keeps a leg from landing now: nothing, or its receiver's balance is too full.
pub fn is_too_full(disk: &Disk, name: LegName) -> bool {
    let leg = &disk.legs[&name];
    let place = (leg.account_id.get(), leg.currency.to_string());
    let state = disk.balances.get(&place).map(|image| BalanceState {
        available: image.available,
        frozen: image.frozen,
        version: image.version,
    });
    let after = transition(name.kind.moves(), state.unwrap_or_default(), leg.amount);
    after == Err(Code::BalanceOverflow)
}

/// What the receiver of a leg has.
pub fn available(disk: &Disk, name: LegName) -> Amount {
    let leg = &disk.legs[&name];
    let place = (leg.account_id.get(), leg.currency.to_string());
    disk.balances[&place].available
}

/// How often each id took effect: a client's row once at most.
pub fn effects(disk: &Disk, table: &Table) -> BTreeMap<(u64, String), u64> {
    let mut effects = BTreeMap::new();
    for (position, entry) in &disk.ledger {
        if position.posting.get() == 0 && !disk.landed.contains_key(position) {
            let id = entry.transaction_id.as_str().to_owned();
            *effects.entry((entry.account_id.get(), id)).or_default() += 1;
        }
    }
    for row in table.rows.iter().filter(|row| !row.is_leg()) {
        let key = (row.account, row.transaction_id.clone());
        let count = effects.get(&key).copied().unwrap_or(0);
        assert!(count <= 1, "{count} effects of {row:?}");
    }
    effects
}

/// At the quiet end every row took effect, and nothing is in flight but refunds that do not fit.
pub fn check_end(disk: &Disk, table: &Table, log: &[(Entry, Judged)]) {
    let effects = effects(disk, table);
    for row in &table.rows {
        match &row.meaning {
            Meaning::Open(person) => assert_eq!(disk.accounts[&person.account], person.user),
            Meaning::Leg(_) => {}
            _ => {
                let key = (row.account, row.transaction_id.clone());
                assert_eq!(effects.get(&key), Some(&1), "no effect of {row:?}");
            }
        }
    }
    for name in money::in_flight(disk) {
        assert_eq!(name.kind, LegKind::Refund, "{name} is in flight for ever");
        assert!(is_too_full(disk, name), "{name} would fit");
        saw(Sight::RefundStuck);
    }
    order(table, log);
    tell(disk, log);
}

/// First copies of one user's rows lie in the log in the order of the rows.
fn order(table: &Table, log: &[(Entry, Judged)]) {
    let rows = table.rows.iter().enumerate();
    let rows: BTreeMap<(&[u8], &[u8]), usize> = rows
        .map(|(index, row)| ((row.user.as_bytes(), row.value.as_slice()), index))
        .collect();
    let mut last: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut met = BTreeSet::new();
    for (entry, _) in log {
        let key = (entry.key.as_slice(), entry.value.as_slice());
        if let Some(index) = rows.get(&key).filter(|_| met.insert(key)) {
            let old = last.insert(key.0, *index);
            assert!(old < Some(*index), "row {old:?} overtook {index}");
        }
    }
}

/// Looks at the whole log for what should have been met.
fn tell(disk: &Disk, log: &[(Entry, Judged)]) {
    let window_ms = super::WINDOW_MS;
    let mut first: BTreeMap<&str, &(Entry, Judged)> = BTreeMap::new();
    let mut overflowed = BTreeSet::new();
    for both @ (entry, judged) in log {
        let Meaning::Leg(leg) = &entry.meaning else {
            let expired = judged.ending == Ending::Refused(Code::Expired);
            expired.then(|| saw(Sight::CommandExpired));
            continue;
        };
        let (old, was) = *first.entry(&leg.name).or_insert(both);
        let is_new = old.offset == entry.offset;
        if !is_new && judged.clock_ms - was.clock_ms > window_ms {
            saw(Sight::LegAWindowLate);
            let expired = judged.ending == Ending::Refused(Code::Expired);
            expired.then(|| saw(Sight::LegExpired));
        }
        let had_none = was.ending == Ending::Failed(Code::AccountNotFound);
        if had_none && !is_new && opened_before(log, leg.to.account, both) {
            saw(Sight::OpenedBetweenCopies);
        }
        if judged.ending == Ending::Refused(Code::BalanceOverflow) {
            overflowed.insert(&leg.name);
            saw(Sight::RefundOverflowed);
        }
        if judged.ending == Ending::Success && overflowed.contains(&leg.name) {
            saw(Sight::RefundLandedLater);
        }
    }
    ids(disk);
}

fn opened_before(log: &[(Entry, Judged)], account: u64, copy: &(Entry, Judged)) -> bool {
    let before = log.iter().take_while(|it| !std::ptr::eq(*it, copy));
    before
        .filter_map(|(_, judged)| judged.opened.as_ref())
        .any(|(opened, _)| *opened == account)
}

/// One id used by two debtors, and one debtor's id used twice.
fn ids(disk: &Disk) {
    let mut debtors: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for what in disk.landed.values() {
        let debit = &disk.ledger[&what.name.debit];
        let users = debtors.entry(debit.transaction_id.as_str()).or_default();
        let is_credit = what.name.kind == LegKind::Credit;
        if is_credit && what.name.debit.posting.get() == 0 {
            let account = debit.account_id.get();
            if users.contains(&account) {
                saw(Sight::IdReused);
            } else if !users.is_empty() {
                saw(Sight::IdShared);
            }
            users.push(account);
        }
    }
}
