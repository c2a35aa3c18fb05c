//! The rules once more, with plain maps and integers: the audit's own idea of the truth.

use std::collections::{BTreeMap, HashMap};

use kilter_engine::{
    Amount, Body, Change, Code, Command, Currency, Leg, LegBody, LegKind, LegName, MoveKind,
    Offset, Position, Posting,
    decode::decode,
    hash::IdHash,
    ledger::TransactionId,
    record::{Mark, NOT_ISSUED, Record},
};

use super::ending::{Answer, Ending};

/// One more than the largest amount: 10¹⁸ in units of 10⁻¹⁸.
const LIMIT: i128 = 10_i128.pow(36);

/// How many parts a window has; an id is forgotten when its part is more than so many back.
const PARTS: i64 = 40;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Purse {
    pub(super) available: i128,
    pub(super) frozen: i128,
    pub(super) version: u64,
}

/// What the records up to here make of every account.
pub(super) struct State {
    /// The windows that hold from later offsets on, latest first.
    later: Vec<(Offset, u64)>,
    window_ms: i64,
    longest_ms: i64,
    clock_ms: i64,
    pub(super) accounts: HashMap<String, u64>,
    /// Claims of records that are not committed yet.
    pub(super) waiting: HashMap<String, u64>,
    pub(super) purses: HashMap<(u64, String), Purse>,
    ids: HashMap<IdHash, i64>,
    /// The legs that left, by their names, as they go to the log.
    pub(super) legs: BTreeMap<String, Vec<u8>>,
    /// When that many ids are held, those that no window reaches any more are dropped.
    ids_max: usize,
}

impl State {
    pub(super) fn new(mut windows: Vec<(Offset, u64)>) -> Self {
        let longest_ms = windows.iter().map(|(_, ms)| *ms).max().unwrap_or(0);
        windows.reverse();
        Self {
            later: windows,
            window_ms: 0,
            longest_ms: longest_ms as i64,
            ids_max: 1 << 20,
            clock_ms: 0,
            accounts: HashMap::new(),
            waiting: HashMap::new(),
            purses: HashMap::new(),
            ids: HashMap::new(),
            legs: BTreeMap::new(),
        }
    }

    /// Moves the log's clock to a record.
    pub(super) fn tick(&mut self, record: &Record<'_>, ignored: bool) {
        while let Some((_, window_ms)) = self.later.pop_if(|(from, _)| *from <= record.offset) {
            self.window_ms = window_ms as i64;
        }
        if !ignored {
            self.clock_ms = self.clock_ms.max(record.timestamp_ms);
        }
    }

    /// The log's clock at the record it was last moved to.
    pub(super) fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// Passes by a record that is not committed: it has claimed all the same.
    pub(super) fn wait(&mut self, record: &Record<'_>) {
        if record.mark == Mark::Claimed
            && let Ok(command) = decode(record.value)
        {
            self.waiting
                .insert(command.user_id.into_owned(), command.account_id.get());
        }
    }

    /// Decides a record.
    pub(super) fn judge(&mut self, record: &Record<'_>, refused: bool) -> Ending {
        if refused || record.mark == Mark::OperatorRefused {
            return Ending::Refused(Code::OperatorRefused);
        }
        if record.mark == Mark::Oversize {
            return Ending::Refused(Code::Malformed);
        }
        let command = match decode(record.value) {
            Ok(command) => command,
            Err(refusal) => return Ending::Refused(refusal.code),
        };
        let user = command.user_id.as_ref();
        let account_id = command.account_id.get();
        let opens = matches!(command.body, Body::Open);
        if opens && !matches!(record.mark, Mark::Claimed | Mark::ClaimRefused) {
            return Ending::Refused(Code::Malformed);
        }
        if matches!(command.body, Body::Leg(_)) && record.issued_at_ms == NOT_ISSUED {
            return Ending::Refused(Code::Malformed);
        }
        if record.issued_at_ms != NOT_ISSUED {
            if self.clock_ms - record.issued_at_ms > self.window_ms / 2 {
                return Ending::Refused(Code::Expired);
            }
            if record.issued_at_ms - self.clock_ms > self.window_ms / 4 {
                return Ending::Refused(Code::Malformed);
            }
        }
        if record.key != user.as_bytes() {
            return Ending::Refused(Code::KeyMismatch);
        }
        match &command.body {
            Body::Open if record.mark == Mark::ClaimRefused => {
                return Ending::Refused(Code::AccountMismatch);
            }
            Body::Open => {
                self.accounts.insert(user.to_owned(), account_id);
                return Ending::Opened;
            }
            Body::Leg(leg) => return self.land(record, &command, leg),
            Body::Move { .. } | Body::Transfer(_) | Body::Batch(_) => {}
        }
        match self.accounts.get(user) {
            None => return Ending::Refused(Code::AccountNotFound),
            Some(own) if *own != account_id => return Ending::Refused(Code::AccountMismatch),
            Some(_) => {}
        }
        let id = IdHash::of(user.as_bytes(), command.transaction_id.as_bytes());
        if self.remembers(&id) {
            return Ending::Duplicate;
        }
        let remembered_ms = self.remember(id, record);
        self.change(record, &command, remembered_ms)
    }

