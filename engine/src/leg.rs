//! The legs of a transfer: the records that carry its money from the debtor to the creditor, or back.
//!
//! A leg is named by the record that was debited, never by the client's id: two users may use one
//! id, and one may use it again. So a debit has one CREDIT and at most one REFUND, whichever copy
//! of the credit failed.

use crate::{
    AccountId, Amount, CommandKind, Currency, Generation, MoveKind, Offset, Partition, Posting,
    ledger::{Position, TransactionId},
};
use core::fmt;
use core::str::FromStr;
use serde::{Serialize, Serializer};

/// Which way a leg goes. The numbers are those of [`CommandKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LegKind {
    /// To whom the transfer names.
    Credit = 7,
    /// Back to the debtor.
    Refund = 8,
}

impl From<LegKind> for CommandKind {
    #[inline]
    fn from(kind: LegKind) -> Self {
        match kind {
            LegKind::Credit => Self::Credit,
            LegKind::Refund => Self::Refund,
        }
    }
}

impl LegKind {
    /// What it moves.
    #[inline]
    pub const fn moves(self) -> MoveKind {
        match self {
            Self::Credit => MoveKind::Credit,
            Self::Refund => MoveKind::Refund,
        }
    }

    /// The kind as records and results spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credit => "CREDIT",
            Self::Refund => "REFUND",
        }
    }
}

/// The longest name, in bytes.
pub const LEG_NAME_MAX_BYTES: usize = 64;

/// What a leg is known by: the debit's place in the log, and which way it goes.
///
/// As text it is `generation/partition/offset/posting/kind`, in plain decimal digits.
///
/// # Examples
///
/// ```
/// use kilter_engine::{LegKind, LegName};
///
/// let name: LegName = "0/1/42/0/CREDIT".parse().unwrap();
/// assert_eq!((name.debit.offset.get(), name.kind), (42, LegKind::Credit));
/// assert_eq!(name.to_string(), "0/1/42/0/CREDIT");
/// assert!("0/1/042/0/CREDIT".parse::<LegName>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegName {
    /// Where the debit lies.
    pub debit: Position,
    /// Which way the leg goes.
    pub kind: LegKind,
}

impl LegName {
    /// The name of the refund of the same debit.
    #[must_use]
    pub fn refund(self) -> Self {
        Self {
            kind: LegKind::Refund,
            ..self
        }
    }
}

impl fmt::Display for LegName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let debit = &self.debit;
        write!(
            f,
            "{}/{}/{}/{}/{}",
            debit.generation,
            debit.partition,
            debit.offset,
            debit.posting,
            self.kind.as_str()
        )
    }
}

impl Serialize for LegName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is no leg's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a leg's name such as 0/1/42/0/CREDIT")]
pub struct LegNameError;

impl FromStr for LegName {
    type Err = LegNameError;

    /// Reads a name in its only spelling.
    fn from_str(text: &str) -> Result<Self, LegNameError> {
        fn number<N: FromStr>(part: Option<&str>) -> Result<N, LegNameError> {
            let digits = part.ok_or(LegNameError)?;
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0'));
            let number = if is_plain { digits.parse().ok() } else { None };
            number.ok_or(LegNameError)
        }
        let mut parts = text.split('/');
        let debit = Position {
            generation: Generation::new(number(parts.next())?),
            partition: Partition::new(number(parts.next())?),
            offset: Offset::new(number(parts.next())?),
            posting: Posting::new(number(parts.next())?),
        };
        let kind = match (parts.next(), parts.next()) {
            (Some("CREDIT"), None) => LegKind::Credit,
            (Some("REFUND"), None) => LegKind::Refund,
            _ => return Err(LegNameError),
        };
        Ok(Self { debit, kind })
    }
}

