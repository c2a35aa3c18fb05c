//! How a thread waits when its rings have nothing for it, and how it is woken.
//!
//! An agent's loop calls [`Idle::idle`] after each `do_work` with the work done. Whoever puts
//! something into that agent's inputs (publishes to a ring it reads, releases slots of a ring it
//! writes, sets its stop flag, drops an end) calls [`Waker::wake`] afterwards. That is the whole
//! contract; with the spinning strategies `wake` does nothing, so the same code serves all three.
//!
//! No wake-up is lost. With `park`, an idle thread first *announces* that it will park and returns,
//! so that the agent looks at all its inputs once more; only if that look finds nothing, too, the
//! next call parks. The waker writes, fences and reads the announcement; the idler announces,
//! fences and reads the inputs. Of two such crossed pairs at least one sees the other (both fences
//! are SeqCst), so either the look finds the work or the waker finds the announcement. The parking
//! is bounded by [`PARK_LIMIT`] besides, for deadlines and for what has no waker.
//!
//! The idle strategies are agrona's (`BusySpinIdleStrategy`, `BackoffIdleStrategy`); the
//! announcement is what an event count does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::sync::{Arc, AtomicU8, Ordering, Parker, Unparker, fence, spin_loop, yield_now};

mod deferred;
#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;

pub use deferred::DeferredWaker;

/// The longest a thread parks before its agent looks around again: 10 ms.
pub const PARK_LIMIT: Duration = Duration::from_millis(10);

/// Looks in a row without work that are only a spin hint apart.
const SPIN_TURNS: u32 = if cfg!(loom) { 0 } else { 100 };

/// After those, looks that are a `sched_yield` apart, before the thread announces that it parks.
const YIELD_TURNS: u32 = if cfg!(loom) { 0 } else { 10 };

/// How a thread waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitStrategy {
    /// Looks again at once, for ever: the shortest latency, a whole core. For dedicated hosts.
    BusySpin,
    /// Looks again at once for a while, then gives the core to others between looks.
    SpinThenYield,
    /// Spins, yields, then sleeps until woken. For laptops and CI, and fewer cores than threads.
    Park,
}

impl WaitStrategy {
    /// Every strategy.
    pub const ALL: [Self; 3] = [Self::BusySpin, Self::SpinThenYield, Self::Park];

    /// The name used in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BusySpin => "busy-spin",
            Self::SpinThenYield => "spin-then-yield",
            Self::Park => "park",
        }
    }
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no wait strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no wait strategy is called {value:?}; there are busy-spin, spin-then-yield and park")]
pub struct UnknownWaitStrategy {
    /// The word.
    pub value: String,
}

impl FromStr for WaitStrategy {
    type Err = UnknownWaitStrategy;

    fn from_str(value: &str) -> Result<Self, UnknownWaitStrategy> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.name() == value)
            .ok_or_else(|| UnknownWaitStrategy {
                value: value.to_owned(),
            })
    }
}

/// The two ends of a thread's waiting: [`Idle`] for the thread itself, [`Waker`] for everyone that
/// gives it work.
#[must_use]
pub fn waiter(strategy: WaitStrategy) -> (Idle, Waker) {
    let parker = match strategy {
        WaitStrategy::BusySpin | WaitStrategy::SpinThenYield => None,
        WaitStrategy::Park => Some(Parker::new()),
    };
    let bell = parker.as_ref().map(|parker| {
        Arc::new(Bell {
            state: AtomicU8::new(AWAKE),
            sleeper: parker.unparker().clone(),
        })
    });
    let idle = Idle {
        strategy,
        turns: 0,
        announced: false,
        parks: 0,
        bed: parker.zip(bell.clone()),
    };
    (idle, Waker { bell })
}

const AWAKE: u8 = 0;
const ANNOUNCED: u8 = 1;

/// Where a parked thread and its wakers meet.
#[derive(Debug)]
struct Bell {
    /// Set to `ANNOUNCED` by the idler; set back by it, or by the one waker that unparks it. Every
    /// change is a swap, so that the changes are one after the other for everybody: a late waker
    /// of the last announcement cannot put its mark over the next one unseen.
    state: AtomicU8,
    sleeper: Unparker,
}

