//! Legs of transfers as a ledger shows them: which have landed, and which are in flight.

mod outbox;

pub use outbox::OutboxLeg;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use kilter_engine::{Amount, IdHash, LegKind, LegName, ledger::Position};

use crate::rows::LedgerRow;
use outbox::differs;

/// How a leg must agree with its debit: currency, amount, transaction id.
type Terms = (String, String, String);

/// What the ledger says of one transfer, and what the outbox has of it.
#[derive(Debug, Default)]
struct Flight {
    /// With the account.
    debit: Option<(Terms, u64)>,
    /// With whether it succeeded.
    credit: Option<(Terms, bool)>,
    refund: Option<(Terms, bool)>,
    /// The legs that the outbox has.
    has_credit: bool,
    has_refund: bool,
    /// Those whose record was refused.
    refused: Option<LegKind>,
}

/// Legs that have left and not landed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Their names.
    pub names: Vec<LegName>,
    /// How many, and how much in units of 10⁻¹⁸, by currency.
    pub sums: BTreeMap<String, (u64, i128)>,
    /// How many of them were refused: they are not on their way until they are sent again.
    pub refused: u64,
}

impl fmt::Display for InFlight {
    /// `3 (2 of 12.5 USDT, 1 of 4 BTC), 1 of them refused`, or `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.names.len())?;
        if self.names.is_empty() {
            return Ok(());
        }
        f.write_str(" (")?;
        for (index, (currency, (count, units))) in self.sums.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match Amount::from_units(*units) {
                Some(amount) => write!(f, "{comma}{count} of {amount} {currency}")?,
                None => write!(f, "{comma}{count} of {units}e-18 {currency}")?,
            }
        }
        f.write_str(")")?;
        match self.refused {
            0 => Ok(()),
            refused => write!(f, ", {refused} of them refused"),
        }
    }
}

/// Follows legs through a ledger, its entries in any order.
///
/// It holds what has not landed yet in that order: at worst every transfer, some 300 bytes each. Of
/// one that has landed it keeps 128 bits, so that a second landing is seen.
#[derive(Debug, Default)]
pub struct Flights {
    open: HashMap<Position, Flight>,
    landed: HashSet<u128>,
    /// Those of them that landed as a refund.
    refunded: HashSet<u128>,
}

/// What stands for a transfer that has landed.
fn hash(debit: Position) -> u128 {
    let id = IdHash::of_leg(&LegName {
        debit,
        kind: LegKind::Credit,
    });
    u128::from(id.line) << 64 | u128::from(id.tag)
}

impl Flights {
    /// Looks at an entry. What is wrong with it, in words.
    pub fn entry(&mut self, row: &LedgerRow) -> Option<String> {
        let terms = || {
            (
                row.currency_code.clone(),
                row.amount.clone(),
                row.transaction_id.clone(),
            )
        };
        let is_success = row.error_code.is_none();
        let debit = match &row.leg {
            None if row.kind == "CREDIT" || row.kind == "REFUND" => {
                return Some(format!("{}: a {} without its name", place(row), row.kind));
            }
            None if row.kind != "TRANSFER" || !is_success => return None,
            None => {
                let debit = Position {
                    generation: kilter_engine::Generation::new(row.generation),
                    partition: kilter_engine::Partition::new(row.partition),
                    offset: kilter_engine::Offset::new(row.offset),
                    posting: kilter_engine::Posting::new(row.posting),
                };
                if self.landed.contains(&hash(debit)) {
                    return Some(format!("{}: it was debited before", place(row)));
                }
                let flight = self.open.entry(debit).or_default();
                flight.debit = Some((terms(), row.account_id));
                debit
            }
            Some(text) => {
                let Some(name) = text.parse::<LegName>().ok() else {
                    return Some(format!("{}: {text:?} is no leg's name", place(row)));
                };
                if name.kind.as_str() != row.kind {
                    let kind = &row.kind;
                    return Some(format!("{}: a {kind} by the name {name}", place(row)));
                }
                if self.landed.contains(&hash(name.debit)) {
                    return Some(format!(
                        "{}: {name}, and its transfer had landed before",
                        place(row)
                    ));
                }
                let flight = self.open.entry(name.debit).or_default();
                let landed = match name.kind {
                    LegKind::Credit => flight.credit.replace((terms(), is_success)),
                    LegKind::Refund => flight.refund.replace((terms(), is_success)),
                };
                if landed.is_some() {
                    return Some(format!(
                        "{}: the leg {name} has an entry before",
                        place(row)
                    ));
                }
                name.debit
            }
        };
        let flight = self.open.get(&debit)?;
        let end = match (&flight.debit, &flight.credit, &flight.refund) {
            (Some((debit, _)), Some((credit, true)), None) => Some((debit == credit, false)),
            (Some((debit, _)), Some((credit, false)), Some((refund, true))) => {
                Some((debit == credit && debit == refund, true))
            }
            _ => None,
        };
        let (agrees, is_refund) = end?;
        self.open.remove(&debit);
        self.landed.insert(hash(debit));
        if is_refund {
            self.refunded.insert(hash(debit));
        }
        (!agrees).then(|| {
            format!(
                "{}: currency, amount or transaction id of debit and leg differ",
                place(row)
            )
        })
    }

