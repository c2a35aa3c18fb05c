//! One who watches: reads towards the next mark, and lets go of what lies below it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use kilter_engine::{Position, Term};
use kilter_io::{
    api::{Offered, Problem, ProblemKind, WatchedResult, Watcher},
    kafka::{ResultsReader, SeenResult},
};

use super::{
    LOOK_INTERVAL, Shared,
    begin::{Place, away, open},
    held::Held,
    marks::Mark,
};
use crate::front::seen_row;

/// How long a watcher may have no room, and how long servers may give nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one of them reads ahead of what is committed.
const AHEAD_MAX_BYTES: usize = 1 << 20;

/// How many results are read between two looks at how far that is.
const BATCH: usize = 256;

/// Somebody who watches.
pub struct Watch {
    reader: ResultsReader,
    user_id: Option<String>,
    /// The first place of each partition that is not released yet, whether or not it has a result.
    from: Vec<Place>,
    waiting: BTreeMap<Place, WatchedResult>,
    /// Committed, and to be offered in this order.
    ready: VecDeque<WatchedResult>,
    /// What waits and what is ready, in bytes.
    held: Held,
    /// The number of the next mark to be looked at, and the one that is read up to.
    next_mark: u64,
    mark: Option<Arc<Mark>>,
    /// Since when nothing comes although the mark is not reached.
    stuck: Option<Instant>,
}

impl Watch {
    /// Begins behind the positions given, one a partition, and elsewhere with what comes from now on.
    ///
    /// # Errors
    ///
    /// When that is not possible, in words for whoever asked.
    pub fn begin(
        shared: &Shared,
        user_id: Option<String>,
        after: &[Position],
    ) -> Result<Self, Problem> {
        let unknown = after
            .iter()
            .map(|position| position.partition.get())
            .find(|partition| *partition >= shared.partitions);
        if let Some(partition) = unknown {
            let message = format!(
                "partition {partition} is none of the {} that there are",
                shared.partitions
            );
            return Err(Problem::field("after", message));
        }
        let (reader, from) = open(shared, after)?;
        tracing::info!(user_id, "results are watched");
        Ok(Self {
            reader,
            user_id,
            from,
            waiting: BTreeMap::new(),
            ready: VecDeque::new(),
            held: Held::none(Arc::clone(&shared.held)),
            next_mark: 0,
            mark: None,
            stuck: None,
        })
    }

