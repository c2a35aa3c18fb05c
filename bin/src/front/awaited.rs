//! Those who wait for the outcome of their command.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use kilter_engine::{
    Amount, Code,
    result::{ResultRecord, Status as Ended},
};
use kilter_io::{
    api::{Answer, Outcomes, Problem, ProblemKind},
    kafka::SeenResult,
    outbox::{Outcome, Status},
    rows::LedgerRow,
    waiters::{Ticket, Waited, Waiters},
};

use crate::outcomes::Watch;

/// How many may wait at once.
const WAITERS_MAX: usize = 1 << 17;

/// How late somebody may hear that his time is up.
const LATE_MAX: Duration = Duration::from_millis(20);

/// How one posting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    status: Status,
    row: LedgerRow,
}

/// All who wait in this process.
#[derive(Clone, Default)]
pub struct Awaited(Arc<Waiters<Ending>>);

impl Awaited {
    /// How many wait.
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// Tells whoever waits for it of a result that a shard of this process gave.
    pub fn tell(&self, result: &ResultRecord) {
        if self.0.count() == 0 || !result.addressed {
            return;
        }
        // A leg has the client's id, and is not what the client waits for.
        let is_leg = result
            .counterpart
            .as_ref()
            .is_some_and(|other| other.leg.is_some());
        let status = match result.status {
            _ if is_leg => return,
            Ended::Success => Status::Success,
            Ended::Failed(_) => Status::Failed,
            Ended::Duplicate => return,
            Ended::Refused(code) if !is_last(code) => return,
            Ended::Refused(_) => Status::Refused,
        };
        let name = (result.user_id.as_str(), result.transaction_id.as_str());
        let posting = result.position.posting.get().into();
        self.0
            .tell(name, posting, status == Status::Refused, || Ending {
                status,
                row: row(result),
            });
    }

    /// Tells whoever waits for it of a result that was published, by whichever process.
    pub fn tell_seen(&self, result: &SeenResult) {
        if self.0.count() == 0 || result.leg_name.is_some() {
            return;
        }
        let status = match &result.error_code {
            None => Status::Success,
            Some(code) if Code::parse(code).is_some_and(|code| !is_last(code)) => return,
            // One that is not known here is no success either.
            Some(_) if result.is_entry() => Status::Failed,
            Some(_) => Status::Refused,
        };
        let name = (&*result.user_id, &*result.transaction_id);
        let refused = status == Status::Refused;
        self.0
            .tell(name, result.posting.into(), refused, || Ending {
                status,
                row: seen_row(result),
            });
    }
}

/// Whether a code is the last word on a command of the front door. A repeated id says nothing of the
/// first. What came too late or too early by its issuedAt is issued anew; nothing else makes a command
/// of the front door malformed, which checked it, so that such a record is somebody else's.
const fn is_last(code: Code) -> bool {
    !matches!(code, Code::Duplicate | Code::Expired | Code::Malformed)
}

impl Outcomes for Awaited {
    fn wait(
        &self,
        name: (&str, &str),
        postings: usize,
        deadline: Instant,
        answer: Answer<Option<Outcome>>,
    ) -> Result<Box<dyn Send>, Problem> {
        let waiting = self.0.count();
        if waiting >= WAITERS_MAX {
            let message = format!("{waiting} requests wait for outcomes already");
            return Err(Problem::new(ProblemKind::Overload, message));
        }
        let hear = Box::new(move |waited| {
            answer(match waited {
                Waited::Ended(endings) => Some(outcome(endings)),
                Waited::TimeIsUp => None,
            });
        });
        let ticket = self.0.wait(name, postings, deadline, hear);
        Ok(Box::new(Waiting(Arc::clone(&self.0), ticket)))
    }
}

/// Somebody who waits, until this is dropped.
struct Waiting(Arc<Waiters<Ending>>, Ticket);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

fn outcome(endings: Vec<Ending>) -> Outcome {
    let ending = endings
        .iter()
        .find(|ending| ending.status != Status::Success);
    let status = ending.map_or(Status::Success, |ending| ending.status);
    Outcome {
        status,
        error_code: ending.and_then(|ending| ending.row.error_code.clone()),
        entries: match status {
            Status::Refused => Vec::new(),
            _ => endings.into_iter().map(|ending| ending.row).collect(),
        },
    }
}

