//! A twin that is right by being plain: a map of balances and a set of ids, one command after the
//! other.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Amounts in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub available: i128,
    pub frozen: i128,
    pub version: u64,
}

/// Balances and ids by user, and how many commands ended how.
#[derive(Default)]
pub struct Twin {
    accounts: HashMap<String, u64>,
    pub balances: BTreeMap<(u64, String), Balance>,
    ids: HashSet<(String, String)>,
    pub outcomes: BTreeMap<String, u64>,
}

impl Twin {
    /// Applies a line; how it ended.
    pub fn apply(&mut self, line: &str) -> String {
        let outcome = self.judge(line);
        *self.outcomes.entry(outcome.clone()).or_default() += 1;
        outcome
    }

    fn judge(&mut self, line: &str) -> String {
        let Ok(json) = serde_json::from_str::<serde_json::Value>(line) else {
            return "MALFORMED".into();
        };
        let user = json["userId"].as_str().unwrap().to_owned();
        let account = json["accountId"].as_u64().unwrap();
        let id = json["transactionId"].as_str().unwrap().to_owned();
        let kind = json["type"].as_str().unwrap();
        if kind == "OPEN" {
            self.accounts.insert(user, account);
            return "SUCCESS".into();
        }
        let Some(amount) = thousandths(json["amount"].as_str().unwrap()) else {
            return "INVALID_AMOUNT".into();
        };
        match self.accounts.get(&user) {
            None => return "ACCOUNT_NOT_FOUND".into(),
            Some(own) if *own != account => return "ACCOUNT_MISMATCH".into(),
            Some(_) => {}
        }
        if !self.ids.insert((user, id)) {
            return "DUPLICATE".into();
        }
        let currency = json["currencyCode"].as_str().unwrap().to_owned();
        let old = self
            .balances
            .get(&(account, currency.clone()))
            .copied()
            .unwrap_or_default();
        let mut new = old;
        match kind {
            "DEPOSIT" => new.available += amount,
            "WITHDRAW" => new.available -= amount,
            "FREEZE" => {
                new.available -= amount;
                new.frozen += amount;
            }
            "UNFREEZE" => {
                new.available += amount;
                new.frozen -= amount;
            }
            "SETTLE" => new.frozen -= amount,
            other => panic!("{other}"),
        }
        if new.available < 0 {
            return "INSUFFICIENT_AVAILABLE".into();
        }
        if new.frozen < 0 {
            return "INSUFFICIENT_FROZEN".into();
        }
        new.version += 1;
        self.balances.insert((account, currency), new);
        "SUCCESS".into()
    }

    /// The balances as the store's text.
    pub fn text(&self) -> BTreeMap<(u64, String), (String, String, u64)> {
        self.balances
            .iter()
            .map(|(key, balance)| {
                let value = (
                    text(balance.available),
                    text(balance.frozen),
                    balance.version,
                );
                (key.clone(), value)
            })
            .collect()
    }
}

fn thousandths(amount: &str) -> Option<i128> {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    if whole.is_empty() || part.len() > 3 {
        return None;
    }
    let digits = format!("{whole}{part:0<3}");
    digits.parse().ok().filter(|amount| *amount > 0)
}

fn text(amount: i128) -> String {
    let text = format!("{}.{:03}", amount / 1000, amount % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
