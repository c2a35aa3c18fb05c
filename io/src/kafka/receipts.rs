//! What was published and what of it the brokers have acknowledged, for whoever watches over it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use parking_lot::Mutex;

use super::{
    settings::KafkaSettings,
    unanswered::{Unanswered, are_led},
};

/// The receipts of a [`KafkaSink`](super::KafkaSink). Relaxed: they are compared over seconds.
#[derive(Debug, Default)]
pub struct Receipts {
    handed: AtomicU64,
    acknowledged: AtomicU64,
    unanswered: Mutex<Unanswered>,
    lost: Mutex<Option<String>>,
}

impl Receipts {
    pub(super) fn handed(&self) {
        self.handed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn acknowledged(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were handed over, and how many of them acknowledged.
    pub(super) fn counts(&self) -> (u64, u64) {
        // Read in this order, they cannot make one seem answered that is not.
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        (self.handed.load(Ordering::Relaxed), acknowledged)
    }

    /// Looks whether the brokers take results, but not from this producer. May wait for them.
    pub(super) fn look(&self, settings: &KafkaSettings) {
        let (handed, acknowledged) = self.counts();
        let topics = [&*settings.results, &*settings.dead_letters];
        let are_there = || are_led(settings, &topics);
        let mut unanswered = self.unanswered.lock();
        let lost = unanswered.look(Instant::now(), handed, acknowledged, are_there);
        if lost.is_some() {
            *self.lost.lock() = lost;
        }
    }

    /// Why nothing more is to be expected, if that was found.
    pub(super) fn lost(&self) -> Option<String> {
        self.lost.lock().clone()
    }
}
