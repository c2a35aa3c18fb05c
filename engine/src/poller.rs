//! The poller: reads the log, gives each record its time and its shard, and cuts epochs.

mod error;
mod partition;

pub use error::PollerError;
pub use partition::PartitionStart;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use crate::{
    EpochNumber,
    agent::Agent,
    clock::Clock,
    epoch::Cut,
    hash::key_hash,
    log::{Log, Taken},
    notes::{Note, NoteKind},
    range::shard_of,
    record::{Mark, Record},
    ring::Producer,
    slot::CommandSlot,
    wait::Waker,
    writer::WriterProgress,
};
use partition::PartitionState;

/// How many epochs may wait for a writer, the one being committed among them, before age alone
/// does not cut another one.
pub const EPOCHS_AHEAD: u64 = 2;

/// When the poller cuts, and how much it lets in.
#[derive(Clone, Copy, Debug)]
pub struct PollerSettings {
    /// An epoch is cut when it is this old, in ms, and not empty, unless [`EPOCHS_AHEAD`] wait for
    /// a writer already: then it grows, because a large transaction costs less than two small ones.
    pub flush_interval_ms: u64,
    /// An epoch is cut when it holds this many records.
    pub flush_max_commands: u64,
    /// An epoch is cut when its records hold this many bytes, so that large records cannot
    /// fill the memory.
    pub flush_max_bytes: u64,
    /// How many records are read from the log at once.
    pub batch: usize,
    /// How many bytes of records too large for a slot may wait for one shard.
    pub spill_max_bytes: usize,
    /// How long a transaction id is remembered, in ms: a record more than a quarter of it ahead
    /// of the node's own clock stops the node.
    pub window_ms: u64,
}

/// The way to one shard.
pub struct PollerPort {
    /// Records and barriers to it.
    pub commands: Producer<CommandSlot>,
    /// How many bytes of records too large for a slot wait for it.
    pub spilled_bytes: Arc<AtomicUsize>,
    /// Wakes it.
    pub shard: Waker,
}

/// How far the poller got. Written by its thread, read by whoever watches.
#[derive(Debug, Default)]
pub struct PollerProgress {
    records: AtomicU64,
    skipped: AtomicU64,
    paused: AtomicU64,
    rings: Vec<AtomicU64>,
}

impl PollerProgress {
    /// The progress of a poller over so many rings.
    pub fn over(rings: usize) -> Self {
        Self {
            rings: (0..rings).map(|_| AtomicU64::new(0)).collect(),
            ..Self::default()
        }
    }

    /// How many slots of each ring were in use when the last epoch was cut; empty unless made by
    /// [`over`](Self::over). Relaxed: numbers to show.
    pub fn rings(&self) -> Vec<u64> {
        let used = self.rings.iter();
        used.map(|used| used.load(Ordering::Relaxed)).collect()
    }

    /// How many records went to shards. Relaxed: a number to show.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// How many records were passed over because their range was past them already.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// How often a full ring made it pause.
    pub fn paused(&self) -> u64 {
        self.paused.load(Ordering::Relaxed)
    }
}

/// What a poller starts from.
pub struct PollerStart {
    /// When to cut.
    pub settings: PollerSettings,
    /// Each partition it reads, from where.
    pub partitions: Vec<PartitionStart>,
    /// Operators' notes about records still to come.
    pub notes: Vec<Note>,
    /// The number of the first epoch it will cut.
    pub first_epoch: EpochNumber,
    /// Set from outside to stop: a last epoch is cut, then the poller is done.
    pub stop: Arc<AtomicBool>,
    /// Set from outside while nothing may be read: the lease has run out and is not regained.
    pub paused: Arc<AtomicBool>,
    /// How far each writer got.
    pub writers: Vec<Arc<WriterProgress>>,
    /// Where it tells how far it got.
    pub progress: Arc<PollerProgress>,
}

/// Reads the log and routes records by the hash of their key; never parses them, never blocks.
///
/// A full ring is back-pressure: the record is offered again by the log at the next call.
pub struct Poller<L: Log, C: Clock> {
    log: L,
    clock: C,
    settings: PollerSettings,
    ports: Vec<PollerPort>,
    partitions: Vec<PartitionState>,
    notes: Vec<Note>,
    next_epoch: EpochNumber,
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    writers: Vec<Arc<WriterProgress>>,
    progress: Arc<PollerProgress>,
    epoch_records: u64,
    epoch_bytes: u64,
    epoch_since_ns: u64,
    /// A barrier that not every ring has taken yet, and which ring is next.
    barrier: Option<(Arc<Cut>, usize)>,
    done: bool,
}

