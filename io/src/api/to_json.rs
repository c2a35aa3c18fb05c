//! Answers as REST has them: the fields of the protocol files by their names there.

use serde_json::{Value, json};

use super::{
    Problem,
    change::Changed,
    wire::balance::{
        ChangeBalanceResponse, Entry, GetBalanceResponse, GetTransactionResponse, Leg,
        ListLedgerResponse, OpenAccountResponse, Outcome, Position, Result as WatchedResult,
    },
};

/// A problem that has nothing else to say.
pub(super) fn problem(problem: &Problem) -> Value {
    let mut value = json!({"success": false, "error_message": problem.message});
    if let Some(field) = &problem.field {
        value["field"] = field.as_str().into();
    }
    if let Some(code) = problem.kind.code() {
        value["error_code"] = code.into();
    }
    value
}

pub(super) fn balance(response: &GetBalanceResponse) -> Value {
    let balance = response.balance.as_ref().map(|balance| {
        json!({
            "account_id": balance.account_id,
            "currency_code": balance.currency_code,
            "available": balance.available,
            "frozen": balance.frozen,
            "version": balance.version,
            "updated_at": balance.updated_at,
        })
    });
    json!({
        "success": response.success,
        "balance": balance,
        "error_message": response.error_message,
        "source": response.source,
    })
}

/// The answer to a change; the field that is wrong is named beside it.
pub(super) fn changed(changed: &Changed) -> Value {
    let mut value = change(&changed.response);
    if let Some(field) = changed
        .problem
        .as_ref()
        .and_then(|each| each.field.as_ref())
    {
        value["field"] = field.as_str().into();
    }
    value
}

fn change(response: &ChangeBalanceResponse) -> Value {
    json!({
        "success": response.success,
        "transaction_id": response.transaction_id,
        "event_id": response.event_id,
        "error_message": response.error_message,
        "outcome": outcome(response.outcome),
        "error_code": response.error_code,
        "balances": response.balances.iter().map(entry).collect::<Vec<_>>(),
        "pending": response.pending,
        "duplicate": response.duplicate,
        "version": response.version,
    })
}

/// The answers to several changes, each with the status it would have had alone.
pub(super) fn changes(answers: &[Changed]) -> Value {
    let one = |each: &Changed| {
        let mut value = changed(each);
        value["status"] = each
            .problem
            .as_ref()
            .map_or(200, |problem| problem.kind.http())
            .into();
        value
    };
    json!({"answers": answers.iter().map(one).collect::<Vec<_>>()})
}

pub(super) fn opened(response: &OpenAccountResponse) -> Value {
    json!({
        "success": true,
        "user_id": response.user_id,
        "account_id": response.account_id,
        "event_id": response.event_id,
        "existed": response.existed,
    })
}

pub(super) fn transaction(response: &GetTransactionResponse) -> Value {
    json!({
        "success": true,
        "user_id": response.user_id,
        "transaction_id": response.transaction_id,
        "event_id": response.event_id,
        "outcome": outcome(response.outcome),
        "error_code": response.error_code,
        "entries": response.entries.iter().map(entry).collect::<Vec<_>>(),
        "legs": response.legs.iter().map(leg).collect::<Vec<_>>(),
        "issued_at": response.issued_at,
    })
}

fn leg(leg: &Leg) -> Value {
    json!({
        "name": leg.name,
        "event_id": leg.event_id,
        "outcome": outcome(leg.outcome),
        "error_code": leg.error_code,
        "entries": leg.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

pub(super) fn ledger(response: &ListLedgerResponse) -> Value {
    json!({
        "success": true,
        "entries": response.entries.iter().map(entry).collect::<Vec<_>>(),
        "next_page_token": response.next_page_token,
    })
}

/// A result that is watched.
pub(super) fn result(result: &WatchedResult) -> Value {
    json!({
        "entry": result.entry.as_ref().map(entry),
        "error_message": result.error_message,
        "term": result.term,
    })
}

fn entry(entry: &Entry) -> Value {
    json!({
        "transaction_id": entry.transaction_id,
        "account_id": entry.account_id,
        "user_id": entry.user_id,
        "currency_code": entry.currency_code,
        "type": entry.r#type,
        "amount": entry.amount,
        "success": entry.success,
        "available_before": entry.available_before,
        "available_after": entry.available_after,
        "frozen_before": entry.frozen_before,
        "frozen_after": entry.frozen_after,
        "version": entry.version,
        "error_code": entry.error_code,
        "timestamp": entry.timestamp,
        "position": entry.position.as_ref().map(position),
        "leg": entry.leg,
    })
}

fn position(position: &Position) -> Value {
    json!({
        "generation": position.generation,
        "partition": position.partition,
        "offset": position.offset,
        "posting": position.posting,
    })
}

/// UNKNOWN, PENDING, SUCCESS, FAILED or REFUSED.
fn outcome(number: i32) -> &'static str {
    let name = Outcome::try_from(number).unwrap_or_default().as_str_name();
    name.trim_start_matches("OUTCOME_")
}
