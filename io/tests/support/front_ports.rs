//! The naive node as the front door sees it.

use std::{sync::Arc, time::Instant};

use kilter_engine::{AccountId, Currency, Position};
use kilter_io::{
    api::{
        Answer, BalanceRead, Balances, Door, Ledger, Outcomes, Patience, Problem, ProblemKind,
        Results, Source, Transactions, Watcher,
    },
    outbox::{Admitted, Asked, DoorError, NewEvent, NotTaken, Outcome, TransactionState},
    rows::{BalanceRow, LedgerRow},
    waiters::{Ticket, Waited, Waiters},
};

use super::{Trouble, Twin};

/// Somebody who waits, until this is dropped.
struct Waiting(Arc<Waiters<Outcome>>, Ticket);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl Door for Twin {
    fn submit(
        &self,
        event: NewEvent,
        answer: Answer<Result<Admitted, DoorError>>,
    ) -> Result<(), NotTaken> {
        let trouble = self.state.lock().trouble;
        if trouble == Trouble::Full {
            let (waiting, bytes) = (16_384, 1 << 20);
            return Err(NotTaken::Full { waiting, bytes });
        }
        if trouble == Trouble::Away {
            let why = "connection refused".into();
            answer(Err(DoorError::Unavailable { why }));
            return Ok(());
        }
        let transaction_id = match &event.asked {
            Asked::Command { transaction_id, .. } => transaction_id.clone(),
            Asked::Open { .. } => String::new(),
        };
        let user_id = event.user_id.clone();
        let (admitted, outcome) = self.state.lock().accept(event.user_id, event.asked);
        // The outcome first: nobody may count on the order.
        if let Some(outcome) = outcome {
            self.waiters
                .tell((&user_id, &transaction_id), 0, true, || outcome.clone());
        }
        answer(Ok(admitted));
        Ok(())
    }
}

impl Balances for Twin {
    fn balance(
        &self,
        account_id: AccountId,
        currency: Currency,
        _min_version: u64,
        _patience: Patience,
        answer: Answer<Result<Option<BalanceRead>, Problem>>,
    ) {
        let state = self.state.lock();
        if state.trouble == Trouble::Away {
            let message = "the store is unavailable";
            return answer(Err(Problem::new(ProblemKind::Unavailable, message)));
        }
        let found = state
            .balances
            .get(&(account_id.get(), currency.to_string()));
        let found = found.map(|(available, frozen, version)| BalanceRead {
            row: BalanceRow {
                account_id: account_id.get(),
                currency_code: currency.to_string(),
                available: available.to_string(),
                frozen: frozen.to_string(),
                version: *version,
            },
            updated_at_ms: 1_700_000_000_000,
            source: Source::Memory,
        });
        drop(state);
        answer(Ok(found));
    }
}

impl Transactions for Twin {
    fn transaction(
        &self,
        user_id: &str,
        transaction_id: &str,
        _patience: Patience,
        answer: Answer<Result<Option<TransactionState>, Problem>>,
    ) {
        let name = (user_id.to_owned(), transaction_id.to_owned());
        let found = {
            let mut state = self.state.lock();
            state.looks += 1;
            state.events.get(&name).cloned()
        };
        answer(Ok(found.map(|event| TransactionState {
            event_id: event.event_id,
            issued_at_ms: 1_700_000_000_000,
            outcome: event.outcome,
            legs: event.legs,
        })));
    }
}

impl Ledger for Twin {
    fn page(
        &self,
        account_id: AccountId,
        after: Option<Position>,
        limit: usize,
        _patience: Patience,
        answer: Answer<Result<Vec<LedgerRow>, Problem>>,
    ) {
        let after = after.map(|at| (at.offset.get(), at.posting.get()));
        let state = self.state.lock();
        let rows = state.ledger.iter().filter(|row| {
            row.account_id == account_id.get() && after < Some((row.offset, row.posting))
        });
        let mut rows: Vec<_> = rows.cloned().collect();
        drop(state);
        rows.sort_by_key(|row| (row.offset, row.posting));
        rows.truncate(limit);
        answer(Ok(rows));
    }
}

impl Outcomes for Twin {
    fn wait(
        &self,
        name: (&str, &str),
        _postings: usize,
        deadline: Instant,
        answer: Answer<Option<Outcome>>,
    ) -> Result<Box<dyn Send>, Problem> {
        let hear = Box::new(move |waited| {
            answer(match waited {
                Waited::Ended(mut outcomes) => outcomes.pop(),
                Waited::TimeIsUp => None,
            });
        });
        let ticket = self.waiters.wait(name, 1, deadline, hear);
        Ok(Box::new(Waiting(self.waiters.clone(), ticket)))
    }
}

impl Results for Twin {
    fn watch(&self, user_id: Option<&str>, after: &[Position], watcher: Box<dyn Watcher>) {
        let mut state = self.state.lock();
        let seen = match after {
            [] => state.ledger.len(),
            [at, ..] => {
                let at = (at.offset.get(), at.posting.get());
                let seen = state
                    .ledger
                    .iter()
                    .position(|row| (row.offset, row.posting) > at);
                seen.unwrap_or(state.ledger.len())
            }
        };
        state
            .watchers
            .push((user_id.map(str::to_owned), seen, watcher));
        state.tell();
    }
}
