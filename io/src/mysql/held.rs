//! A connection that is kept from one question to the next.

use super::{connection::Db, error::MysqlError, settings::MysqlSettings};

/// Connects when it is asked, and once more when a connection that was idle turns out to be gone:
/// servers end those that are idle for long, and come back after they were away, neither of which is a
/// fault. Every statement has the deadline of its settings.
#[derive(Debug)]
pub(super) struct Held {
    settings: MysqlSettings,
    db: Option<Db>,
}

impl Held {
    /// Nothing is asked yet.
    pub(super) fn new(settings: MysqlSettings) -> Self {
        Self { settings, db: None }
    }

    /// Asks something that changes nothing.
    pub(super) fn read<T>(
        &mut self,
        ask: impl Fn(&mut Db) -> Result<T, MysqlError>,
    ) -> Result<T, MysqlError> {
        let was_open = self.db.is_some();
        match self.once(&ask) {
            Err(error) if was_open && error.is_lost() => self.once(&ask),
            done => done,
        }
    }

    fn once<T>(&mut self, ask: impl Fn(&mut Db) -> Result<T, MysqlError>) -> Result<T, MysqlError> {
        let mut db = match self.db.take() {
            Some(db) => db,
            None => Db::open(&self.settings)?,
        };
        // A connection that failed is not used again: nobody knows what it waits for.
        let done = ask(&mut db)?;
        self.db = Some(db);
        Ok(done)
    }
}
