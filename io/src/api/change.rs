//! A change on its way: admitted, and answered at once or with its outcome.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_engine::AccountId;
use parking_lot::Mutex;

use super::{
    Problem, ProblemKind,
    caller::Caller,
    check::Change,
    entry::{entries_for, is_final, outcome as wire_outcome},
    problem::shown,
    seams::{Answer, Door, Outcomes, Patience, Transactions},
    wire::balance::{ChangeBalanceResponse, Outcome as WireOutcome},
};
use crate::{
    net::Cancelled,
    outbox::{Admitted, DoorError, Outcome, Status},
};

/// How a change is answered: the answer of the prototype's method, and what problem it stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changed {
    pub(crate) response: ChangeBalanceResponse,
    pub(crate) problem: Option<Problem>,
}

impl Changed {
    /// A change that came to nothing.
    pub(crate) fn refused(transaction_id: &str, problem: Problem) -> Self {
        let response = ChangeBalanceResponse {
            transaction_id: transaction_id.to_owned(),
            error_message: problem.message.clone(),
            ..ChangeBalanceResponse::default()
        };
        let problem = Some(problem);
        Self { response, problem }
    }
}

/// How an outcome is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    began: Instant,
    /// When it is looked up for a last time: it may have come where nobody listened.
    look_at: Instant,
    /// Until when.
    until: Instant,
}

impl Wait {
    /// For some time from a moment on.
    pub(crate) fn of(now: Instant, time: Duration) -> Self {
        let until = now + time;
        Self {
            began: now,
            look_at: until - (time / 8).min(LAST_LOOK),
            until,
        }
    }
}

/// How long a last look may take.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// When a repeated request looks for the second time; each time later takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// What a change needs on its way.
pub(crate) struct Way<'a> {
    pub(crate) door: &'a dyn Door,
    pub(crate) outcomes: &'a Arc<dyn Outcomes>,
    pub(crate) transactions: &'a Arc<dyn Transactions>,
    pub(crate) opens_on_deposit: bool,
}

impl Way<'_> {
    /// Sends a change on; answers once it is durable, or, given a time, with its outcome or when
    /// the time is up.
    pub(crate) fn send(
        &self,
        change: Change,
        wait: Option<Wait>,
        caller: &Caller,
        answer: Answer<Changed>,
    ) {
        let flow = Arc::new(Flow {
            user_id: change.user_id.clone(),
            transaction_id: change.transaction_id.clone(),
            account_id: change.account_id,
            postings: change.postings,
            wait,
            gone: caller.gone.clone(),
            outcomes: Arc::clone(self.outcomes),
            transactions: Arc::clone(self.transactions),
            state: Mutex::new(State {
                answer: Some(answer),
                ..State::default()
            }),
        });
        // Before it is handed over, or the outcome could come before anybody waits for it.
        if let Some(wait) = wait {
            if let Err(problem) = flow.listen_on(wait, wait.began, None) {
                return flow.refuse(problem);
            }
            // Weak, or what a call holds would hold the call.
            let theirs = Arc::downgrade(&flow);
            caller.gone.when_set(move || {
                if let Some(flow) = theirs.upgrade() {
                    flow.abandon();
                }
            });
        }
        let theirs = Arc::clone(&flow);
        let admitted = Box::new(move |result| theirs.admitted(result));
        let event = change.event(self.opens_on_deposit);
        if let Err(error) = self.door.submit(event, admitted) {
            flow.refuse(error.into());
        }
    }
}

#[derive(Default)]
struct State {
    answer: Option<Answer<Changed>>,
    /// The event's name, and whether it was accepted before.
    event: Option<(String, bool)>,
    /// What became of it; `Some(None)` when the time is up.
    outcome: Option<Option<Outcome>>,
    /// Keeps the waiting alive; the last one counts.
    ticket: Option<(u64, Box<dyn Send>)>,
    /// How many there were.
    tickets: u64,
}

impl State {
    /// The first outcome counts, and before all that there is one.
    fn told(&mut self, outcome: Option<Outcome>) {
        if !matches!(self.outcome, Some(Some(_))) {
            self.outcome = Some(outcome);
        }
    }
}

