//! Where epochs go.

use crate::epoch::Epoch;

/// What became of an epoch that was to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is durable now, by this call.
    Now,
    /// It was already: an earlier try whose answer got lost.
    Before,
}

/// The store of one writer: a transaction an epoch.
pub trait Store {
    /// Why an epoch cannot be committed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Commits an epoch in one transaction, or nothing of it.
    ///
    /// Under lock the store compares its offset rows with [`Epoch::rows`]: all equal to `before`:
    /// go on; all equal to `after`: it was committed before; anything else is an error. Before
    /// COMMIT it checks that the term is still this node's.
    ///
    /// What passes by itself (a lock, a lost connection) is tried again inside, with a limit.
    ///
    /// # Errors
    ///
    /// When it cannot be committed; the node then stops, which is as safe as a crash.
    fn commit(&mut self, epoch: &Epoch<'_>) -> Result<Committed, Self::Error>;
}
