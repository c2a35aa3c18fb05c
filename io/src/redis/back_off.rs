//! Pauses after failures.

use std::time::Duration;

use super::settings::RedisSettings;

/// The pause after the next failure: twice as long as the one before, up to a limit.
#[derive(Debug)]
pub(super) struct BackOff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl BackOff {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        let min = settings.back_off_min.max(Duration::from_millis(1));
        Self {
            min,
            max: settings.back_off_max.max(min),
            next: min,
        }
    }

    /// How long to wait now.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        pause
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}
