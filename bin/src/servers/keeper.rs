//! Keeps the lease while the node loads and works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use kilter_io::mysql::{Db, Lease, MysqlError, MysqlSettings, Taken};
use parking_lot::Mutex;

/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What the keeper's thread and its node tell each other.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    lost: Mutex<Option<MysqlError>>,
    renewals: AtomicU64,
    failures: AtomicU64,
}

/// Until when a lease holds for certain, by this process's own clock: from before the statement was
/// sent that renewed it last.
#[derive(Debug)]
pub struct Deadline {
    began: Instant,
    /// In ms since `began`.
    until_ms: AtomicU64,
}

impl Deadline {
    fn at(renewed: Instant, ttl: Duration) -> Self {
        let deadline = Self {
            began: renewed,
            until_ms: AtomicU64::new(0),
        };
        deadline.renew(renewed, ttl);
        deadline
    }

    fn renew(&self, renewed: Instant, ttl: Duration) {
        let until = renewed.saturating_duration_since(self.began) + ttl;
        // Relaxed: nothing else is ordered by it.
        self.until_ms
            .store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether another node may have taken over by now.
    pub fn is_past(&self) -> bool {
        self.began.elapsed().as_millis() as u64 >= self.until_ms.load(Ordering::Relaxed)
    }
}

/// A thread with a connection of its own that renews, and pauses the node past its deadline.
#[derive(Debug)]
pub struct Keeper {
    lease: Arc<Lease>,
    taken: Taken,
    settings: MysqlSettings,
    shared: Arc<Shared>,
    paused: Arc<AtomicBool>,
    deadline: Arc<Deadline>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts to renew what was `taken` by a statement that was sent at `sent`.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(
        mysql: &MysqlSettings,
        lease: Arc<Lease>,
        taken: Taken,
        interval: Duration,
        sent: Instant,
    ) -> anyhow::Result<Self> {
        // A statement that hangs must not outlast the lease by much before that is noticed.
        let patience = (lease.ttl() / 4).max(Duration::from_millis(100));
        let settings = MysqlSettings {
            connect_timeout: mysql.connect_timeout.min(patience),
            statement_timeout: mysql.statement_timeout.min(patience),
            lock_timeout: Duration::from_secs(1),
            ..mysql.clone()
        };
        let shared = Arc::<Shared>::default();
        let paused = Arc::<AtomicBool>::default();
        let deadline = Arc::new(Deadline::at(sent, lease.ttl()));
        let mut work = Work {
            settings: settings.clone(),
            lease: Arc::clone(&lease),
            taken: taken.clone(),
            interval,
            shared: Arc::clone(&shared),
            paused: Arc::clone(&paused),
            deadline: Arc::clone(&deadline),
            db: None,
            renewed: sent,
        };
        let thread = std::thread::Builder::new()
            .name("lease".into())
            .spawn(move || work.run())
            .context("no thread for the lease")?;
        Ok(Self {
            lease,
            taken,
            settings,
            shared,
            paused,
            deadline,
            thread: Some(thread),
        })
    }

    /// Set while the lease has run out and is not regained.
    pub fn paused(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.paused)
    }

    /// Until when the lease holds for certain.
    pub fn deadline(&self) -> Arc<Deadline> {
        Arc::clone(&self.deadline)
    }

    /// Whether the lease has run out and is not regained.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// What was taken.
    pub fn taken(&self) -> &Taken {
        &self.taken
    }

    /// How often it was renewed, and how often that failed.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.shared.renewals.load(Ordering::Relaxed),
            self.shared.failures.load(Ordering::Relaxed),
        )
    }

    /// Refuses to go on when another node has taken over.
    ///
    /// # Errors
    ///
    /// [`MysqlError::LeaseLost`].
    pub fn check(&self) -> Result<(), MysqlError> {
        match self.shared.lost.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Stops renewing and lets go. `clean` says that everything applied is committed.
    pub fn release(mut self, clean: bool) {
        self.end();
        let released = Db::open(&self.settings)
            .and_then(|mut db| self.lease.release(&mut db, &self.taken, clean));
        if let Err(error) = released {
            tracing::warn!("the lease was not released and expires by itself: {error}");
        }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has told of everything through `shared`.
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

struct Work {
    settings: MysqlSettings,
    lease: Arc<Lease>,
    taken: Taken,
    interval: Duration,
    shared: Arc<Shared>,
    paused: Arc<AtomicBool>,
    deadline: Arc<Deadline>,
    db: Option<Db>,
    /// When the last statement that renewed was sent.
    renewed: Instant,
}

impl Work {
    fn run(&mut self) {
        let mut next = self.renewed + self.interval;
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = Instant::now();
            if now < next {
                std::thread::park_timeout(next - now);
                continue;
            }
            let sent = Instant::now();
            match self.renew() {
                Ok(()) => {
                    self.renewed = sent;
                    self.deadline.renew(sent, self.lease.ttl());
                    next = sent + self.interval;
                    self.shared.renewals.fetch_add(1, Ordering::Relaxed);
                    if self.paused.swap(false, Ordering::AcqRel) {
                        tracing::info!("the lease is regained; going on");
                    }
                }
                Err(error) if error.is_passing() => {
                    self.db = None;
                    next = Instant::now() + RETRY;
                    self.shared.failures.fetch_add(1, Ordering::Relaxed);
                    let late = self.renewed.elapsed() >= self.lease.ttl();
                    if late && !self.paused.swap(true, Ordering::AcqRel) {
                        tracing::warn!(
                            "the lease has run out, pausing until it is regained: {error}"
                        );
                    }
                }
                Err(error) => {
                    self.paused.store(true, Ordering::Release);
                    *self.shared.lost.lock() = Some(error);
                    return;
                }
            }
        }
    }

    fn renew(&mut self) -> Result<(), MysqlError> {
        let db = match self.db.take() {
            Some(db) => self.db.insert(db),
            None => self.db.insert(Db::open(&self.settings)?),
        };
        self.lease.renew(db, &self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_moves_with_each_renewal() {
        let ttl = Duration::from_secs(60);
        let Some(sent) = Instant::now().checked_sub(ttl) else {
            return;
        };
        let deadline = Deadline::at(sent, ttl);
        assert!(deadline.is_past());
        deadline.renew(Instant::now(), ttl);
        assert!(!deadline.is_past());
    }
}
