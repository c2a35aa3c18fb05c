//! Whether a request has the shape of a command. The same for gRPC and REST.

use std::time::Duration;

use kilter_engine::{AccountId, Amount, Currency, CurrencyError, decode::MAX_ID_BYTES};

use super::{
    Problem,
    draft::{ChangeDraft, OpenDraft, PostingDraft},
    problem::shown,
    strict::write_text,
    wire::balance::TransactionType,
};
use crate::outbox::{Asked, NewEvent};

/// The most postings of one command.
pub const POSTINGS_MAX: usize = 16;
/// The longest description, in bytes.
pub const DESCRIPTION_MAX_BYTES: usize = 1024;
/// The most entries of metadata.
pub const METADATA_MAX: usize = 32;
/// The most metadata, names and values together, in bytes.
pub const METADATA_MAX_BYTES: usize = 4096;
/// The longest name of an entry of metadata, in bytes.
pub const METADATA_NAME_MAX_BYTES: usize = 64;
/// The longest that a caller may wait, in ms.
pub const WAIT_MAX_MS: i64 = 60_000;
/// The most changes of one request.
pub const CHANGES_MAX: usize = 1000;

/// A request for a change, of valid shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) user_id: String,
    pub(crate) transaction_id: String,
    pub(crate) account_id: AccountId,
    /// The command as it goes to the log: equal requests give equal bytes.
    pub(crate) payload: String,
    /// How many results it will have.
    pub(crate) postings: usize,
    /// Whether it is a single DEPOSIT.
    pub(crate) is_deposit: bool,
    /// Whether to wait for the outcome, and how long if that was said.
    pub(crate) wait: Option<Option<Duration>>,
}

impl Change {
    /// What the outbox is asked.
    pub(crate) fn event(self, opens_on_deposit: bool) -> NewEvent {
        NewEvent {
            user_id: self.user_id,
            asked: Asked::Command {
                transaction_id: self.transaction_id,
                account_id: self.account_id,
                payload: self.payload,
                opens: opens_on_deposit && self.is_deposit,
            },
        }
    }
}

impl ChangeDraft {
    /// Judges the fields in the order that commands are judged; the first that fails is named.
    pub(crate) fn check(&self) -> Result<Change, Problem> {
        name("transaction_id", &self.transaction_id)?;
        name("user_id", &self.user_id)?;
        let account_id = account("account_id", self.account_id)?;
        let mut payload = String::with_capacity(256);
        text_field("{", "transactionId", &self.transaction_id, &mut payload);
        text_field(",", "userId", &self.user_id, &mut payload);
        payload.push_str(",\"accountId\":");
        payload.push_str(&account_id.to_string());
        if self.postings.is_empty() {
            payload.push(',');
            self.movement("", &self.single, &mut payload)?;
        } else {
            self.check_postings(&mut payload)?;
        }
        self.check_extras(&mut payload)?;
        payload.push('}');
        let is_deposit =
            self.postings.is_empty() && self.single.kind == Some(TransactionType::Deposit as i32);
        Ok(Change {
            user_id: self.user_id.clone(),
            transaction_id: self.transaction_id.clone(),
            account_id,
            payload,
            postings: self.postings.len().max(1),
            is_deposit,
            wait: self.check_wait()?,
        })
    }

    fn check_postings(&self, payload: &mut String) -> Result<(), Problem> {
        let single = &self.single;
        let beside = |field: &str| Problem::field(field, "must be unset beside postings");
        if single.kind.is_some() {
            return Err(beside("type"));
        }
        for (field, is_set) in [
            ("currency_code", !single.currency_code.is_empty()),
            ("amount", !single.amount.is_empty()),
            ("to_user_id", !single.to_user_id.is_empty()),
            ("to_account_id", single.to_account_id != 0),
        ] {
            if is_set {
                return Err(beside(field));
            }
        }
        let count = self.postings.len();
        if count > POSTINGS_MAX {
            let what = format!("has {count} entries, at most {POSTINGS_MAX} are allowed");
            return Err(Problem::field("postings", what));
        }
        payload.push_str(",\"postings\":[");
        for (index, posting) in self.postings.iter().enumerate() {
            payload.push_str(if index > 0 { ",{" } else { "{" });
            self.movement(&format!("postings[{index}]."), posting, payload)?;
            payload.push('}');
        }
        payload.push(']');
        Ok(())
    }

    /// Judges a movement and writes its fields.
    fn movement(
        &self,
        prefix: &str,
        posting: &PostingDraft,
        payload: &mut String,
    ) -> Result<(), Problem> {
        let field = |name: &str| format!("{prefix}{name}");
        let kind = kind(&field("type"), posting.kind)?;
        currency(&field("currency_code"), &posting.currency_code)?;
        let amount = amount(&field("amount"), &posting.amount)?;
        text_field("", "type", kind.as_str_name(), payload);
        text_field(",", "currencyCode", &posting.currency_code, payload);
        text_field(",", "amount", &amount.to_string(), payload);
        let (user_field, account_field) = (field("to_user_id"), field("to_account_id"));
        if kind != TransactionType::Transfer {
            let only = "belongs to a TRANSFER only";
            if !posting.to_user_id.is_empty() {
                let what = format!("{} {only}", shown(&posting.to_user_id));
                return Err(Problem::field(user_field, what));
            }
            if posting.to_account_id != 0 {
                let what = format!("{} {only}", posting.to_account_id);
                return Err(Problem::field(account_field, what));
            }
            return Ok(());
        }
        name(&user_field, &posting.to_user_id)?;
        let to_account_id = account(&account_field, posting.to_account_id)?;
        if posting.to_user_id == self.user_id {
            let what = format!("{} is the sender", shown(&posting.to_user_id));
            return Err(Problem::field(user_field, what));
        }
        if posting.to_account_id == self.account_id {
            let what = format!("{to_account_id} is the sender's");
            return Err(Problem::field(account_field, what));
        }
        text_field(",", "toUserId", &posting.to_user_id, payload);
        payload.push_str(",\"toAccountId\":");
        payload.push_str(&to_account_id.to_string());
        Ok(())
    }