/// How an agent's loop waits; belongs to the thread that runs the loop.
#[derive(Debug)]
pub struct Idle {
    strategy: WaitStrategy,
    /// Calls without work since the last one with.
    turns: u32,
    /// Whether this idler announced itself and did not take it back; a waker may have.
    announced: bool,
    parks: u64,
    bed: Option<(Parker, Arc<Bell>)>,
}

impl Idle {
    /// To be called after each look at *all* inputs, with the work found there: anything but 0
    /// starts over, 0 waits a little, by strategy. It always comes back: after a spin hint, a
    /// yield, or at most [`PARK_LIMIT`].
    ///
    /// Between two calls with 0 the agent must have looked at every input that a waker speaks for,
    /// or a wake-up for the one left out waits for [`PARK_LIMIT`]. A `do_work` that looks at
    /// everything each time, as [`agent::run`](crate::agent::run) has it, is right by itself.
    #[inline]
    pub fn idle(&mut self, work: usize) {
        if work == 0 {
            self.wait();
        } else {
            self.turns = 0;
            if self.announced {
                self.withdraw();
            }
        }
    }

    /// The strategy it was made with.
    #[must_use]
    pub fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    /// How often the thread was parked: a figure for metrics.
    #[must_use]
    pub fn parks(&self) -> u64 {
        self.parks
    }

    fn wait(&mut self) {
        let turn = self.turns;
        self.turns = turn.saturating_add(1);
        match (self.strategy, &self.bed) {
            (WaitStrategy::BusySpin, _) => spin_loop(),
            (_, _) if turn < SPIN_TURNS => spin_loop(),
            (WaitStrategy::Park, Some((parker, bell))) if turn >= SPIN_TURNS + YIELD_TURNS => {
                if !self.announced {
                    // The fence orders the announcement before whatever the agent reads from
                    // now on; it pairs with the one in `Waker::wake`.
                    bell.state.swap(ANNOUNCED, Ordering::Relaxed);
                    fence(Ordering::SeqCst);
                    self.announced = true;
                    return; // the agent looks once more
                }
                // Relaxed: it only saves a park. If a waker comes between here and the park, its
                // unpark leaves a token, and the park returns at once.
                if bell.state.load(Ordering::Relaxed) == ANNOUNCED {
                    self.parks += 1;
                    parker.park_timeout(PARK_LIMIT);
                }
                // Woken: the announcement is used up. Else (limit, stray token) it stands, and
                // another look without work may park again.
                self.announced = bell.state.load(Ordering::Relaxed) == ANNOUNCED;
            }
            (_, _) => yield_now(),
        }
    }

    #[cold]
    fn withdraw(&mut self) {
        self.announced = false;
        if let Some((_, bell)) = &self.bed {
            // Relaxed: a waker that still sees the announcement unparks in vain, which costs one
            // empty park later.
            bell.state.swap(AWAKE, Ordering::Relaxed);
        }
    }
}

/// Wakes one thread out of its [`Idle`]. Any number of threads may have a copy.
#[derive(Clone, Debug)]
pub struct Waker {
    bell: Option<Arc<Bell>>,
}

impl Waker {
    /// To be called after something was put into the thread's inputs; once for a batch will do.
    ///
    /// Costs a SeqCst fence and a load while the thread is awake, a system call when it is parked,
    /// and nothing with the spinning strategies.
    #[inline]
    pub fn wake(&self) {
        if let Some(bell) = &self.bell {
            // Orders what the caller wrote before the look at the announcement.
            fence(Ordering::SeqCst);
            if bell.state.load(Ordering::Relaxed) == ANNOUNCED {
                bell.ring();
            }
        }
    }
}

impl Bell {
    /// One waker of many unparks: the one that takes the announcement back. Relaxed: the token
    /// that `unpark` leaves carries the order.
    #[cold]
    fn ring(&self) {
        if self.state.swap(AWAKE, Ordering::Relaxed) == ANNOUNCED {
            self.sleeper.unpark();
        }
    }
}
