//! Time in generations.

/// How many generations after it was remembered an id is still alive.
pub(super) const ALIVE: u64 = 40;

/// How many generations after the clock an id may be remembered: a quarter of [`ALIVE`].
pub(super) const AHEAD: u64 = ALIVE / 4;

/// How many generations one sweep over all lines takes.
pub(super) const SWEEP: u64 = 8;

/// How many generations have a code of their own. Codes of 6 bits leave 0 for an empty entry.
const CODES: u64 = 63;

/// No entry is older than this when it is decoded: alive when last swept, and a sweep ago.
const OLDEST: u64 = ALIVE + SWEEP;

const _: () = assert!(
    AHEAD + 1 + OLDEST <= CODES,
    "two generations would share a code"
);

/// A partition's clock, read in generations of a fortieth of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    granule_ms: u64,
    now_ms: u64,
    generation: u64,
    /// The code of `generation`, 1 ..= 63.
    code: u8,
}

impl Clock {
    pub(super) fn new(length_ms: u64) -> Self {
        assert!(length_ms >= ALIVE, "a window is at least {ALIVE} ms long");
        let mut clock = Self {
            granule_ms: length_ms.div_ceil(ALIVE),
            now_ms: 0,
            generation: 0,
            code: 0,
        };
        clock.set(0);
        clock
    }

    #[inline]
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The time one sweep over all lines takes, in milliseconds.
    #[inline]
    pub(super) fn sweep_ms(&self) -> u64 {
        self.granule_ms * SWEEP
    }

    pub(super) fn set(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.generation = now_ms / self.granule_ms;
        self.code = code(self.generation);
    }

    /// How many generations lie between the clock and a later time.
    pub(super) fn generations_to(&self, later_ms: u64) -> u64 {
        later_ms / self.granule_ms - self.generation
    }

    /// The code of a time: `None` if what was remembered then is forgotten now.
    ///
    /// # Panics
    ///
    /// When the time lies more than [`AHEAD`] generations after the clock.
    #[inline]
    pub(super) fn code_of(&self, remembered_ms: u64) -> Option<u8> {
        let generation = remembered_ms / self.granule_ms;
        assert!(
            generation <= self.generation + AHEAD,
            "an id of {remembered_ms} ms lies more than a quarter of the window after the clock, \
             {now_ms} ms",
            now_ms = self.now_ms
        );
        (self.generation <= generation + ALIVE).then(|| code(generation))
    }

    /// How many generations old the code of an entry is; negative after the clock.
    #[inline]
    pub(super) fn age(&self, code: u8) -> i64 {
        // Both are 1 ..= 63, so the difference is −62 ..= 62; modulo 63 it is how far ahead.
        let difference = i64::from(code) - i64::from(self.code);
        let ahead = difference + ((difference >> 63) & CODES as i64);
        if ahead <= AHEAD as i64 {
            -ahead
        } else {
            CODES as i64 - ahead
        }
    }

    /// The codes that will have expired `jump` generations from now.
    pub(super) fn expired(&self, jump: u64) -> Expired {
        // The codes that stay alive are those of ages −10 ..= 40 − jump, a range modulo 63; what is
        // not alive is the range of the older ages, which never is empty.
        let all = Expired {
            from: 1,
            to: CODES as u8,
            others: false,
        };
        let Some(oldest) = (ALIVE + AHEAD).checked_sub(jump) else {
            return all;
        };
        let newest = code(self.generation + AHEAD);
        // `oldest` generations below the newest, on the circle of codes.
        let oldest = code(u64::from(newest) - 1 + CODES - oldest);
        if oldest <= newest {
            Expired {
                from: oldest,
                to: newest,
                others: true,
            }
        } else {
            Expired {
                from: newest + 1,
                to: oldest - 1,
                others: false,
            }
        }
    }

    /// Whether an entry of this code is alive.
    #[inline]
    pub(super) fn is_alive(&self, code: u8) -> bool {
        code != 0 && self.age(code) <= ALIVE as i64
    }
}

/// The codes of 1 ..= 63 that have expired: a range, or all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expired {
    /// The first of the range.
    pub(super) from: u8,
    /// The last of the range, `from` or more.
    pub(super) to: u8,
    /// The range is what has *not* expired.
    pub(super) others: bool,
}

/// The code of a generation, 1 ..= 63.
#[inline]
fn code(generation: u64) -> u8 {
    (generation % CODES) as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_every_age_they_are_asked() {
        let mut clock = Clock::new(40);
        for now in 100..300 {
            clock.set(now);
            for age in -(AHEAD as i64)..=OLDEST as i64 {
                let then = code((now as i64 - age) as u64);
                assert_eq!(clock.age(then), age, "at {now}");
                assert_eq!(clock.is_alive(then), age <= 40);
                for jump in 0..70 {
                    let Expired { from, to, others } = clock.expired(jump);
                    assert!(1 <= from && from <= to && to <= 63);
                    let expired = (from..=to).contains(&then) != others;
                    assert_eq!(expired, age + jump as i64 > 40, "{age} {jump}");
                }
            }
        }
        assert!(!clock.is_alive(0));
    }

    #[test]
    fn an_id_lives_for_the_length_and_at_most_one_generation_more() {
        let mut clock = Clock::new(86_400_000);
        assert_eq!(clock.granule_ms, 2_160_000);
        let remembered = 2_160_000 * 1000 - 1;
        clock.set(remembered + 86_400_000);
        assert!(clock.code_of(remembered).is_some());
        assert!(clock.code_of(remembered + 1 - 2_160_000).is_some());
        clock.set(remembered + 86_400_000 + 1);
        assert!(clock.code_of(remembered).is_none());
    }
}
