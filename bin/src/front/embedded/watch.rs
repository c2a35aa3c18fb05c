//! Results of a directory for those who watch: entries of the ledger and refused records, as they are
//! committed, in the order of the log. Openings and repeated ids leave no trace in a directory, so
//! that there is nothing to watch of them.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kilter_engine::{Position, Term};
use kilter_io::{
    api::{Offered, Problem, ProblemKind, Results, WatchedResult, Watcher},
    embedded::{DataDir, EmbeddedError, RefusedRow, StoreReader},
    rows::LedgerRow,
};
use serde::Deserialize;

use crate::front::away;

/// How often the store is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a watcher may have no room.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many may watch at once.
const WATCHERS_MAX: usize = 64;

/// How many records are looked at at once.
const PAGE: u64 = 1000;

/// The watchers of this process.
pub struct Watching(Arc<Shared>);

struct Shared {
    path: PathBuf,
    term: Term,
    count: AtomicUsize,
    stop: AtomicBool,
}

impl Watching {
    /// Watchers of a directory whose node works under `term`.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn new(dir: &DataDir, term: Term) -> Result<Self, EmbeddedError> {
        let path = dir.path().to_owned();
        DataDir::open_for_reading(&path)?;
        Ok(Self(Arc::new(Shared {
            path,
            term,
            count: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        })))
    }

    /// Ends all of them, each within a look or two.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
    }
}

impl Results for Watching {
    fn watch(&self, user_id: Option<&str>, after: &[Position], watcher: Box<dyn Watcher>) {
        if let Some(at) = after
            .iter()
            .find(|at| (at.generation.get(), at.partition.get()) != (1, 0))
        {
            let message = format!(
                "a directory has generation 1 of partition 0 only, not {} of {}",
                at.generation, at.partition
            );
            return watcher.end(Some(Problem::field("after", message)));
        }
        let shared = Arc::clone(&self.0);
        if shared.count.fetch_add(1, Ordering::AcqRel) >= WATCHERS_MAX {
            shared.count.fetch_sub(1, Ordering::AcqRel);
            let message = format!("{WATCHERS_MAX} watch results already");
            return watcher.end(Some(Problem::new(ProblemKind::Overload, message)));
        }
        let user_id = user_id.map(str::to_owned);
        let after = after.first().map(|at| (at.offset.get(), at.posting.get()));
        let begun = std::thread::Builder::new().name("watch".into());
        let begun = begun.spawn(move || {
            let mut watcher = watcher;
            let ended = run(&shared, user_id.as_deref(), after, watcher.as_mut());
            watcher.end(ended.err());
            shared.count.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(error) = begun {
            // The watcher went with the closure, which ends its stream.
            self.0.count.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(%error, "no thread for a watcher");
        }
    }
}

fn run(
    shared: &Shared,
    user_id: Option<&str>,
    after: Option<(u64, u16)>,
    watcher: &mut dyn Watcher,
) -> Result<(), Problem> {
    let failed = |error: EmbeddedError| away(&error);
    let dir = DataDir::open_for_reading(&shared.path).map_err(failed)?;
    let store = StoreReader::open(&dir).map_err(failed)?;
    let applied = |store: &StoreReader| {
        let rows = store.offsets().map_err(failed)?;
        let lowest = rows.iter().map(|row| row.offset.get()).min();
        Ok::<_, Problem>(lowest.unwrap_or(0))
    };
    let mut last = match after {
        Some(place) => Some(place),
        // What comes from now on.
        None => applied(&store)?.checked_sub(1).map(|last| (last, u16::MAX)),
    };
    let mut ready = VecDeque::new();
    let mut full_since: Option<Instant> = None;
    while !shared.stop.load(Ordering::Acquire) && !watcher.is_gone() {
        if ready.is_empty() {
            let below = applied(&store)?;
            last = read(shared, &store, last, below, user_id, &mut ready).map_err(failed)?;
        }
        let Some(result) = ready.front() else {
            std::thread::park_timeout(LOOK_INTERVAL);
            continue;
        };
        match watcher.offer(result) {
            Offered::Taken => {
                ready.pop_front();
                full_since = None;
            }
            Offered::Full if full_since.is_none_or(|since| since.elapsed() < PATIENCE) => {
                full_since.get_or_insert_with(Instant::now);
                std::thread::park_timeout(LOOK_INTERVAL / 10);
            }
            Offered::Full => {
                let message = "the results were not read fast enough";
                return Err(Problem::new(ProblemKind::Overload, message));
            }
            Offered::Gone => return Ok(()),
        }
    }
    Ok(())
}

/// Reads what became of the next records behind a place and below an offset; the place of the last
/// that was looked at.
fn read(
    shared: &Shared,
    store: &StoreReader,
    last: Option<(u64, u16)>,
    below: u64,
    user_id: Option<&str>,
    to: &mut VecDeque<WatchedResult>,
) -> Result<Option<(u64, u16)>, EmbeddedError> {
    let next = last.map_or(0, |(offset, _)| offset.saturating_add(1));
    let end = below.min(next.saturating_add(PAGE));
    if end < next {
        return Ok(last);
    }
    let entries = store.entries(None, last, Some(end), usize::MAX)?;
    let entries = entries.into_iter().map(|row| WatchedResult {
        row,
        error_message: String::new(),
        term: shared.term,
    });
    let refused = store.refused(last.map(|(offset, _)| offset), end)?;
    let refused = refused.into_iter().filter_map(|row| watched(shared, row));
    let mut all: Vec<WatchedResult> = entries.chain(refused).collect();
    all.sort_by_key(|result| (result.row.offset, result.row.posting));
    let is_asked_for = |user: &str| user_id.is_none_or(|asked| asked == user);
    to.extend(
        all.into_iter()
            .filter(|result| is_asked_for(&result.row.user_id)),
    );
    Ok(last.max(end.checked_sub(1).map(|offset| (offset, u16::MAX))))
}

/// A refused record as a result; none where nobody could be answered.
fn watched(shared: &Shared, row: RefusedRow) -> Option<WatchedResult> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        transaction_id: String,
        user_id: String,
    }
    let named: Named = serde_json::from_slice(&row.value).ok()?;
    Some(WatchedResult {
        row: LedgerRow {
            generation: 1,
            partition: 0,
            offset: row.offset,
            posting: 0,
            account_id: 0,
            user_id: named.user_id,
            currency_code: String::new(),
            transaction_id: named.transaction_id,
            kind: String::new(),
            amount: String::new(),
            available_before: String::new(),
            available_after: String::new(),
            frozen_before: String::new(),
            frozen_after: String::new(),
            version: 0,
            error_code: Some(row.code),
            created_at_ms: row.failed_at_ms,
            remembered_at_ms: None,
            leg: None,
        },
        error_message: row.message,
        term: shared.term,
    })
}
