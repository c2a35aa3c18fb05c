//! The rules once more, with plain maps and integers: the audit's own idea of the truth.

use std::collections::HashMap;

use kilter_engine::{
    Amount, Body, Code, MoveKind, Offset,
    decode::decode,
    hash::IdHash,
    record::{Mark, NOT_ISSUED, Record},
};

use super::{
    AuditReport,
    ending::{Answer, Ending, text},
};
use crate::{
    embedded::{connection::Db, error::EmbeddedError, reader::StoreReader},
    rows::{AccountRow, BalanceRow},
};

/// One more than the largest amount: 10¹⁸ in units of 10⁻¹⁸.
const LIMIT: i128 = 10_i128.pow(36);

/// How many parts a window has; an id is forgotten when its part is more than so many back.
const PARTS: i64 = 40;

#[derive(Clone, Copy, Debug, Default)]
struct Purse {
    available: i128,
    frozen: i128,
    version: u64,
}

/// What the records up to here make of every account.
pub(super) struct State {
    /// The windows that hold from later offsets on, latest first.
    later: Vec<(Offset, u64)>,
    window_ms: i64,
    longest_ms: i64,
    clock_ms: i64,
    accounts: HashMap<String, u64>,
    /// Claims of records that are not committed yet.
    waiting: HashMap<String, u64>,
    purses: HashMap<(u64, String), Purse>,
    ids: HashMap<IdHash, i64>,
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
        let (kind, currency, amount) = match command.body {
            Body::Open if record.mark == Mark::ClaimRefused => {
                return Ending::Refused(Code::AccountMismatch);
            }
            Body::Open => {
                self.accounts.insert(user.to_owned(), account_id);
                return Ending::Opened;
            }
            Body::Move {
                kind,
                currency,
                amount,
            } => (kind, currency, amount),
        };
        match self.accounts.get(user) {
            None => return Ending::Refused(Code::AccountNotFound),
            Some(own) if *own != account_id => return Ending::Refused(Code::AccountMismatch),
            Some(_) => {}
        }
        let id = IdHash::of(user.as_bytes(), command.transaction_id.as_bytes());
        let part_ms = (self.window_ms + PARTS - 1) / PARTS;
        let now = self.clock_ms.div_euclid(part_ms);
        if let Some(at) = self.ids.get(&id)
            && now - at.div_euclid(part_ms) <= PARTS
        {
            return Ending::Duplicate;
        }
        let remembered_ms = self.clock_ms.max(record.issued_at_ms);
        self.ids.insert(id, remembered_ms);
        if self.ids.len() > self.ids_max {
            let oldest_ms = self.clock_ms - 2 * self.longest_ms;
            self.ids.retain(|_, at| *at >= oldest_ms);
            self.ids_max = (2 * self.ids.len()).max(self.ids_max);
        }
        let place = (account_id, currency.as_str().to_owned());
        let before = self.purses.get(&place).copied().unwrap_or_default();
        let (after, failure) = spend(before, kind, amount.units());
        if failure.is_none() {
            self.purses.insert(place, after);
        }
        Ending::Answered(Box::new(Answer {
            account_id,
            currency: currency.as_str().to_owned(),
            transaction_id: command.transaction_id.into_owned(),
            kind: kilter_engine::CommandKind::from(kind).as_str(),
            amount: amount.units(),
            available: (before.available, after.available),
            frozen: (before.frozen, after.frozen),
            version: after.version,
            failure,
            time_ms: self.clock_ms,
            remembered_ms,
        }))
    }

    /// Holds the accounts against the store's.
    pub(super) fn against_accounts(
        &self,
        reader: &StoreReader,
        report: &mut AuditReport,
    ) -> Result<(), EmbeddedError> {
        let mut found = 0;
        reader.accounts(|row: AccountRow| {
            report.accounts += 1;
            match self.accounts.get(&row.user_id) {
                Some(own) if *own == row.account_id && row.state == "ACTIVE" => found += 1,
                _ => report.differs(format!(
                    "account {} of user {:?} ({}) was never opened",
                    row.account_id, row.user_id, row.state
                )),
            }
            Ok::<(), EmbeddedError>(())
        })?;
        let missing = self.accounts.len() - found;
        if missing > 0 {
            report.differs(format!("{missing} accounts are missing"));
        }
        Ok(())
    }

    /// Holds what was claimed against the log's table: a claim that is gone or another's would let
    /// a later OPEN through that must be refused.
    pub(super) fn against_claims(
        &self,
        db: &Db,
        report: &mut AuditReport,
    ) -> Result<(), EmbeddedError> {
        let failed = db.failed("read the claims");
        let mut statement = db
            .connection
            .prepare("SELECT account_id, user_id FROM log.claims ORDER BY account_id")
            .map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        let mut found = 0;
        while let Some(row) = rows.next().map_err(&failed)? {
            let account_id = row.get::<_, i64>(0).map_err(&failed)? as u64;
            let user: Vec<u8> = row.get(1).map_err(&failed)?;
            let user = String::from_utf8_lossy(&user);
            let opened = self.accounts.get(&*user);
            if opened.or_else(|| self.waiting.get(&*user)) == Some(&account_id) {
                found += 1;
            } else {
                report.differs(format!(
                    "account {account_id} is claimed for user {user:?}, by no OPEN of the log"
                ));
            }
        }
        let all = self
            .waiting
            .keys()
            .filter(|user| !self.accounts.contains_key(*user));
        let missing = self.accounts.len() + all.count() - found;
        if missing > 0 {
            report.differs(format!("{missing} claims are missing"));
        }
        Ok(())
    }

    /// Holds the balances against the store's.
    pub(super) fn against_balances(
        &mut self,
        reader: &StoreReader,
        report: &mut AuditReport,
    ) -> Result<(), EmbeddedError> {
        reader.balances(|row: BalanceRow| {
            report.balances += 1;
            let place = (row.account_id, row.currency_code.clone());
            let name = format!("account {} {}", row.account_id, row.currency_code);
            let Some(right) = self.purses.remove(&place) else {
                report.differs(format!("{name}: a balance that nothing made"));
                return Ok::<(), EmbeddedError>(());
            };
            let units = |text: &str| text.parse::<Amount>().map(Amount::units).ok();
            for (what, right, held) in [
                ("available", right.available, &row.available),
                ("frozen", right.frozen, &row.frozen),
            ] {
                if units(held) != Some(right) {
                    report.differs(format!(
                        "{name}: {what} is {held}, the ledger makes it {}",
                        text(right)
                    ));
                }
            }
            if right.version != row.version {
                report.differs(format!(
                    "{name}: version {}, the ledger makes it {}",
                    row.version, right.version
                ));
            }
            if row.available.starts_with('-') || row.frozen.starts_with('-') {
                report.differs(format!("{name}: negative"));
            }
            Ok(())
        })?;
        let mut missing: Vec<_> = self.purses.keys().collect();
        missing.sort();
        for (account_id, currency) in missing {
            report.differs(format!(
                "account {account_id} {currency}: the balance is missing"
            ));
        }
        Ok(())
    }
}

/// What a command does to a purse, and why it does nothing.
fn spend(before: Purse, kind: MoveKind, amount: i128) -> (Purse, Option<Code>) {
    let (available, frozen) = match kind {
        MoveKind::Deposit => (amount, 0),
        MoveKind::Withdraw => (-amount, 0),
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
