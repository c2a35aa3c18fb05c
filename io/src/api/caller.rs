//! Who waits for an answer.

use std::time::Instant;

use crate::net::Cancelled;

/// Who waits for an answer, and how long.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// Until when, if he said so.
    pub(super) deadline: Option<Instant>,
    /// Whether he has gone.
    pub(super) gone: Cancelled,
}
