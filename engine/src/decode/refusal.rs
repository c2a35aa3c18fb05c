//! Records that are no command.

use super::fault::Fault;
use super::fields::{Field, Fields};
use super::{account_id, amount, currency, kind, text};
use crate::{AccountId, Amount, Code, CommandKind, Currency};
use std::borrow::Cow;

/// Why a record is no command, and what could be read of it for its result.
///
/// What is readable is judged field by field: one bad field does not hide the others. A record
/// that is no JSON object, or has a key twice in one, has nothing to be trusted and all of it is
/// `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The code of the first fault.
    pub code: Code,
    /// The first fault in words: the field and its value, cut to 64 characters, with control
    /// characters escaped. The same record always gives the same message.
    pub message: String,
    /// The transaction id, if it is a string, of any length.
    pub transaction_id: Option<Cow<'a, str>>,
    /// The user id, if it is a string, of any length.
    pub user_id: Option<Cow<'a, str>>,
    /// The account, if it is named as it should be.
    pub account_id: Option<AccountId>,
    /// The type, if it is known.
    pub kind: Option<CommandKind>,
    /// The currency, if it is one.
    pub currency: Option<Currency>,
    /// The amount, if it is one that a command may have.
    pub amount: Option<Amount>,
}

impl<'a> Refusal<'a> {
    /// A refusal of what has no fields to read.
    #[cold]
    pub(super) fn unread(fault: Fault<'_>) -> Self {
        Self::without_fields(fault.code(), fault.to_string())
    }

    /// A refusal of a record of which nothing was read.
    #[cold]
    pub(crate) fn without_fields(code: Code, message: String) -> Self {
        Self {
            code,
            message,
            transaction_id: None,
            user_id: None,
            account_id: None,
            kind: None,
            currency: None,
            amount: None,
        }
    }

    /// A refusal that keeps what can be read.
    #[cold]
    pub(super) fn read(fault: Fault<'_>, fields: &Fields<'a>) -> Self {
        let any_text = |field| fields.get(field).and_then(|raw| text(field, raw)).ok();
        Self {
            transaction_id: any_text(Field::TransactionId),
            user_id: any_text(Field::UserId),
            account_id: account_id(fields, Field::AccountId).ok(),
            kind: kind(fields).ok(),
            currency: currency(fields).ok(),
            amount: amount(fields).ok(),
            ..Self::unread(fault)
        }
    }
}
