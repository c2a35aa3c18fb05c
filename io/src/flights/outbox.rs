//! Legs as the outbox has them.

use kilter_engine::{Body, LegKind, LegName, decode};

use super::Terms;

/// A leg's row in the outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLeg<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whom it pays: the key of its record.
    pub user: &'a [u8],
    /// The client's id.
    pub transaction_id: &'a [u8],
    /// Its record's value; `None` once trimmed.
    pub payload: Option<&'a str>,
    /// Whether its record lies below what is committed. If the ledger lacks it, it was refused.
    pub is_applied: bool,
}

/// What is different in a leg that flies from what its debit made, in words.
pub(super) fn differs(
    leg: &OutboxLeg<'_>,
    name: LegName,
    terms: &Terms,
    debtor: u64,
) -> Option<String> {
    let Some(payload) = leg.payload else {
        return Some("is in flight, and its payload is gone".into());
    };
    let command = match decode(payload.as_bytes()) {
        Ok(command) => command,
        Err(refusal) => return Some(format!("is no command: {}", refusal.message)),
    };
    let Body::Leg(body) = &command.body else {
        return Some(format!("is a {}", command.kind()));
    };
    let (currency, amount, transaction_id) = terms;
    let owner = match name.kind {
        LegKind::Credit => body.from.account_id,
        LegKind::Refund => command.account_id,
    };
    let id = command.transaction_id.as_ref();
    if body.name != name {
        Some(format!("has the payload of {}", body.name))
    } else if command.user_id.as_bytes() != leg.user {
        Some(format!("pays {:?}, not its key", command.user_id))
    } else if id.as_bytes() != leg.transaction_id || id != transaction_id {
        Some(format!("has the transaction id {id:?}, not its debit's"))
    } else if body.currency.as_str() != currency || amount.parse() != Ok(body.amount) {
        let (held, unit) = (body.amount, body.currency);
        Some(format!(
            "is of {held} {unit}, its debit of {amount} {currency}"
        ))
    } else if owner.get() != debtor {
        Some(format!(
            "names account {owner} as the debtor, it is {debtor}"
        ))
    } else {
        None
    }
}
