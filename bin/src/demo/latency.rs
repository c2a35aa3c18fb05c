//! How long records take from their append to being applied, and to being durable.
//!
//! Measured from the moment their batch was about to be appended. The loop is closed: appending
//! waits when too much is in flight, so these are figures of a node under full load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use kilter_engine::{epoch::Epoch, result::ResultRecord};
use parking_lot::Mutex;

use crate::{node::Observer, outcomes::Watch};

/// The longest latency that is told apart, in µs: ten minutes.
const MAX_US: u64 = 600_000_000;

/// Latencies in µs.
type Micros = Histogram<u64>;

/// Append times by batch, and the histograms.
pub struct Latency {
    start: Instant,
    base: u64,
    batch: u64,
    /// When each batch was about to be appended, in ns since `start`.
    appended_ns: Vec<AtomicU64>,
    applied: Mutex<Micros>,
    durable: Mutex<Micros>,
    last_durable_us: AtomicU64,
    epochs: AtomicU64,
}

impl Latency {
    /// For `records` records from offset `base` on, appended in batches of `batch`.
    pub fn new(base: u64, records: u64, batch: u64) -> Self {
        Self {
            start: Instant::now(),
            base,
            batch,
            appended_ns: (0..=records / batch).map(|_| AtomicU64::new(0)).collect(),
            applied: Mutex::new(histogram()),
            durable: Mutex::new(histogram()),
            last_durable_us: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
        }
    }

    /// The batch that begins at this offset is about to be appended.
    pub fn appending(&self, offset: u64) {
        if let Some(slot) = self.slot(offset) {
            // Relaxed: the log's own synchronisation lies between this and any look at it.
            slot.store(self.now_ns(), Ordering::Relaxed);
        }
    }

    /// The oldest record's latency in the last epoch.
    pub fn last_durable(&self) -> Duration {
        Duration::from_micros(self.last_durable_us.load(Ordering::Relaxed))
    }

    /// How many epochs were committed.
    pub fn epochs(&self) -> u64 {
        self.epochs.load(Ordering::Relaxed)
    }

    /// From append to applied.
    pub fn applied(&self) -> Micros {
        self.applied.lock().clone()
    }

    /// From append to durable.
    pub fn durable(&self) -> Micros {
        self.durable.lock().clone()
    }

    /// What the publisher shows each result to.
    pub fn watch(self: &Arc<Self>) -> AppliedWatch {
        AppliedWatch {
            latency: Arc::clone(self),
            fresh: histogram(),
        }
    }

    fn slot(&self, offset: u64) -> Option<&AtomicU64> {
        let index = offset.checked_sub(self.base)? / self.batch;
        self.appended_ns.get(index as usize)
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn since_us(&self, offset: u64, now_ns: u64) -> Option<u64> {
        let appended_ns = self.slot(offset)?.load(Ordering::Relaxed);
        Some((now_ns.saturating_sub(appended_ns) / 1000).clamp(1, MAX_US))
    }
}

impl Observer for Latency {
    fn committed(&self, epoch: &Epoch<'_>) {
        let now_ns = self.now_ns();
        let mut durable = self.durable.lock();
        for entry in epoch.parts.iter().flat_map(|part| &part.ledger) {
            if let Some(us) = self.since_us(entry.position.offset.get(), now_ns) {
                durable.saturating_record(us);
            }
        }
        drop(durable);
        let oldest = epoch.rows.iter().map(|step| step.before.offset.get()).min();
        if let Some(us) = oldest.and_then(|offset| self.since_us(offset, now_ns)) {
            self.last_durable_us.store(us, Ordering::Relaxed);
        }
        self.epochs.fetch_add(1, Ordering::Relaxed);
    }
}

/// The publisher's side.
pub struct AppliedWatch {
    latency: Arc<Latency>,
    fresh: Micros,
}

impl Watch for AppliedWatch {
    fn published(&mut self, result: &ResultRecord, now: Instant) {
        let now_ns = now.duration_since(self.latency.start).as_nanos() as u64;
        let offset = result.position.offset.get();
        if let Some(us) = self.latency.since_us(offset, now_ns) {
            self.fresh.saturating_record(us);
        }
    }

    fn flushed(&mut self) {
        // Both have the same bounds, so nothing can fail to fit.
        let added = self.latency.applied.lock().add(&self.fresh);
        debug_assert!(added.is_ok());
        self.fresh.reset();
    }
}

fn histogram() -> Micros {
    match Histogram::new_with_bounds(1, MAX_US, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constant: {error}"),
    }
}
