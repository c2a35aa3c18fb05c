//! How a record must have ended.

use kilter_engine::{
    Amount, Code,
    record::{NOT_ISSUED, Record},
};

use crate::rows::LedgerRow;

/// What the log makes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It has a dead letter with this code.
    Refused(Code),
    /// An OPEN that took effect: nothing but the account.
    Opened,
    /// Its id was answered before: nothing at all.
    Duplicate,
    /// It has these ledger entries, one for each posting.
    Answered(Vec<Answer>),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused as {}", code.as_str()),
            Self::Opened => f.write_str("an account that was opened"),
            Self::Duplicate => f.write_str("a duplicate"),
            Self::Answered(answers) if answers.len() == 1 => f.write_str("one ledger entry"),
            Self::Answered(answers) => write!(f, "{} ledger entries", answers.len()),
        }
    }
}

/// A ledger entry as it must be. Amounts are units of 10⁻¹⁸.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) account_id: u64,
    pub(super) currency: String,
    pub(super) transaction_id: String,
    pub(super) kind: &'static str,
    pub(super) amount: i128,
    pub(super) available: (i128, i128),
    pub(super) frozen: (i128, i128),
    pub(super) version: u64,
    pub(super) failure: Option<Code>,
    pub(super) time_ms: i64,
    pub(super) remembered_ms: i64,
    pub(super) leg: Option<String>,
}

impl Answer {
    /// What is different in the store's entry, in words.
    pub(super) fn differs_from(&self, held: &LedgerRow) -> Option<String> {
        let units = |text: &str| text.parse::<Amount>().map(Amount::units).ok();
        let amounts = [
            ("amount", self.amount, &held.amount),
            ("available before", self.available.0, &held.available_before),
            ("available after", self.available.1, &held.available_after),
            ("frozen before", self.frozen.0, &held.frozen_before),
            ("frozen after", self.frozen.1, &held.frozen_after),
        ];
        for (name, right, held) in amounts {
            if units(held) != Some(right) {
                return Some(format!("{name} is {held}, should be {}", text(right)));
            }
        }
        let failure = self.failure.map(|code| code.as_str().to_owned());
        let facts = [
            (
                "account",
                self.account_id.to_string(),
                held.account_id.to_string(),
            ),
            (
                "currency",
                self.currency.clone(),
                held.currency_code.clone(),
            ),
            (
                "transaction id",
                self.transaction_id.clone(),
                held.transaction_id.clone(),
            ),
            ("type", self.kind.to_owned(), held.kind.clone()),
            (
                "version",
                self.version.to_string(),
                held.version.to_string(),
            ),
            (
                "leg",
                self.leg.clone().unwrap_or_default(),
                held.leg.clone().unwrap_or_default(),
            ),
            (
                "outcome",
                failure.unwrap_or_else(|| "SUCCESS".to_owned()),
                held.error_code
                    .clone()
                    .unwrap_or_else(|| "SUCCESS".to_owned()),
            ),
            (
                "time",
                self.time_ms.to_string(),
                held.created_at_ms.to_string(),
            ),
            (
                "remembered time",
                self.remembered_ms.to_string(),
                held.remembered_at_ms
                    .unwrap_or(held.created_at_ms)
                    .to_string(),
            ),
        ];
        facts
            .into_iter()
            .find(|(_, right, held)| right != held)
            .map(|(name, right, held)| format!("{name} is {held}, should be {right}"))
    }
}

/// A dead letter as the store has it.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) generation: u32,
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) code: String,
    pub(super) failed_at_ms: i64,
    pub(super) issued_at_ms: Option<i64>,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl Letter {
    /// What is different in it from the record it must be of, in words.
    pub(super) fn differs_from(
        &self,
        record: &Record<'_>,
        code: Code,
        clock_ms: i64,
    ) -> Option<String> {
        let issued_at_ms = (record.issued_at_ms != NOT_ISSUED).then_some(record.issued_at_ms);
        if self.code != code.as_str() {
            Some(format!(
                "refused as {}, should be {}",
                self.code,
                code.as_str()
            ))
        } else if self.failed_at_ms != clock_ms {
            let held = self.failed_at_ms;
            Some(format!(
                "the dead letter's time is {held}, should be {clock_ms}"
            ))
        } else if self.issued_at_ms != issued_at_ms {
            let held = self.issued_at_ms;
            Some(format!(
                "the dead letter's issuedAt is {held:?}, should be {issued_at_ms:?}"
            ))
        } else if self.key != record.key || self.value != record.value {
            Some("the dead letter's key or value is not the record's".to_owned())
        } else {
            None
        }
    }
}

/// Units as decimal text.
pub(super) fn text(units: i128) -> String {
    Amount::from_units(units).map_or_else(|| format!("{units}e-18"), |amount| amount.to_string())
}