/// A result as the ledger has it; texts are empty where there is nothing.
pub fn row(result: &ResultRecord) -> LedgerRow {
    let (at, around) = (&result.position, result.around);
    let text = |amount: Option<Amount>| amount.map_or_else(String::new, |it| it.to_string());
    let leg = result
        .counterpart
        .as_ref()
        .and_then(|other| other.leg.as_ref());
    LedgerRow {
        generation: at.generation.get(),
        partition: at.partition.get(),
        offset: at.offset.get(),
        posting: at.posting.get(),
        account_id: result.account_id.map_or(0, |account| account.get()),
        user_id: result.user_id.as_str().to_owned(),
        currency_code: result
            .currency
            .map_or_else(String::new, |currency| currency.as_str().to_owned()),
        transaction_id: result.transaction_id.as_str().to_owned(),
        kind: result.kind.map_or("", |kind| kind.as_str()).to_owned(),
        amount: text(result.amount),
        available_before: text(around.map(|around| around.before.available)),
        available_after: text(around.map(|around| around.after.available)),
        frozen_before: text(around.map(|around| around.before.frozen)),
        frozen_after: text(around.map(|around| around.after.frozen)),
        version: around.map_or(0, |around| around.after.version),
        error_code: result.status.code().map(|code| code.as_str().to_owned()),
        created_at_ms: result.timestamp_ms,
        remembered_at_ms: Some(result.remembered_ms).filter(|&ms| ms > result.timestamp_ms),
        leg: leg.map(ToString::to_string),
    }
}

/// A published result as the ledger has it; texts are empty where there is nothing.
pub fn seen_row(result: &SeenResult) -> LedgerRow {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    LedgerRow {
        generation: result.generation,
        partition: result.partition,
        offset: result.offset,
        posting: result.posting,
        account_id: result.account_id.unwrap_or(0),
        user_id: result.user_id.clone(),
        currency_code: text(&result.currency_code),
        transaction_id: result.transaction_id.clone(),
        kind: text(&result.kind),
        amount: text(&result.amount),
        available_before: text(&result.available_before),
        available_after: text(&result.available_after),
        frozen_before: text(&result.frozen_before),
        frozen_after: text(&result.frozen_after),
        version: result.version.unwrap_or(0),
        error_code: result.error_code.clone(),
        created_at_ms: result.timestamp,
        remembered_at_ms: result.remembered_at,
        leg: result.leg_name.clone(),
    }
}

impl Watch for Awaited {
    fn published(&mut self, result: &ResultRecord, _now: Instant) {
        self.tell(result);
    }
}

/// The thread that tells those whose time is up. Dropping it ends it.
pub struct Expiry {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Expiry {
    /// Begins to look.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(awaited: &Awaited) -> anyhow::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let (own, waiters) = (Arc::clone(&stop), Arc::clone(&awaited.0));
        let thread = std::thread::Builder::new()
            .name("api-deadlines".into())
            .spawn(move || {
                while !own.load(Ordering::Acquire) {
                    let now = Instant::now();
                    let next = waiters.expire(now);
                    let left = next.map_or(LATE_MAX, |next| next.saturating_duration_since(now));
                    std::thread::park_timeout(left.min(LATE_MAX));
                }
            })
            .context("no thread for deadlines")?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // What it calls answers requests, and has nothing to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn seen(error_code: Option<&str>) -> SeenResult {
        let result = serde_json::json!({
            "transactionId": "t", "userId": "u", "accountId": 1, "currencyCode": "USDT",
            "type": "DEPOSIT", "amount": "1", "success": error_code.is_none(),
            "errorCode": error_code, "timestamp": 5, "generation": 1, "partition": 0, "offset": 7,
            "posting": 0, "term": 3,
        });
        serde_json::from_value(result).unwrap()
    }

    #[test]
    fn only_last_words_are_told() {
        let table = [
            (None, Some(Status::Success)),
            (Some("INSUFFICIENT_AVAILABLE"), Some(Status::Failed)),
            (Some("ACCOUNT_NOT_FOUND"), Some(Status::Refused)),
            // Of the first, it says nothing.
            (Some("DUPLICATE"), None),
            // Issued anew: too late, too early.
            (Some("EXPIRED"), None),
            (Some("MALFORMED"), None),
            // Of a node that knows more than this one.
            (Some("NOT_KNOWN_HERE"), Some(Status::Refused)),
        ];
        for (code, wanted) in table {
            let awaited = Awaited::default();
            let (tell, told) = mpsc::channel();
            let until = Instant::now() + Duration::from_secs(60);
            let hear = Box::new(move |outcome: Option<Outcome>| {
                tell.send(outcome.map(|outcome| outcome.status)).unwrap();
            });
            let _ticket = awaited.wait(("u", "t"), 1, until, hear).unwrap();
            awaited.tell_seen(&seen(code));
            let heard = told.try_recv().ok().flatten();
            assert_eq!(heard, wanted, "{code:?}");
            assert_eq!(awaited.count(), usize::from(wanted.is_none()));
        }
    }
}
