//! The services, whatever protocol asks for them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kilter_engine::{Generation, Offset, Partition, Position, Posting, clock::Clock};
use parking_lot::Mutex;

use super::{
    Health, Problem, ProblemKind, Signing,
    caller::Caller,
    change::{Changed, Wait, Way},
    check::{self, CHANGES_MAX, account, currency, name},
    draft::{ChangeDraft, OpenDraft},
    entry::{entries_for, entry, leg_for, outcome, signed},
    page,
    problem::shown,
    seams::{Answer, Balances, Door, Ledger, Outcomes, Patience, Results, Transactions, Watcher},
    wire::balance as wire,
};
use crate::outbox::{Admitted, DoorError};

/// How many entries a page has if nobody says.
const PAGE_DEFAULT: usize = 100;
/// How many entries a page has at most.
const PAGE_MAX: usize = 1000;
/// How many partitions a watcher may name.
const PARTITIONS_MAX: usize = 10_000;

/// The rest of the node, as the services need it.
pub struct Parts {
    /// Takes commands.
    pub door: Arc<dyn Door>,
    /// Reads balances.
    pub balances: Arc<dyn Balances>,
    /// Finds transaction ids.
    pub transactions: Arc<dyn Transactions>,
    /// Reads the ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Tells outcomes.
    pub outcomes: Arc<dyn Outcomes>,
    /// Feeds watchers.
    pub results: Arc<dyn Results>,
    /// How the node is.
    pub health: Health,
    /// What time it is.
    pub clock: Arc<dyn Clock + Send + Sync>,
}

/// How the services behave.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Which requests have to be signed.
    pub signing: Signing,
    /// Whether a DEPOSIT opens the account it names, if neither that nor the user is known.
    pub opens_on_deposit: bool,
    /// How long a request may take, unless the caller says.
    pub request_timeout: Duration,
    /// How long a read may take, unless the caller says less.
    pub read_timeout: Duration,
    /// How long to wait for an outcome, unless the caller says.
    pub wait: Duration,
    /// When to come back after an overload, in seconds.
    pub retry_after_s: u32,
}

impl ApiSettings {
    /// The usual ones: requests 30 s, reads 2 s, waiting 5 s, back after 1 s, accounts opened only when asked.
    pub fn new(signing: Signing) -> Self {
        Self {
            signing,
            opens_on_deposit: false,
            request_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(2),
            wait: Duration::from_secs(5),
            retry_after_s: 1,
        }
    }
}

/// The services. Shared by all connections; nothing here blocks.
pub struct Api {
    pub(super) parts: Parts,
    pub(super) settings: ApiSettings,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Services over these parts.
    pub fn new(parts: Parts, settings: ApiSettings) -> Self {
        Self { parts, settings }
    }

    /// As [`Service::settle`](crate::net::Service::settle).
    pub(super) fn settled(&self) {
        self.parts.door.settle();
        self.parts.balances.settle();
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.parts.clock.wall_ms()
    }

    /// How long a read may take.
    fn read_patience(&self, caller: &Caller) -> Patience {
        let ours = Instant::now() + self.settings.read_timeout;
        Patience {
            until: caller.deadline.map_or(ours, |theirs| theirs.min(ours)),
            gone: caller.gone.clone(),
        }
    }

    /// How an outcome is waited for: a little less long than the call may take, so that "accepted,
    /// pending" still reaches the caller.
    fn wait(&self, wanted: Option<Duration>, caller: &Caller) -> Result<Wait, Problem> {
        let now = Instant::now();
        let left = match caller.deadline {
            Some(deadline) => deadline.saturating_duration_since(now),
            None => self.settings.request_timeout,
        };
        let most = left - (left / 8).min(Duration::from_millis(100));
        let time = match (wanted, caller.deadline) {
            (Some(wanted), None) if wanted > most => {
                let (wanted, most) = (wanted.as_millis(), most.as_millis());
                let what =
                    format!("{wanted} is more than {most}, the most for a call without a deadline");
                return Err(Problem::field("wait_ms", what));
            }
            (Some(wanted), _) => wanted.min(most),
            (None, Some(_)) => most,
            (None, None) => self.settings.wait.min(most),
        };
        Ok(Wait::of(now, time))
    }

