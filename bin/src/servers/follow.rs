//! Follows the result topic, for what this process does beside whoever leads: it tells those who
//! wait for outcomes, and offers balances to Redis where no writer of this process does.
//!
//! A result can be trusted as soon as it is published, so waiters hear of it at once. Redis gets a
//! balance when it is committed: an operator's note may have changed an answer until then.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use kilter_engine::{
    AccountId, Amount, Currency, Partition, epoch::BalanceImage, epoch::OffsetRow, hash::key_hash,
};
use kilter_io::{
    kafka::{CommandConsumer, KafkaSettings, ResultsReader, SeenResult},
    mysql::{Db, MysqlSettings, offsets},
    redis::Offers,
};

/// How long to wait for a result before looking at everything else.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The first and the longest pause before brokers that are away are asked again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long the store may stand still before it is taken to have nothing left to commit.
const STILL: Duration = Duration::from_secs(5);

/// Hears of every result, on the follower's thread.
pub type Hear = Box<dyn Fn(&SeenResult) + Send>;

/// Whether there is nobody to tell of results for now.
pub type IsNeedless = Box<dyn Fn() -> bool + Send>;

/// What becomes of balances.
pub struct Feed {
    /// Where they are offered.
    pub offers: Arc<Offers>,
    /// The store that says what is committed.
    pub mysql: MysqlSettings,
    /// The partitions of the command topic.
    pub partitions: u32,
}

/// A running follower. Dropping it stops it.
pub struct Follower {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Begins where the topic ends now.
    ///
    /// # Errors
    ///
    /// When no broker answers, or the system gives no thread.
    pub fn start(
        kafka: KafkaSettings,
        hear: Hear,
        is_needless: IsNeedless,
        feed: Option<Feed>,
    ) -> anyhow::Result<Self> {
        let reader = ResultsReader::from_end(&kafka)?;
        let stop = Arc::<AtomicBool>::default();
        let mut work = Work {
            feed: feed.map(|feed| Waiting::new(feed, &kafka)),
            kafka,
            reader: Some(reader),
            hear,
            is_needless,
            stop: Arc::clone(&stop),
            pause: BACKOFF_FIRST,
        };
        let thread = std::thread::Builder::new()
            .name("results".into())
            .spawn(move || work.run())
            .context("no thread for the results")?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It told of everything while it ran.
            let _ = thread.join();
        }
    }
}

struct Work {
    kafka: KafkaSettings,
    reader: Option<ResultsReader>,
    hear: Hear,
    is_needless: IsNeedless,
    feed: Option<Waiting>,
    stop: Arc<AtomicBool>,
    pause: Duration,
}

impl Work {
    fn run(&mut self) {
        while !self.stop.load(Ordering::Acquire) {
            if (self.is_needless)() {
                self.reader = None;
                std::thread::park_timeout(LOOK_INTERVAL);
                continue;
            }
            if let Err(error) = self.follow() {
                tracing::warn!("results cannot be followed, trying again: {error:#}");
                self.reader = None;
                std::thread::park_timeout(self.pause);
                self.pause = (self.pause * 2).min(BACKOFF_MAX);
            }
        }
    }

    fn follow(&mut self) -> anyhow::Result<()> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            // What was published meanwhile is missed: who waits hears that time is up, and Redis
            // gets it when all is offered again.
            None => {
                if let Some(feed) = &mut self.feed {
                    feed.gap = None;
                }
                self.reader.insert(ResultsReader::from_end(&self.kafka)?)
            }
        };
        if let Some(feed) = &mut self.feed
            && feed.gap.is_none()
        {
            feed.gap = Some(Gap::look(&self.kafka, feed.feed.partitions)?);
        }
        let until = Instant::now() + LOOK_INTERVAL;
        while let Some(result) = reader.next(until.saturating_duration_since(Instant::now()))? {
            self.pause = BACKOFF_FIRST;
            (self.hear)(&result);
            if let Some(feed) = &mut self.feed {
                feed.take(&result);
            }
            if Instant::now() >= until {
                break;
            }
        }
        if let Some(feed) = &mut self.feed {
            feed.offer_committed()?;
        }
        Ok(())
    }
}

/// Balances that are published and perhaps not committed yet: the newest of each.
struct Waiting {
    feed: Feed,
    group: String,
    topic: String,
    db: Option<Db>,
    newest: HashMap<(AccountId, Currency), Published>,
    /// What may have been published before this was read; none before that is known.
    gap: Option<Gap>,
}

/// Records whose results may have been published before the follower began to read: once the store
/// has committed them, all balances are offered again.
struct Gap {
    /// Where the command topic ended; empty when that is done.
    ends: Vec<(Partition, u64)>,
    /// How far the store was, and since when it is no further.
    committed: u64,
    since: Instant,
}