    fn check_extras(&self, payload: &mut String) -> Result<(), Problem> {
        let bytes = self.description.len();
        if bytes > DESCRIPTION_MAX_BYTES {
            let what = format!("has {bytes} bytes, at most {DESCRIPTION_MAX_BYTES} are allowed");
            return Err(Problem::field("description", what));
        }
        if !self.description.is_empty() {
            text_field(",", "description", &self.description, payload);
        }
        let count = self.metadata.len();
        if count > METADATA_MAX {
            let what = format!("has {count} entries, at most {METADATA_MAX} are allowed");
            return Err(Problem::field("metadata", what));
        }
        let mut bytes = 0;
        for (name, value) in &self.metadata {
            if name.is_empty() || name.len() > METADATA_NAME_MAX_BYTES {
                let what = format!(
                    "has the name {} of {} bytes, 1 to {METADATA_NAME_MAX_BYTES} are allowed",
                    shown(name),
                    name.len()
                );
                return Err(Problem::field("metadata", what));
            }
            bytes += name.len() + value.len();
        }
        if bytes > METADATA_MAX_BYTES {
            let what = format!("has {bytes} bytes, at most {METADATA_MAX_BYTES} are allowed");
            return Err(Problem::field("metadata", what));
        }
        for (index, (name, value)) in self.metadata.iter().enumerate() {
            payload.push_str(if index == 0 { ",\"metadata\":{" } else { "," });
            write_text(name, payload);
            payload.push(':');
            payload.push_str(value);
        }
        if count > 0 {
            payload.push('}');
        }
        Ok(())
    }

    fn check_wait(&self) -> Result<Option<Option<Duration>>, Problem> {
        wait(self.wait, self.wait_ms)
    }
}

/// Judges what a request says about waiting.
pub(crate) fn wait(wait: bool, wait_ms: i64) -> Result<Option<Option<Duration>>, Problem> {
    if !(0..=WAIT_MAX_MS).contains(&wait_ms) {
        let what = format!("{wait_ms} is not 0 to {WAIT_MAX_MS}");
        return Err(Problem::field("wait_ms", what));
    }
    let time = (wait_ms > 0).then(|| Duration::from_millis(wait_ms.unsigned_abs()));
    Ok((wait || time.is_some()).then_some(time))
}

impl OpenDraft {
    /// Judges the fields.
    pub(crate) fn check(&self) -> Result<NewEvent, Problem> {
        name("user_id", &self.user_id)?;
        let account_id = match self.account_id {
            0 => None,
            number => Some(account("account_id", number)?),
        };
        Ok(NewEvent {
            user_id: self.user_id.clone(),
            asked: Asked::Open { account_id },
        })
    }
}

/// Judges a user's or a transaction's id.
pub(crate) fn name(field: &str, text: &str) -> Result<(), Problem> {
    match text.len() {
        0 => Err(Problem::field(field, "is missing")),
        1..=MAX_ID_BYTES => Ok(()),
        bytes => {
            let what = format!(
                "{} has {bytes} bytes, at most {MAX_ID_BYTES} are allowed",
                shown(text)
            );
            Err(Problem::field(field, what))
        }
    }
}

/// Judges an account's id.
pub(crate) fn account(field: &str, number: i64) -> Result<AccountId, Problem> {
    if number == 0 {
        return Err(Problem::field(field, "is missing or 0"));
    }
    let id = u64::try_from(number).ok().and_then(AccountId::new);
    id.ok_or_else(|| {
        let what = format!("{number} is not 1 to {}", AccountId::MAX);
        Problem::field(field, what)
    })
}

/// Judges a currency.
pub(crate) fn currency(field: &str, text: &str) -> Result<Currency, Problem> {
    Currency::parse(text.as_bytes()).map_err(|error| match error {
        CurrencyError::Empty => Problem::field(field, "is missing"),
        _ => {
            let what = format!("{} is not 1 to 10 of A-Z a-z 0-9 . _ -", shown(text));
            Problem::field(field, what)
        }
    })
}

fn amount(field: &str, text: &str) -> Result<Amount, Problem> {
    if text.is_empty() {
        return Err(Problem::field(field, "is missing"));
    }
    Amount::parse_command(text.as_bytes()).map_err(|error| {
        let what = format!("{} is no amount: {error}", shown(text));
        Problem::field(field, what)
    })
}

fn kind(field: &str, number: Option<i32>) -> Result<TransactionType, Problem> {
    let number = number.ok_or_else(|| Problem::field(field, "is missing"))?;
    TransactionType::try_from(number)
        .map_err(|_| Problem::field(field, format!("{number} is not a type, 0 to 5 are")))
}

fn text_field(before: &str, name: &str, value: &str, to: &mut String) {
    to.push_str(before);
    to.push('"');
    to.push_str(name);
    to.push_str("\":");
    write_text(value, to);
}
