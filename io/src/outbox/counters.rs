//! What an operator looks at.

use std::sync::atomic::AtomicU64;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Figures of the outbox, for whoever exports them. Relaxed: numbers to show.
        #[derive(Debug, Default)]
        pub struct OutboxCounters {
            $($(#[$doc])* pub $name: AtomicU64,)+
        }
    };
}

counters! {
    /// Rows that were accepted.
    created,
    /// Requests that were answered as the same as an earlier one.
    duplicates,
    /// Requests that were answered as another one under a used id.
    conflicts,
    /// Requests that were answered with an account's refusal.
    account_refusals,
    /// Requests that were turned away because the queue was full.
    turned_away,
    /// Requests that got no answer from the store in time.
    unavailable,
    /// Transactions that accepted something.
    batches,
    /// How many rows the last transaction had.
    last_batch,
    /// Requests that wait, now.
    depth,
    /// Events that were handed to the log by the thread that accepted them.
    produced,
    /// Events that were left to the relay.
    left_to_relay,
    /// Events that the log acknowledged and that are marked so.
    marked_sent,
    /// Times that statements were tried again.
    store_retries,
    /// Events that the relay handed to the log.
    relayed,
    /// Tries of the relay that failed.
    relay_retries,
    /// Events that were issued anew because they had expired.
    issued_anew,
    /// Payloads that were trimmed.
    trimmed,
    /// Ranges whose lease this process holds, now.
    ranges_held,
    /// Rows that have not reached the log, in the ranges held, as of the last look.
    unsent,
    /// Age of the oldest of them, in ms.
    oldest_unsent_ms,
}