impl Gap {
    fn look(kafka: &KafkaSettings, partitions: u32) -> anyhow::Result<Self> {
        let consumer = CommandConsumer::new(kafka)?;
        let ends = (0..partitions)
            .map(Partition::new)
            .map(|partition| Ok((partition, consumer.range(partition)?.end)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            ends,
            committed: 0,
            since: Instant::now(),
        })
    }

    /// Whether the store has all of it now; says so once.
    fn is_closed(&mut self, rows: &[OffsetRow]) -> bool {
        if self.ends.is_empty() {
            return false;
        }
        let is_behind = |partition: Partition, end: u64| {
            let own = rows.iter().filter(|row| row.partition == partition);
            own.map(|row| row.offset.get()).min().unwrap_or(0) < end
        };
        let committed = rows.iter().map(|row| row.offset.get()).sum();
        if committed != self.committed {
            (self.committed, self.since) = (committed, Instant::now());
        }
        // A log may end in what is no record, which nobody commits.
        let is_open = self
            .ends
            .iter()
            .any(|(partition, end)| is_behind(*partition, *end));
        if is_open && self.since.elapsed() < STILL {
            return false;
        }
        self.ends.clear();
        true
    }
}

#[derive(Clone, Copy)]
struct Published {
    image: BalanceImage,
    /// The hash of the user's key, and where the record lies.
    key_hash: u64,
    place: (u32, u64),
}

impl Waiting {
    fn new(feed: Feed, kafka: &KafkaSettings) -> Self {
        Self {
            feed,
            group: kafka.group.clone(),
            topic: kafka.commands.clone(),
            db: None,
            newest: HashMap::new(),
            gap: None,
        }
    }

    fn take(&mut self, result: &SeenResult) {
        let Some(image) = image(result) else { return };
        let published = Published {
            image,
            key_hash: key_hash(result.user_id.as_bytes()),
            place: (result.generation, result.offset),
        };
        let held = self
            .newest
            .entry((image.account_id, image.currency))
            .or_insert(published);
        // A result may come again after a crash, and behind newer ones.
        if published.place >= held.place {
            *held = published;
        }
    }

    fn offer_committed(&mut self) -> anyhow::Result<()> {
        if self.newest.is_empty() && self.gap.as_ref().is_none_or(|gap| gap.ends.is_empty()) {
            return Ok(());
        }
        let mut db = match self.db.take() {
            Some(db) => db,
            None => Db::open(&self.feed.mysql)?,
        };
        let partitions: Vec<Partition> = (0..self.feed.partitions).map(Partition::new).collect();
        let rows = offsets(&mut db, &self.group, &self.topic, &partitions)?;
        self.db = Some(db);
        let offers = &self.feed.offers;
        if self.gap.as_mut().is_some_and(|gap| gap.is_closed(&rows)) {
            offers.miss_some();
        }
        self.newest.retain(|_, published| {
            let committed = is_committed(&rows, published);
            if committed {
                offers.offer_image(&published.image);
            }
            !committed
        });
        Ok(())
    }
}

fn is_committed(rows: &[OffsetRow], published: &Published) -> bool {
    rows.iter().any(|row| {
        row.partition == published.image.partition
            && row.range.contains(published.key_hash)
            && published.place < (row.generation.get(), row.offset.get())
    })
}

/// The balance behind a command that changed one.
fn image(result: &SeenResult) -> Option<BalanceImage> {
    let amount = |text: &Option<String>| -> Option<Amount> { text.as_deref()?.parse().ok() };
    result.success.then_some(())?;
    Some(BalanceImage {
        account_id: AccountId::new(result.account_id?)?,
        currency: Currency::parse(result.currency_code.as_deref()?.as_bytes()).ok()?,
        available: amount(&result.available_after)?,
        frozen: amount(&result.frozen_after)?,
        version: result.version?,
        partition: Partition::new(result.partition),
    })
}

#[cfg(test)]
mod tests {
    use kilter_engine::{Generation, Offset};

    use super::*;

    #[test]
    fn a_gap_is_closed_once_when_the_store_has_all_of_it() {
        let row = |partition, offset| OffsetRow {
            offset: Offset::new(offset),
            ..OffsetRow::first(Partition::new(partition), Generation::new(1))
        };
        let mut gap = Gap {
            ends: vec![(Partition::new(0), 7), (Partition::new(1), 3)],
            committed: 0,
            since: Instant::now(),
        };
        assert!(!gap.is_closed(&[row(0, 6), row(1, 3)]));
        assert!(!gap.is_closed(&[row(0, 7)]));
        assert!(gap.is_closed(&[row(0, 9), row(1, 3)]));
        assert!(!gap.is_closed(&[row(0, 9), row(1, 3)]));
    }
}
