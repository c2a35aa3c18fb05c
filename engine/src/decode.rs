//! Records to commands.
//!
//! A record is a JSON object. It is read in one pass that keeps the text of the fields that a
//! command has, checks keys as it goes, and ignores the rest; the fields are judged after that, in
//! a fixed order, so that a record with several faults is always refused for the same one. Nothing
//! recurses, whatever the nesting; no number passes through a float; an ordinary record, without
//! escapes in its texts and with few other fields, is decoded without allocating.

mod fault;
mod fields;
mod keys;
mod rare;
mod refusal;

pub use refusal::Refusal;

use crate::{AccountId, Amount, Body, Command, CommandKind, Currency, LegKind, MoveKind};
use fault::Fault;
use fields::{Field, Fields};
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The longest transaction or user id, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Reads a record as a command.
///
/// Fields are judged in the order `transactionId`, `userId`, `accountId`, `type`, `currencyCode`,
/// `amount`, and the first that fails names the code; TRANSFER has `toUserId` and `toAccountId`
/// behind them, a leg `leg`, `fromUserId` and `fromAccountId`. `OPEN` ignores what stands behind
/// `type`. With `postings` the type is BATCH or left out, and each posting has those from `type` on.
/// Unknown fields are ignored, whatever JSON they hold, except that no object anywhere in the record
/// may have a key twice.
///
/// # Errors
///
/// A [`Refusal`] with what could be read of the record. Its code is `MALFORMED` for what is no
/// JSON object, has a key twice, or lacks a field or has it in the wrong form;
/// `INVALID_TRANSACTION_ID`, `UNKNOWN_TYPE`, `INVALID_CURRENCY` or `INVALID_AMOUNT` for a field of
/// the right form and a wrong value. It is boxed because a refusal is rare and large.
pub fn decode(payload: &[u8]) -> Result<Command<'_>, Box<Refusal<'_>>> {
    let fields = match Fields::read(payload) {
        Ok(fields) => fields,
        Err(fault) => return Err(Box::new(Refusal::unread(fault))),
    };
    match command(&fields) {
        Ok(command) => Ok(command),
        Err(fault) => Err(Box::new(Refusal::read(fault, &fields))),
    }
}

/// The user id of a record, for whoever makes the log's keys: whenever [`decode`] gives a command,
/// this is its user id.
///
/// Cheaper than [`decode`], since it judges nothing else: of a record that will be refused it
/// gives the user id too, if the record is a JSON object that names it once, as a string.
pub fn decode_key(payload: &[u8]) -> Option<Cow<'_, str>> {
    text(Field::UserId, fields::user_id(payload)?).ok()
}

/// Whether a record may be an OPEN: false means that it is none that [`decode`] and a shard would
/// take for one.
///
/// A substring test, for pickers that look at every record. An OPEN whose type is spelled with
/// escapes (`"\u004fPEN"`) gets past it, and so reaches its shard without the verdict on its
/// claim; the shard refuses such a record as MALFORMED.
pub fn may_be_open(payload: &[u8]) -> bool {
    static OPEN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"OPEN\""));
    OPEN.find(payload).is_some()
}

/// Judges the fields in their order.
#[inline]
fn command<'a>(fields: &Fields<'a>) -> Result<Command<'a>, Fault<'a>> {
    let transaction_id = id(fields, Field::TransactionId)?;
    let user_id = id(fields, Field::UserId)?;
    let account_id = account_id(fields, Field::AccountId)?;
    let body = if fields.has(Field::Postings) {
        Body::Batch(rare::postings(fields, &user_id, account_id)?)
    } else {
        match kind(fields)? {
            CommandKind::Open => Body::Open,
            CommandKind::Batch => return Err(Fault::Missing(Field::Postings)),
            CommandKind::Credit => Body::Leg(rare::leg(LegKind::Credit, fields)?),
            CommandKind::Refund => Body::Leg(rare::leg(LegKind::Refund, fields)?),
            CommandKind::Transfer => Body::Transfer(rare::transfer(fields, &user_id, account_id)?),
            CommandKind::Deposit => movement(MoveKind::Deposit, fields)?,
            CommandKind::Withdraw => movement(MoveKind::Withdraw, fields)?,
            CommandKind::Freeze => movement(MoveKind::Freeze, fields)?,
            CommandKind::Unfreeze => movement(MoveKind::Unfreeze, fields)?,
            CommandKind::Settle => movement(MoveKind::Settle, fields)?,
        }
    };
    Ok(Command {
        transaction_id,
        user_id,
        account_id,
        body,
    })
}

/// A body that moves money.
#[inline]
fn movement<'a>(kind: MoveKind, fields: &Fields<'a>) -> Result<Body<'a>, Fault<'a>> {
    let currency = currency(fields)?;
    let amount = amount(fields)?;
    Ok(Body::Move {
        kind,
        currency,
        amount,
    })
}

/// A transaction or user id.
#[inline]
fn id<'a>(fields: &Fields<'a>, field: Field) -> Result<Cow<'a, str>, Fault<'a>> {
    let raw = fields.get(field)?;
    let id = text(field, raw)?;
    if (1..=MAX_ID_BYTES).contains(&id.len()) {
        Ok(id)
    } else {
        Err(Fault::IdLength {
            field,
            bytes: id.len(),
            raw,
        })
    }
}

fn account_id<'a>(fields: &Fields<'a>, field: Field) -> Result<AccountId, Fault<'a>> {
    let raw = fields.get(field)?;
    // The text is valid JSON, so only digits make an integer without a sign, and only those do:
    // 42.0 and 4e1 may be whole numbers, but whoever writes ids that way went through a float.
    let digits = raw.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { raw.parse().ok() } else { None };
    number
        .and_then(AccountId::new)
        .ok_or(Fault::AccountId { field, raw })
}

fn kind<'a>(fields: &Fields<'a>) -> Result<CommandKind, Fault<'a>> {
    let raw = fields.get(Field::Type)?;
    CommandKind::parse(&text(Field::Type, raw)?).ok_or(Fault::Type { raw })
}

fn currency<'a>(fields: &Fields<'a>) -> Result<Currency, Fault<'a>> {
    let raw = fields.get(Field::CurrencyCode)?;
    let code = text(Field::CurrencyCode, raw)?;
    Currency::parse(code.as_bytes()).map_err(|error| Fault::Currency { error, raw })
}

fn amount<'a>(fields: &Fields<'a>) -> Result<Amount, Fault<'a>> {
    let raw = fields.get(Field::Amount)?;
    let parsed = match raw.as_bytes() {
        [b'"', ..] => Amount::parse_command(text(Field::Amount, raw)?.as_bytes()),
        [b'-' | b'0'..=b'9', ..] => Amount::parse_command(raw.as_bytes()),
        _ => return Err(Fault::AmountForm { raw }),
    };
    parsed.map_err(|error| Fault::Amount { error, raw })
}

/// The text of a JSON string, borrowed if it is spelled without escapes.
#[inline]
fn text(field: Field, raw: &str) -> Result<Cow<'_, str>, Fault<'_>> {
    let inside = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or(Fault::NotText { field, raw })?;
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(inside));
    }
    // The only fault that valid JSON has left is half of a surrogate pair.
    serde_json::from_str(raw)
        .map(Cow::Owned)
        .map_err(|_| Fault::NotUnicode { field, raw })
}

#[cfg(test)]
mod tests;
