//! A record: one message of the log, as a [`Log`](crate::log::Log) offers it to the poller.

use crate::{Generation, Offset, Partition};

/// Time of a record that carries no `issuedAt`.
///
/// A sentinel instead of an `Option` keeps the ring slot small; no clock ever shows it.
pub const NOT_ISSUED: i64 = i64::MIN;

/// What was decided about a record before any shard sees it.
///
/// A mark is durable before the record is handed on and never changes afterwards, so a replay
/// meets the same one (DESIGN: outcome = f(log prefix, account claims, operators' notes)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    /// Nothing: the usual record.
    #[default]
    None = 0,
    /// An OPEN whose (account, user) pair is claimed for exactly this pair.
    Claimed = 1,
    /// An OPEN whose account is another user's, or whose user has another account.
    ClaimRefused = 2,
    /// The original was larger than the log takes; the value holds only its beginning.
    Oversize = 3,
    /// An operator refused this record by a durable note.
    OperatorRefused = 4,
}

impl Mark {
    /// The mark with this number, if there is one.
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Claimed,
            2 => Self::ClaimRefused,
            3 => Self::Oversize,
            4 => Self::OperatorRefused,
            _ => return None,
        })
    }
}

/// One message of the log, borrowed from whoever read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Which life of the log its offset counts in.
    pub generation: Generation,
    /// The log's partition.
    pub partition: Partition,
    /// Its position in the partition.
    pub offset: Offset,
    /// The log's own time of the record, in ms since 1970; not yet monotonic.
    pub timestamp_ms: i64,
    /// When the front door issued it, in ms since 1970, or [`NOT_ISSUED`].
    pub issued_at_ms: i64,
    /// What was decided about it before.
    pub mark: Mark,
    /// The record's key: the user, or empty.
    pub key: &'a [u8],
    /// The command, as JSON.
    pub value: &'a [u8],
    /// Its headers, as [`Headers`](crate::headers::Headers) reads them; empty if it has none.
    pub headers: &'a [u8],
}