impl<L: Log, C: Clock> Poller<L, C> {
    /// A poller over one ring a shard, in the order of their hash ranges.
    pub fn new(start: PollerStart, log: L, clock: C, ports: Vec<PollerPort>) -> Self {
        assert!(!ports.is_empty(), "no shards");
        assert!(
            start.settings.flush_max_commands > 0 && start.settings.batch > 0,
            "an epoch or a batch of nothing"
        );
        let epoch_since_ns = clock.monotonic_ns();
        Self {
            log,
            clock,
            settings: start.settings,
            ports,
            partitions: start
                .partitions
                .into_iter()
                .map(PartitionState::new)
                .collect(),
            notes: start.notes,
            next_epoch: start.first_epoch,
            stop: start.stop,
            paused: start.paused,
            writers: start.writers,
            progress: start.progress,
            epoch_records: 0,
            epoch_bytes: 0,
            epoch_since_ns,
            barrier: None,
            done: false,
        }
    }

    /// The log it reads.
    pub fn log(&self) -> &L {
        &self.log
    }

    fn read(&mut self) -> Result<usize, PollerError<L::Error>> {
        let room = self.settings.flush_max_commands - self.epoch_records;
        let max = (self.settings.batch as u64).min(room) as usize;
        let mut routing = Routing {
            ports: &mut self.ports,
            partitions: &mut self.partitions,
            notes: &self.notes,
            latest_ms: self
                .clock
                .wall_ms()
                .saturating_add((self.settings.window_ms / 4) as i64),
            spill_max_bytes: self.settings.spill_max_bytes,
            routed: 0,
            skipped: 0,
            bytes: 0,
            paused: false,
            error: None,
        };
        let taken = self.log.poll(max, &mut |record| routing.take(&record));
        let Routing {
            routed,
            skipped,
            bytes,
            paused,
            error,
            ..
        } = routing;
        for port in &mut self.ports {
            if port.commands.pending() > 0 {
                port.commands.publish();
                port.shard.wake();
            }
        }
        if let Some(error) = error {
            return Err(error);
        }
        let taken = taken.map_err(PollerError::Log)?;
        if self.epoch_records == 0 && taken > 0 {
            self.epoch_since_ns = self.clock.monotonic_ns();
        }
        // A skipped record counts: the cut must pass it.
        self.epoch_records += taken as u64;
        self.epoch_bytes += bytes;
        self.progress.records.fetch_add(routed, Ordering::Relaxed);
        self.progress.skipped.fetch_add(skipped, Ordering::Relaxed);
        self.progress
            .paused
            .fetch_add(u64::from(paused), Ordering::Relaxed);
        Ok(taken)
    }

    fn cut_is_due(&self) -> bool {
        if self.epoch_records == 0 {
            return false;
        }
        self.epoch_records >= self.settings.flush_max_commands
            || self.epoch_bytes >= self.settings.flush_max_bytes
            || (self.clock.monotonic_ns() - self.epoch_since_ns
                >= self.settings.flush_interval_ms * 1_000_000
                && self.waiting_epochs() < EPOCHS_AHEAD)
    }

    /// How many epochs were cut that not every writer has committed.
    fn waiting_epochs(&self) -> u64 {
        let committed = self.writers.iter().map(|writer| writer.epoch().get());
        let cut = self.next_epoch.get() - 1;
        cut - committed.min().unwrap_or(cut)
    }

    fn cut(&mut self, last: bool) {
        for (used, port) in self.progress.rings.iter().zip(&self.ports) {
            used.store(port.commands.occupancy() as u64, Ordering::Relaxed);
        }
        let cut = Cut {
            epoch: self.next_epoch,
            partitions: self.partitions.iter().map(PartitionState::cut).collect(),
            last,
        };
        self.next_epoch = self.next_epoch.next();
        self.epoch_records = 0;
        self.epoch_bytes = 0;
        self.barrier = Some((Arc::new(cut), 0));
    }

