//! Legs of transfers as a ledger shows them: which have landed, and which are in flight.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use kilter_engine::{Amount, LegKind, LegName, ledger::Position};

use crate::rows::LedgerRow;

/// How a leg must agree with its debit: currency, amount, transaction id.
type Terms = (String, String, String);

/// What the ledger says of one transfer.
#[derive(Debug, Default)]
struct Flight {
    debit: Option<Terms>,
    /// With whether it succeeded.
    credit: Option<(Terms, bool)>,
    refund: Option<(Terms, bool)>,
}

/// Legs that have left and not landed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Their names.
    pub names: Vec<LegName>,
    /// How many, and how much in units of 10⁻¹⁸, by currency.
    pub sums: BTreeMap<String, (u64, i128)>,
}

impl fmt::Display for InFlight {
    /// `3 (2 of 12.5 USDT, 1 of 4 BTC)`, or `0`.
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
        f.write_str(")")
    }
}

/// Follows legs through a ledger, its entries in any order.
///
/// It holds what has not landed yet in that order: at worst every transfer, some 300 bytes each.
#[derive(Debug, Default)]
pub struct Flights(HashMap<Position, Flight>);

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
                self.0.entry(debit).or_default().debit = Some(terms());
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
                let flight = self.0.entry(name.debit).or_default();
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
        let flight = self.0.get(&debit)?;
        let end = match (&flight.debit, &flight.credit, &flight.refund) {
            (Some(debit), Some((credit, true)), None) => Some(debit == credit),
            (Some(debit), Some((credit, false)), Some((refund, true))) => {
                Some(debit == credit && debit == refund)
            }
            _ => None,
        };
        let agrees = end?;
        self.0.remove(&debit);
        (!agrees).then(|| {
            format!(
                "{}: currency, amount or transaction id of debit and leg differ",
                place(row)
            )
        })
    }

    /// What is in flight, and what is wrong, in words. If the ledger has lost its beginning, a leg
    /// without its debit says nothing.
    pub fn finish(self, is_whole: bool) -> (InFlight, Vec<String>) {
        let mut in_flight = InFlight::default();
        let mut wrong = Vec::new();
        let mut flights: Vec<(Position, Flight)> = self.0.into_iter().collect();
        flights.sort_unstable_by_key(|(debit, _)| *debit);
        for (debit, flight) in flights {
            let credit = LegName {
                debit,
                kind: LegKind::Credit,
            };
            let (name, (currency, amount, _)) = match (flight.debit, flight.credit, flight.refund) {
                (Some(terms), None, None) => (credit, terms),
                (Some(terms), Some((_, false)), None) => (credit.refund(), terms),
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
mod tests {
    use super::*;

    fn row(offset: u64, kind: &str, leg: Option<&str>, error: Option<&str>) -> LedgerRow {
        LedgerRow {
            generation: 1,
            partition: 0,
            offset,
            posting: 0,
            account_id: 1,
            user_id: "u".into(),
            currency_code: "USDT".into(),
            transaction_id: "t".into(),
            kind: kind.into(),
            amount: "1.5".into(),
            available_before: "0".into(),
            available_after: "0".into(),
            frozen_before: "0".into(),
            frozen_after: "0".into(),
            version: 0,
            error_code: error.map(Into::into),
            created_at_ms: 0,
            remembered_at_ms: None,
            leg: leg.map(Into::into),
        }
    }

    #[test]
    fn legs_are_followed_in_any_order() {
        let debit = || row(7, "TRANSFER", None, None);
        let credit = |error| row(9, "CREDIT", Some("1/0/7/0/CREDIT"), error);
        let refund = |error| row(10, "REFUND", Some("1/0/7/0/REFUND"), error);
        let lost = Some("ACCOUNT_NOT_FOUND");
        let mut cheap = debit();
        cheap.amount = "1".into();
        let failed = row(7, "TRANSFER", None, Some("INSUFFICIENT_AVAILABLE"));
        // Entries, what is in flight, how much is wrong.
        let table: Vec<(Vec<LedgerRow>, &str, usize)> = vec![
            (vec![], "0", 0),
            (vec![failed], "0", 0),
            (vec![debit()], "1 (1 of 1.5 USDT)", 0),
            (vec![debit(), credit(None)], "0", 0),
            (vec![debit(), credit(lost)], "1 (1 of 1.5 USDT)", 0),
            (vec![debit(), credit(lost), refund(None)], "0", 0),
            (vec![credit(None)], "0", 1),
            (vec![debit(), refund(None)], "0", 1),
            (vec![debit(), credit(None), credit(None)], "0", 1),
            (vec![debit(), credit(None), refund(None)], "0", 1),
            (vec![cheap, credit(None)], "0", 1),
            (vec![row(9, "CREDIT", None, None)], "0", 1),
            (
                vec![row(9, "DEPOSIT", Some("1/0/7/0/CREDIT"), None)],
                "0",
                1,
            ),
            (vec![row(9, "CREDIT", Some("1/0/7/CREDIT"), None)], "0", 1),
        ];
        for (rows, in_flight, wrong) in table {
            for turn in 0..rows.len().max(1) {
                let mut rows = rows.clone();
                rows.rotate_left(turn);
                let mut flights = Flights::default();
                let told: Vec<String> = rows.iter().filter_map(|row| flights.entry(row)).collect();
                let (found, more) = flights.finish(true);
                assert_eq!(found.to_string(), in_flight, "{rows:?}");
                assert_eq!(told.len() + more.len(), wrong, "{rows:?} {told:?} {more:?}");
            }
        }
    }
}