    /// Until nobody watches any more, or the process ends.
    ///
    /// # Errors
    ///
    /// Why it ends before, in words for whoever watches.
    pub fn run(&mut self, shared: &Shared, watcher: &mut dyn Watcher) -> Result<(), Problem> {
        let mut full_since = None;
        while !shared.stop.load(Ordering::Acquire) && !watcher.is_gone() {
            // What is ready goes first: more would only be held.
            if self.ready.is_empty() {
                self.advance(shared)?;
            }
            while let Some(result) = self.ready.front() {
                match watcher.offer(result) {
                    Offered::Taken => {
                        self.held.sub(bytes(result));
                        self.ready.pop_front();
                        full_since = None;
                    }
                    Offered::Full => {
                        let since = *full_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= PATIENCE {
                            let message = "the results were not read fast enough";
                            return Err(Problem::new(ProblemKind::Overload, message));
                        }
                        std::thread::park_timeout(LOOK_INTERVAL / 10);
                        break;
                    }
                    Offered::Gone => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Reads on towards the next mark, for as long as a look lasts, and lets go of what lies below it
    /// once it is reached.
    fn advance(&mut self, shared: &Shared) -> Result<(), Problem> {
        if self.mark.is_none() {
            let is_beyond = |mark: &Mark| self.beyond(mark).next().is_some();
            if let Some((number, mark)) = shared.marks.find(self.next_mark, is_beyond) {
                self.next_mark = number + 1;
                self.mark = Some(mark);
            }
        }
        let until = Instant::now() + LOOK_INTERVAL;
        loop {
            if self.is_reached()?
                && let Some(mark) = self.mark.take()
            {
                self.release(&mark);
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if self.mark.is_none() && self.held.bytes() >= AHEAD_MAX_BYTES {
                std::thread::park_timeout(left);
                break;
            }
            self.read(left)?;
        }
        let is_stuck = self.stuck.is_some_and(|since| since.elapsed() >= PATIENCE);
        if is_stuck || shared.marks.away() >= PATIENCE {
            return Err(away("a server", &"nothing came for long"));
        }
        Ok(())
    }

    /// Whether everything below the mark's ends is read.
    fn is_reached(&self) -> Result<bool, Problem> {
        let Some(mark) = &self.mark else {
            return Ok(false);
        };
        self.reader
            .is_past(&mark.ends)
            .ok_or_else(|| away("the result topic", &"it has got more partitions"))
    }

    /// Where the mark is beyond what is released.
    fn beyond<'a>(&'a self, mark: &'a Mark) -> impl Iterator<Item = Place> + 'a {
        let ends = mark.committed.iter().zip(&self.from);
        ends.filter_map(|((generation, offset), from)| {
            let end = (from.0, *generation, *offset, 0);
            (end > *from).then_some(end)
        })
    }

    /// Takes a batch of what is published.
    fn read(&mut self, wait: Duration) -> Result<(), Problem> {
        let until = Instant::now() + wait;
        for _ in 0..BATCH {
            let left = until.saturating_duration_since(Instant::now());
            let result = self.reader.next(left);
            match result.map_err(|error| away("the result topic", &error))? {
                Some(result) => {
                    self.stuck = None;
                    self.take(&result)?;
                }
                None => {
                    if self.mark.is_some() {
                        self.stuck.get_or_insert_with(Instant::now);
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, result: &SeenResult) -> Result<(), Problem> {
        let place = (
            result.partition,
            result.generation,
            result.offset,
            result.posting,
        );
        let from = self.from.get(result.partition as usize);
        let is_new = from.is_some_and(|from| place >= *from);
        let user_id = self.user_id.as_ref();
        if !is_new || user_id.is_some_and(|user_id| *user_id != result.user_id) {
            return Ok(());
        }
        // Of two answers to one record the one of the higher term is right.
        let known = self.waiting.get(&place).map(|known| known.term.get());
        if known.is_some_and(|known| result.term < known) {
            return Ok(());
        }
        let watched = watched(result);
        let may_stay = self.held.add(bytes(&watched));
        if let Some(replaced) = self.waiting.insert(place, watched) {
            self.held.sub(bytes(&replaced));
        }
        if may_stay {
            return Ok(());
        }
        let message = "too many results lie between what is committed and what was asked for: \
                       watch one user, begin at a later position, or read the result topic";
        Err(Problem::new(ProblemKind::Overload, message))
    }

    /// Lets go of what lies below a mark that was read past.
    fn release(&mut self, mark: &Mark) {
        let ends: Vec<Place> = self.beyond(mark).collect();
        for end in ends {
            let mut below = self.waiting.split_off(&(end.0, 0, 0, 0));
            self.waiting.append(&mut below.split_off(&end));
            self.ready.extend(below.into_values());
            self.from[end.0 as usize] = end;
        }
        self.stuck = None;
    }
}

/// About what a result takes in memory.
fn bytes(result: &WatchedResult) -> usize {
    let row = &result.row;
    let texts = [
        &row.user_id,
        &row.currency_code,
        &row.transaction_id,
        &row.kind,
        &row.amount,
        &row.available_before,
        &row.available_after,
        &row.frozen_before,
        &row.frozen_after,
        &result.error_message,
    ];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    let more = [&row.error_code, &row.leg];
    let more: usize = more
        .iter()
        .map(|text| text.as_ref().map_or(0, String::len))
        .sum();
    size_of::<(Place, WatchedResult)>() + texts + more
}

fn watched(result: &SeenResult) -> WatchedResult {
    WatchedResult {
        row: seen_row(result),
        error_message: result.error_message.clone().unwrap_or_default(),
        term: Term::new(result.term),
    }
}
