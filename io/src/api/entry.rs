//! Rows and outcomes as answers have them.

use super::wire::balance::{Entry, Leg, Outcome as WireOutcome, Position as WirePosition};
use crate::{
    outbox::{LegState, Outcome, Status},
    rows::LedgerRow,
};

/// A status as answers number it.
pub(crate) fn outcome(status: Status) -> WireOutcome {
    match status {
        Status::Pending => WireOutcome::Pending,
        Status::Success => WireOutcome::Success,
        Status::Failed => WireOutcome::Failed,
        Status::Refused => WireOutcome::Refused,
    }
}

/// An entry of somebody's own ledger.
pub(crate) fn entry(row: &LedgerRow) -> Entry {
    Entry {
        transaction_id: row.transaction_id.clone(),
        account_id: signed(row.account_id),
        user_id: row.user_id.clone(),
        currency_code: row.currency_code.clone(),
        r#type: row.kind.clone(),
        amount: row.amount.clone(),
        success: row.error_code.is_none(),
        available_before: row.available_before.clone(),
        available_after: row.available_after.clone(),
        frozen_before: row.frozen_before.clone(),
        frozen_after: row.frozen_after.clone(),
        version: signed(row.version),
        error_code: row.error_code.clone().unwrap_or_default(),
        timestamp: row.created_at_ms,
        position: Some(WirePosition {
            generation: row.generation,
            partition: row.partition,
            offset: signed(row.offset),
            posting: row.posting.into(),
        }),
        leg: row.leg.clone().unwrap_or_default(),
    }
}

/// Entries as `user_id` may see them: of somebody else's account no balance and no version.
pub(crate) fn entries_for(user_id: &str, rows: &[LedgerRow]) -> Vec<Entry> {
    let shown = |row: &LedgerRow| {
        let mut entry = entry(row);
        if row.user_id != user_id {
            entry.available_before.clear();
            entry.available_after.clear();
            entry.frozen_before.clear();
            entry.frozen_after.clear();
            entry.version = 0;
        }
        entry
    };
    rows.iter().map(shown).collect()
}

/// A leg as the user whose transaction it is may see it.
pub(crate) fn leg_for(user_id: &str, leg: &LegState) -> Leg {
    Leg {
        name: leg.name.clone(),
        event_id: leg.event_id.clone(),
        outcome: outcome(leg.outcome.status).into(),
        error_code: leg.outcome.error_code.clone().unwrap_or_default(),
        entries: entries_for(user_id, &leg.outcome.entries),
    }
}

/// Whether nothing more will become of it.
pub(crate) fn is_final(outcome: &Outcome) -> bool {
    outcome.status != Status::Pending
}

/// A number for a protocol whose numbers have a sign. Account ids, versions and offsets end far
/// below.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
