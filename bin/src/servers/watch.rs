//! Results for those who watch: committed, in order in each partition, from any position on.
//!
//! The result topic has them in about any order, some more than once, and some that an operator's
//! note changes before they count. So a watcher's results wait until the store has committed what
//! lies below them, and leave in the order of the log. A thread and a consumer for each watcher; few
//! of them at once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kilter_engine::{Partition, Position, Term};
use kilter_io::{
    api::{Offered, Problem, ProblemKind, Results, WatchedResult, Watcher},
    kafka::{CommandConsumer, KafkaSettings, ResultsReader, SeenResult},
    mysql::{Db, MysqlSettings, offsets},
};

use crate::front::seen_row;

/// How often it is asked how far the store is.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a watcher may have no room.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many results may wait for the store, for one watcher.
const WAITING_MAX: usize = 1 << 20;

/// The watchers of this process.
pub struct Watching {
    shared: Arc<Shared>,
}

struct Shared {
    kafka: KafkaSettings,
    mysql: MysqlSettings,
    partitions: u32,
    max: usize,
    count: AtomicUsize,
    stop: AtomicBool,
}

impl Watching {
    /// At most `max` watchers of the results of a topic of so many partitions.
    pub fn new(kafka: KafkaSettings, mysql: MysqlSettings, partitions: u32, max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                kafka,
                mysql,
                partitions,
                max,
                count: AtomicUsize::new(0),
                stop: AtomicBool::new(false),
            }),
        }
    }

    /// Ends all of them, each within a look or two.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Results for Watching {
    fn watch(&self, user_id: Option<&str>, after: &[Position], watcher: Box<dyn Watcher>) {
        let shared = Arc::clone(&self.shared);
        if shared.count.fetch_add(1, Ordering::AcqRel) >= shared.max {
            shared.count.fetch_sub(1, Ordering::AcqRel);
            let message = format!("{} watch results already", shared.max);
            return watcher.end(Some(Problem::new(ProblemKind::Overload, message)));
        }
        let user_id = user_id.map(str::to_owned);
        let after = after.to_vec();
        let slot = Arc::new(parking_lot::Mutex::new(Some(watcher)));
        let own = Arc::clone(&slot);
        let begun = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || {
                if let Some(watcher) = own.lock().take() {
                    run(&shared, user_id, after, watcher);
                }
                shared.count.fetch_sub(1, Ordering::AcqRel);
            });
        if let Err(error) = begun {
            self.shared.count.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(%error, "no thread for a watcher");
            if let Some(watcher) = slot.lock().take() {
                let message = "this node has no thread left for a watcher";
                watcher.end(Some(Problem::new(ProblemKind::Unavailable, message)));
            }
        }
    }
}

fn run(shared: &Shared, user_id: Option<String>, after: Vec<Position>, watcher: Box<dyn Watcher>) {
    let mut watch = match Watch::begin(shared, user_id, after) {
        Ok(watch) => watch,
        Err(problem) => return watcher.end(Some(problem)),
    };
    let mut watcher = watcher;
    let ended = watch.run(shared, watcher.as_mut());
    watcher.end(ended.err());
}

/// Where a result lies: partition, then generation, offset and posting.
type Place = (u32, u32, u64, u16);

struct Watch {
    reader: ResultsReader,
    db: Option<Db>,
    user_id: Option<String>,
    /// The last place of each partition that was offered, or behind which to begin.
    last: BTreeMap<u32, Place>,
    waiting: BTreeMap<Place, WatchedResult>,
    /// Committed, and to be offered in this order.
    ready: VecDeque<WatchedResult>,
}

impl Watch {
    fn begin(
        shared: &Shared,
        user_id: Option<String>,
        after: Vec<Position>,
    ) -> Result<Self, Problem> {
        let mut db = Db::open(&shared.mysql).map_err(|error| away("the store", &error))?;
        let committed = committed(shared, &mut db)?;
        let mut last: BTreeMap<u32, Place> = committed
            .iter()
            .map(|(partition, (generation, offset))| {
                // Behind everything that is committed now.
                let end = (*partition, *generation, offset.wrapping_sub(1), u16::MAX);
                let begin = (*partition, *generation, 0, 0);
                (*partition, if *offset == 0 { begin } else { end })
            })
            .collect();
        let named: Vec<(u32, Place)> = after
            .iter()
            .map(|position| {
                let partition = position.partition.get();
                let place = (
                    partition,
                    position.generation.get(),
                    position.offset.get(),
                    position.posting.get(),
                );
                (partition, place)
            })
            .collect();
        for (partition, _) in &named {
            if !last.contains_key(partition) {
                let message = format!(
                    "partition {partition} is none of the {} that there are",
                    shared.partitions
                );
                return Err(Problem::new(ProblemKind::Invalid, message));
            }
        }
        let reader = open(shared, &named, &last)?;
        last.extend(named);
        Ok(Self {
            reader,
            db: Some(db),
            user_id,
            last,
            waiting: BTreeMap::new(),
            ready: VecDeque::new(),
        })
    }

