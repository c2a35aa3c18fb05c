//! The topology: every thread, every ring between them, in one place.
//!
//! ```text
//! log ─► poller ─┬─ commands ─► shard 0 ─┬─ results ─► publisher ─► sink
//!                ├─ commands ─► shard 1 ─┤
//!                └─ commands ─► shard n ─┘─ epochs ──► writer(s) ─► store
//!                                        ◄─ empty ───
//! ```

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use core_affinity::CoreId;
use kilter_engine::{
    EpochNumber, Offset, Partition, Term,
    clock::Clock,
    epoch::{Epoch, EpochPart, OffsetRow},
    log::Log,
    notes::Note,
    poller::{PartitionStart, Poller, PollerPort, PollerProgress, PollerSettings, PollerStart},
    publisher::{Acknowledged, Publisher},
    regroup::writer_shards,
    result::{ResultSink, ResultSlot},
    ring::{Consumer, Producer, ring},
    shard::{
        Shard,
        agent::{ShardAgent, ShardGauges, ShardPorts},
        question::{Asker, questions},
    },
    slot::CommandSlot,
    store::{Committed, Store},
    wait::{WaitStrategy, Waker, waiter},
    writer::{Writer, WriterPort, WriterProgress, WriterStart},
};
use kilter_io::{clock::SystemClock, net};

use crate::threads::Threads;

/// Epoch parts a shard: one it fills, the others on their way through the writer and back.
const PARTS: usize = 4;

/// Slots of a results ring.
const RESULT_SLOTS: usize = 4096;

/// How many questions may wait for one shard.
const QUESTIONS: usize = 4096;

/// How many bytes of records too large for a slot may wait for one shard.
const SPILL_MAX_BYTES: usize = 64 << 20;

/// How many bytes of records an epoch may hold.
const EPOCH_MAX_BYTES: u64 = 64 << 20;

/// How a node is laid out. Changes nothing about any outcome.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Threads that own users.
    pub shards: usize,
    /// Threads that commit, each for neighbouring shards.
    pub writers: usize,
    /// An epoch is cut when it is this old, in ms.
    pub flush_interval_ms: u64,
    /// An epoch is cut when it holds this many records.
    pub flush_max_commands: u64,
    /// Slots of a command ring; a power of two.
    pub ring_slots: usize,
    /// How threads wait.
    pub wait: WaitStrategy,
    /// The CPUs for poller, shards, publisher and writers in turn; empty pins nothing.
    pub pin: Vec<usize>,
    /// How many bytes the idempotency windows of all shards may take together.
    pub window_max_bytes: u64,
}

/// What happened to an epoch, told from a writer's thread right behind its commit.
pub trait Observer: Send + Sync + 'static {
    /// `epoch` is durable.
    fn committed(&self, epoch: &Epoch<'_>);
}

