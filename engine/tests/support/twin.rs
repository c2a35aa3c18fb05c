//! The naive twin: the same rules written plainly, with maps and big decimals.
//!
//! It judges the whole log in the order it was appended, one record after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use bigdecimal::BigDecimal;
use kilter_engine::{Code, CommandKind, partitioner::Partitioner, record::Mark};

use super::traffic::{Entry, Meaning, Person};

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
    /// Account, currency, before and after, for what has balances.
    pub around: Option<(u64, &'static str, Purse, Purse)>,
    /// The account that it made active.
    pub opened: Option<(u64, String)>,
}

/// The twin's whole state.
pub struct Twin {
    window_ms: i64,
    partitions: u32,
    clocks: BTreeMap<u32, i64>,
    accounts: BTreeMap<String, u64>,
    purses: BTreeMap<(u64, &'static str), Purse>,
    ids: BTreeMap<(String, String), i64>,
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
            around: None,
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
            } => self.movement(person, *kind, currency, amount, &mut judged),
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
            Meaning::Open(person) | Meaning::Move { person, .. } => person,
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

    fn movement(
        &mut self,
        person: &Person,
        kind: CommandKind,
        currency: &'static str,
        amount: &str,
        judged: &mut Judged,
    ) {
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
        let place = (person.account, currency);
        let before = self.purses.get(&place).cloned().unwrap_or_default();
        let id = (person.user.clone(), person.transaction_id.clone());
        // Forty generations of a fortieth of the window: the rule, computed from the times alone.
        let granule = (self.window_ms + 39) / 40;
        let generation = |ms: i64| ms.div_euclid(granule);
        if let Some(at) = self.ids.get(&id)
            && generation(judged.clock_ms) - generation(*at) <= 40
        {
            judged.ending = Ending::Duplicate;
            judged.around = Some((person.account, currency, before.clone(), before));
            return;
        }
        self.ids.insert(id, judged.remembered_ms);
        let amount = BigDecimal::from_str(amount).unwrap();
        let mut after = before.clone();
        let none = BigDecimal::from(0);
        let mut spent = None;
        match kind {
            CommandKind::Deposit => after.available += &amount,
            CommandKind::Withdraw => {
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
            CommandKind::Open => unreachable!("OPEN moves no money"),
        }
        let failure = match spent {
            Some((rest, code)) if rest < none => Some(code),
            _ if after.available >= self.limit || after.frozen >= self.limit => {
                Some(Code::BalanceOverflow)
            }
            _ => None,
        };
        if let Some(code) = failure {
            judged.ending = Ending::Failed(code);
            judged.around = Some((person.account, currency, before.clone(), before));
            return;
        }
        after.version += 1;
        self.purses.insert(place, after.clone());
        judged.around = Some((person.account, currency, before, after));
    }
}
