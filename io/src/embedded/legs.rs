//! Legs that an operator looks at: which have not landed, and one of them sent again.

use kilter_engine::LegName;
use rusqlite::{OptionalExtension, params};

use super::{
    append::{CommandLog, NewRecord},
    error::EmbeddedError,
    reader::StoreReader,
};
use crate::{
    outbox::{FlyingLeg, LegProgress, NotResent, Outcome, Status, legs::money_in},
    rows::LedgerRow,
};

/// A leg as its epoch left it.
#[derive(Clone, Debug)]
pub(super) struct LegRow {
    pub(super) name: String,
    pub(super) user_id: Vec<u8>,
    pub(super) transaction_id: String,
    payload: Vec<u8>,
    /// Where its last record lies, once it is in the log.
    pub(super) offset: Option<u64>,
}

/// Why a leg is not sent again.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// For what it is.
    #[error(transparent)]
    Not(#[from] NotResent),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] EmbeddedError),
}

impl StoreReader {
    /// A leg by its name.
    pub(super) fn leg(&self, name: &str) -> Result<Option<LegRow>, EmbeddedError> {
        let failed = self.db.failed("look for legs");
        self.db
            .connection
            .prepare_cached(
                "SELECT name, l.user_id, l.transaction_id, payload, record_offset FROM legs AS l
                 LEFT JOIN log.outbox_events AS e ON e.user_id = l.user_id
                 AND e.transaction_id = CAST(l.transaction_id AS BLOB) AND e.leg = l.name
                 WHERE name = ?1",
            )
            .map_err(&failed)?
            .query_row([name], leg_row)
            .optional()
            .map_err(&failed)
    }

    /// The entry of a leg, whichever of its records was answered.
    fn leg_entry(&self, name: &str) -> Result<Option<LedgerRow>, EmbeddedError> {
        let failed = self.db.failed("look for legs");
        let offset: Option<i64> = self
            .db
            .connection
            .prepare_cached("SELECT offset FROM balance_transactions WHERE leg = ?1")
            .map_err(&failed)?
            .query_row([name], |row| row.get(0))
            .optional()
            .map_err(&failed)?;
        let Some(offset) = offset else {
            return Ok(None);
        };
        let entries = self.ledger_at(offset as u64)?.into_iter();
        Ok(entries
            .into_iter()
            .find(|entry| entry.leg.as_deref() == Some(name)))
    }

    /// What became of a leg.
    pub(super) fn leg_outcome(&self, leg: &LegRow) -> Result<Outcome, EmbeddedError> {
        // Read in this order, a record that is behind the offset and has no entry has none.
        let is_past = match leg.offset {
            Some(offset) => self.is_past(offset)?,
            None => false,
        };
        Ok(match self.leg_entry(&leg.name)? {
            Some(entry) => Outcome::of(vec![entry]),
            None if is_past => Outcome::bare(Status::Refused),
            None => Outcome::bare(Status::Pending),
        })
    }

    /// Every leg that has not landed, in the order of their making.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or `each` fails.
    pub fn flying_legs<E: From<EmbeddedError>>(
        &self,
        mut each: impl FnMut(FlyingLeg) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = self.db.failed("look for legs");
        let mut legs: Vec<LegRow> = Vec::new();
        {
            let mut statement = self
                .db
                .connection
                .prepare_cached(
                    "SELECT name, l.user_id, l.transaction_id, payload, record_offset FROM legs AS l
                     LEFT JOIN log.outbox_events AS e ON e.user_id = l.user_id
                     AND e.transaction_id = CAST(l.transaction_id AS BLOB) AND e.leg = l.name
                     WHERE NOT EXISTS (SELECT 1 FROM balance_transactions WHERE leg = l.name)
                     ORDER BY l.id",
                )
                .map_err(&failed)?;
            for leg in statement.query_map([], leg_row).map_err(&failed)? {
                legs.push(leg.map_err(&failed)?);
            }
        }
        for leg in legs {
            let progress = match self.leg_outcome(&leg)?.status {
                Status::Pending => LegProgress::OnItsWay,
                Status::Refused => LegProgress::Refused,
                Status::Success | Status::Failed => continue,
            };
            let (currency_code, amount) = money_in(&leg.payload);
            each(FlyingLeg {
                user_id: String::from_utf8_lossy(&leg.user_id).into_owned(),
                transaction_id: leg.transaction_id,
                name: leg.name,
                currency_code,
                amount,
                progress,
                place: leg.offset.map(|offset| (1, 0, offset)),
                message: None,
            })?;
        }
        Ok(())
    }
}

fn leg_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<LegRow> {
    Ok(LegRow {
        name: row.get(0)?,
        user_id: row.get(1)?,
        transaction_id: row.get(2)?,
        payload: row.get(3)?,
        offset: row.get::<_, Option<i64>>(4)?.map(|offset| offset as u64),
    })
}

impl CommandLog {
    /// Appends a leg once more that was refused; where it lies now. Every record of it is behind
    /// what is applied, so that none of them can take effect any more.
    ///
    /// # Errors
    ///
    /// [`NotResent`], or when the directory cannot be used; then nothing is appended.
    pub fn resend_leg(
        &mut self,
        store: &StoreReader,
        name: LegName,
        now_ms: i64,
    ) -> Result<u64, ResendError> {
        let name = name.to_string();
        let Some(leg) = store.leg(&name)? else {
            return Err(NotResent::Unknown { name }.into());
        };
        let why = match store.leg_outcome(&leg)?.status {
            Status::Success | Status::Failed => return Err(NotResent::Landed { name }.into()),
            Status::Refused => None,
            Status::Pending if leg.offset.is_none() => Some("it is not in the log yet"),
            Status::Pending => Some("its record is not applied yet (kilter apply /dev/null)"),
        };
        if let Some(why) = why {
            let why = why.to_owned();
            return Err(NotResent::OnItsWay { name, why }.into());
        }
        let offset = self.end().get();
        let issued_at_ms = now_ms.max(self.last_ms());
        let record = NewRecord {
            value: &leg.payload,
            issued_at_ms: Some(issued_at_ms),
            full: None,
        };
        let (user, id) = (leg.user_id.clone(), leg.transaction_id.clone());
        self.append_with([record].into_iter(), now_ms, move |transaction| {
            let moved = transaction.execute(
                "UPDATE outbox_events SET record_offset = ?1, issued_at_ms = ?2
                 WHERE user_id = ?3 AND transaction_id = ?4 AND leg = ?5",
                params![offset as i64, issued_at_ms, user, id.as_bytes(), name],
            )?;
            match moved {
                1 => Ok(()),
                _ => Err(rusqlite::Error::QueryReturnedNoRows),
            }
        })?;
        Ok(offset)
    }
}