    /// Puts the barrier into every ring, as far as there is room. Returns how many took it.
    fn spread_barrier(&mut self) -> usize {
        let Some((cut, next)) = &mut self.barrier else {
            return 0;
        };
        let mut work = 0;
        while let Some(port) = self.ports.get_mut(*next) {
            let Some(slot) = port.commands.try_claim() else {
                return work;
            };
            slot.set_barrier(cut.clone());
            port.commands.publish();
            port.shard.wake();
            *next += 1;
            work += 1;
        }
        self.done = cut.last;
        self.barrier = None;
        work
    }
}

impl<L: Log, C: Clock> Agent for Poller<L, C> {
    type Error = PollerError<L::Error>;

    fn role(&self) -> &str {
        "poller"
    }

    fn do_work(&mut self) -> Result<usize, Self::Error> {
        if self.done {
            return Ok(0);
        }
        if self.barrier.is_some() {
            return Ok(self.spread_barrier());
        }
        // Acquire: whoever asked to stop had its reasons before.
        if self.stop.load(Ordering::Acquire) {
            self.cut(true);
            return Ok(1 + self.spread_barrier());
        }
        // Acquire, as above. What was read already may still be cut: the fence decides.
        let mut work = if self.paused.load(Ordering::Acquire) {
            0
        } else {
            self.read()?
        };
        if self.cut_is_due() {
            self.cut(false);
            work += 1 + self.spread_barrier();
        }
        Ok(work)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

/// One call's worth of routing.
struct Routing<'a, E: std::error::Error> {
    ports: &'a mut [PollerPort],
    partitions: &'a mut [PartitionState],
    notes: &'a [Note],
    latest_ms: i64,
    spill_max_bytes: usize,
    routed: u64,
    skipped: u64,
    bytes: u64,
    paused: bool,
    error: Option<PollerError<E>>,
}

impl<E: std::error::Error> Routing<'_, E> {
    fn take(&mut self, record: &Record<'_>) -> Taken {
        match self.route(record) {
            Ok(taken) => taken,
            Err(error) => {
                self.error = Some(error);
                Taken::NotNow
            }
        }
    }

    fn route(&mut self, record: &Record<'_>) -> Result<Taken, PollerError<E>> {
        let Some(state) = self
            .partitions
            .iter_mut()
            .find(|state| state.partition() == record.partition)
        else {
            return Err(PollerError::UnknownPartition {
                partition: record.partition,
                offset: record.offset,
            });
        };
        state.expect(record)?;
        let mut record = *record;
        let mut counts = true;
        // Notes are few and mostly none: no look-up table.
        for note in self.notes {
            if (note.generation, note.partition, note.offset)
                == (record.generation, record.partition, record.offset)
            {
                match note.kind {
                    NoteKind::Refuse => record.mark = Mark::OperatorRefused,
                    NoteKind::IgnoreTime => counts = false,
                }
            }
        }
        // A time that another range has committed has moved the clock for good, and no note can
        // be written about it any more: stopping would help nobody.
        let is_ahead = counts && record.timestamp_ms > self.latest_ms;
        if is_ahead && !state.is_past_for_some(record.offset) {
            return Err(PollerError::TimeAhead {
                partition: record.partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                latest_ms: self.latest_ms,
            });
        }
        let clock_ms = state.clock_at(&record, counts);
        let hash = key_hash(record.key);
        if state.is_past(hash, record.offset) {
            state.advance(&record, clock_ms, hash);
            self.skipped += 1;
            return Ok(Taken::Yes);
        }
        let shard = shard_of(hash, self.ports.len() as u32) as usize;
        let port = &mut self.ports[shard];
        let spill = CommandSlot::spill_bytes_of(&record);
        // Relaxed: a bound on memory. One record is always let in, however large.
        let waiting = port.spilled_bytes.load(Ordering::Relaxed);
        if spill > 0 && waiting > 0 && waiting + spill > self.spill_max_bytes {
            self.paused = true;
            return Ok(Taken::NotNow);
        }
        let Some(slot) = port.commands.try_claim() else {
            self.paused = true;
            return Ok(Taken::NotNow);
        };
        slot.set_record(&record, clock_ms, hash);
        if spill > 0 {
            port.spilled_bytes.fetch_add(spill, Ordering::Relaxed);
        }
        state.advance(&record, clock_ms, hash);
        self.routed += 1;
        self.bytes += (record.key.len() + record.value.len() + record.headers.len()) as u64;
        Ok(Taken::Yes)
    }
}
