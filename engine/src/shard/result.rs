//! How an ending is written down: into a result, and into a dead letter for what was refused.

use super::{DeadLetters, Item, Results, Shard, ShardError};
use crate::{
    Change, Command, Party,
    command::Body,
    decode::Refusal,
    epoch::{DeadLetter, EpochPart},
    leg::LegName,
    result::{Counterpart, InlineText, ResultRecord, Status},
    rules::Why,
};

impl Shard {
    pub(super) fn refuse(
        &mut self,
        item: &Item<'_>,
        (code, message): Why,
        part: &mut EpochPart,
        results: &mut impl Results,
    ) -> Result<(), ShardError> {
        let letter = DeadLetter {
            generation: item.generation,
            partition: item.partition,
            offset: item.offset,
            code,
            message: message.clone(),
            failed_at_ms: item.clock_ms,
            issued_at_ms: item.issued_at_ms,
            key: item.key.into(),
            value: item.value.into(),
            headers: item.headers.into(),
        };
        let result = results.next();
        self.fill(result, item, Status::Refused(code));
        match self.settings.dead_letters {
            DeadLetters::WithEpoch => part.dead_letters.push(letter),
            DeadLetters::WithResults => result.dead_letter = Some(Box::new(letter)),
        }
        result.message = Some(message);
        match &item.decoded {
            Ok(command) => address(result, command),
            Err(refusal) => address_refusal(result, refusal),
        }
        Ok(())
    }

    pub(super) fn fill(&self, result: &mut ResultRecord, item: &Item<'_>, status: Status) {
        result.position = item.position();
        result.term = self.settings.term;
        result.status = status;
        result.timestamp_ms = item.clock_ms;
        result.remembered_ms = item.clock_ms;
        result.kind = None;
        result.account_id = None;
        result.currency = None;
        result.amount = None;
        result.around = None;
        result.addressed = false;
        result.transaction_id.set("");
        result.user_id.set("");
        result.counterpart = None;
        result.failed_posting = None;
        result.message = None;
        result.dead_letter = None;
    }
}

/// Says whose posting it was, and what it asked.
pub(super) fn address_change(
    result: &mut ResultRecord,
    command: &Command<'_>,
    change: &Change<'_>,
) {
    address_user(result, command);
    result.kind = Some(change.kind.into());
    result.currency = Some(change.currency);
    result.amount = Some(change.amount);
    result.counterpart = change.to.as_ref().map(|to| counterpart(None, to));
}

fn address_user(result: &mut ResultRecord, command: &Command<'_>) {
    result.addressed = true;
    result.transaction_id.set(&command.transaction_id);
    result.user_id.set(&command.user_id);
    result.account_id = Some(command.account_id);
}

/// Says whose command it was, and what it asked.
pub(super) fn address(result: &mut ResultRecord, command: &Command<'_>) {
    address_user(result, command);
    result.kind = Some(command.kind());
    match &command.body {
        Body::Open | Body::Batch(_) => {}
        Body::Move {
            currency, amount, ..
        } => {
            result.currency = Some(*currency);
            result.amount = Some(*amount);
        }
        Body::Transfer(change) => address_change(result, command, change),
        Body::Leg(leg) => {
            result.currency = Some(leg.currency);
            result.amount = Some(leg.amount);
            result.counterpart = Some(counterpart(Some(leg.name), &leg.from));
        }
    }
}

/// The other side of a transfer.
fn counterpart(leg: Option<LegName>, party: &Party<'_>) -> Box<Counterpart> {
    let mut user_id = InlineText::new();
    user_id.set(&party.user_id);
    Box::new(Counterpart {
        leg,
        user_id,
        account_id: party.account_id,
    })
}

fn address_refusal(result: &mut ResultRecord, refusal: &Refusal<'_>) {
    result.kind = refusal.kind;
    result.account_id = refusal.account_id;
    result.currency = refusal.currency;
    result.amount = refusal.amount;
    if let (Some(id), Some(user)) = (&refusal.transaction_id, &refusal.user_id) {
        result.addressed = true;
        result.transaction_id.set(id);
        result.user_id.set(user);
    }
}
