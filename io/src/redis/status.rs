//! How it goes, for those outside.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use parking_lot::Mutex;

use super::error::RedisError;

/// Counters and the state of the connection, shared by all threads that write to Redis.
///
/// Counters only grow, and are exact each for itself.
#[derive(Debug, Default)]
pub struct RedisStatus {
    written: AtomicU64,
    left_alone: AtomicU64,
    retries: AtomicU64,
    outages: AtomicU64,
    full_offers: AtomicU64,
    offered_rows: AtomicU64,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    up: usize,
    down: usize,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    reason: String,
}

impl RedisStatus {
    /// Balances that Redis took.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Balances of which Redis had a version as high already.
    pub fn left_alone(&self) -> u64 {
        self.left_alone.load(Ordering::Relaxed)
    }

    /// Balances that have to be sent again, as often as it happened.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Times that Redis was away or refused; each is logged once, and once when it is over.
    pub fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    /// Times that every balance was offered, to the end.
    pub fn full_offers(&self) -> u64 {
        self.full_offers.load(Ordering::Relaxed)
    }

    /// Balances that full offers have brought to Redis.
    pub fn offered_rows(&self) -> u64 {
        self.offered_rows.load(Ordering::Relaxed)
    }

    /// Whether Redis was reached, and by each thread that tried last.
    pub fn is_connected(&self) -> bool {
        let health = self.health.lock();
        health.up > 0 && health.down == 0
    }

    /// Why Redis is away, as it was first told.
    pub fn reason(&self) -> Option<String> {
        let health = self.health.lock();
        health.outage.as_ref().map(|outage| outage.reason.clone())
    }

    pub(super) fn count_written(&self, written: u64, left_alone: u64) {
        self.written.fetch_add(written, Ordering::Relaxed);
        self.left_alone.fetch_add(left_alone, Ordering::Relaxed);
    }

    pub(super) fn count_retries(&self, images: usize) {
        self.retries.fetch_add(images as u64, Ordering::Relaxed);
    }

    pub(super) fn count_offered(&self, rows: u64) {
        self.offered_rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn count_full_offer(&self) {
        self.full_offers.fetch_add(1, Ordering::Relaxed);
    }
}

/// What one thread contributes to whether Redis is there.
#[derive(Debug)]
pub(super) struct Pulse {
    state: State,
    /// Failures since it was up.
    misses: u32,
    address: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Up,
    Down,
}

impl Pulse {
    pub(super) fn new(address: String) -> Self {
        Self {
            state: State::Unknown,
            misses: 0,
            address,
        }
    }

    /// This thread got through.
    pub(super) fn up(&mut self, status: &RedisStatus) {
        self.misses = 0;
        if self.state == State::Up {
            return;
        }
        let mut health = status.health.lock();
        self.leave(&mut health);
        self.state = State::Up;
        health.up += 1;
        if health.down == 0
            && let Some(outage) = health.outage.take()
        {
            tracing::info!(
                address = self.address,
                seconds = outage.since.elapsed().as_secs(),
                "Redis is back; balances that waited are being written"
            );
        }
    }

    /// This thread did not get through.
    pub(super) fn down(&mut self, status: &RedisStatus, error: &RedisError) {
        if self.state == State::Down {
            return;
        }
        self.misses += 1;
        if self.state == State::Up && self.misses == 1 && error.code().is_none() {
            // An idle connection may have been cut; connecting anew tells.
            return;
        }
        let mut health = status.health.lock();
        self.leave(&mut health);
        self.state = State::Down;
        health.down += 1;
        if health.outage.is_none() {
            let reason = error.chain();
            status.outages.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                address = self.address,
                reason,
                "Redis does not take balances; the newest of each waits and is tried again"
            );
            health.outage = Some(Outage {
                since: Instant::now(),
                reason,
            });
        }
    }

    fn leave(&self, health: &mut Health) {
        match self.state {
            State::Unknown => {}
            State::Up => health.up -= 1,
            State::Down => health.down -= 1,
        }
    }
}
