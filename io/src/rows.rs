//! Rows as people and comparisons look at them, whichever store holds them.

/// A balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    /// The account.
    pub account_id: u64,
    /// The currency.
    pub currency_code: String,
    /// Exact decimal text.
    pub available: String,
    /// Exact decimal text.
    pub frozen: String,
    /// How many commands changed it with success.
    pub version: u64,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub account_id: u64,
    /// Its user.
    pub user_id: String,
    /// The partition of its user.
    pub shard_id: u32,
    /// PENDING or ACTIVE.
    pub state: String,
    /// When it was opened, in ms since 1970.
    pub created_at_ms: i64,
}

/// A ledger entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// The log's life.
    pub generation: u32,
    /// The log's partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: u64,
    /// Which of the record's entries.
    pub posting: u16,
    /// The account.
    pub account_id: u64,
    /// Its user.
    pub user_id: String,
    /// The currency.
    pub currency_code: String,
    /// The client's id.
    pub transaction_id: String,
    /// What was asked.
    pub kind: String,
    /// Exact decimal text.
    pub amount: String,
    /// Exact decimal text.
    pub available_before: String,
    /// Exact decimal text.
    pub available_after: String,
    /// Exact decimal text.
    pub frozen_before: String,
    /// Exact decimal text.
    pub frozen_after: String,
    /// The balance's version after it.
    pub version: u64,
    /// Why it FAILED; `None` is SUCCESS.
    pub error_code: Option<String>,
    /// The record's time, in ms since 1970.
    pub created_at_ms: i64,
    /// From when the id is remembered, if later than that.
    pub remembered_at_ms: Option<i64>,
    /// The name of the leg that it is of.
    pub leg: Option<String>,
}

/// A dead letter, with what the log knows of its original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// The log's partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: u64,
    /// Why it was refused.
    pub code: String,
    /// Why, in words.
    pub message: String,
    /// The record's time, in ms since 1970.
    pub failed_at_ms: i64,
    /// When it was issued, if a front door did.
    pub issued_at_ms: Option<i64>,
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value, or the beginning of a very large one.
    pub value: Vec<u8>,
    /// The whole value's length and SHA-256, if it was very large.
    pub full: Option<(u64, Vec<u8>)>,
}
