//! Commands, as the engine works with them.

use crate::{AccountId, Amount, Currency, leg::LegName};
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
    /// Available shrinks, and a credit leg leaves for another user.
    Transfer = 4,
    /// Frozen shrinks.
    Settle = 5,
    /// Available grows by what another user transferred.
    Credit = 7,
    /// Available grows by one's own transfer, whose credit failed.
    Refund = 8,
}

/// The type of a command, as records and results name it. The numbers are those of the wire
/// protocol, where it has one.
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
    /// Available shrinks, and a credit leg leaves for another user.
    Transfer = 4,
    /// Frozen shrinks.
    Settle = 5,
    /// Binds the user to the account.
    Open = 6,
    /// The leg of a transfer that pays the receiver.
    Credit = 7,
    /// The leg that pays a transfer back whose credit failed.
    Refund = 8,
    /// Several postings, all or nothing.
    Batch = 9,
}

impl CommandKind {
    /// Every kind, by number.
    pub const ALL: [Self; 10] = [
        Self::Deposit,
        Self::Withdraw,
        Self::Freeze,
        Self::Unfreeze,
        Self::Transfer,
        Self::Settle,
        Self::Open,
        Self::Credit,
        Self::Refund,
        Self::Batch,
    ];

    /// The kind as records and results spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "DEPOSIT",
            Self::Withdraw => "WITHDRAW",
            Self::Freeze => "FREEZE",
            Self::Unfreeze => "UNFREEZE",
            Self::Settle => "SETTLE",
            Self::Transfer => "TRANSFER",
            Self::Open => "OPEN",
            Self::Credit => "CREDIT",
            Self::Refund => "REFUND",
            Self::Batch => "BATCH",
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
            "TRANSFER" => Some(Self::Transfer),
            "OPEN" => Some(Self::Open),
            "CREDIT" => Some(Self::Credit),
            "REFUND" => Some(Self::Refund),
            "BATCH" => Some(Self::Batch),
            _ => None,
        }
    }

    /// What the kind moves, or `None` for OPEN and for a batch, whose postings have kinds of their
    /// own.
    #[inline]
    pub const fn moves(self) -> Option<MoveKind> {
        match self {
            Self::Deposit => Some(MoveKind::Deposit),
            Self::Withdraw => Some(MoveKind::Withdraw),
            Self::Freeze => Some(MoveKind::Freeze),
            Self::Unfreeze => Some(MoveKind::Unfreeze),
            Self::Settle => Some(MoveKind::Settle),
            Self::Transfer => Some(MoveKind::Transfer),
            Self::Credit => Some(MoveKind::Credit),
            Self::Refund => Some(MoveKind::Refund),
            Self::Open | Self::Batch => None,
        }
    }
}

impl MoveKind {
    /// The kind as records and results spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "DEPOSIT",
            Self::Withdraw => "WITHDRAW",
            Self::Freeze => "FREEZE",
            Self::Unfreeze => "UNFREEZE",
            Self::Transfer => "TRANSFER",
            Self::Settle => "SETTLE",
            Self::Credit => "CREDIT",
            Self::Refund => "REFUND",
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
            MoveKind::Transfer => Self::Transfer,
            MoveKind::Credit => Self::Credit,
            MoveKind::Refund => Self::Refund,
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
    pub body: Body<'a>,
}

/// The most postings of one command.
pub const POSTINGS_MAX: usize = 16;

/// What a command is to do.
///
/// What is rare lies in a box, so that the others stay small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Bind the user to the account.
    Open,
    /// Move money within one balance.
    Move {
        /// From where to where.
        kind: MoveKind,
        /// Of which balance of the account.
        currency: Currency,
        /// Above zero, below 10¹⁸.
        amount: Amount,
    },
    /// A TRANSFER, which is one posting of its own.
    Transfer(Box<Change<'a>>),
    /// 1 to [`POSTINGS_MAX`] postings, all or nothing, in order.
    Batch(Box<[Change<'a>]>),
    /// A leg of a transfer.
    Leg(Box<LegBody<'a>>),
}

/// One posting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// From where to where; never a leg.
    pub kind: MoveKind,
    /// Of which balance of the account.
    pub currency: Currency,
    /// Above zero, below 10¹⁸.
    pub amount: Amount,
    /// Who receives it; there exactly for a TRANSFER.
    pub to: Option<Party<'a>>,
}

/// The other side of a transfer, as a record names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party<'a> {
    /// 1 to 64 bytes, compared byte by byte.
    pub user_id: Cow<'a, str>,
    /// The account that the sender says is that user's.
    pub account_id: AccountId,
}

/// What a leg is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegBody<'a> {
    /// Its name, which says CREDIT or REFUND too.
    pub name: LegName,
    /// Of which balance of the account.
    pub currency: Currency,
    /// Above zero, below 10¹⁸.
    pub amount: Amount,
    /// Of a CREDIT the debtor; of a REFUND the one that the credit was for.
    pub from: Party<'a>,
}

impl<'a> Command<'a> {
    /// The type of the command.
    #[inline]
    pub fn kind(&self) -> CommandKind {
        match &self.body {
            Body::Open => CommandKind::Open,
            Body::Move { kind, .. } => (*kind).into(),
            Body::Transfer(_) => CommandKind::Transfer,
            Body::Batch(_) => CommandKind::Batch,
            Body::Leg(leg) => leg.name.kind.into(),
        }
    }

    /// The postings of a TRANSFER or a batch; empty for the others.
    #[inline]
    pub fn changes(&self) -> &[Change<'a>] {
        match &self.body {
            Body::Transfer(change) => std::slice::from_ref(change),
            Body::Batch(changes) => changes,
            _ => &[],
        }
    }

    /// Whether it has postings of its own.
    #[inline]
    pub fn is_batch(&self) -> bool {
        matches!(self.body, Body::Batch(_))
    }

    /// How many results it has at most: one for each posting, else one.
    #[inline]
    pub fn results_max(&self) -> usize {
        match &self.body {
            Body::Batch(changes) => changes.len(),
            _ => 1,
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
        for text in ["", "deposit", "DEPOSIT ", "TRANSFERS"] {
            assert_eq!(CommandKind::parse(text), None, "{text}");
        }
    }

    #[test]
    fn moves_keep_kind_and_number() {
        for kind in CommandKind::ALL {
            match kind.moves() {
                None => assert!(matches!(kind, CommandKind::Open | CommandKind::Batch)),
                Some(moves) => {
                    assert_eq!(CommandKind::from(moves), kind);
                    assert_eq!(moves.as_str(), kind.as_str());
                    assert_eq!(moves as u8, kind as u8);
                }
            }
        }
    }
}
