//! Where commands come from.

use crate::record::Record;

/// What the poller did with a record it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in a ring (or was skipped on purpose): go on with the next.
    Yes,
    /// There is no room now: offer the same record again at the next poll.
    NotNow,
}

/// A durable, ordered source of records.
///
/// Within a partition the records come in the order of their offsets, each exactly once in the
/// life of the value, starting where the log was opened or seeked to.
pub trait Log {
    /// Why the log cannot be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Offers at most `max` records to `take`, in order, without waiting for new ones.
    ///
    /// Stops at once when `take` answers [`Taken::NotNow`]; that record is offered first at the
    /// next call. Returns how many were taken.
    ///
    /// # Errors
    ///
    /// When the log cannot be read, or is not the one it was.
    fn poll(
        &mut self,
        max: usize,
        take: &mut dyn FnMut(Record<'_>) -> Taken,
    ) -> Result<usize, Self::Error>;
}