    /// Until nobody watches any more, or the process ends.
    fn run(&mut self, shared: &Shared, watcher: &mut dyn Watcher) -> Result<(), Problem> {
        let mut full_since = None;
        while !shared.stop.load(Ordering::Acquire) && !watcher.is_gone() {
            self.read()?;
            self.release(shared)?;
            while let Some(result) = self.ready.front() {
                match watcher.offer(result) {
                    Offered::Taken => {
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

    /// Takes what is published, for as long as a look lasts; nothing while much waits already.
    fn read(&mut self) -> Result<(), Problem> {
        let until = Instant::now() + LOOK_INTERVAL;
        while self.waiting.len() + self.ready.len() < WAITING_MAX {
            let left = until.saturating_duration_since(Instant::now());
            let Some(result) = self
                .reader
                .next(left)
                .map_err(|error| away("the result topic", &error))?
            else {
                break;
            };
            self.take(result);
            if left.is_zero() {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, result: SeenResult) {
        let place = (
            result.partition,
            result.generation,
            result.offset,
            result.posting,
        );
        let is_new = self
            .last
            .get(&result.partition)
            .is_none_or(|last| place > *last);
        let is_asked_for = self
            .user_id
            .as_ref()
            .is_none_or(|user| *user == result.user_id);
        if !is_new || !is_asked_for {
            return;
        }
        let watched = watched(&result);
        // Of two answers to one record the one of the higher term is right.
        let known = self.waiting.get(&place).map(|known| known.term);
        if known.is_none_or(|known| watched.term >= known) {
            self.waiting.insert(place, watched);
        }
    }

    /// Lets go of what the store has committed.
    fn release(&mut self, shared: &Shared) -> Result<(), Problem> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut db = match self.db.take() {
            Some(db) => db,
            None => Db::open(&shared.mysql).map_err(|error| away("the store", &error))?,
        };
        let committed = committed(shared, &mut db)?;
        self.db = Some(db);
        for (partition, (generation, offset)) in committed {
            let first = (partition, 0, 0, 0);
            let end = (partition, generation, offset, 0);
            let places: Vec<Place> = self
                .waiting
                .range(first..end)
                .map(|(place, _)| *place)
                .collect();
            for place in places {
                self.ready.extend(self.waiting.remove(&place));
                self.last.insert(partition, place);
            }
        }
        Ok(())
    }
}

/// A reader that begins no later than what lies behind the named places.
fn open(
    shared: &Shared,
    named: &[(u32, Place)],
    ends: &BTreeMap<u32, Place>,
) -> Result<ResultsReader, Problem> {
    let failed = |error| away("the result topic", &error);
    if named.is_empty() {
        return ResultsReader::from_end(&shared.kafka).map_err(failed);
    }
    // A result is published behind its command, so the earliest command's time is early enough.
    let consumer =
        CommandConsumer::new(&shared.kafka).map_err(|error| away("the command topic", &error))?;
    let mut earliest = i64::MAX;
    for (partition, (_, generation, offset, _)) in named {
        if ends.get(partition).is_none_or(|end| end.1 != *generation) {
            // An earlier log: nothing tells its times any more.
            return ResultsReader::from_start(&shared.kafka).map_err(failed);
        }
        let partition = Partition::new(*partition);
        let failed = |error| away("the command topic", &error);
        let range = consumer.range(partition).map_err(failed)?;
        if *offset >= range.end {
            // Not there yet: nothing behind it can be published.
            continue;
        }
        if *offset < range.first {
            let message = format!(
                "the log has the offsets {} to {} of partition {partition}, not {offset}: begin at \
                 another position",
                range.first, range.end
            );
            return Err(Problem::new(ProblemKind::NotFound, message));
        }
        let (_, record) = consumer.record_at(partition, *offset).map_err(failed)?;
        earliest = earliest.min(record.timestamp_ms);
    }
    match earliest {
        i64::MAX => ResultsReader::from_end(&shared.kafka),
        earliest => ResultsReader::from_time(&shared.kafka, earliest),
    }
    .map_err(failed)
}

/// How far each partition is committed: generation and offset.
fn committed(shared: &Shared, db: &mut Db) -> Result<BTreeMap<u32, (u32, u64)>, Problem> {
    let partitions: Vec<Partition> = (0..shared.partitions).map(Partition::new).collect();
    let (group, topic) = (&shared.kafka.group, &shared.kafka.commands);
    let rows = offsets(db, group, topic, &partitions).map_err(|error| away("the store", &error))?;
    let mut lowest: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    for row in rows {
        let at = (row.generation.get(), row.offset.get());
        let lowest = lowest.entry(row.partition.get()).or_insert(at);
        *lowest = at.min(*lowest);
    }
    Ok(lowest)
}

fn away(what: &str, error: &dyn std::error::Error) -> Problem {
    tracing::warn!("a watcher of results ends, {what} does not answer: {error}");
    Problem::new(
        ProblemKind::Unavailable,
        format!("{what} is unavailable; go on behind the last position"),
    )
}

fn watched(result: &SeenResult) -> WatchedResult {
    WatchedResult {
        row: seen_row(result),
        error_message: result.error_message.clone().unwrap_or_default(),
        term: Term::new(result.term),
    }
}