    /// Looks at a row of the outbox, when all entries were. What is wrong with it, in words. If the
    /// ledger has lost its beginning, a leg without its debit says nothing.
    pub fn outbox(&mut self, leg: &OutboxLeg<'_>, is_whole: bool) -> Option<String> {
        let Some(name) = leg.name.parse::<LegName>().ok() else {
            return Some(format!("the outbox: {:?} is no leg's name", leg.name));
        };
        let has_landed = match name.kind {
            LegKind::Credit => self.landed.contains(&hash(name.debit)),
            LegKind::Refund => self.refunded.contains(&hash(name.debit)),
        };
        if has_landed {
            return None;
        }
        let flight = self.open.get_mut(&name.debit);
        let left = flight.filter(|flight| match name.kind {
            LegKind::Credit => flight.debit.is_some(),
            LegKind::Refund => matches!(flight.credit, Some((_, false))),
        });
        let Some(flight) = left else {
            return is_whole.then(|| format!("the outbox: nothing made the leg {name}"));
        };
        let flies = match name.kind {
            LegKind::Credit => {
                flight.has_credit = true;
                flight.credit.is_none()
            }
            LegKind::Refund => {
                flight.has_refund = true;
                flight.refund.is_none()
            }
        };
        if !flies {
            return None;
        }
        flight.refused = leg.is_applied.then_some(name.kind);
        let (terms, account_id) = flight.debit.as_ref()?;
        let why = differs(leg, name, terms, *account_id)?;
        Some(format!("the outbox: the leg {name} {why}"))
    }

    /// A leg's record was refused, so it is not on its way.
    pub fn refused(&mut self, name: LegName) {
        self.open.entry(name.debit).or_default().refused = Some(name.kind);
    }

    /// What is in flight and not in the outbox.
    pub fn not_in_outbox(&self) -> Vec<LegName> {
        let open = self.open.iter();
        let mut missing: Vec<LegName> = open
            .filter_map(|(debit, flight)| {
                let credit = LegName {
                    debit: *debit,
                    kind: LegKind::Credit,
                };
                match (&flight.debit, &flight.credit, &flight.refund) {
                    (Some(_), None, None) if !flight.has_credit => Some(credit),
                    (Some(_), Some((_, false)), None) if !flight.has_refund => {
                        Some(credit.refund())
                    }
                    _ => None,
                }
            })
            .collect();
        missing.sort_unstable();
        missing
    }

    /// What is in flight, and what is wrong, in words. If the ledger has lost its beginning, a leg
    /// without its debit says nothing.
    pub fn finish(self, is_whole: bool) -> (InFlight, Vec<String>) {
        let mut in_flight = InFlight::default();
        let mut wrong = Vec::new();
        let mut flights: Vec<(Position, Flight)> = self.open.into_iter().collect();
        flights.sort_unstable_by_key(|(debit, _)| *debit);
        for (debit, flight) in flights {
            let credit = LegName {
                debit,
                kind: LegKind::Credit,
            };
            let debit = flight.debit.map(|(terms, _)| terms);
            let (name, (currency, amount, _)) = match (debit, flight.credit, flight.refund) {
                (Some(terms), None, None) => (credit, terms),
                (Some(terms), Some((_, false)), None) => (credit.refund(), terms),
                // Only that a record of it was refused is known.
                (None, None, None) => continue,
                (None, ..) if !is_whole => continue,
                (None, ..) => {
                    wrong.push(format!("the leg {credit}, or its refund, has no debit"));
                    continue;
                }
                (Some(_), None, Some(_)) => {
                    wrong.push(format!("{}: no credit of it failed", credit.refund()));
                    continue;
                }
                (Some(_), Some((_, true)), _) => {
                    wrong.push(format!("{}: its credit landed, too", credit.refund()));
                    continue;
                }
                (Some(_), Some((_, false)), Some(_)) => {
                    wrong.push(format!("{}: a refund never fails", credit.refund()));
                    continue;
                }
            };
            let units = amount.parse::<Amount>().map_or(0, Amount::units);
            let sum = in_flight.sums.entry(currency).or_default();
            sum.0 += 1;
            sum.1 = sum.1.saturating_add(units);
            in_flight.refused += u64::from(flight.refused == Some(name.kind));
            in_flight.names.push(name);
        }
        (in_flight, wrong)
    }
}

fn place(row: &LedgerRow) -> String {
    format!(
        "the ledger entry of partition {} offset {} posting {}",
        row.partition, row.offset, row.posting
    )
}

#[cfg(test)]
mod tests;