    /// Whether an id is remembered now.
    fn remembers(&self, id: &IdHash) -> bool {
        let part_ms = (self.window_ms + PARTS - 1) / PARTS;
        let now = self.clock_ms.div_euclid(part_ms);
        let at = self.ids.get(id);
        at.is_some_and(|at| now - at.div_euclid(part_ms) <= PARTS)
    }

    /// Remembers an id, and says from when.
    fn remember(&mut self, id: IdHash, record: &Record<'_>) -> i64 {
        let remembered_ms = self.clock_ms.max(record.issued_at_ms);
        self.ids.insert(id, remembered_ms);
        if self.ids.len() > self.ids_max {
            let oldest_ms = self.clock_ms - 2 * self.longest_ms;
            self.ids.retain(|_, at| *at >= oldest_ms);
            self.ids_max = (2 * self.ids.len()).max(self.ids_max);
        }
        remembered_ms
    }

    /// What a command's postings make: all of them, or nothing.
    fn change(&mut self, record: &Record<'_>, command: &Command<'_>, remembered_ms: i64) -> Ending {
        let account_id = command.account_id.get();
        let changes = match &command.body {
            Body::Move {
                kind,
                currency,
                amount,
            } => vec![Change {
                kind: *kind,
                currency: *currency,
                amount: *amount,
                to: None,
            }],
            _ => command.changes().to_vec(),
        };
        let mut made: HashMap<String, Purse> = HashMap::new();
        let mut around = Vec::new();
        let mut failure = None;
        for change in &changes {
            let currency = change.currency.as_str();
            let before = match made.get(currency) {
                Some(purse) => *purse,
                None => self.purse(account_id, currency),
            };
            let (after, code) = spend(before, change.kind, change.amount.units());
            failure = code;
            if failure.is_some() {
                break;
            }
            around.push((before, after));
            made.insert(currency.to_owned(), after);
        }
        if failure.is_some() {
            let same = changes.iter().map(|change| {
                let purse = self.purse(account_id, change.currency.as_str());
                (purse, purse)
            });
            around = same.collect();
        } else {
            for (currency, purse) in made {
                self.purses.insert((account_id, currency), purse);
            }
            for (posting, change) in (0..).zip(&changes) {
                let Some(to) = &change.to else {
                    continue;
                };
                self.leave(Leg {
                    name: LegName {
                        debit: position(record, posting),
                        kind: LegKind::Credit,
                    },
                    user_id: to.user_id.as_ref().into(),
                    account_id: to.account_id,
                    currency: change.currency,
                    amount: change.amount,
                    transaction_id: transaction_id(command),
                    from_user_id: command.user_id.as_ref().into(),
                    from_account_id: command.account_id,
                    issued_at_ms: self.clock_ms,
                });
            }
        }
        let answers = changes.iter().zip(around).map(|(change, (before, after))| {
            let kind = change.kind.as_str();
            let money = (change.currency, change.amount);
            self.answer(
                command,
                kind,
                money,
                (before, after),
                failure,
                remembered_ms,
            )
        });
        Ending::Answered(answers.collect())
    }