/// A leg on its way: it left its shard, and is to become a record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Its name.
    pub name: LegName,
    /// The user that it pays: the record's key.
    pub user_id: Box<str>,
    /// That user's account, as the debtor named it.
    pub account_id: AccountId,
    /// The currency.
    pub currency: Currency,
    /// How much; above zero.
    pub amount: Amount,
    /// The client's id, which travels along for people.
    pub transaction_id: TransactionId,
    /// Of a CREDIT the debtor; of a REFUND the one that the credit was for.
    pub from_user_id: Box<str>,
    /// That one's account.
    pub from_account_id: AccountId,
    /// The clock of the record that it comes from, in ms since 1970: its first `issuedAt`.
    pub issued_at_ms: i64,
}

impl Leg {
    /// The record's value, as [`decode`](crate::decode::decode()) reads it: the same bytes each time.
    ///
    /// # Panics
    ///
    /// Never: all of it has a spelling in JSON.
    pub fn payload(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Payload<'a> {
            transaction_id: &'a str,
            user_id: &'a str,
            account_id: AccountId,
            r#type: &'a str,
            currency_code: &'a str,
            amount: Amount,
            leg: LegName,
            from_user_id: &'a str,
            from_account_id: AccountId,
        }
        let payload = Payload {
            transaction_id: self.transaction_id.as_str(),
            user_id: &self.user_id,
            account_id: self.account_id,
            r#type: self.name.kind.as_str(),
            currency_code: self.currency.as_str(),
            amount: self.amount,
            leg: self.name,
            from_user_id: &self.from_user_id,
            from_account_id: self.from_account_id,
        };
        match serde_json::to_vec(&payload) {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("texts and numbers have a spelling in JSON: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, decode};

    #[test]
    fn names_have_one_spelling() {
        for text in [
            "0/0/0/0/CREDIT",
            "1/2/3/15/REFUND",
            "4294967295/4294967295/18446744073709551615/65535/CREDIT",
        ] {
            let name: LegName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            assert!(text.len() <= LEG_NAME_MAX_BYTES);
        }
        for text in [
            "",
            "0/0/0/0",
            "0/0/0/0/",
            "0/0/0/0/credit",
            "0/0/0/0/DEPOSIT",
            "0/0/0/0/CREDIT/",
            "0/0/0/0/CREDIT ",
            "00/0/0/0/CREDIT",
            "+0/0/0/0/CREDIT",
            "-1/0/0/0/CREDIT",
            "0//0/0/CREDIT",
            "0/0/0x1/0/CREDIT",
            "4294967296/0/0/0/CREDIT",
            "0/0/18446744073709551616/0/CREDIT",
            "0/0/0/65536/CREDIT",
        ] {
            assert_eq!(text.parse::<LegName>(), Err(LegNameError), "{text}");
        }
    }

    #[test]
    fn a_payload_reads_as_it_was_written() {
        let leg = Leg {
            name: "0/1/42/3/REFUND".parse().unwrap(),
            user_id: "u \"1\"é".into(),
            account_id: AccountId::MAX,
            currency: "USDT".parse().unwrap(),
            amount: "0.000000000000000001".parse().unwrap(),
            transaction_id: TransactionId::new("t\\1").unwrap(),
            from_user_id: "u-2".into(),
            from_account_id: AccountId::new(2).unwrap(),
            issued_at_ms: 7,
        };
        let payload = leg.payload();
        let command = decode(&payload).unwrap();
        assert_eq!(command.user_id, *leg.user_id);
        assert_eq!(command.transaction_id, leg.transaction_id.as_str());
        assert_eq!(command.account_id, leg.account_id);
        assert_eq!(command.kind(), CommandKind::Refund);
        let Body::Leg(body) = command.body else {
            panic!("{command:?}");
        };
        assert_eq!(body.name, leg.name);
        assert_eq!((body.currency, body.amount), (leg.currency, leg.amount));
        assert_eq!(body.from.user_id, *leg.from_user_id);
        assert_eq!(body.from.account_id, leg.from_account_id);
    }
}
