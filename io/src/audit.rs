//! The audit on servers: accounts, balances, ledger and offsets held against each other.
//!
//! One pass over one snapshot, a thousand accounts at a time, so that memory holds a thousand
//! accounts with their balances, and of the account that is looked at the transaction ids of its
//! window. The entries come by the ledger's index on the account; within it they lie in log order,
//! because a user has one partition. [`replay`](replay::replay) goes further and applies the log
//! once more.

mod account;
mod offsets;
pub mod replay;
mod report;

use std::collections::BTreeMap;

use kilter_engine::{AccountId, Amount, epoch::OffsetRow, partitioner::Partitioner};

pub use offsets::against_log;
pub use report::{Found, Kind, Report};

use crate::{
    flights::{Flights, OutboxLeg},
    kafka::{KafkaError, TopicLedger},
    mysql::{MysqlError, MysqlReader, StoreSettings},
    rows::{AccountRow, BalanceRow, LedgerRow},
};
use account::Account;
use offsets::Positions;

/// How many accounts are looked at together.
const ACCOUNTS: usize = 1000;

/// How many legs of the outbox are read at once.
const LEGS: usize = 1000;

/// Why an audit cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] MysqlError),
    /// Log or results cannot be read.
    #[error(transparent)]
    Log(#[from] KafkaError),
}

/// What is audited.
#[derive(Clone, Copy)]
pub struct Audited<'a> {
    /// Whose offset rows count.
    pub settings: &'a StoreSettings,
    /// How keys go to partitions.
    pub partitioner: Partitioner,
    /// The ledger, if it is the result topic; else it is in the store. Where the topic has thrown
    /// away its beginning, the first entry of a balance that is kept is taken at its word.
    pub topic: Option<&'a TopicLedger>,
}

