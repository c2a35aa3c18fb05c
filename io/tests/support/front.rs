//! A node of the naivest kind behind the front door: everything in maps under one lock, applied as
//! it is accepted. It can be told to be full, to be away, or to hold outcomes back.

mod front_ports;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kilter_engine::{AccountId, Amount, Term};
use kilter_io::{
    api::{ApiSettings, Health, Offered, Parts, Signing, WatchedResult, Watcher},
    clock::SystemClock,
    outbox::{Admitted, Asked, LegState, Outcome, Status},
    rows::LedgerRow,
    waiters::Waiters,
};
use parking_lot::Mutex;
use serde_json::Value;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    /// Nothing more is taken.
    Full,
    /// The store is away.
    Away,
    /// Things are accepted and not applied.
    Slow,
}

#[derive(Clone)]
struct Event {
    event_id: String,
    payload: String,
    outcome: Outcome,
    legs: Vec<LegState>,
}

#[derive(Default)]
struct State {
    trouble: Trouble,
    accounts: BTreeMap<u64, String>,
    events: BTreeMap<(String, String), Event>,
    balances: BTreeMap<(u64, String), (Amount, Amount, u64)>,
    ledger: Vec<LedgerRow>,
    watchers: Vec<(Option<String>, usize, Box<dyn Watcher>)>,
    slow: Vec<(String, String)>,
    looks: usize,
}

/// The node.
pub struct Twin {
    state: Mutex<State>,
    pub waiters: Arc<Waiters<Outcome>>,
    pub health: Health,
}

impl Twin {
    pub fn new() -> Arc<Self> {
        let health = Health::new();
        health.set(true, "OK");
        Arc::new(Self {
            state: Mutex::default(),
            waiters: Arc::default(),
            health,
        })
    }

