//! A ledger entry: what one answered command did.

use crate::{
    AccountId, Amount, Code, CommandKind, Currency, Generation, Offset, Partition, Posting,
};

/// The longest transaction id, in bytes.
pub const TRANSACTION_ID_MAX_BYTES: usize = 64;

/// A transaction id inline: 1 to 64 bytes of UTF-8, compared byte by byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TransactionId {
    len: u8,
    bytes: [u8; TRANSACTION_ID_MAX_BYTES],
}

impl TransactionId {
    /// The id with this text, if it is 1 to 64 bytes long.
    pub fn new(text: &str) -> Option<Self> {
        let len = text.len();
        if len == 0 || len > TRANSACTION_ID_MAX_BYTES {
            return None;
        }
        let mut bytes = [0; TRANSACTION_ID_MAX_BYTES];
        bytes[..len].copy_from_slice(text.as_bytes());
        Some(Self {
            len: len as u8,
            bytes,
        })
    }

    /// The id's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The id's text.
    ///
    /// # Panics
    ///
    /// Never: it was made from text.
    pub fn as_str(&self) -> &str {
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) => text,
            Err(_) => unreachable!("a transaction id is made from UTF-8 only"),
        }
    }
}

impl std::fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// The two amounts of a balance and how often they changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalanceState {
    /// What may be spent; never negative.
    pub available: Amount,
    /// What is held; never negative.
    pub frozen: Amount,
    /// How many commands changed it with success.
    pub version: u64,
}

/// Where a command lies in the log; what makes its ledger entry unique.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which life of the log the offset counts in.
    pub generation: Generation,
    /// The log's partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
    /// Which of the record's entries: 0 unless the command has several.
    pub posting: Posting,
}

/// What one answered command did to one balance: SUCCESS, or FAILED for want of funds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The record it came from.
    pub position: Position,
    /// The account.
    pub account_id: AccountId,
    /// The currency.
    pub currency: Currency,
    /// What was asked.
    pub kind: CommandKind,
    /// `None` is SUCCESS, else why it FAILED.
    pub failure: Option<Code>,
    /// How much was asked; above zero.
    pub amount: Amount,
    /// The client's id.
    pub transaction_id: TransactionId,
    /// The balance before. Its version is the one before, too.
    pub before: BalanceState,
    /// The balance after; equal to `before` if it FAILED.
    pub after: BalanceState,
    /// The partition's clock at the record, in ms since 1970.
    pub time_ms: i64,
    /// From when its id is remembered, in ms since 1970: the later of `time_ms` and `issuedAt`.
    pub remembered_ms: i64,
}
