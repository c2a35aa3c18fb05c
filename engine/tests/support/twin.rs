//! The naive twin: the same rules written plainly, with maps and big decimals.
//!
//! It judges the whole log in the order it was appended, one record after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use bigdecimal::BigDecimal;
use kilter_engine::{Code, CommandKind, partitioner::Partitioner, record::Mark};

use super::traffic::{Change, Entry, Meaning, Person};

/// How a record ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Success,
    Failed(Code),
    Duplicate,
    Refused(Code),
}

/// A balance in big decimals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purse {
    pub available: BigDecimal,
    pub frozen: BigDecimal,
    pub version: u64,
}

/// What becomes of one record.
#[derive(Clone, Debug)]
pub struct Judged {
    pub ending: Ending,
    pub clock_ms: i64,
    pub remembered_ms: i64,
    /// The user it belongs to, if it changes or asks anything of one.
    pub user: Option<String>,
    /// Account, currency, before and after, for what has balances; one for each posting.
    pub around: Vec<(u64, &'static str, Purse, Purse)>,
    /// The legs that leave.
    pub legs: Vec<Flight>,
    /// The account that it made active.
    pub opened: Option<(u64, String)>,
}

impl Judged {
    /// How many results it has.
    pub fn results(&self, entry: &Entry) -> usize {
        match (&self.ending, &entry.meaning) {
            (Ending::Refused(_), _) => 1,
            (_, Meaning::Changes { changes, .. }) => changes.len(),
            _ => 1,
        }
    }
}

/// A leg on its way, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    pub name: String,
    pub kind: CommandKind,
    pub to: Person,
    pub from: (String, u64),
    pub currency: &'static str,
    pub amount: String,
    pub issued_at_ms: i64,
}

/// The twin's whole state.
pub struct Twin {
    window_ms: i64,
    partitions: u32,
    clocks: BTreeMap<u32, i64>,
    accounts: BTreeMap<String, u64>,
    purses: BTreeMap<(u64, &'static str), Purse>,
    ids: BTreeMap<(String, String), i64>,
    /// Names of legs, and from when they are remembered.
    names: BTreeMap<String, i64>,
    limit: BigDecimal,
}

impl Twin {
    pub fn new(window_ms: u64, partitions: u32) -> Self {
        Self {
            window_ms: window_ms as i64,
            partitions,
            clocks: BTreeMap::new(),
            accounts: BTreeMap::new(),
            purses: BTreeMap::new(),
            ids: BTreeMap::new(),
            names: BTreeMap::new(),
            limit: BigDecimal::from_str("1e18").unwrap(),
        }
    }

    pub fn purses(&self) -> &BTreeMap<(u64, &'static str), Purse> {
        &self.purses
    }

    pub fn accounts(&self) -> BTreeSet<(u64, String)> {
        self.accounts
            .iter()
            .map(|(user, account)| (*account, user.clone()))
            .collect()
    }

    pub fn judge(&mut self, entry: &Entry) -> Judged {
        let clock = self.clocks.entry(entry.partition).or_insert(0);
        *clock = (*clock).max(entry.timestamp_ms);
        let clock_ms = *clock;
        let mut judged = Judged {
            ending: Ending::Success,
            clock_ms,
            remembered_ms: clock_ms.max(entry.issued_at_ms.unwrap_or(i64::MIN)),
            user: None,
            around: Vec::new(),
            legs: Vec::new(),
            opened: None,
        };
        if let Err(code) = self.check(entry, clock_ms) {
            judged.ending = Ending::Refused(code);
            return judged;
        }
        match &entry.meaning {
            Meaning::Bad(_) => unreachable!("refused by its shape"),
            Meaning::Open(person) => {
                if entry.mark == Mark::ClaimRefused {
                    judged.ending = Ending::Refused(Code::AccountMismatch);
                    return judged;
                }
                judged.user = Some(person.user.clone());
                if self
                    .accounts
                    .insert(person.user.clone(), person.account)
                    .is_none()
                {
                    judged.opened = Some((person.account, person.user.clone()));
                }
            }
            Meaning::Move {
                person,
                kind,
                currency,
                amount,
            } => {
                let change = Change {
                    kind: *kind,
                    currency,
                    amount: amount.clone(),
                    to: None,
                };
                self.changes(person, &[change], entry, &mut judged);
            }
            Meaning::Changes {
                person, changes, ..
            } => self.changes(person, changes, entry, &mut judged),
            Meaning::Leg(flight) => self.land(flight, &mut judged),
        }
        judged
    }