    /// Accepts a change.
    pub(super) fn change(&self, draft: &ChangeDraft, caller: &Caller, answer: Answer<Changed>) {
        let checked = draft.check().and_then(|change| {
            let wait = change.wait.map(|wanted| self.wait(wanted, caller));
            Ok((change, wait.transpose()?))
        });
        match checked {
            Err(problem) => answer(Changed::refused(&draft.transaction_id, problem)),
            Ok((change, wait)) => {
                let way = Way {
                    door: &*self.parts.door,
                    outcomes: &self.parts.outcomes,
                    transactions: &self.parts.transactions,
                    opens_on_deposit: self.settings.opens_on_deposit,
                };
                way.send(change, wait, caller, answer);
            }
        }
    }

    /// Accepts several changes, each by itself, in the order given.
    pub(super) fn changes(
        &self,
        drafts: Vec<Result<ChangeDraft, Problem>>,
        (wait, wait_ms): (bool, i64),
        caller: &Caller,
        answer: Answer<AllChanged>,
    ) {
        let count = drafts.len();
        let checked = check::wait(wait, wait_ms)
            .and_then(|wanted| wanted.map(|wanted| self.wait(wanted, caller)).transpose());
        if let Err(problem) = checked {
            return answer(Err(problem));
        }
        if !(1..=CHANGES_MAX).contains(&count) {
            let what = format!("has {count} entries, 1 to {CHANGES_MAX} are allowed");
            return answer(Err(Problem::field("changes", what)));
        }
        let gather = Arc::new(Gather {
            left: AtomicUsize::new(count),
            answers: Mutex::new(vec![None; count]),
            answer: Mutex::new(Some(answer)),
        });
        for (index, draft) in drafts.into_iter().enumerate() {
            let gather = Arc::clone(&gather);
            let told: Answer<Changed> = Box::new(move |changed| gather.told(index, changed));
            match draft {
                Err(problem) => told(Changed::refused("", problem)),
                Ok(draft) if draft.wait || draft.wait_ms != 0 => {
                    let field = if draft.wait { "wait" } else { "wait_ms" };
                    let problem = Problem::field(field, "is said once, for all changes");
                    told(Changed::refused(&draft.transaction_id, problem));
                }
                Ok(mut draft) => {
                    (draft.wait, draft.wait_ms) = (wait, wait_ms);
                    self.change(&draft, caller, told);
                }
            }
        }
    }

    /// Opens an account.
    pub(super) fn open(
        &self,
        draft: &OpenDraft,
        answer: Answer<Result<wire::OpenAccountResponse, Problem>>,
    ) {
        let event = match draft.check() {
            Err(problem) => return answer(Err(problem)),
            Ok(event) => event,
        };
        let asked = draft.clone();
        let answer = Arc::new(Mutex::new(Some(answer)));
        let otherwise = Arc::clone(&answer);
        let admitted = Box::new(move |result: Result<Admitted, DoorError>| {
            if let Some(answer) = answer.lock().take() {
                answer(opened(asked, result));
            }
        });
        if let Err(error) = self.parts.door.submit(event, admitted)
            && let Some(answer) = otherwise.lock().take()
        {
            answer(Err(error.into()));
        }
    }

