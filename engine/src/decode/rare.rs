//! What few records are: transfers, postings and legs.

use super::fault::Fault;
use super::fields::{Field, Fields};
use super::{account_id, amount, currency, id, kind, text};
use crate::{
    AccountId, Change, CommandKind, LegBody, LegKind, MoveKind, POSTINGS_MAX, Party, leg::LegName,
};
use serde_json::value::RawValue;

/// The body of a TRANSFER.
#[cold]
pub(super) fn transfer<'a>(
    fields: &Fields<'a>,
    user_id: &str,
    own: AccountId,
) -> Result<Box<Change<'a>>, Fault<'a>> {
    change(MoveKind::Transfer, fields, user_id, own).map(Box::new)
}

/// The postings, in their order.
#[cold]
pub(super) fn postings<'a>(
    fields: &Fields<'a>,
    user_id: &str,
    own: AccountId,
) -> Result<Box<[Change<'a>]>, Fault<'a>> {
    if fields.has(Field::Type) && kind(fields)? != CommandKind::Batch {
        let raw = fields.get(Field::Type)?;
        return Err(Fault::BesidePostings {
            field: Field::Type,
            raw,
        });
    }
    for field in [
        Field::CurrencyCode,
        Field::Amount,
        Field::ToUserId,
        Field::ToAccountId,
    ] {
        if let Ok(raw) = fields.get(field) {
            return Err(Fault::BesidePostings { field, raw });
        }
    }
    let raw = fields.get(Field::Postings)?;
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
        return Err(Fault::NotList { raw });
    };
    if !(1..=POSTINGS_MAX).contains(&list.len()) {
        return Err(Fault::PostingCount { count: list.len() });
    }
    // With room for all, so that the box takes them over as they lie.
    let mut changes = Vec::with_capacity(list.len());
    for (index, json) in list.iter().enumerate() {
        let change = posting(json.get(), user_id, own).map_err(|fault| Fault::InPosting {
            index,
            fault: Box::new(fault),
        })?;
        changes.push(change);
    }
    Ok(changes.into_boxed_slice())
}

fn posting<'a>(json: &'a str, user_id: &str, own: AccountId) -> Result<Change<'a>, Fault<'a>> {
    let Some(fields) = Fields::read_inner(json) else {
        return Err(Fault::NotPosting { raw: json });
    };
    let kind = match kind(&fields)? {
        CommandKind::Open | CommandKind::Credit | CommandKind::Refund | CommandKind::Batch => None,
        kind => kind.moves(),
    };
    let Some(kind) = kind else {
        let raw = fields.get(Field::Type)?;
        return Err(Fault::PostingType { raw });
    };
    change(kind, &fields, user_id, own)
}

fn change<'a>(
    kind: MoveKind,
    fields: &Fields<'a>,
    user_id: &str,
    own: AccountId,
) -> Result<Change<'a>, Fault<'a>> {
    let (currency, amount) = (currency(fields)?, amount(fields)?);
    let to = if kind == MoveKind::Transfer {
        Some(receiver(fields, user_id, own)?)
    } else {
        None
    };
    Ok(Change {
        kind,
        currency,
        amount,
        to,
    })
}

/// Who receives a transfer: anybody but its sender.
fn receiver<'a>(
    fields: &Fields<'a>,
    user_id: &str,
    own: AccountId,
) -> Result<Party<'a>, Fault<'a>> {
    let to = Party {
        user_id: id(fields, Field::ToUserId)?,
        account_id: account_id(fields, Field::ToAccountId)?,
    };
    let same = if to.user_id == user_id {
        Some(Field::ToUserId)
    } else if to.account_id == own {
        Some(Field::ToAccountId)
    } else {
        None
    };
    match same {
        None => Ok(to),
        Some(field) => Err(Fault::Own {
            field,
            raw: fields.get(field)?,
        }),
    }
}

/// The body of a leg.
#[cold]
pub(super) fn leg<'a>(kind: LegKind, fields: &Fields<'a>) -> Result<Box<LegBody<'a>>, Fault<'a>> {
    let (currency, amount) = (currency(fields)?, amount(fields)?);
    let raw = fields.get(Field::Leg)?;
    let name: LegName = text(Field::Leg, raw)?
        .parse()
        .map_err(|error| Fault::Leg { error, raw })?;
    if name.kind != kind {
        let kind = kind.into();
        return Err(Fault::LegKind { kind, raw });
    }
    let from = Party {
        user_id: id(fields, Field::FromUserId)?,
        account_id: account_id(fields, Field::FromAccountId)?,
    };
    Ok(Box::new(LegBody {
        name,
        currency,
        amount,
        from,
    }))
}