    fn check(&self, entry: &Entry, clock_ms: i64) -> Result<(), Code> {
        if entry.mark == Mark::OperatorRefused {
            return Err(Code::OperatorRefused);
        }
        let person = match &entry.meaning {
            Meaning::Bad(code) => return Err(*code),
            Meaning::Open(_) if entry.mark == Mark::None => return Err(Code::Malformed),
            Meaning::Leg(_) if entry.issued_at_ms.is_none() => return Err(Code::Malformed),
            Meaning::Open(person)
            | Meaning::Move { person, .. }
            | Meaning::Changes { person, .. } => person,
            Meaning::Leg(flight) => &flight.to,
        };
        if let Some(issued) = entry.issued_at_ms {
            if clock_ms - issued > self.window_ms / 2 {
                return Err(Code::Expired);
            }
            if issued - clock_ms > self.window_ms / 4 {
                return Err(Code::Malformed);
            }
        }
        if entry.key != person.user.as_bytes() {
            return Err(Code::KeyMismatch);
        }
        if Partitioner::Murmur2.partition(&entry.key, self.partitions) != entry.partition {
            return Err(Code::WrongPartition);
        }
        Ok(())
    }

    /// Whether what is remembered from then on is so now.
    fn remembers(&self, at_ms: i64, now_ms: i64) -> bool {
        // Forty generations of a fortieth of the window: the rule, computed from the times alone.
        let granule = (self.window_ms + 39) / 40;
        now_ms.div_euclid(granule) - at_ms.div_euclid(granule) <= 40
    }