    /// Reads a balance.
    pub(super) fn balance(
        &self,
        request: &wire::GetBalanceRequest,
        caller: &Caller,
        answer: Answer<Result<wire::GetBalanceResponse, Problem>>,
    ) {
        let checked = account("account_id", request.account_id).and_then(|account_id| {
            let currency = currency("currency_code", &request.currency_code)?;
            let min_version = u64::try_from(request.min_version).map_err(|_| {
                Problem::field(
                    "min_version",
                    format!("{} is negative", request.min_version),
                )
            })?;
            Ok((account_id, currency, min_version))
        });
        let (account_id, currency, min_version) = match checked {
            Err(problem) => return answer(Err(problem)),
            Ok(checked) => checked,
        };
        let told = Box::new(move |found: Result<Option<_>, Problem>| {
            answer(found.and_then(|found: Option<super::BalanceRead>| {
                let version = found.as_ref().map_or(0, |found| found.row.version);
                if version < min_version {
                    let message = format!("version {min_version} is not there yet, {version} is");
                    return Err(Problem::new(ProblemKind::NotYet, message));
                }
                let found = found.ok_or_else(|| {
                    let message = format!("account {account_id} has no balance in {currency}");
                    Problem::new(ProblemKind::NotFound, message)
                })?;
                Ok(wire::GetBalanceResponse {
                    success: true,
                    balance: Some(wire::BalanceInfo {
                        account_id: signed(found.row.account_id),
                        currency_code: found.row.currency_code,
                        available: found.row.available,
                        frozen: found.row.frozen,
                        version: signed(found.row.version),
                        updated_at: found.updated_at_ms,
                    }),
                    error_message: String::new(),
                    source: found.source.as_str().into(),
                })
            }));
        });
        let patience = self.read_patience(caller);
        let balances = &self.parts.balances;
        balances.balance(account_id, currency, min_version, patience, told);
    }

    /// Finds a transaction id.
    pub(super) fn transaction(
        &self,
        request: wire::GetTransactionRequest,
        caller: &Caller,
        answer: Answer<Result<wire::GetTransactionResponse, Problem>>,
    ) {
        let checked = name("user_id", &request.user_id)
            .and_then(|()| name("transaction_id", &request.transaction_id));
        if let Err(problem) = checked {
            return answer(Err(problem));
        }
        let patience = self.read_patience(caller);
        let transactions = Arc::clone(&self.parts.transactions);
        let asked = request.clone();
        let told = Box::new(move |found: Result<Option<_>, Problem>| {
            answer(
                found.and_then(|found: Option<crate::outbox::TransactionState>| {
                    let found = found.ok_or_else(|| {
                        let id = shown(&asked.transaction_id);
                        let message = format!("transaction_id {id} of this user is not known");
                        Problem::new(ProblemKind::NotFound, message)
                    })?;
                    let legs = found.legs.iter().map(|leg| leg_for(&asked.user_id, leg));
                    Ok(wire::GetTransactionResponse {
                        legs: legs.collect(),
                        entries: entries_for(&asked.user_id, &found.outcome.entries),
                        outcome: outcome(found.outcome.status).into(),
                        error_code: found.outcome.error_code.unwrap_or_default(),
                        event_id: found.event_id,
                        issued_at: found.issued_at_ms,
                        user_id: asked.user_id,
                        transaction_id: asked.transaction_id,
                    })
                }),
            );
        });
        transactions.transaction(&request.user_id, &request.transaction_id, patience, told);
    }

    /// Reads a page of the ledger.
    pub(super) fn ledger(
        &self,
        request: &wire::ListLedgerRequest,
        caller: &Caller,
        answer: Answer<Result<wire::ListLedgerResponse, Problem>>,
    ) {
        let checked = account("account_id", request.account_id).and_then(|account_id| {
            let after = page::position(account_id, &request.page_token)?;
            let size = match usize::try_from(request.page_size) {
                Ok(0) => PAGE_DEFAULT,
                Ok(size) if size <= PAGE_MAX => size,
                _ => {
                    let what = format!("{} is not 1 to {PAGE_MAX}", request.page_size);
                    return Err(Problem::field("page_size", what));
                }
            };
            Ok((account_id, after, size))
        });
        let (account_id, after, size) = match checked {
            Err(problem) => return answer(Err(problem)),
            Ok(checked) => checked,
        };
        let told = Box::new(move |rows: Result<Vec<crate::rows::LedgerRow>, Problem>| {
            answer(rows.map(|mut rows| {
                // One more was asked for, to see whether this is the end.
                let is_end = rows.len() <= size;
                rows.truncate(size);
                let last = rows.last().filter(|_| !is_end);
                let next_page_token = last.map(|row| page::token(account_id, position(row)));
                wire::ListLedgerResponse {
                    entries: rows.iter().map(entry).collect(),
                    next_page_token: next_page_token.unwrap_or_default(),
                }
            }));
        });
        let patience = self.read_patience(caller);
        let ledger = &self.parts.ledger;
        ledger.page(account_id, after, size + 1, patience, told);
    }

