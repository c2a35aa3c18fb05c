//! Error codes of results and dead letters.

use crate::CommandKind;
use core::fmt;
use serde::{Serialize, Serializer};

/// How a record that did not succeed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// No valid command, or not one for this account: no ledger entry, the id stays unused, and
    /// the record goes to the dead letters.
    Refused,
    /// The transaction id was answered before: no ledger entry.
    Duplicate,
    /// A valid command that the balance does not allow: it has a ledger entry and used its id.
    Failed,
}

/// Declares [`Code`] once: number, text and class stand in one line each.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $class:ident;)+) => {
        /// Why a record did not succeed. Names and numbers are fixed: clients, stores and slots
        /// hold them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)+
        }

        impl Code {
            /// Every code, by number.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as results and dead letters spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The code of this spelling.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)+ _ => None }
            }

            /// What the code means for ledger, id and dead letter.
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)+ }
            }
        }
    };
}

impl Code {
    /// What the code means for a record of this kind: a credit leg always ends, so it FAILED for
    /// want of its account too; a refund never does, so it is refused where there is no room.
    pub const fn class_for(self, kind: CommandKind) -> Class {
        match (kind, self) {
            (CommandKind::Credit, Self::AccountNotFound | Self::AccountMismatch) => Class::Failed,
            (CommandKind::Refund, Self::BalanceOverflow) => Class::Refused,
            _ => self.class(),
        }
    }
}

codes! {
    /// Not a JSON object of the shape that a command has.
    Malformed = 1, "MALFORMED", Refused;
    /// A type that this node does not know.
    UnknownType = 2, "UNKNOWN_TYPE", Refused;
    /// A transaction id that is not 1 to 64 bytes long.
    InvalidTransactionId = 3, "INVALID_TRANSACTION_ID", Refused;
    /// An amount outside its grammar or its range.
    InvalidAmount = 4, "INVALID_AMOUNT", Refused;
    /// A text that is no currency code.
    InvalidCurrency = 5, "INVALID_CURRENCY", Refused;
    /// Issued too long ago to rule out that it took effect before.
    Expired = 6, "EXPIRED", Refused;
    /// The record's key is not its user id.
    KeyMismatch = 7, "KEY_MISMATCH", Refused;
    /// The record lies in another partition than its key's.
    WrongPartition = 8, "WRONG_PARTITION", Refused;
    /// Nobody opened the account.
    AccountNotFound = 9, "ACCOUNT_NOT_FOUND", Refused;
    /// Account and user do not belong together.
    AccountMismatch = 10, "ACCOUNT_MISMATCH", Refused;
    /// An operator's note says that this record has no effect.
    OperatorRefused = 11, "OPERATOR_REFUSED", Refused;
    /// The transaction id was answered before.
    Duplicate = 32, "DUPLICATE", Duplicate;
    /// Less available than the command takes.
    InsufficientAvailable = 64, "INSUFFICIENT_AVAILABLE", Failed;
    /// Less frozen than the command takes.
    InsufficientFrozen = 65, "INSUFFICIENT_FROZEN", Failed;
    /// The balance would leave DECIMAL(36,18).
    BalanceOverflow = 66, "BALANCE_OVERFLOW", Failed;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_as_it_prints() {
        for &code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
            assert_eq!(code.to_string(), code.as_str());
        }
        assert_eq!(Code::parse("malformed"), None);
        assert_eq!(Code::parse(""), None);
    }

    #[test]
    fn classes_are_those_of_the_contract() {
        let of = |class| Code::ALL.iter().filter(|c| c.class() == class).count();
        assert_eq!(of(Class::Refused), 11);
        assert_eq!(of(Class::Duplicate), 1);
        assert_eq!(of(Class::Failed), 3);
    }
}
