//! Where all balances are kept.

use kilter_engine::{AccountId, Currency, epoch::BalanceImage};

use super::error::{RedisError, SourceError};

/// A balance as it is kept: what a [`BalanceImage`] says.
pub type SourceRow = BalanceImage;

/// All committed balances, read a page at a time: MySQL's, in production.
///
/// A page may be newer than the one before it; nothing has to be of one moment, because only the
/// highest version of a balance counts.
pub trait BalanceSource: Send {
    /// Up to `limit` balances behind `after`, by account and currency; the first ones if there is no
    /// `after`. Nothing at the end, and only there.
    ///
    /// # Errors
    ///
    /// Whatever keeps them from being read. The source is then dropped and another one opened.
    fn page(
        &mut self,
        after: Option<(AccountId, Currency)>,
        limit: usize,
    ) -> Result<Vec<SourceRow>, SourceError>;
}

/// Opens a source, at first and after a failure.
pub type OpenSource = Box<dyn FnMut() -> Result<Box<dyn BalanceSource>, SourceError> + Send>;

/// A place in a source, and the source while it is well.
pub(super) struct Reader {
    open: OpenSource,
    source: Option<Box<dyn BalanceSource>>,
    after: Option<(AccountId, Currency)>,
}

impl Reader {
    pub(super) fn new(open: OpenSource) -> Self {
        Self {
            open,
            source: None,
            after: None,
        }
    }

    /// From the first balance again, read afresh.
    pub(super) fn rewind(&mut self) {
        self.after = None;
        self.close();
    }

    /// The next page opens a source afresh, at the same place.
    pub(super) fn close(&mut self) {
        self.source = None;
    }

    /// The next balances; the same ones again until they are [done](Self::done).
    pub(super) fn page(&mut self, limit: usize) -> Result<Vec<SourceRow>, RedisError> {
        let mut source = match self.source.take() {
            Some(source) => source,
            None => (self.open)().map_err(RedisError::Source)?,
        };
        let rows = source.page(self.after, limit).map_err(RedisError::Source)?;
        self.source = Some(source);
        let mut last = self.after;
        for row in &rows {
            let place = Some((row.account_id, row.currency));
            if place <= last {
                let why = "its balances do not rise by account and currency";
                return Err(RedisError::Source(why.into()));
            }
            last = place;
        }
        Ok(rows)
    }

    /// These rows are dealt with.
    pub(super) fn done(&mut self, rows: &[SourceRow]) {
        if let Some(row) = rows.last() {
            self.after = Some((row.account_id, row.currency));
        }
    }
}