    /// The node as the services see it.
    pub fn parts(self: &Arc<Self>) -> Parts {
        Parts {
            door: self.clone(),
            balances: self.clone(),
            transactions: self.clone(),
            ledger: self.clone(),
            outcomes: self.clone(),
            results: self.clone(),
            health: self.health.clone(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Settings for tests: short reads.
    #[allow(dead_code, reason = "not every test has its own")]
    pub fn settings(signing: Signing) -> ApiSettings {
        ApiSettings {
            read_timeout: Duration::from_secs(10),
            ..ApiSettings::new(signing)
        }
    }

    #[allow(dead_code, reason = "not every test has trouble")]
    pub fn trouble(&self, trouble: Trouble) {
        self.state.lock().trouble = trouble;
    }

    pub fn account(&self, account_id: u64, user_id: &str) {
        self.state
            .lock()
            .accounts
            .insert(account_id, user_id.into());
    }

    /// Applies what was held back.
    #[allow(dead_code, reason = "not every test holds back")]
    pub fn catch_up(&self) {
        for (name, outcome) in self.catch_up_unheard() {
            self.waiters
                .tell((&name.0, &name.1), 0, true, || outcome.clone());
        }
    }

    /// Applies what was held back, and tells nobody who waits.
    #[allow(dead_code, reason = "not every test holds back")]
    pub fn catch_up_unheard(&self) -> Vec<((String, String), Outcome)> {
        let mut state = self.state.lock();
        let slow = std::mem::take(&mut state.slow);
        let outcomes: Vec<_> = slow.iter().map(|name| state.apply(name)).collect();
        slow.into_iter().zip(outcomes).collect()
    }

    /// How often an id was looked up.
    #[allow(dead_code, reason = "not every test counts")]
    pub fn looks(&self) -> usize {
        self.state.lock().looks
    }

    /// How many events there are.
    #[allow(dead_code, reason = "not every test counts")]
    pub fn events(&self) -> usize {
        self.state.lock().events.len()
    }

    /// How many accounts there are.
    #[allow(dead_code, reason = "not every test counts")]
    pub fn accounts(&self) -> usize {
        self.state.lock().accounts.len()
    }

    /// What was accepted for an id.
    #[allow(dead_code, reason = "not every test looks")]
    pub fn payload(&self, user_id: &str, transaction_id: &str) -> Option<String> {
        let name = (user_id.to_owned(), transaction_id.to_owned());
        let state = self.state.lock();
        state.events.get(&name).map(|event| event.payload.clone())
    }

    /// How many watch results.
    #[allow(dead_code, reason = "not every test watches")]
    pub fn watchers(&self) -> usize {
        let mut state = self.state.lock();
        state.tell();
        state.watchers.len()
    }
}

impl State {
    fn open(&mut self, user_id: &str, wanted: Option<AccountId>) -> Admitted {
        let id = |number: u64| AccountId::new(number).unwrap();
        let has = self.accounts.iter().find(|(_, user)| *user == user_id);
        let has = has.map(|(number, _)| id(*number));
        match (has, wanted) {
            (Some(has), Some(wanted)) if has != wanted => Admitted::HasAccount { account_id: has },
            (Some(has), _) => Admitted::Duplicate {
                event_id: Some(format!("open-{has}")),
                account_id: has,
                outcome: None,
            },
            (None, Some(wanted)) if self.accounts.contains_key(&wanted.get()) => {
                Admitted::AccountTaken
            }
            (None, wanted) => {
                let next = self.accounts.keys().last().map_or(1, |last| last + 1);
                let account_id = wanted.unwrap_or(id(next));
                self.accounts.insert(account_id.get(), user_id.into());
                Admitted::Accepted {
                    event_id: format!("open-{account_id}"),
                    account_id,
                }
            }
        }
    }

    fn accept(&mut self, user_id: String, asked: Asked) -> (Admitted, Option<Outcome>) {
        let (transaction_id, account_id, payload, opens) = match asked {
            Asked::Open { account_id } => return (self.open(&user_id, account_id), None),
            Asked::Command {
                transaction_id,
                account_id,
                payload,
                opens,
            } => (transaction_id, account_id, payload, opens),
        };
        let name = (user_id, transaction_id);
        if let Some(first) = self.events.get(&name) {
            let event_id = first.event_id.clone();
            let admitted = if first.payload == payload {
                Admitted::Duplicate {
                    event_id: Some(event_id),
                    account_id,
                    outcome: Some(first.outcome.clone()),
                }
            } else {
                Admitted::Conflict {
                    event_id,
                    differs: vec!["amount".into(), "currencyCode".into()],
                }
            };
            return (admitted, None);
        }
        match self.accounts.get(&account_id.get()) {
            Some(owner) if *owner == name.0 => {}
            None if opens => {
                self.accounts.insert(account_id.get(), name.0.clone());
            }
            _ => return (Admitted::NoAccount, None),
        }
        let event_id = format!("event-{}", self.events.len());
        let event = Event {
            event_id: event_id.clone(),
            payload,
            outcome: Outcome {
                status: Status::Pending,
                error_code: None,
                entries: Vec::new(),
            },
            legs: Vec::new(),
        };
        self.events.insert(name.clone(), event);
        let outcome = if self.trouble == Trouble::Slow {
            self.slow.push(name);
            None
        } else {
            Some(self.apply(&name))
        };
        let admitted = Admitted::Accepted {
            event_id,
            account_id,
        };
        (admitted, outcome)
    }

    fn apply(&mut self, name: &(String, String)) -> Outcome {
        let mut event = self.events[name].clone();
        let command: Value = serde_json::from_str(&event.payload).unwrap();
        let account_id = command["accountId"].as_u64().unwrap();
        let mut postings = command["postings"].as_array().cloned().unwrap_or_default();
        if postings.is_empty() {
            postings.push(command);
        }
        let before = self.balances.clone();
        let offset = self
            .ledger
            .iter()
            .map(|row| row.offset + 1)
            .max()
            .unwrap_or(0);
        let mut rows = Vec::new();
        for posting in &postings {
            let kind = posting["type"].as_str().unwrap();
            rows.push(self.step(name, account_id, (offset, rows.len() as u16), kind, posting));
        }
        let error_code = rows.iter().find_map(|row| row.error_code.clone());
        if error_code.is_some() {
            self.balances = before;
            for row in &mut rows {
                row.error_code.clone_from(&error_code);
            }
        }
        event.outcome = Outcome {
            status: if error_code.is_some() {
                Status::Failed
            } else {
                Status::Success
            },
            error_code,
            entries: rows.clone(),
        };
        for posting in &postings {
            if event.outcome.status == Status::Success && posting["type"] == "TRANSFER" {
                let to = posting["toUserId"].as_str().unwrap().to_owned();
                let to = (to, name.1.clone());
                let account_id = posting["toAccountId"].as_u64().unwrap();
                let row = self.step(&to, account_id, (offset + 1, 0), "CREDIT", posting);
                self.ledger.push(row.clone());
                event.legs.push(LegState {
                    name: format!("1/0/{offset}/0/CREDIT"),
                    event_id: format!("leg:1/0/{offset}/0/CREDIT"),
                    outcome: Outcome {
                        entries: vec![row],
                        ..event.outcome.clone()
                    },
                });
            }
        }
        self.ledger.extend(rows);
        self.events.insert(name.clone(), event.clone());
        self.tell();
        event.outcome
    }

    fn step(
        &mut self,
        name: &(String, String),
        account_id: u64,
        (offset, posting): (u64, u16),
        kind: &str,
        command: &Value,
    ) -> LedgerRow {
        let currency = command["currencyCode"].as_str().unwrap().to_owned();
        let amount = Amount::parse_command(command["amount"].as_str().unwrap().as_bytes()).unwrap();
        let key = (account_id, currency.clone());
        let before = self.balances.get(&key).copied();
        let before = before.unwrap_or((Amount::ZERO, Amount::ZERO, 0));
        let (mut available, mut frozen, mut version) = before;
        let none = Amount::ZERO;
        let (a, f) = match kind {
            "DEPOSIT" | "CREDIT" => (amount, none),
            "WITHDRAW" | "TRANSFER" => (none.checked_sub(amount).unwrap(), none),
            "FREEZE" => (none.checked_sub(amount).unwrap(), amount),
            "UNFREEZE" => (amount, none.checked_sub(amount).unwrap()),
            "SETTLE" => (none, none.checked_sub(amount).unwrap()),
            other => panic!("{other}"),
        };
        let after = (
            available.checked_add(a).unwrap(),
            frozen.checked_add(f).unwrap(),
        );
        let mut error_code = None;
        if after.0.is_negative() {
            error_code = Some("INSUFFICIENT_AVAILABLE".to_owned());
        } else if after.1.is_negative() {
            error_code = Some("INSUFFICIENT_FROZEN".to_owned());
        } else {
            (available, frozen) = after;
            version += 1;
            self.balances.insert(key, (available, frozen, version));
        }
        LedgerRow {
            generation: 1,
            partition: 0,
            offset,
            posting,
            account_id,
            user_id: name.0.clone(),
            currency_code: currency,
            transaction_id: name.1.clone(),
            kind: kind.to_owned(),
            amount: amount.to_string(),
            available_before: before.0.to_string(),
            available_after: available.to_string(),
            frozen_before: before.1.to_string(),
            frozen_after: frozen.to_string(),
            version,
            error_code,
            created_at_ms: 1_700_000_000_000,
            remembered_at_ms: None,
            leg: None,
        }
    }

    /// Tells watchers what they have not seen.
    fn tell(&mut self) {
        let ledger = &self.ledger;
        self.watchers.retain_mut(|(user_id, seen, watcher)| {
            while let Some(row) = ledger.get(*seen) {
                if user_id
                    .as_ref()
                    .is_none_or(|user_id| *user_id == row.user_id)
                {
                    let result = WatchedResult {
                        row: row.clone(),
                        error_message: String::new(),
                        term: Term::new(7),
                    };
                    match watcher.offer(&result) {
                        Offered::Taken => {}
                        Offered::Full => return true,
                        Offered::Gone => return false,
                    }
                }
                *seen += 1;
            }
            !watcher.is_gone()
        });
    }
}
