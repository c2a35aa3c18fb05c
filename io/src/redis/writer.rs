//! A thread that brings what waits to Redis.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kilter_engine::epoch::BalanceImage;

use super::{
    back_off::BackOff,
    offers::Offers,
    projection::Projection,
    sender::{Sender, Sent},
    settings::RedisSettings,
    source::OpenSource,
    status::{Pulse, RedisStatus},
};

/// Writes its share of the balances that wait, for ever.
///
/// Every `interval`, or when a batch waits, it takes what waits and writes it. What does not get
/// through goes back to wait, unless a newer image has come, and is tried again after a pause that
/// doubles up to a limit. In a cluster one failing node holds the others up by that pause at most.
pub struct RedisWriter {
    offers: Arc<Offers>,
    index: usize,
    status: Arc<RedisStatus>,
    sender: Sender,
    back_off: BackOff,
    pulse: Pulse,
    taken: Vec<BalanceImage>,
}

impl RedisWriter {
    /// Writer `index` of those that `offers` was made for. It connects when there is something to
    /// write.
    ///
    /// # Panics
    ///
    /// If there is no such writer.
    pub fn new(
        settings: &RedisSettings,
        offers: Arc<Offers>,
        index: usize,
        status: Arc<RedisStatus>,
    ) -> Self {
        assert!(index < offers.writers(), "offers has no writer {index}");
        Self {
            offers,
            index,
            status,
            sender: Sender::new(settings),
            back_off: BackOff::new(settings),
            pulse: Pulse::new(settings.address()),
            taken: Vec::with_capacity(Sender::appetite(settings)),
        }
    }

    /// Starts all writers of `offers`, and a thread that sees to full offers if there is a source to
    /// open.
    ///
    /// # Errors
    ///
    /// When the operating system starts no more threads.
    pub fn spawn(
        settings: &RedisSettings,
        offers: Arc<Offers>,
        source: Option<OpenSource>,
    ) -> std::io::Result<Projection> {
        Projection::start(settings, offers, source)
    }

    /// Works until told to stop, and then writes once more what waits if Redis is well. A pause ends
    /// at once only if [`Projection::stop`] tells it to.
    pub fn run(&mut self, stop: &AtomicBool) {
        let interval = self.sender.servers().settings().interval;
        while !stop.load(Ordering::Acquire) {
            self.offers.wait_for_batch(self.index, interval, stop);
            if self.write_all() {
                self.back_off.reset();
            } else {
                let pause = self.back_off.pause();
                self.offers.pause(self.index, pause, stop);
            }
        }
        self.write_all();
    }

    /// Writes what waits now; whether all of it got through.
    fn write_all(&mut self) -> bool {
        let mut left = self.offers.waiting_for(self.index);
        let mut all = true;
        while left > 0 {
            let appetite = Sender::appetite(self.sender.servers().settings());
            self.taken.clear();
            self.offers
                .take(self.index, appetite.min(left), &mut self.taken);
            if self.taken.is_empty() {
                break;
            }
            left -= self.taken.len();
            let sent = self.sender.send(&self.taken);
            all &= sent.failed.is_empty();
            let is_hopeless = sent.failed.len() == self.taken.len();
            self.account(sent);
            if is_hopeless {
                break;
            }
        }
        all
    }

    /// Counts, and puts back what did not get through.
    fn account(&mut self, sent: Sent) {
        self.status.count_written(sent.written, sent.left_alone);
        if sent.failed.is_empty() {
            self.pulse.up(&self.status);
            return;
        }
        self.status.count_retries(sent.failed.len());
        self.offers.offer_images(&sent.failed);
        if let Some(error) = &sent.error {
            self.pulse.down(&self.status, error);
        }
    }
}