impl Observer for () {
    fn committed(&self, _epoch: &Epoch<'_>) {}
}

/// A running node.
pub struct Node {
    threads: Threads,
    stop: Arc<AtomicBool>,
    poller: Waker,
    poller_progress: Arc<PollerProgress>,
    writers: Vec<Arc<WriterView>>,
    gauges: Vec<Arc<ShardGauges>>,
    asker: Asker,
    term: Term,
}

/// What a node starts from, whatever its log and store are.
pub struct Launch {
    /// The term everything is applied under.
    pub term: Term,
    /// The last epoch that was committed.
    pub last_epoch: EpochNumber,
    /// The offset rows of each writer.
    pub rows: Vec<Vec<OffsetRow>>,
    /// How long ids are remembered, in ms.
    pub window_ms: u64,
    /// Operators' notes about records still to come.
    pub notes: Vec<Note>,
    /// The loaded shards.
    pub shards: Vec<Shard>,
    /// Set from outside while nothing may be read.
    pub paused: Arc<AtomicBool>,
}

impl Launch {
    /// Where each partition is read from, by partition.
    pub fn partitions(&self) -> Vec<PartitionStart> {
        partition_starts(&self.rows)
    }
}

/// Where each partition of these rows is read from, by partition.
pub fn partition_starts(rows: &[Vec<OffsetRow>]) -> Vec<PartitionStart> {
    let mut all = rows.concat();
    all.sort_by_key(|row| (row.partition, row.range.first()));
    all.chunk_by(|a, b| a.partition == b.partition)
        .map(PartitionStart::of_rows)
        .collect()
}

/// What a writer committed, for whoever watches.
struct WriterView {
    progress: Arc<WriterProgress>,
    /// The lowest offset of each partition in its hash range, and the clock there.
    offsets: Vec<(Partition, AtomicU64, AtomicI64)>,
}

impl Node {
    /// Starts every thread. Log and sink are made with the waker of the thread that uses them.
    ///
    /// # Errors
    ///
    /// When log or sink cannot be made, or a thread cannot be started.
    pub fn launch<L, S, St>(
        settings: &NodeSettings,
        launch: Launch,
        log: impl FnOnce(Waker) -> anyhow::Result<L>,
        sink: impl FnOnce(Waker) -> anyhow::Result<S>,
        stores: Vec<St>,
        observer: Arc<impl Observer>,
    ) -> anyhow::Result<Self>
    where
        L: Log + Send + 'static,
        S: ResultSink + Send + 'static,
        St: Store + Send + 'static,
    {
        let starts = launch.partitions();
        let shards = launch.shards;
        if stores.len() != settings.writers || launch.rows.len() != settings.writers {
            bail!("{} stores for {} writers", stores.len(), settings.writers);
        }
        let mut pins = settings.pin.iter().map(|&id| CoreId { id }).cycle();
        let mut core = || {
            if settings.pin.is_empty() {
                None
            } else {
                pins.next()
            }
        };
        let acknowledged = Arc::new(Acknowledged::up_to(launch.last_epoch));
        let poller_wait = waiter(settings.wait);
        let publisher_wait = waiter(settings.wait);
        let writer_waits: Vec<_> = (0..settings.writers)
            .map(|_| waiter(settings.wait))
            .collect();
        let shard_waits: Vec<_> = shards.iter().map(|_| waiter(settings.wait)).collect();
        let groups = writer_shards(settings.shards, settings.writers);

        let mut poller_ports = Vec::new();
        let mut result_rings = Vec::new();
        let mut writer_ports: Vec<Vec<WriterPort>> = groups.iter().map(|_| Vec::new()).collect();
        let mut agents = Vec::new();
        let mut ways = Vec::new();
        let gauges: Vec<Arc<ShardGauges>> = shards.iter().map(|_| Arc::default()).collect();
        for (index, shard) in shards.into_iter().enumerate() {
            let group = match groups.iter().position(|group| group.contains(&index)) {
                Some(group) => group,
                None => bail!("shard {index} has no writer"),
            };
            let rings = ShardRings::new(settings);
            let spilled_bytes = Arc::default();
            poller_ports.push(PollerPort {
                commands: rings.commands.0,
                spilled_bytes: Arc::clone(&spilled_bytes),
                shard: shard_waits[index].1.clone(),
            });
            result_rings.push(rings.results.1);
            writer_ports[group].push(WriterPort {
                full: rings.full.1,
                empty: rings.empty.0,
                shard: shard_waits[index].1.clone(),
            });
            let ports = ShardPorts {
                commands: rings.commands.1,
                results: rings.results.0,
                full: rings.full.0,
                empty: rings.empty.1,
                spilled_bytes,
                gauges: Arc::clone(&gauges[index]),
                poller: poller_wait.1.clone(),
                publisher: publisher_wait.1.clone(),
                writer: writer_waits[group].1.clone(),
            };
            let part = Box::new(part(settings));
            let (way, asked) = questions(QUESTIONS);
            ways.push((way, shard_waits[index].1.clone()));
            agents.push(
                ShardAgent::new(index, shard, ports, part)
                    .answering(asked, |answers| net::together(answers)),
            );
        }

        let views: Vec<Arc<WriterView>> = launch
            .rows
            .iter()
            .map(|rows| Arc::new(WriterView::at(launch.last_epoch, rows)))
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let poller_progress = Arc::new(PollerProgress::over(settings.shards));
        let poller = Poller::new(
            PollerStart {
                settings: PollerSettings {
                    flush_interval_ms: settings.flush_interval_ms,
                    flush_max_commands: settings.flush_max_commands,
                    flush_max_bytes: EPOCH_MAX_BYTES,
                    batch: settings.ring_slots.min(1024),
                    spill_max_bytes: SPILL_MAX_BYTES,
                    window_ms: launch.window_ms,
                },
                partitions: starts,
                notes: launch.notes,
                first_epoch: launch.last_epoch.next(),
                stop: Arc::clone(&stop),
                paused: launch.paused,
                writers: views
                    .iter()
                    .map(|view| Arc::clone(&view.progress))
                    .collect(),
                progress: Arc::clone(&poller_progress),
            },
            log(poller_wait.1.clone())?,
            SystemClock::new(),
            poller_ports,
        );
        let shard_and_writer_wakers = shard_waits
            .iter()
            .chain(&writer_waits)
            .map(|(_, waker)| waker.clone())
            .collect();
        let publisher = Publisher::new(
            result_rings,
            sink(publisher_wait.1.clone())?,
            Arc::clone(&acknowledged),
            shard_and_writer_wakers,
        );

        let mut threads = Threads::new();
        let poller_waker = poller_wait.1.clone();
        threads.spawn(poller, poller_wait, core())?;
        for (agent, wait) in agents.into_iter().zip(shard_waits) {
            threads.spawn(agent, wait, core())?;
        }
        threads.spawn(publisher, publisher_wait, core())?;
        let writers = writer_ports
            .into_iter()
            .zip(writer_waits)
            .zip(launch.rows)
            .zip(stores)
            .enumerate();
        for (index, (((ports, wait), rows), store)) in writers {
            let view = &views[index];
            let store = Observed {
                store,
                view: Arc::clone(view),
                observer: Arc::clone(&observer),
            };
            let start = WriterStart {
                index,
                term: launch.term,
                rows,
                acknowledged: Arc::clone(&acknowledged),
                progress: Arc::clone(&view.progress),
            };
            threads.spawn(Writer::new(start, store, ports), wait, core())?;
        }
        Ok(Self {
            threads,
            stop,
            poller: poller_waker,
            poller_progress,
            writers: views,
            gauges,
            asker: Asker::new(ways),
            term: launch.term,
        })
    }

