//! What makes an accepted command safe: it is durable before anybody says so, and reaches the log
//! whatever happens afterwards.
//!
//! | | |
//! | --- | --- |
//! | [`Door`] | where the front door hands commands over: a bounded queue, an answer by callback |
//! | [`NewEvent`], [`Admitted`] | what is asked, and what became of it |
//! | [`Lookup`], [`TransactionState`] | what became of a transaction id later |
//! | [`OutboxCounters`] | what an operator looks at |
//!
//! With servers, one thread takes what waits, writes it to `outbox_events` in one transaction,
//! answers, and only then produces to Kafka; what is acknowledged is marked SENT off that path. What may
//! not go yet waits there, as long as its process lives. A relay resends what stayed behind, in order
//! per user, and issues anew what expired. Embedded, the
//! transaction that makes a command durable appends it to the log, so that there is nothing to
//! relay.
//!
//! The order of a user's commands holds across all processes: ids of rows are drawn when they are
//! inserted, so what was answered before something else was asked has the lower id; nothing of a
//! user is produced past an older row of his that has not reached the log.

mod acceptor;
mod answer;
mod counters;
mod door;
mod embedded;
pub(crate) mod event;
mod guard;
mod handover;
mod hands;
mod heard;
pub(crate) mod legs;
mod lookup;
mod relay;
mod sender;
mod settings;
mod waiting;

pub use acceptor::Acceptor;
pub use answer::{Admitted, DoorError, NotTaken};
pub use counters::OutboxCounters;
pub use door::{Door, DoorLimits, Intake, Submitted, door};
pub use embedded::{EmbeddedAcceptor, EmbeddedSyncer, Wakers, embedded_door};
pub use event::{Asked, Named, NewEvent};
pub use guard::LogGuard;
pub use hands::Hands;
pub use legs::{FlyingLeg, LegProgress, NotResent};
pub use lookup::{LegState, Lookup, LookupError, Outcome, Status, TransactionState};
pub use relay::Relay;
pub use sender::Sender;
pub use settings::{OutboxError, OutboxSettings};

use kilter_engine::{clock::Clock, wait::Waker};

/// The front door of a MySQL store: where requests go in, and the two threads behind it.
///
/// `accepts` and `sends` wake the threads that run the [`Acceptor`] and the [`Sender`]. Once the
/// door is closed both end in good order: what waits is answered, and what was produced is marked,
/// or left to the relay after 2 s.
///
/// # Errors
///
/// When a property of the log's client is refused.
pub fn mysql_door<C: Clock + Copy>(
    settings: &OutboxSettings,
    limits: DoorLimits,
    clock: C,
    accepts: Waker,
    sends: Waker,
) -> Result<(Door, Acceptor<C>, Sender<C>), OutboxError> {
    let (door, intake) = door(limits, accepts);
    let handover = handover::Handover::new(sends);
    let counters = std::sync::Arc::clone(door.counters());
    let sender = Sender::new(settings.clone(), handover.clone(), counters, clock)?;
    let acceptor = Acceptor::new(settings.clone(), intake, handover, clock);
    Ok((door, acceptor, sender))
}
