//! `outbox_events`: what was accepted and what left as legs, and what is known to be sent.

use std::collections::BTreeMap;

use kilter_engine::{Leg, LegKind, LegName, record::Mark};

use super::sights::{Sight, saw};
use crate::support::{
    disk::Disk,
    traffic::{Meaning, Person},
    twin::Flight,
};

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request {
    pub person: Person,
    pub value: Vec<u8>,
    pub meaning: Meaning,
}

/// What a client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is durable, as this row.
    Accepted(usize),
    /// It was, as this one.
    Duplicate(usize),
    /// Another command has the id.
    Conflict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    /// In the log, maybe too late: it has to be looked after.
    SentLate,
    Sent,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub user: String,
    pub account: u64,
    pub transaction_id: String,
    /// A leg's name, `OPEN`, or nothing.
    pub leg: String,
    pub value: Vec<u8>,
    pub meaning: Meaning,
    pub created_ms: i64,
    pub issued_at_ms: i64,
    pub issues: u32,
    pub status: Status,
}

impl Row {
    pub fn mark(&self) -> Mark {
        match self.meaning {
            Meaning::Open(_) => Mark::Claimed,
            _ => Mark::None,
        }
    }

    pub fn is_leg(&self) -> bool {
        matches!(self.meaning, Meaning::Leg(_))
    }
}

/// The rows, and their unique key.
#[derive(Default)]
pub struct Table {
    pub rows: Vec<Row>,
    keys: BTreeMap<(String, String, String), usize>,
    legs: usize,
}

impl Table {
    /// One transaction for a group of requests; `None` where it did not come to a commit.
    pub fn accept(&mut self, group: &[Request], now_ms: i64) -> Vec<Answer> {
        let mut answers = Vec::new();
        for request in group {
            let leg = match request.meaning {
                Meaning::Open(_) => "OPEN",
                _ => "",
            };
            let Person {
                user,
                account,
                transaction_id,
            } = request.person.clone();
            let key = (user.clone(), transaction_id.clone(), leg.to_owned());
            answers.push(match self.keys.get(&key) {
                Some(row) if self.rows[*row].value == request.value => {
                    saw(Sight::AcceptDuplicate);
                    Answer::Duplicate(*row)
                }
                Some(_) => {
                    saw(Sight::AcceptConflict);
                    Answer::Conflict
                }
                None => Answer::Accepted(self.insert(Row {
                    user,
                    account,
                    transaction_id,
                    leg: leg.to_owned(),
                    value: request.value.clone(),
                    meaning: request.meaning.clone(),
                    created_ms: now_ms,
                    issued_at_ms: now_ms,
                    issues: 0,
                    status: Status::Pending,
                })),
            });
        }
        answers
    }

    /// The legs of the epochs that were committed since: rows of the same transactions. Nothing
    /// else ever makes a leg.
    pub fn take_legs(&mut self, disk: &Disk, now_ms: i64) {
        if self.legs == disk.legs.len() {
            return;
        }
        for leg in disk.legs.values() {
            let id = leg.transaction_id.as_str().to_owned();
            let key = (leg.user_id.to_string(), id, leg.name.to_string());
            if !self.keys.contains_key(&key) {
                self.insert(row_of(leg, now_ms));
                self.legs += 1;
            }
        }
        assert_eq!(self.legs, disk.legs.len(), "two legs of one name");
    }

    fn insert(&mut self, row: Row) -> usize {
        let index = self.rows.len();
        let key = (
            row.user.clone(),
            row.transaction_id.clone(),
            row.leg.clone(),
        );
        assert!(self.keys.insert(key, index).is_none(), "{row:?} twice");
        self.rows.push(row);
        index
    }

    /// The row of a leg.
    pub fn row_of_leg(&mut self, name: LegName) -> Option<&mut Row> {
        let name = name.to_string();
        self.rows.iter_mut().find(|row| row.leg == name)
    }

    /// What was acknowledged is sent, if it is still the issue that was.
    pub fn mark(&mut self, row: usize, issues: u32, is_late: bool) {
        let row = &mut self.rows[row];
        if row.issues != issues {
            saw(Sight::MarkOutdated);
        } else if row.status == Status::Pending {
            row.status = if is_late {
                Status::SentLate
            } else {
                Status::Sent
            };
        }
    }

    /// Whether the ledger has what a row is about.
    pub fn has_landed(&self, row: usize, disk: &Disk) -> bool {
        let row = &self.rows[row];
        match &row.meaning {
            Meaning::Open(person) => disk.accounts.contains_key(&person.account),
            Meaning::Leg(flight) => {
                let mut landed = disk.landed.values();
                landed.any(|landed| landed.name.to_string() == flight.name)
            }
            _ => disk.ledger.values().any(|entry| {
                entry.account_id.get() == row.account
                    && entry.transaction_id.as_str() == row.transaction_id
                    && !disk.landed.contains_key(&entry.position)
            }),
        }
    }

    pub fn land(&mut self, row: usize) {
        if self.rows[row].status == Status::SentLate {
            saw(Sight::LateLanded);
        }
        self.rows[row].status = Status::Sent;
    }

    /// A new issue of a row, if it is still the one that was judged.
    pub fn issue_anew(&mut self, row: usize, issues: u32, now_ms: i64) -> bool {
        let row = &mut self.rows[row];
        if row.issues != issues || row.status == Status::Sent {
            return false;
        }
        saw(if row.is_leg() {
            Sight::LegAnew
        } else {
            Sight::CommandAnew
        });
        row.issues += 1;
        row.issued_at_ms = now_ms;
        row.status = Status::Pending;
        true
    }

    /// Whether nothing is to be done. A leg that may fly for ever is looked after for ever, if its
    /// partition's clock stands still behind it.
    pub fn is_quiet(&self, may_fly: impl Fn(&str) -> bool) -> bool {
        let mut rows = self.rows.iter();
        rows.all(|row| match row.status {
            Status::Pending => false,
            Status::SentLate => may_fly(&row.leg),
            Status::Sent => true,
        })
    }
}

fn row_of(leg: &Leg, now_ms: i64) -> Row {
    let to = Person {
        transaction_id: leg.transaction_id.as_str().to_owned(),
        user: leg.user_id.to_string(),
        account: leg.account_id.get(),
    };
    Row {
        user: to.user.clone(),
        account: to.account,
        transaction_id: to.transaction_id.clone(),
        leg: leg.name.to_string(),
        value: leg.payload(),
        created_ms: now_ms,
        issued_at_ms: leg.issued_at_ms,
        issues: 0,
        status: Status::Pending,
        meaning: Meaning::Leg(Flight {
            name: leg.name.to_string(),
            kind: match leg.name.kind {
                LegKind::Credit => kilter_engine::CommandKind::Credit,
                LegKind::Refund => kilter_engine::CommandKind::Refund,
            },
            to,
            from: (leg.from_user_id.to_string(), leg.from_account_id.get()),
            currency: super::clients::currency(leg.currency.as_str()),
            amount: leg.amount.to_string(),
            issued_at_ms: leg.issued_at_ms,
        }),
    }
}