    /// What a leg makes: a credit always ends, a refund only where it lands.
    fn land(&mut self, record: &Record<'_>, command: &Command<'_>, leg: &LegBody<'_>) -> Ending {
        let id = IdHash::of_leg(&leg.name);
        if self.remembers(&id) {
            return Ending::Duplicate;
        }
        let account_id = command.account_id.get();
        let code = match self.accounts.get(command.user_id.as_ref()) {
            None => Some(Code::AccountNotFound),
            Some(own) if *own != account_id => Some(Code::AccountMismatch),
            Some(_) => None,
        };
        let before = match code {
            None => self.purse(account_id, leg.currency.as_str()),
            Some(_) => Purse::default(),
        };
        let (after, failure) = match code {
            None => spend(before, MoveKind::Credit, leg.amount.units()),
            Some(code) => (before, Some(code)),
        };
        match (failure, leg.name.kind) {
            (Some(code), LegKind::Refund) => return Ending::Refused(code),
            (Some(_), LegKind::Credit) => self.leave(Leg {
                name: leg.name.refund(),
                user_id: leg.from.user_id.as_ref().into(),
                account_id: leg.from.account_id,
                currency: leg.currency,
                amount: leg.amount,
                transaction_id: transaction_id(command),
                from_user_id: command.user_id.as_ref().into(),
                from_account_id: command.account_id,
                issued_at_ms: self.clock_ms,
            }),
            (None, _) => {
                let place = (account_id, leg.currency.as_str().to_owned());
                self.purses.insert(place, after);
            }
        }
        let remembered_ms = self.remember(id, record);
        let (kind, money) = (leg.name.kind.as_str(), (leg.currency, leg.amount));
        let mut answer = self.answer(
            command,
            kind,
            money,
            (before, after),
            failure,
            remembered_ms,
        );
        answer.leg = Some(leg.name.to_string());
        Ending::Answered(vec![answer])
    }

    fn answer(
        &self,
        command: &Command<'_>,
        kind: &'static str,
        (currency, amount): (Currency, Amount),
        (before, after): (Purse, Purse),
        failure: Option<Code>,
        remembered_ms: i64,
    ) -> Answer {
        Answer {
            account_id: command.account_id.get(),
            currency: currency.as_str().to_owned(),
            transaction_id: command.transaction_id.as_ref().to_owned(),
            kind,
            amount: amount.units(),
            available: (before.available, after.available),
            frozen: (before.frozen, after.frozen),
            version: after.version,
            failure,
            time_ms: self.clock_ms,
            remembered_ms,
            leg: None,
        }
    }

    fn purse(&self, account_id: u64, currency: &str) -> Purse {
        let place = (account_id, currency.to_owned());
        self.purses.get(&place).copied().unwrap_or_default()
    }

    fn leave(&mut self, leg: Leg) {
        self.legs.insert(leg.name.to_string(), leg.payload());
    }
}

fn position(record: &Record<'_>, posting: u16) -> Position {
    Position {
        generation: record.generation,
        partition: record.partition,
        offset: record.offset,
        posting: Posting::new(posting),
    }
}

fn transaction_id(command: &Command<'_>) -> TransactionId {
    match TransactionId::new(&command.transaction_id) {
        Some(id) => id,
        None => unreachable!("a decoded command has an id of 1 to 64 bytes"),
    }
}

/// What a command does to a purse, and why it does nothing.
fn spend(before: Purse, kind: MoveKind, amount: i128) -> (Purse, Option<Code>) {
    let (available, frozen) = match kind {
        MoveKind::Deposit | MoveKind::Credit | MoveKind::Refund => (amount, 0),
        MoveKind::Withdraw | MoveKind::Transfer => (-amount, 0),
        MoveKind::Freeze => (-amount, amount),
        MoveKind::Unfreeze => (amount, -amount),
        MoveKind::Settle => (0, -amount),
    };
    let after = Purse {
        available: before.available + available,
        frozen: before.frozen + frozen,
        version: before.version + 1,
    };
    let failure = if after.available < 0 {
        Some(Code::InsufficientAvailable)
    } else if after.frozen < 0 {
        Some(Code::InsufficientFrozen)
    } else if after.available >= LIMIT || after.frozen >= LIMIT {
        Some(Code::BalanceOverflow)
    } else {
        None
    };
    match failure {
        None => (after, None),
        Some(code) => (before, Some(code)),
    }
}