    /// Whether a leg of this name was answered, at any time.
    pub fn has_landed(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    fn purse(&self, place: (u64, &'static str)) -> Purse {
        self.purses.get(&place).cloned().unwrap_or_default()
    }

    fn changes(&mut self, person: &Person, changes: &[Change], entry: &Entry, judged: &mut Judged) {
        match self.accounts.get(&person.user) {
            None => {
                judged.ending = Ending::Refused(Code::AccountNotFound);
                return;
            }
            Some(own) if *own != person.account => {
                judged.ending = Ending::Refused(Code::AccountMismatch);
                return;
            }
            Some(_) => {}
        }
        judged.user = Some(person.user.clone());
        let id = (person.user.clone(), person.transaction_id.clone());
        let used = self.ids.get(&id).copied();
        let is_duplicate = used.is_some_and(|at| self.remembers(at, judged.clock_ms));
        if is_duplicate {
            judged.ending = Ending::Duplicate;
        } else {
            self.ids.insert(id, judged.remembered_ms);
            let before = self.purses.clone();
            for (index, change) in changes.iter().enumerate() {
                let place = (person.account, change.currency);
                let old = self.purse(place);
                match self.change(&old, change.kind, &change.amount) {
                    Ok(new) => {
                        self.purses.insert(place, new.clone());
                        judged.around.push((place.0, place.1, old, new));
                    }
                    Err(code) => {
                        judged.ending = Ending::Failed(code);
                        judged.around.clear();
                        judged.legs.clear();
                        self.purses = before;
                        break;
                    }
                }
                if let Some((user, account)) = &change.to {
                    judged.legs.push(Flight {
                        name: format!("1/{}/{}/{index}/CREDIT", entry.partition, entry.offset),
                        kind: CommandKind::Credit,
                        to: Person {
                            transaction_id: person.transaction_id.clone(),
                            user: user.clone(),
                            account: *account,
                        },
                        from: (person.user.clone(), person.account),
                        currency: change.currency,
                        amount: change.amount.clone(),
                        issued_at_ms: judged.clock_ms,
                    });
                }
            }
        }
        if judged.ending != Ending::Success {
            let same = changes.iter().map(|change| {
                let purse = self.purse((person.account, change.currency));
                (person.account, change.currency, purse.clone(), purse)
            });
            judged.around = same.collect();
        }
    }

    fn land(&mut self, flight: &Flight, judged: &mut Judged) {
        let Person { user, account, .. } = &flight.to;
        judged.user = Some(user.clone());
        let place = (*account, flight.currency);
        let code = match self.accounts.get(user) {
            None => Some(Code::AccountNotFound),
            Some(own) if own != account => Some(Code::AccountMismatch),
            Some(_) => None,
        };
        let before = if code.is_none() {
            self.purse(place)
        } else {
            Purse::default()
        };
        let used = self.names.get(&flight.name).copied();
        if used.is_some_and(|at| self.remembers(at, judged.clock_ms)) {
            judged.ending = Ending::Duplicate;
            if code.is_none() {
                judged.around = vec![(place.0, place.1, before.clone(), before)];
            }
            return;
        }
        let after = match code {
            Some(code) => Err(code),
            None => self.change(&before, flight.kind, &flight.amount),
        };
        match after {
            Ok(after) => {
                self.purses.insert(place, after.clone());
                judged.around = vec![(place.0, place.1, before, after)];
            }
            Err(code) if flight.kind == CommandKind::Refund => {
                judged.ending = Ending::Refused(code);
                judged.user = None;
                return;
            }
            Err(code) => {
                judged.ending = Ending::Failed(code);
                judged.around = vec![(place.0, place.1, before.clone(), before)];
                judged.legs.push(Flight {
                    name: flight.name.replace("CREDIT", "REFUND"),
                    kind: CommandKind::Refund,
                    to: Person {
                        transaction_id: flight.to.transaction_id.clone(),
                        user: flight.from.0.clone(),
                        account: flight.from.1,
                    },
                    from: (user.clone(), *account),
                    issued_at_ms: judged.clock_ms,
                    ..flight.clone()
                });
            }
        }
        self.names.insert(flight.name.clone(), judged.remembered_ms);
    }

    /// The rules of money.
    fn change(&self, before: &Purse, kind: CommandKind, amount: &str) -> Result<Purse, Code> {
        let amount = BigDecimal::from_str(amount).unwrap();
        let mut after = before.clone();
        let none = BigDecimal::from(0);
        let mut spent = None;
        match kind {
            CommandKind::Deposit | CommandKind::Credit | CommandKind::Refund => {
                after.available += &amount;
            }
            CommandKind::Withdraw | CommandKind::Transfer => {
                after.available -= &amount;
                spent = Some((after.available.clone(), Code::InsufficientAvailable));
            }
            CommandKind::Freeze => {
                after.available -= &amount;
                after.frozen += &amount;
                spent = Some((after.available.clone(), Code::InsufficientAvailable));
            }
            CommandKind::Unfreeze => {
                after.available += &amount;
                after.frozen -= &amount;
                spent = Some((after.frozen.clone(), Code::InsufficientFrozen));
            }
            CommandKind::Settle => {
                after.frozen -= &amount;
                spent = Some((after.frozen.clone(), Code::InsufficientFrozen));
            }
            CommandKind::Open | CommandKind::Batch => unreachable!("{kind} moves no money itself"),
        }
        match spent {
            Some((rest, code)) if rest < none => return Err(code),
            _ if after.available >= self.limit || after.frozen >= self.limit => {
                return Err(Code::BalanceOverflow);
            }
            _ => {}
        }
        after.version += 1;
        Ok(after)
    }
}