    /// To be called after records were appended.
    pub fn wake(&self) {
        self.poller.wake();
    }

    /// The offset below which everything is durable, of the first partition: the only one of a
    /// log that is embedded.
    pub fn committed(&self) -> Offset {
        let first = self.offsets().next();
        first.map_or(Offset::default(), |(_, offset)| offset)
    }

    /// The offset of each partition below which everything is durable.
    pub fn offsets(&self) -> impl Iterator<Item = (Partition, Offset)> {
        let partitions = self.writers.first().map_or(&[][..], |view| &view.offsets);
        partitions.iter().map(|(partition, ..)| {
            let offsets = self.writers.iter().flat_map(|view| &view.offsets);
            let lowest = offsets
                .filter(|(other, ..)| other == partition)
                .map(|(_, offset, _)| offset.load(Ordering::Acquire))
                .min();
            (*partition, Offset::new(lowest.unwrap_or(0)))
        })
    }

    /// How old the last record is that is durable, in s by this machine's clock; 0 before any.
    pub fn lag_seconds(&self, partition: Partition) -> f64 {
        let views = self.writers.iter().flat_map(|view| &view.offsets);
        let clocks = views
            .filter(|(other, ..)| *other == partition)
            .map(|(.., clock)| clock.load(Ordering::Relaxed));
        match clocks.min() {
            None | Some(0) => 0.0,
            Some(clock_ms) => {
                let lag_ms = (SystemClock::new().wall_ms() - clock_ms).max(0);
                Duration::from_millis(lag_ms as u64).as_secs_f64()
            }
        }
    }