    /// Feeds a watcher.
    pub(super) fn watch(&self, request: &wire::WatchResultsRequest, watcher: Box<dyn Watcher>) {
        match watched(request) {
            Err(problem) => watcher.end(Some(problem)),
            Ok((user_id, after)) => self.parts.results.watch(user_id, &after, watcher),
        }
    }
}

/// What a watcher asks for.
fn watched(request: &wire::WatchResultsRequest) -> Result<(Option<&str>, Vec<Position>), Problem> {
    let user_id = Some(request.user_id.as_str()).filter(|user_id| !user_id.is_empty());
    user_id.map_or(Ok(()), |user_id| name("user_id", user_id))?;
    if request.after.len() > PARTITIONS_MAX {
        let count = request.after.len();
        let what = format!("has {count} entries, at most {PARTITIONS_MAX} are allowed");
        return Err(Problem::field("after", what));
    }
    let mut after: Vec<Position> = Vec::new();
    for (index, position) in request.after.iter().enumerate() {
        let wrong = |name, what: String| Problem::field(format!("after[{index}].{name}"), what);
        let offset = u64::try_from(position.offset)
            .map_err(|_| wrong("offset", format!("{} is negative", position.offset)))?;
        let posting = u16::try_from(position.posting).map_err(|_| {
            wrong(
                "posting",
                format!("{} is not below 65536", position.posting),
            )
        })?;
        after.push(Position {
            generation: Generation::new(position.generation),
            partition: Partition::new(position.partition),
            offset: Offset::new(offset),
            posting: Posting::new(posting),
        });
    }
    let mut partitions: Vec<_> = after.iter().map(|position| position.partition).collect();
    partitions.sort_unstable();
    if let Some(twice) = partitions.windows(2).find(|pair| pair[0] == pair[1]) {
        let what = format!("names partition {} twice", twice[0]);
        return Err(Problem::field("after", what));
    }
    Ok((user_id, after))
}

/// Where an entry comes from.
fn position(row: &crate::rows::LedgerRow) -> Position {
    Position {
        generation: Generation::new(row.generation),
        partition: Partition::new(row.partition),
        offset: Offset::new(row.offset),
        posting: Posting::new(row.posting),
    }
}

/// What became of a request for an account.
fn opened(
    asked: OpenDraft,
    result: Result<Admitted, DoorError>,
) -> Result<wire::OpenAccountResponse, Problem> {
    let conflict = |message: String| {
        let mut problem = Problem::new(ProblemKind::Conflict, message);
        problem.field = Some("account_id".into());
        problem
    };
    let (account_id, event_id, existed) = match result? {
        Admitted::Accepted {
            event_id,
            account_id,
        } => (account_id, event_id, false),
        Admitted::Duplicate {
            event_id,
            account_id,
            ..
        } => (account_id, event_id.unwrap_or_default(), true),
        Admitted::HasAccount { account_id } => {
            return Err(conflict(format!("the user has account {account_id}")));
        }
        Admitted::AccountTaken | Admitted::NoAccount | Admitted::Conflict { .. } => {
            let number = asked.account_id;
            return Err(conflict(format!("account_id {number} is not free")));
        }
    };
    Ok(wire::OpenAccountResponse {
        user_id: asked.user_id,
        account_id: signed(account_id.get()),
        event_id,
        existed,
    })
}

/// What several changes come to.
pub(super) type AllChanged = Result<Vec<Changed>, Problem>;

/// Gathers the answers of several changes.
struct Gather {
    left: AtomicUsize,
    answers: Mutex<Vec<Option<Changed>>>,
    answer: Mutex<Option<Answer<AllChanged>>>,
}

impl Gather {
    fn told(&self, index: usize, changed: Changed) {
        self.answers.lock()[index] = Some(changed);
        // Acquire and release: whoever is last sees what all the others wrote.
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(answer) = self.answer.lock().take()
        {
            let answers = std::mem::take(&mut *self.answers.lock());
            answer(Ok(answers.into_iter().flatten().collect()));
        }
    }
}
