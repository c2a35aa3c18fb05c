//! What became of a transaction id, from the log's keys and the ledger.

use kilter_engine::AccountId;
use rusqlite::{OptionalExtension, params};

use super::{error::EmbeddedError, reader::StoreReader};
use crate::{
    outbox::{LegState, Lookup, LookupError, Outcome, Status, TransactionState},
    rows::LedgerRow,
};

impl StoreReader {
    /// Whether an account's OPEN is applied.
    pub(super) fn is_active(&self, account_id: AccountId) -> Result<bool, EmbeddedError> {
        self.db
            .connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = ?1 AND state = 'ACTIVE')",
                [account_id.get() as i64],
                |row| row.get(0),
            )
            .map_err(self.db.failed("read accounts"))
    }

    /// The legs that came of a debit so far, in the log or still on their way to it.
    fn legs_of(&self, debit: &LedgerRow) -> Result<Vec<LegState>, EmbeddedError> {
        let LedgerRow {
            generation,
            partition,
            offset,
            posting,
            ..
        } = debit;
        let mut legs = Vec::new();
        for kind in ["CREDIT", "REFUND"] {
            let name = format!("{generation}/{partition}/{offset}/{posting}/{kind}");
            if let Some(leg) = self.leg(&name)? {
                legs.push(LegState {
                    outcome: self.leg_outcome(&leg)?,
                    event_id: format!("leg:{name}"),
                    name,
                });
            }
        }
        Ok(legs)
    }

    /// Whether the record at an offset is applied, for every user.
    pub(super) fn is_past(&self, offset: u64) -> Result<bool, EmbeddedError> {
        let rows = self.offsets()?;
        Ok(!rows.is_empty() && rows.iter().all(|row| row.offset.get() > offset))
    }

    /// What became of the record at an offset. Read in this order, a record that is behind the
    /// offset and has no entry has none for ever.
    pub(super) fn outcome_at(
        &self,
        offset: u64,
        transaction_id: &str,
    ) -> Result<Outcome, EmbeddedError> {
        let is_past = self.is_past(offset)?;
        let mut entries = self.ledger_at(offset)?;
        entries.retain(|entry| entry.transaction_id == transaction_id);
        Ok(match (entries.is_empty(), is_past) {
            (false, _) => Outcome::of(entries),
            (true, true) => Outcome::bare(Status::Refused),
            (true, false) => Outcome::bare(Status::Pending),
        })
    }
}

impl Lookup for StoreReader {
    fn transaction(
        &mut self,
        user_id: &str,
        transaction_id: &str,
    ) -> Result<Option<TransactionState>, LookupError> {
        let end = self.durable.get();
        let found: Option<(String, i64, i64)> = self
            .db
            .connection
            .query_row(
                "SELECT event_id, issued_at_ms, record_offset FROM log.outbox_events \
                 WHERE user_id = ?1 AND transaction_id = ?2 AND leg = ''",
                params![user_id.as_bytes(), transaction_id.as_bytes()],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .map_err(self.db.failed("look for an event"))?;
        // Nobody has been told of what is not durable.
        let found = found.filter(|(.., offset)| (*offset as u64) < end.get());
        let Some((event_id, issued_at_ms, offset)) = found else {
            return Ok(None);
        };
        let outcome = self.outcome_at(offset as u64, transaction_id)?;
        let mut legs = Vec::new();
        for debit in &outcome.entries {
            if debit.kind == "TRANSFER" && debit.error_code.is_none() {
                legs.extend(self.legs_of(debit)?);
            }
        }
        Ok(Some(TransactionState {
            event_id,
            issued_at_ms,
            outcome,
            legs,
        }))
    }
}
