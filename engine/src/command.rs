//! Commands, as the engine works with them.

use crate::{AccountId, Amount, Currency};
use core::fmt;
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// What moves money. The numbers are those of the wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MoveKind {
    /// Available grows.
    Deposit = 0,
    /// Available shrinks.
    Withdraw = 1,
    /// From available to frozen.
    Freeze = 2,
    /// From frozen to available.
    Unfreeze = 3,
    /// Frozen shrinks.
    Settle = 5,
}

/// The type of a command, as records and results name it. The numbers are those of the wire
/// protocol, where it has one; 4 is kept for TRANSFER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CommandKind {
    /// Available grows.
    Deposit = 0,
    /// Available shrinks.
    Withdraw = 1,
    /// From available to frozen.
    Freeze = 2,
    /// From frozen to available.
    Unfreeze = 3,
    /// Frozen shrinks.
    Settle = 5,
    /// Binds the user to the account.
    Open = 6,
}

impl CommandKind {
    /// Every kind, by number.
    pub const ALL: [Self; 6] = [
        Self::Deposit,
        Self::Withdraw,
        Self::Freeze,
        Self::Unfreeze,
        Self::Settle,
        Self::Open,
    ];

    /// The kind as records and results spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "DEPOSIT",
            Self::Withdraw => "WITHDRAW",
            Self::Freeze => "FREEZE",
            Self::Unfreeze => "UNFREEZE",
            Self::Settle => "SETTLE",
            Self::Open => "OPEN",
        }
    }

    /// The kind of this spelling, in capitals only.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "DEPOSIT" => Some(Self::Deposit),
            "WITHDRAW" => Some(Self::Withdraw),
            "FREEZE" => Some(Self::Freeze),
            "UNFREEZE" => Some(Self::Unfreeze),
            "SETTLE" => Some(Self::Settle),
            "OPEN" => Some(Self::Open),
            _ => None,
        }
    }

    /// What the kind moves, or `None` for OPEN.
    #[inline]
    pub const fn moves(self) -> Option<MoveKind> {
        match self {
            Self::Deposit => Some(MoveKind::Deposit),
            Self::Withdraw => Some(MoveKind::Withdraw),
            Self::Freeze => Some(MoveKind::Freeze),
            Self::Unfreeze => Some(MoveKind::Unfreeze),
            Self::Settle => Some(MoveKind::Settle),
            Self::Open => None,
        }
    }
}

impl From<MoveKind> for CommandKind {
    #[inline]
    fn from(kind: MoveKind) -> Self {
        match kind {
            MoveKind::Deposit => Self::Deposit,
            MoveKind::Withdraw => Self::Withdraw,
            MoveKind::Freeze => Self::Freeze,
            MoveKind::Unfreeze => Self::Unfreeze,
            MoveKind::Settle => Self::Settle,
        }
    }
}

impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for CommandKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A command of valid shape. Whether account, id and funds allow it is the shard's to say.
///
/// Texts are borrowed from the record unless they were spelled with escapes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// 1 to 64 bytes, compared byte by byte.
    pub transaction_id: Cow<'a, str>,
    /// 1 to 64 bytes, compared byte by byte.
    pub user_id: Cow<'a, str>,
    /// The account that the sender says is the user's.
    pub account_id: AccountId,
    /// What is to be done.
    pub body: Body,
}

/// What a command is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Bind the user to the account.
    Open,
    /// Move money.
    Move {
        /// From where to where.
        kind: MoveKind,
        /// Of which balance of the account.
        currency: Currency,
        /// Above zero, below 10¹⁸.
        amount: Amount,
    },
}

impl Command<'_> {
    /// The type of the command.
    #[inline]
    pub fn kind(&self) -> CommandKind {
        match self.body {
            Body::Open => CommandKind::Open,
            Body::Move { kind, .. } => kind.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_as_it_prints() {
        for kind in CommandKind::ALL {
            assert_eq!(CommandKind::parse(kind.as_str()), Some(kind));
            assert_eq!(kind.to_string(), kind.as_str());
        }
        for text in ["", "deposit", "DEPOSIT ", "TRANSFER"] {
            assert_eq!(CommandKind::parse(text), None, "{text}");
        }
    }

    #[test]
    fn moves_keep_kind_and_number() {
        for kind in CommandKind::ALL {
            match kind.moves() {
                None => assert_eq!(kind, CommandKind::Open),
                Some(moves) => {
                    assert_eq!(CommandKind::from(moves), kind);
                    assert_eq!(moves as u8, kind as u8);
                }
            }
        }
    }
}
