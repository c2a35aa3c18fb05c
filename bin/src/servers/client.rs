//! What a client of the log does: produce commands, read their results, wait until all is durable.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};
use kilter_engine::{Offset, Partition, decode::decode_key};
use kilter_io::{
    kafka::{
        CommandConsumer, CommandProducer, KafkaError, KafkaSettings, ResultsReader, SeenResult,
    },
    mysql::{self, Db, Lease},
};
use parking_lot::Mutex;

use super::settings::{kafka_settings, mysql_settings};
use crate::{config::Config, progress::Progress, signals::Interrupt};

/// How often waiting looks at the store.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How many records may be ahead of the store: the loop is closed, and this closes it.
const LAG_MAX: u64 = 500_000;

/// How many of each outcome there were.
pub type Counts = BTreeMap<String, u64>;

/// Hears of each result as it is read.
pub trait Hear: Send + 'static {
    /// A result was read just now.
    fn result(&mut self, _result: &SeenResult) {}
}

impl Hear for () {}

/// Produces to the command topic and counts what comes back.
pub struct Client {
    settings: KafkaSettings,
    producer: CommandProducer,
    db: Db,
    group: String,
    partitions: Vec<Partition>,
    /// Where the log ended before anything was produced.
    sent: u64,
    committed_before: u64,
    results: Results,
}

/// The thread that reads results.
struct Results {
    counts: Arc<Mutex<(Counts, u64)>>,
    failure: Arc<Mutex<Option<KafkaError>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Connects; refuses when nobody leads, because nobody would answer.
    ///
    /// # Errors
    ///
    /// When a server cannot be reached, or no node has a lease.
    pub fn connect(config: &Config, hear: impl Hear) -> anyhow::Result<Self> {
        let settings = kafka_settings(config);
        let mut db = Db::open(&mysql_settings(config))?;
        mysql::is_ready(&mut db)?;
        let consumer = CommandConsumer::new(&settings)?;
        let count = consumer.identity()?.partitions;
        let rows = Lease::look(&mut db, count)?;
        if rows.is_empty() || rows.iter().any(|row| row.is_free) {
            bail!(
                "not every partition has a node that leads it, so nobody would answer; start one \
                 with: kilter serve --config FILE"
            );
        }
        let results = Results::start(&settings, hear)?;
        let producer = CommandProducer::new(&settings)?;
        let mut client = Self {
            settings,
            producer,
            db,
            group: config.kafka.group.clone(),
            partitions: (0..count).map(Partition::new).collect(),
            sent: 0,
            committed_before: 0,
            results,
        };
        client.committed_before = client.committed()?;
        Ok(client)
    }

    /// Produces a command under its user's key.
    ///
    /// # Errors
    ///
    /// When it, or one before it, is not taken.
    pub fn send(&mut self, value: &[u8]) -> anyhow::Result<()> {
        let key = decode_key(value);
        self.producer
            .send(key.as_deref().unwrap_or_default().as_bytes(), value)?;
        self.sent += 1;
        Ok(())
    }

    /// Looks at answers of brokers, without waiting.
    ///
    /// # Errors
    ///
    /// When a command was not taken.
    pub fn poll(&self) -> anyhow::Result<()> {
        Ok(self.producer.poll()?)
    }

    /// How many were produced.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The lowest offset of each partition that the store has.
    fn offsets(&mut self) -> anyhow::Result<Vec<(Partition, u64)>> {
        let rows = mysql::offsets(
            &mut self.db,
            &self.group,
            &self.settings.commands,
            &self.partitions,
        )?;
        let lowest = |partition: &Partition| {
            let own = rows.iter().filter(|row| row.partition == *partition);
            let lowest = own.map(|row| row.offset.get()).min();
            (*partition, lowest.unwrap_or(0))
        };
        Ok(self.partitions.iter().map(lowest).collect())
    }

    /// How many records are committed, of all partitions and times.
    fn committed(&mut self) -> anyhow::Result<u64> {
        Ok(self.offsets()?.iter().map(|(_, offset)| offset).sum())
    }

