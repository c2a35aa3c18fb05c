//! All threads that write to one Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    full_offer::FullOffer, offers::Offers, settings::RedisSettings, source::OpenSource,
    status::RedisStatus, writer::RedisWriter,
};

/// The running threads. Dropping it tells them to stop and does not wait.
pub struct Projection {
    offers: Arc<Offers>,
    status: Arc<RedisStatus>,
    stop: Arc<AtomicBool>,
    threads: usize,
    /// Gets a word from each thread as it ends, and is cut off when all have.
    ended: Receiver<()>,
}

impl Projection {
    pub(super) fn start(
        settings: &RedisSettings,
        offers: Arc<Offers>,
        source: Option<OpenSource>,
    ) -> std::io::Result<Self> {
        let (tell, ended) = mpsc::channel();
        let mut projection = Self {
            offers: Arc::clone(&offers),
            status: Arc::default(),
            stop: Arc::default(),
            threads: 0,
            ended,
        };
        for index in 0..offers.writers() {
            let status = Arc::clone(&projection.status);
            let mut writer = RedisWriter::new(settings, Arc::clone(&offers), index, status);
            let stop = Arc::clone(&projection.stop);
            let work = move || writer.run(&stop);
            projection.begin(format!("redis-{index}"), tell.clone(), work)?;
        }
        if let Some(source) = source {
            let status = Arc::clone(&projection.status);
            let mut full = FullOffer::new(settings, source, offers, status);
            let stop = Arc::clone(&projection.stop);
            projection.begin("redis-full".into(), tell, move || full.run(&stop))?;
        }
        Ok(projection)
    }

    fn begin(
        &mut self,
        name: String,
        tell: Sender<()>,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        thread::Builder::new().name(name).spawn(move || {
            work();
            // Nobody listens any more if the projection was dropped.
            let _ = tell.send(());
        })?;
        self.threads += 1;
        Ok(())
    }

    /// Where balances are to be offered.
    pub fn offers(&self) -> &Arc<Offers> {
        &self.offers
    }

    /// How it goes.
    pub fn status(&self) -> &Arc<RedisStatus> {
        &self.status
    }

    /// Tells the threads to write what waits and end, and waits for that; whether they have ended in
    /// time. What is not written then is offered by the next start.
    pub fn stop(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.tell();
        (0..self.threads).all(|_| {
            let left = deadline.saturating_duration_since(Instant::now());
            self.ended.recv_timeout(left).is_ok()
        })
    }

    fn tell(&self) {
        self.stop.store(true, Ordering::Release);
        self.offers.ring_all();
    }
}

impl Drop for Projection {
    fn drop(&mut self) {
        self.tell();
    }
}