/// Audits a snapshot. `progress` is told how many ledger entries were looked at.
///
/// # Errors
///
/// When something cannot be read. What is wrong with it is in the report.
pub fn audit(
    store: &mut MysqlReader,
    audited: Audited<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, AuditError> {
    let mut report = Report::default();
    let positions = positions(store, audited, &mut report)?;
    let mut flights = Flights::default();
    let mut last = i64::MIN;
    loop {
        let accounts = store.accounts_behind(last, ACCOUNTS)?;
        let is_last = accounts.len() < ACCOUNTS;
        let first = last.saturating_add(1);
        last = match accounts.last() {
            // Behind the last account there may still be what belongs to none.
            Some(row) if !is_last => row.account_id as i64,
            _ => i64::MAX,
        };
        let accounts: BTreeMap<u64, AccountRow> = accounts
            .into_iter()
            .map(|row| (row.account_id, row))
            .collect();
        some(
            store,
            audited,
            &positions,
            &accounts,
            (first, last),
            &mut flights,
            &mut report,
        )?;
        progress(report.entries);
        if is_last {
            break;
        }
    }
    let is_whole = audited.topic.is_none_or(TopicLedger::is_whole);
    legs_in_flight(store, (flights, is_whole), &positions, &mut report)?;
    Ok(report)
}

/// Tells what is in flight, and holds the ledger's legs against the outbox.
fn legs_in_flight(
    store: &mut MysqlReader,
    (mut flights, is_whole): (Flights, bool),
    positions: &Positions,
    report: &mut Report,
) -> Result<(), AuditError> {
    let mut last = String::new();
    loop {
        let legs = store.legs_behind(&last, LEGS)?;
        for leg in &legs {
            let name = String::from_utf8_lossy(&leg.name);
            let row = OutboxLeg {
                name: &name,
                user: &leg.user,
                transaction_id: &leg.transaction_id,
                payload: leg.payload.as_deref(),
                is_applied: positions.are_past(leg),
            };
            if let Some(what) = flights.outbox(&row, is_whole) {
                report.differs(Kind::Leg, || what);
            }
            if leg.event_id != format!("leg:{name}") {
                report.differs(Kind::Leg, || {
                    format!("the event {} has the leg {name}", leg.event_id)
                });
            }
        }
        match legs.into_iter().next_back() {
            Some(leg) => last = leg.event_id,
            None => break,
        }
    }
    for name in flights.not_in_outbox() {
        report.differs(Kind::Leg, || {
            format!("the leg {name} is in flight, but not in the outbox")
        });
    }
    let (in_flight, wrong) = flights.finish(is_whole);
    for what in wrong {
        report.differs(Kind::Leg, || what);
    }
    report.in_flight = in_flight;
    Ok(())
}

fn positions(
    store: &mut MysqlReader,
    audited: Audited<'_>,
    report: &mut Report,
) -> Result<Positions, AuditError> {
    let own = audited.settings;
    let mut others = Vec::new();
    let mut offsets: Vec<OffsetRow> = Vec::new();
    for held in store.offsets()? {
        if (&held.group, &held.topic) == (&own.group, &own.topic) {
            offsets.push(held.row);
        } else {
            others.push((held.group, held.topic));
        }
    }
    others.dedup();
    let positions = Positions {
        logs: store.logs()?,
        offsets,
        windows: store.windows()?,
        partitioner: audited.partitioner,
    };
    positions.check(&others, report);
    Ok(positions)
}

/// Looks at all that belongs to the accounts `range.0 ..= range.1`, of which `accounts` are there.
fn some(
    store: &mut MysqlReader,
    audited: Audited<'_>,
    positions: &Positions,
    accounts: &BTreeMap<u64, AccountRow>,
    range: (i64, i64),
    flights: &mut Flights,
    report: &mut Report,
) -> Result<(), AuditError> {
    for row in accounts.values() {
        report.accounts += 1;
        account_itself(row, positions, report);
    }
    let mut balances = BTreeMap::new();
    store.balances_of(range, |row: BalanceRow| {
        report.balances += 1;
        balance_itself(&row, accounts, report);
        balances.insert((row.account_id, row.currency_code.clone()), row);
        Ok::<(), MysqlError>(())
    })?;
    let is_whole = audited.topic.is_none_or(TopicLedger::is_whole);
    let mut present: Option<Account<'_>> = None;
    let each = |entry: LedgerRow| {
        report.entries += 1;
        if let Some(what) = flights.entry(&entry) {
            report.differs(Kind::Leg, || what);
        }
        if account::has_no_account(&entry) {
            account::without_account(&entry, positions, report);
            return Ok(());
        }
        let id = entry.account_id;
        if let Some(other) = present.take_if(|account| account.id() != id) {
            other.finish(&mut balances, report);
        }
        present
            .get_or_insert_with(|| Account::new(id, accounts.get(&id), positions, is_whole, report))
            .entry(&entry, report);
        Ok::<(), AuditError>(())
    };
    match audited.topic {
        None => store.ledger_of(range, each)?,
        Some(topic) => topic.ledger_of(range, each)?,
    }
    if let Some(account) = present {
        account.finish(&mut balances, report);
    }
    // Of what the topic has thrown away nothing can be said.
    let unmade = balances.into_keys().filter(|_| is_whole);
    for (id, currency) in unmade {
        report.differs(Kind::Balance, || {
            format!(
                "account {} {currency}: a balance that no ledger entry made",
                id as i64
            )
        });
    }
    Ok(())
}

fn account_itself(row: &AccountRow, positions: &Positions, report: &mut Report) {
    let id = row.account_id as i64;
    if AccountId::new(row.account_id).is_none() {
        report.differs(Kind::Account, || {
            format!("account {id}: account ids go from 1 to {}", AccountId::MAX)
        });
    }
    match row.state.as_str() {
        "ACTIVE" => {}
        "PENDING" => report.pending += 1,
        other => report.differs(Kind::Account, || {
            format!("account {id}: its state is {other:?}")
        }),
    }
    if let Some((_, count)) = positions.present() {
        let user = row.user_id.as_bytes();
        let right = positions.partitioner.partition(user, count);
        if row.shard_id != right {
            report.differs(Kind::Account, || {
                format!(
                    "account {id}: its shard_id is {}, user {:?} belongs to partition {right}",
                    row.shard_id as i32, row.user_id
                )
            });
        }
    }
}

fn balance_itself(row: &BalanceRow, accounts: &BTreeMap<u64, AccountRow>, report: &mut Report) {
    let name = || format!("account {} {}", row.account_id as i64, row.currency_code);
    for (what, text) in [("available", &row.available), ("frozen", &row.frozen)] {
        let amount: Option<Amount> = text.parse().ok();
        if amount.is_none_or(Amount::is_negative) {
            report.differs(Kind::Balance, || {
                format!("{}: {what} is {text}, less than nothing", name())
            });
        }
    }
    match accounts.get(&row.account_id) {
        None => report.differs(Kind::Account, || {
            format!("{}: a balance of an account that is not there", name())
        }),
        Some(account) if account.state != "ACTIVE" => report.differs(Kind::Account, || {
            format!(
                "{}: a balance of an account that is {}",
                name(),
                account.state
            )
        }),
        Some(_) => {}
    }
}