    /// How many slots of each command ring were in use when the last epoch was cut.
    pub fn rings(&self) -> Vec<u64> {
        self.poller_progress.rings()
    }

    /// What wakes its poller.
    pub fn waker(&self) -> Waker {
        self.poller.clone()
    }

    /// The term that it works under.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The way to ask its shards what a user has.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// What each shard holds.
    pub fn gauges(&self) -> &[Arc<ShardGauges>] {
        &self.gauges
    }

    /// How often a full ring made the poller pause.
    pub fn pauses(&self) -> u64 {
        self.poller_progress.paused()
    }

    /// Whether it still works; looked at while waiting for anything.
    ///
    /// # Errors
    ///
    /// The first failure of any thread.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.threads.failure() {
            Some(error) => Err(error),
            None if self.threads.are_done() => bail!("the node ended without being asked"),
            None => Ok(()),
        }
    }

    /// Stops polling, cuts a last epoch, and waits until everything is flushed.
    ///
    /// # Errors
    ///
    /// The first failure of any thread.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.poller.wake();
        while !self.threads.are_done() {
            if let Some(error) = self.threads.failure() {
                return Err(error);
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.threads.join()
    }
}

/// The rings of one shard, each with its two ends.
struct ShardRings {
    commands: (Producer<CommandSlot>, Consumer<CommandSlot>),
    results: (Producer<ResultSlot>, Consumer<ResultSlot>),
    full: PartRing,
    empty: PartRing,
}

type PartRing = (
    Producer<Option<Box<EpochPart>>>,
    Consumer<Option<Box<EpochPart>>>,
);

impl ShardRings {
    fn new(settings: &NodeSettings) -> Self {
        let (mut empty, recycled) = ring(PARTS.next_power_of_two(), || None);
        for _ in 1..PARTS {
            if empty.push(Box::new(part(settings))).is_err() {
                unreachable!("the ring has a slot for each part");
            }
        }
        Self {
            commands: ring(settings.ring_slots, CommandSlot::new),
            results: ring(RESULT_SLOTS, ResultSlot::default),
            full: ring(PARTS.next_power_of_two(), || None),
            empty: (empty, recycled),
        }
    }
}

/// An epoch part with room for this shard's share of a full epoch; it grows where users are skewed.
fn part(settings: &NodeSettings) -> EpochPart {
    EpochPart::with_capacity(settings.flush_max_commands as usize / settings.shards)
}

impl WriterView {
    fn at(last_epoch: EpochNumber, rows: &[OffsetRow]) -> Self {
        let mut offsets: Vec<(Partition, AtomicU64, AtomicI64)> = Vec::new();
        for (partition, (offset, clock_ms)) in lowest(rows.iter()) {
            offsets.push((partition, offset.into(), clock_ms.into()));
        }
        Self {
            progress: Arc::new(WriterProgress::at(last_epoch)),
            offsets,
        }
    }
}

/// The lowest offset of each partition, and the clock there.
fn lowest<'a>(rows: impl Iterator<Item = &'a OffsetRow>) -> BTreeMap<Partition, (u64, i64)> {
    let mut lowest = BTreeMap::new();
    for row in rows {
        let at = (row.offset.get(), row.clock_ms);
        let held = lowest.entry(row.partition).or_insert(at);
        *held = at.min(*held);
    }
    lowest
}

/// A store that tells what it committed.
struct Observed<St, O> {
    store: St,
    view: Arc<WriterView>,
    observer: Arc<O>,
}

impl<St: Store, O: Observer> Store for Observed<St, O> {
    type Error = St::Error;

    fn commit(&mut self, epoch: &Epoch<'_>) -> Result<Committed, St::Error> {
        let committed = self.store.commit(epoch)?;
        let lowest = lowest(epoch.rows.iter().map(|step| &step.after));
        for (partition, held, clock) in &self.view.offsets {
            if let Some((offset, clock_ms)) = lowest.get(partition) {
                clock.store(*clock_ms, Ordering::Relaxed);
                held.store(*offset, Ordering::Release);
            }
        }
        self.observer.committed(epoch);
        Ok(committed)
    }
}
