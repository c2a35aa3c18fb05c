//! What stops a poller.

use crate::{Generation, Offset, Partition};

/// Why the poller cannot go on. The record at fault has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum PollerError<E: std::error::Error> {
    /// The log could not be read.
    #[error("the command log cannot be read")]
    Log(#[source] E),
    /// A record far in the future would empty the idempotency window.
    #[error(
        "partition {partition} offset {offset}: its timestamp {timestamp_ms} ms is later than \
         {latest_ms} ms, a quarter of the idempotency window ahead of this machine's clock; it has \
         no outcome yet. If the machine's clock is wrong, set it. If the record's time is wrong: \
         kilter log ignore-time --partition {partition} --offset {offset} --reason TEXT"
    )]
    TimeAhead {
        /// The record's partition.
        partition: Partition,
        /// The record's offset.
        offset: Offset,
        /// The record's time, in ms since 1970.
        timestamp_ms: i64,
        /// The latest time that is let in now, in ms since 1970.
        latest_ms: i64,
    },
    /// The log does not go on where it was read last.
    #[error("partition {partition}: offset {offset} came where {expected} was expected")]
    OutOfOrder {
        /// The partition.
        partition: Partition,
        /// The offset that came.
        offset: Offset,
        /// The lowest one that could have come.
        expected: Offset,
    },
    /// The log is in another life than the one that was loaded.
    #[error(
        "partition {partition} offset {offset}: log generation {generation}, expected {expected}"
    )]
    OtherGeneration {
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
        /// The record's generation.
        generation: Generation,
        /// The one that was loaded.
        expected: Generation,
    },
    /// A record of a partition that this node was not given.
    #[error("offset {offset} of partition {partition}, which this node does not own")]
    UnknownPartition {
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
    },
}