    /// How many offsets below `ends` are not committed.
    fn left(&mut self, ends: &[(Partition, Offset)]) -> anyhow::Result<u64> {
        let offsets = self.offsets()?;
        let left = ends.iter().map(|(partition, end)| {
            let own = offsets.iter().find(|(other, _)| other == partition);
            end.get()
                .saturating_sub(own.map_or(0, |(_, offset)| *offset))
        });
        Ok(left.sum())
    }

    /// How many of what was produced are committed, if nobody else produced.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn done(&mut self) -> anyhow::Result<u64> {
        Ok(self.committed()?.saturating_sub(self.committed_before))
    }

    /// Waits while too much is in flight.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or a command was not taken.
    pub fn wait_for_room(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        while self.sent - self.done()?.min(self.sent) > LAG_MAX && !interrupt.is_asked() {
            self.poll()?;
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Waits until everything that is in the log now is committed, and its results are read.
    ///
    /// # Errors
    ///
    /// When a server cannot be reached, or nothing moves for as long as an outage may last.
    pub fn finish(
        &mut self,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> anyhow::Result<Counts> {
        self.producer.finish(self.settings.outage_limit)?;
        let ends = self.producer.ends();
        let mut last = (self.left(&ends)?, Instant::now());
        while last.0 > 0 && !interrupt.is_asked() {
            std::thread::sleep(LOOK_INTERVAL);
            let left = self.left(&ends)?;
            if left < last.0 {
                last = (left, Instant::now());
            } else if last.1.elapsed() >= self.settings.outage_limit {
                bail!(
                    "nothing was committed for {} s, {} records are left; see what the leading \
                     node says",
                    self.settings.outage_limit.as_secs(),
                    left
                );
            }
            let left = last.0;
            progress.set(self.sent - left.min(self.sent), || {
                format!("{left} records to be committed")
            });
        }
        self.results.finish(&self.settings)
    }
}

impl Results {
    fn start(settings: &KafkaSettings, mut hear: impl Hear) -> anyhow::Result<Self> {
        let mut reader = ResultsReader::from_end(settings)?;
        let counts = Arc::<Mutex<(Counts, u64)>>::default();
        let failure = Arc::new(Mutex::new(None));
        let stop = Arc::<AtomicBool>::default();
        let (own_counts, own_failure, own_stop) =
            (Arc::clone(&counts), Arc::clone(&failure), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("results".into())
            .spawn(move || {
                let mut fresh = Counts::new();
                while !own_stop.load(Ordering::Acquire) {
                    match reader.next(Duration::from_millis(20)) {
                        Ok(Some(result)) => {
                            hear.result(&result);
                            *fresh.entry(outcome(&result)).or_default() += 1;
                            if fresh.values().sum::<u64>() < 1024 {
                                continue;
                            }
                        }
                        Ok(None) => {}
                        Err(error) => {
                            *own_failure.lock() = Some(error);
                            return;
                        }
                    }
                    let mut counts = own_counts.lock();
                    for (name, count) in std::mem::take(&mut fresh) {
                        counts.1 += count;
                        *counts.0.entry(name).or_default() += count;
                    }
                }
            })
            .context("no thread to read results")?;
        Ok(Self {
            counts,
            failure,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits until no more results come: those of committed records are there already.
    fn finish(&mut self, settings: &KafkaSettings) -> anyhow::Result<Counts> {
        let mut last = (self.counts.lock().1, Instant::now());
        let began = Instant::now();
        while last.1.elapsed() < Duration::from_millis(500)
            && began.elapsed() < settings.outage_limit
        {
            if let Some(error) = self.failure.lock().take() {
                return Err(error.into());
            }
            std::thread::sleep(LOOK_INTERVAL);
            let now = self.counts.lock().1;
            if now > last.0 {
                last = (now, Instant::now());
            }
        }
        Ok(self.counts.lock().0.clone())
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

fn outcome(result: &SeenResult) -> String {
    match &result.error_code {
        None => "SUCCESS".to_owned(),
        Some(code) => code.clone(),
    }
}

/// The counts as a table; what has no result was refused without an address.
pub fn table(counts: &Counts, sent: u64) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["outcome", "commands"]);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (name, count) in counts {
        table.add_row([name.clone(), count.to_string()]);
    }
    let answered: u64 = counts.values().sum();
    if sent > answered {
        table.add_row([
            "refused, no user or id to answer (dead letter)".to_owned(),
            (sent - answered).to_string(),
        ]);
    }
    table
}
