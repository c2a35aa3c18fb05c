//! One record on its way through a shard.

use crate::{
    Code, Command, Currency, Generation, Offset, Partition, Position, Posting,
    book::SlotId,
    command::Body,
    decode::{Refusal, decode},
    hash::IdHash,
    record::Mark,
    slot::CommandSlot,
};

/// How many records are decided together, at most.
///
/// Enough for their cache misses to overlap; more would fall out of the first-level cache again
/// before they are used.
pub const BATCH_MAX: usize = 32;

/// A record with its decoded command.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// Which life of the log the offset counts in.
    pub generation: Generation,
    /// The log's partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
    /// The partition's clock at the record, in ms since 1970.
    pub clock_ms: i64,
    /// When the front door issued it, or [`NOT_ISSUED`](crate::record::NOT_ISSUED).
    pub issued_at_ms: i64,
    /// [`key_hash`](crate::hash::key_hash) of the key.
    pub key_hash: u64,
    /// What was decided about it before.
    pub mark: Mark,
    /// The record's key.
    pub key: &'a [u8],
    /// The record's value.
    pub value: &'a [u8],
    /// The record's headers.
    pub headers: &'a [u8],
    /// What the value says.
    pub decoded: Result<Command<'a>, Box<Refusal<'a>>>,
}

impl<'a> Item<'a> {
    /// Decodes the record in a slot.
    ///
    /// # Panics
    ///
    /// If the slot is a barrier.
    pub fn of(slot: &'a CommandSlot) -> Self {
        assert!(slot.barrier().is_none(), "a barrier is no record");
        let value = slot.value();
        Self {
            generation: slot.generation,
            partition: slot.partition,
            offset: slot.offset,
            clock_ms: slot.clock_ms,
            issued_at_ms: slot.issued_at_ms,
            key_hash: slot.key_hash,
            mark: slot.mark,
            key: slot.key(),
            value,
            headers: slot.headers(),
            decoded: match slot.mark {
                Mark::Oversize => Err(oversize()),
                _ => decode(value),
            },
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            generation: self.generation,
            partition: self.partition,
            offset: self.offset,
            posting: Posting::default(),
        }
    }
}

impl Item<'_> {
    /// From when its id is remembered, in ms since 1970: the later of the clock and `issuedAt`.
    #[inline]
    pub(super) fn remembered_ms(&self) -> i64 {
        self.clock_ms.max(self.issued_at_ms)
    }

    /// How many results it has at most.
    #[inline]
    pub(super) fn results_max(&self) -> usize {
        self.decoded.as_ref().map_or(1, Command::results_max)
    }
}

/// The refusal of a record of which the log holds the beginning only.
#[cold]
fn oversize<'a>() -> Box<Refusal<'a>> {
    Box::new(Refusal::without_fields(
        Code::Malformed,
        "the record is larger than the log takes".into(),
    ))
}

/// The hashes of a record, made before any of the batch is looked up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prepared {
    pub(super) partition: usize,
    /// What it asks for a balance of; `None` looks nothing up.
    pub(super) currency: Option<Currency>,
    pub(super) id: IdHash,
    /// Where that balance probably is.
    pub(super) guess: Option<SlotId>,
}

impl Prepared {
    pub(super) fn of(item: &Item<'_>) -> Self {
        match &item.decoded {
            Ok(Command {
                transaction_id,
                user_id,
                body: Body::Move { currency, .. },
                ..
            }) => Self {
                partition: 0,
                currency: Some(*currency),
                id: IdHash::of(user_id.as_bytes(), transaction_id.as_bytes()),
                guess: None,
            },
            Ok(command) => Self::of_rare(command),
            Err(_) => Self::default(),
        }
    }

    /// Of several balances the first is looked up ahead.
    #[cold]
    fn of_rare(command: &Command<'_>) -> Self {
        let (currency, id) = match &command.body {
            Body::Leg(leg) => (leg.currency, IdHash::of_leg(&leg.name)),
            _ => match command.changes().first() {
                None => return Self::default(),
                Some(change) => {
                    let user = command.user_id.as_bytes();
                    let id = IdHash::of(user, command.transaction_id.as_bytes());
                    (change.currency, id)
                }
            },
        };
        Self {
            partition: 0,
            currency: Some(currency),
            id,
            guess: None,
        }
    }
}
