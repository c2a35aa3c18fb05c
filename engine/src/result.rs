//! A result: how one record ended, as it leaves for the result topic or file.

use std::sync::Arc;

use crate::{
    AccountId, Amount, Code, CommandKind, Currency, EpochNumber, MoveKind, Posting, Term,
    epoch::{Cut, DeadLetter},
    ledger::{BalanceState, Position},
    leg::{LegKind, LegName},
};

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The command took effect.
    Success,
    /// A valid command of an open account that its balance does not allow.
    Failed(Code),
    /// Its transaction id was answered before.
    Duplicate,
    /// No valid command, or not for this account.
    Refused(Code),
}

impl Status {
    /// The code that goes with it, if it is not a success.
    pub fn code(self) -> Option<Code> {
        match self {
            Self::Success => None,
            Self::Failed(code) | Self::Refused(code) => Some(code),
            Self::Duplicate => Some(Code::Duplicate),
        }
    }
}

/// Text of up to `N` bytes inline, longer text on the heap.
///
/// Ids are short, so a slot that is reused again and again never allocates for them; a refused
/// record may carry an id of any length.
#[derive(Clone, Debug)]
pub struct InlineText<const N: usize> {
    len: u16,
    inline: [u8; N],
    spill: Option<Box<str>>,
}

impl<const N: usize> InlineText<N> {
    /// The empty text.
    pub const fn new() -> Self {
        Self {
            len: 0,
            inline: [0; N],
            spill: None,
        }
    }

    /// Replaces the text.
    pub fn set(&mut self, text: &str) {
        if text.len() <= N {
            self.inline[..text.len()].copy_from_slice(text.as_bytes());
            self.len = text.len() as u16;
            self.spill = None;
        } else {
            self.spill = Some(text.into());
        }
    }

    /// The text.
    ///
    /// # Panics
    ///
    /// Never: only text is ever put in.
    pub fn as_str(&self) -> &str {
        match &self.spill {
            Some(text) => text,
            None => match std::str::from_utf8(&self.inline[..usize::from(self.len)]) {
                Ok(text) => text,
                Err(_) => unreachable!("only UTF-8 is ever put in"),
            },
        }
    }
}

impl<const N: usize> Default for InlineText<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> PartialEq for InlineText<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for InlineText<N> {}

/// The balance around a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// Before it.
    pub before: BalanceState,
    /// After it; equal to `before` unless it was a success.
    pub after: BalanceState,
}

/// The other side of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterpart {
    /// The leg that the result is of; `None` is the debit.
    pub leg: Option<LegName>,
    /// The other user: of a debit who is to be paid, of a leg where it comes from.
    pub user_id: InlineText<64>,
    /// That one's account.
    pub account_id: AccountId,
}

/// The posting for which none of its command's took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedPosting {
    /// Which one.
    pub posting: Posting,
    /// What it asked.
    pub kind: MoveKind,
    /// How much.
    pub amount: Amount,
    /// Of which balance.
    pub currency: Currency,
}

/// How one record ended, or one posting of it. A slot of the results ring: reused in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRecord {
    /// The record it answers.
    pub position: Position,
    /// The term it was applied under.
    pub term: Term,
    /// How it ended.
    pub status: Status,
    /// The partition's clock at the record, in ms since 1970.
    pub timestamp_ms: i64,
    /// From when the id is remembered, if it is: the later of that clock and `issuedAt`.
    pub remembered_ms: i64,
    /// What was asked, if that could be read.
    pub kind: Option<CommandKind>,
    /// The account, if it could be read.
    pub account_id: Option<AccountId>,
    /// The currency, if it could be read; `None` for OPEN.
    pub currency: Option<Currency>,
    /// The amount, if it could be read; `None` for OPEN.
    pub amount: Option<Amount>,
    /// The balance around it; `None` for OPEN and for what was refused.
    pub around: Option<Around>,
    /// Whether `transaction_id` and `user_id` could be read. A refused record in which they
    /// could not has a dead letter but no result.
    pub addressed: bool,
    /// The client's id.
    pub transaction_id: InlineText<64>,
    /// The user.
    pub user_id: InlineText<64>,
    /// The other side, if it is a transfer's debit or leg.
    pub counterpart: Option<Box<Counterpart>>,
    /// Of a batch that failed, for which posting it did.
    pub failed_posting: Option<FailedPosting>,
    /// Why it was refused, in words; the others follow from the numbers.
    pub message: Option<Box<str>>,
    /// The record itself, if it was refused and dead letters go with results.
    pub dead_letter: Option<Box<DeadLetter>>,
}

impl ResultRecord {
    /// The credit leg that left with it, if it is a transfer's debit that took effect.
    pub fn credit_leg(&self) -> Option<LegName> {
        let is_debit = self.kind == Some(CommandKind::Transfer) && self.status == Status::Success;
        is_debit.then_some(LegName {
            debit: self.position,
            kind: LegKind::Credit,
        })
    }
}

/// A slot of the results ring: a result, or the end of an epoch.
#[derive(Clone, Debug, Default)]
pub struct ResultSlot {
    /// The result; meaningless when `end` is there.
    pub result: ResultRecord,
    /// The shard has answered all records of this epoch.
    pub end: Option<Arc<Cut>>,
}

impl Default for ResultRecord {
    fn default() -> Self {
        Self {
            position: Position::default(),
            term: Term::default(),
            status: Status::Success,
            timestamp_ms: 0,
            remembered_ms: 0,
            kind: None,
            account_id: None,
            currency: None,
            amount: None,
            around: None,
            addressed: false,
            transaction_id: InlineText::new(),
            user_id: InlineText::new(),
            counterpart: None,
            failed_posting: None,
            message: None,
            dead_letter: None,
        }
    }
}

/// Where results go.
///
/// A result may leave as soon as it is applied: the log is durable and outcomes are
/// deterministic. An epoch's commit waits until [`durable`](Self::durable) has reached it.
pub trait ResultSink {
    /// Why results cannot be published.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes one result, and the dead letter that it may carry.
    ///
    /// # Errors
    ///
    /// When it cannot be taken; the node then stops and the result comes again after a restart.
    fn result(&mut self, result: &ResultRecord) -> Result<(), Self::Error>;

    /// Everything taken so far belongs to this epoch or an earlier one.
    ///
    /// # Errors
    ///
    /// When that cannot be made durable: the epoch is then not committed.
    fn end(&mut self, cut: &Cut) -> Result<(), Self::Error>;

    /// The last epoch of which everything is durable; `None` before the first. Does not wait.
    ///
    /// # Errors
    ///
    /// When something that was taken cannot become durable any more.
    fn durable(&mut self) -> Result<Option<EpochNumber>, Self::Error>;
}
