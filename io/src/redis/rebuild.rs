//! Brings every balance to Redis while somebody waits for it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    back_off::BackOff,
    error::RedisError,
    settings::RedisSettings,
    source::OpenSource,
    walk::{Step, Walk},
};

/// Failures in a row, with pauses between them, after which it is given up.
const FAILURES: u32 = 8;

/// Times that it is begun anew because the server lost data.
const LOSSES: u32 = 3;

/// What was rebuilt, so far or in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Balances that were read from the source and are in Redis now, in this version or a higher.
    pub rows: u64,
    /// Of them, those that were written; Redis had the others already.
    pub written: u64,
    /// Times that a page or a look at the server failed and was tried again.
    pub retries: u64,
}

/// Brings every balance of a source to Redis, and sets the marker. Versions that are higher in Redis
/// stay: after the source itself went back in time, flush Redis first.
///
/// `progress` is told after each page.
///
/// # Errors
///
/// When it fails several times in a row, the last reason; when the server keeps losing data,
/// [`RedisError::Unsteady`]. What was written stays, and doing it again does no harm.
pub fn rebuild(
    settings: &RedisSettings,
    source: OpenSource,
    progress: &mut dyn FnMut(&Rebuilt),
) -> Result<Rebuilt, RedisError> {
    let mut walk = Walk::new(settings, source);
    let mut back_off = BackOff::new(settings);
    let mut rebuilt = Rebuilt::default();
    let mut failures = 0;
    let mut losses = 0;
    loop {
        match walk.step() {
            Ok(Step::Page { rows, written }) => {
                failures = 0;
                back_off.reset();
                rebuilt.rows += rows;
                rebuilt.written += written;
                progress(&rebuilt);
            }
            Ok(Step::Done(_)) => return Ok(rebuilt),
            Ok(Step::Lost) => {
                losses += 1;
                if losses == LOSSES {
                    return Err(RedisError::Unsteady {
                        address: settings.address(),
                        times: losses,
                    });
                }
                rebuilt.rows = 0;
                rebuilt.written = 0;
            }
            Err(error) => {
                failures += 1;
                if failures == FAILURES {
                    return Err(error);
                }
                rebuilt.retries += 1;
                pause(back_off.pause());
            }
        }
    }
}

fn pause(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}