struct Flow {
    user_id: String,
    transaction_id: String,
    account_id: AccountId,
    /// How many results the command will have.
    postings: usize,
    /// How to wait for the outcome, if at all.
    wait: Option<Wait>,
    /// Set once whoever asked has gone.
    gone: Cancelled,
    outcomes: Arc<dyn Outcomes>,
    transactions: Arc<dyn Transactions>,
    state: Mutex<State>,
}

impl Flow {
    fn admitted(self: &Arc<Self>, result: Result<Admitted, DoorError>) {
        match result {
            Err(error) => self.refuse(error.into()),
            Ok(Admitted::Accepted { event_id, .. }) => match self.wait {
                Some(_) => self.step(|state| state.event = Some((event_id, false))),
                None => self.finish(&event_id, false, None),
            },
            Ok(Admitted::Duplicate {
                event_id, outcome, ..
            }) => self.duplicate(event_id.unwrap_or_default(), outcome),
            Ok(Admitted::Conflict { event_id, differs }) => {
                let mut changed = Changed::refused(&self.transaction_id, self.conflict(&differs));
                changed.response.event_id = event_id;
                self.answer(changed);
            }
            Ok(Admitted::NoAccount | Admitted::AccountTaken | Admitted::HasAccount { .. }) => {
                let user = shown(&self.user_id);
                let message = format!(
                    "account_id {} is not an account of user {user}",
                    self.account_id
                );
                let mut problem = Problem::new(ProblemKind::NotFound, message);
                problem.field = Some("account_id".into());
                self.refuse(problem);
            }
        }
    }

    fn conflict(&self, differs: &[String]) -> Problem {
        let id = shown(&self.transaction_id);
        let what = match differs {
            [] => "with another body".to_owned(),
            names => {
                let names: Vec<String> = names.iter().map(|name| as_asked(name)).collect();
                format!("with another {}", names.join(", "))
            }
        };
        let message = format!("transaction_id {id} was accepted before, {what}");
        let mut problem = Problem::new(ProblemKind::Conflict, message);
        problem.field = Some("transaction_id".into());
        problem
    }

    fn duplicate(self: &Arc<Self>, event_id: String, outcome: Option<Outcome>) {
        let Some(wait) = self.wait else {
            return self.finish(&event_id, true, outcome);
        };
        if let Some(outcome) = outcome.filter(is_final) {
            return self.step(|state| {
                state.event = Some((event_id, true));
                state.told(Some(outcome));
            });
        }
        self.step(|state| state.event = Some((event_id, true)));
        // It may have been answered long before anybody waited.
        self.look(wait.until);
        // Else it is looked for only when the time is nearly up.
        let _ = self.listen_on(wait, Instant::now(), Some(FIRST_PAUSE));
    }

    /// Listens for the outcome until it is time to look again, counted from a moment, or to give up.
    fn listen_on(
        self: &Arc<Self>,
        wait: Wait,
        from: Instant,
        pause: Option<Duration>,
    ) -> Result<(), Problem> {
        let next = pause.map(|pause| from + pause);
        match next.filter(|next| *next < wait.look_at) {
            Some(next) => {
                let pause = pause.map(|pause| pause * 2);
                self.listen(next, move |flow| flow.look_again(wait, next, pause))
            }
            None if from < wait.look_at => self.listen(wait.look_at, move |flow| {
                flow.look_again(wait, wait.look_at, None);
            }),
            None => self.listen(wait.until, |flow| flow.time_is_up()),
        }
    }

