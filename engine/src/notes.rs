//! Operators' notes: durable words about single records that change how a replay meets them.

use crate::{Generation, Offset, Partition};

/// What an operator decided about one record, ahead of the committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// The record is answered as refused and goes to the dead letters.
    Refuse,
    /// The record's timestamp does not move the partition's clock.
    IgnoreTime,
}

/// A note about one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which life of the log the offset counts in.
    pub generation: Generation,
    /// The log's partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
    /// What was decided.
    pub kind: NoteKind,
}
