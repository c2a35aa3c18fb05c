//! Follows the result topic, for what this process does beside whoever leads: it tells those who
//! wait for outcomes, and offers balances to Redis where no writer of this process does.
//!
//! A result can be trusted as soon as it is published, so waiters hear of it at once. Redis gets a
//! balance when it is committed: an operator's note may have changed an answer until then.

mod gap;
mod waiting;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kilter_engine::{Partition, epoch::OffsetRow};
use kilter_io::{
    kafka::{KafkaSettings, ResultsReader, SeenResult, TopicEnds},
    mysql::{Db, MysqlSettings, offsets},
    redis::Offers,
};

use self::{gap::Gap, waiting::Waiting};

/// How long to wait for a result before looking at everything else.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long nothing may come before brokers are asked whether they are there.
const SILENCE: Duration = Duration::from_secs(10);

/// The first and the longest pause before brokers that are away are asked again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long a stop waits for the thread, which may wait for servers that are away.
const STOP_LIMIT: Duration = Duration::from_secs(2);

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
            feed: feed.map(|feed| Feeding::new(feed, &kafka)),
            kafka,
            reader: Some(reader),
            hear,
            is_needless,
            stop: Arc::clone(&stop),
            pause: BACKOFF_FIRST,
            heard: Instant::now(),
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
            let until = Instant::now() + STOP_LIMIT;
            while !thread.is_finished() && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(2));
            }
        }
    }
}

struct Work {
    kafka: KafkaSettings,
    reader: Option<ResultsReader>,
    hear: Hear,
    is_needless: IsNeedless,
    feed: Option<Feeding>,
    stop: Arc<AtomicBool>,
    pause: Duration,
    /// When something was heard of brokers.
    heard: Instant,
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
                    feed.reset();
                }
                self.reader.insert(ResultsReader::from_end(&self.kafka)?)
            }
        };
        if let Some(feed) = &mut self.feed {
            feed.begin()?;
        }
        let until = Instant::now() + LOOK_INTERVAL;
        while let Some(result) = reader.next(until.saturating_duration_since(Instant::now()))? {
            self.pause = BACKOFF_FIRST;
            self.heard = Instant::now();
            (self.hear)(&result);
            if let Some(feed) = &mut self.feed {
                feed.take(&result)?;
            }
            if Instant::now() >= until {
                break;
            }
        }
        if self.heard.elapsed() >= SILENCE {
            self.heard = Instant::now();
            // A client that has lost its brokers for good is replaced.
            reader.ask()?;
        }
        if let Some(feed) = &mut self.feed {
            feed.offer_committed(reader)?;
        }
        Ok(())
    }
}

/// What is kept for Redis.
struct Feeding {
    feed: Feed,
    kafka: KafkaSettings,
    servers: Option<(Db, TopicEnds)>,
    /// What may have been published before this was read, and what was published since.
    begun: Option<(Gap, Waiting)>,
    /// How far the store was, and what must be read before that is released.
    cut: Option<Cut>,
}

/// How far the store was, and where the result topic ended afterwards. An epoch commits only when
/// its results are acknowledged, so all of them lie below.
struct Cut {
    rows: Vec<OffsetRow>,
    ends: Vec<(i32, i64)>,
}

impl Feeding {
    fn new(feed: Feed, kafka: &KafkaSettings) -> Self {
        Self {
            feed,
            kafka: kafka.clone(),
            servers: None,
            begun: None,
            cut: None,
        }
    }

    /// Forgets everything: the reading begins anew.
    fn reset(&mut self) {
        self.begun = None;
        self.cut = None;
    }

    /// To be called when the reader knows where it begins, and before it reads.
    fn begin(&mut self) -> anyhow::Result<()> {
        if self.begun.is_none() {
            let gap = Gap::look(&self.kafka, self.feed.partitions)?;
            let rows = self.look()?.rows;
            let waiting = Waiting::from(gap.ends(), &rows);
            self.begun = Some((gap, waiting));
        }
        Ok(())
    }

    fn take(&mut self, result: &SeenResult) -> anyhow::Result<()> {
        if let Some((_, waiting)) = &mut self.begun {
            ensure!(waiting.take(result), "too many results wait for the store");
        }
        Ok(())
    }

    /// Offers what is committed, as far as everything that was published of it is read.
    fn offer_committed(&mut self, reader: &ResultsReader) -> anyhow::Result<()> {
        let is_idle = |(gap, waiting): &(Gap, Waiting)| gap.is_closed() && waiting.is_empty();
        if self.cut.is_none() && !self.begun.as_ref().is_none_or(is_idle) {
            self.cut = Some(self.look()?);
        }
        let Some(cut) = self
            .cut
            .take_if(|cut| reader.is_past(&cut.ends) != Some(false))
        else {
            return Ok(());
        };
        ensure!(
            reader.is_past(&cut.ends).is_some(),
            "the result topic has got more partitions"
        );
        if let Some((gap, waiting)) = &mut self.begun {
            if gap.asks_for_all(&cut.rows) {
                self.feed.offers.miss_some();
            }
            self.feed.offers.offer_images(&waiting.release(cut.rows));
        }
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<Cut> {
        let mut servers = match self.servers.take() {
            Some(servers) => servers,
            None => (
                Db::open(&self.feed.mysql)?,
                TopicEnds::of_results(&self.kafka)?,
            ),
        };
        let partitions: Vec<Partition> = (0..self.feed.partitions).map(Partition::new).collect();
        let (group, topic) = (&self.kafka.group, &self.kafka.commands);
        // In this order, which is all that matters here.
        let rows = offsets(&mut servers.0, group, topic, &partitions)?;
        let ends = servers.1.look()?;
        self.servers = Some(servers);
        Ok(Cut { rows, ends })
    }
}