    /// Waits for the outcome until a moment, and then does something else.
    fn listen(
        self: &Arc<Self>,
        until: Instant,
        otherwise: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Result<(), Problem> {
        let number = {
            let mut state = self.state.lock();
            state.tickets += 1;
            state.tickets
        };
        let theirs = Arc::clone(self);
        let told = Box::new(move |outcome: Option<Outcome>| match outcome {
            None => otherwise(&theirs),
            outcome => theirs.step(|state| state.told(outcome)),
        });
        let name = (&*self.user_id, &*self.transaction_id);
        let ticket = self.outcomes.wait(name, self.postings, until, told)?;
        let mut state = self.state.lock();
        let is_last = state.ticket.as_ref().is_none_or(|(last, _)| *last < number);
        let over = match state.answer.is_some() && is_last {
            true => state.ticket.replace((number, ticket)),
            // Answered or abandoned meanwhile, or this one has run out already and was followed.
            false => Some((number, ticket)),
        };
        drop(state);
        drop(over);
        Ok(())
    }

    fn time_is_up(&self) {
        self.step(|state| state.told(None));
    }

    /// Looks the outcome up.
    fn look(self: &Arc<Self>, until: Instant) {
        let theirs = Arc::clone(self);
        let found = Box::new(move |found: Result<Option<_>, Problem>| {
            let found: Option<crate::outbox::TransactionState> = found.ok().flatten();
            if let Some(outcome) = found.map(|found| found.outcome).filter(is_final) {
                theirs.step(|state| state.told(Some(outcome)));
            }
        });
        let gone = self.gone.clone();
        let (user_id, id) = (&self.user_id, &self.transaction_id);
        let patience = Patience { until, gone };
        self.transactions.transaction(user_id, id, patience, found);
    }

    /// Looks again, at the moment that was meant for it, and goes on: a result can be published before
    /// anybody listens and committed after the first look.
    fn look_again(self: &Arc<Self>, wait: Wait, at: Instant, pause: Option<Duration>) {
        if self.listen_on(wait, at, pause).is_err() {
            return self.time_is_up();
        }
        let is_accepted = self.state.lock().event.is_some();
        if is_accepted {
            self.look(wait.until);
        }
    }

    /// Learns something, and answers once both event and outcome are known.
    fn step(&self, learn: impl FnOnce(&mut State)) {
        let known = {
            let mut state = self.state.lock();
            learn(&mut state);
            let is_known = state.event.is_some() && state.outcome.is_some();
            is_known.then(|| (state.event.clone(), state.outcome.clone()))
        };
        if let Some((Some((event_id, duplicate)), Some(outcome))) = known {
            self.finish(&event_id, duplicate, outcome);
        }
    }

    /// Nobody waits any more.
    fn abandon(&self) {
        let (answer, ticket) = {
            let mut state = self.state.lock();
            (state.answer.take(), state.ticket.take())
        };
        drop((answer, ticket));
    }

    fn finish(&self, event_id: &str, duplicate: bool, outcome: Option<Outcome>) {
        let waited = self.wait.is_some();
        let mut response = ChangeBalanceResponse {
            success: true,
            transaction_id: self.transaction_id.clone(),
            event_id: event_id.to_owned(),
            outcome: WireOutcome::Pending.into(),
            pending: true,
            duplicate,
            ..ChangeBalanceResponse::default()
        };
        if let Some(outcome) = &outcome {
            response.outcome = wire_outcome(outcome.status).into();
            response.pending = !is_final(outcome);
            response.error_code = outcome.error_code.clone().unwrap_or_default();
            response.balances = entries_for(&self.user_id, &outcome.entries);
            response.version = response.balances.last().map_or(0, |last| last.version);
            response.success = matches!(outcome.status, Status::Success | Status::Pending);
            if !response.success {
                let how = wire_outcome(outcome.status).as_str_name();
                let how = how.trim_start_matches("OUTCOME_");
                response.error_message = format!("{how}: {}", response.error_code);
            }
        }
        let mut problem = None;
        if duplicate && !waited {
            let id = shown(&self.transaction_id);
            let message = format!("transaction_id {id} was accepted before");
            response.success = false;
            response.error_message.clone_from(&message);
            problem = Some(Problem::new(ProblemKind::Conflict, message));
        }
        self.answer(Changed { response, problem });
    }

    fn refuse(&self, problem: Problem) {
        self.answer(Changed::refused(&self.transaction_id, problem));
    }

    fn answer(&self, changed: Changed) {
        let (answer, ticket) = {
            let mut state = self.state.lock();
            (state.answer.take(), state.ticket.take())
        };
        drop(ticket);
        if let Some(answer) = answer {
            answer(changed);
        }
    }
}

/// The name of a command's field as requests have it.
fn as_asked(name: &str) -> String {
    let mut asked = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            asked.push('_');
        }
        asked.push(letter.to_ascii_lowercase());
    }
    asked
}
