//! Offers every balance in the background when Redis may have lost some.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    back_off::BackOff,
    error::RedisError,
    offers::Offers,
    pass::Sights,
    settings::RedisSettings,
    source::OpenSource,
    status::{Pulse, RedisStatus},
    walk::{Step, Walk},
};

/// How often a page gives way to newer images that wait, and for how long each time: so a full
/// offer goes on under any load, if slowly.
const GIVES_WAY: u32 = 20;
const GIVES_WAY_FOR: Duration = Duration::from_millis(10);

/// Looks every few seconds whether each server is the one it was and still has the marker, and if
/// not offers every balance, a page at a time.
pub(super) struct FullOffer {
    walk: Walk,
    /// The servers as they were when every balance had landed.
    known: Option<Sights>,
    offers: Arc<Offers>,
    status: Arc<RedisStatus>,
    back_off: BackOff,
    pulse: Pulse,
    source_failed: bool,
    /// What was said since every balance had landed; it is not said again on each try.
    told: Told,
    check_interval: Duration,
}

#[derive(Debug, Default)]
struct Told {
    begin: bool,
    lost: bool,
}

impl FullOffer {
    pub(super) fn new(
        settings: &RedisSettings,
        source: OpenSource,
        offers: Arc<Offers>,
        status: Arc<RedisStatus>,
    ) -> Self {
        Self {
            walk: Walk::new(settings, source),
            known: None,
            offers,
            status,
            back_off: BackOff::new(settings),
            pulse: Pulse::new(settings.address()),
            source_failed: false,
            told: Told::default(),
            check_interval: settings.check_interval,
        }
    }

    /// Works until told to stop.
    pub(super) fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let pause = match self.work(stop) {
                Ok(true) => {
                    self.back_off.reset();
                    self.check_interval
                }
                Ok(false) => self.back_off.pause(),
                Err(error) => {
                    self.tell(&error);
                    self.back_off.pause()
                }
            };
            self.pause(pause, stop);
        }
    }

    /// Offers every balance, if that is due. Whether it came to an end.
    fn work(&mut self, stop: &AtomicBool) -> Result<bool, RedisError> {
        if !self.walk.is_under_way() {
            if self.offers.take_missed() {
                self.known = None;
            }
            let sights = self.walk.look()?;
            self.pulse.up(&self.status);
            if self.known.as_ref() == Some(&sights) {
                return Ok(true);
            }
            if !std::mem::replace(&mut self.told.begin, true) {
                tracing::info!(
                    first = self.known.is_none(),
                    "offering every balance to Redis: it may lack some"
                );
            }
        }
        while !stop.load(Ordering::Acquire) {
            self.give_way(stop);
            match self.walk.step()? {
                Step::Page { rows, written } => {
                    self.pulse.up(&self.status);
                    self.back_off.reset();
                    self.source_failed = false;
                    self.status.count_written(written, rows - written);
                    self.status.count_offered(rows);
                }
                Step::Done(sights) => {
                    tracing::info!("every balance was offered to Redis");
                    self.pulse.up(&self.status);
                    self.known = Some(sights);
                    self.told = Told::default();
                    self.status.count_full_offer();
                    return Ok(true);
                }
                Step::Lost => {
                    if !std::mem::replace(&mut self.told.lost, true) {
                        tracing::warn!(
                            "Redis lost balances while all were offered to it; once more, until it \
                             keeps them"
                        );
                    }
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    /// Newer images go first.
    fn give_way(&self, stop: &AtomicBool) {
        for _ in 0..GIVES_WAY {
            if self.offers.waiting() < self.offers.batch() {
                break;
            }
            self.pause(GIVES_WAY_FOR, stop);
        }
    }

    fn pause(&self, time: Duration, stop: &AtomicBool) {
        self.offers.pause(self.offers.background(), time, stop);
    }

    fn tell(&mut self, error: &RedisError) {
        if !matches!(error, RedisError::Source(_)) {
            self.pulse.down(&self.status, error);
        } else if !self.source_failed {
            self.source_failed = true;
            tracing::warn!(
                reason = error.chain(),
                "cannot offer every balance to Redis yet; it is tried again"
            );
        }
    }
}
