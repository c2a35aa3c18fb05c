//! What a thread runs: look at everything, do some work, say how much, look again.
//!
//! The idea is agrona's: an agent (`do_work() -> work count`), an idle strategy and a role name
//! make a thread. The work count is all that the waiting has to know, so the same agent runs
//! spinning on a dedicated core, parked on a laptop, or two to a thread. Unlike agrona's runner,
//! an error ends the loop: an agent that went on after a failure would go on about money.
//!
//! Here is one that reads a ring, and what its neighbour does to be heard:
//!
//! ```
//! use std::convert::Infallible;
//! use kilter_engine::agent::{Agent, run};
//! use kilter_engine::ring::{Consumer, ring};
//! use kilter_engine::wait::{WaitStrategy, Waker, waiter};
//!
//! struct Summer {
//!     input: Consumer<u64>,
//!     upstream: Waker,
//!     sum: u64,
//!     done: bool,
//! }
//!
//! impl Agent for Summer {
//!     type Error = Infallible;
//!
//!     fn role(&self) -> &str {
//!         "summer"
//!     }
//!
//!     fn do_work(&mut self) -> Result<usize, Infallible> {
//!         let (head, tail) = self.input.peek(256);
//!         let count = head.len() + tail.len();
//!         self.sum += head.iter().chain(tail).sum::<u64>();
//!         self.input.release(count);
//!         if count > 0 {
//!             self.upstream.wake(); // there are free slots
//!         }
//!         self.done = self.input.is_finished();
//!         Ok(count)
//!     }
//!
//!     fn is_done(&self) -> bool {
//!         self.done
//!     }
//! }
//!
//! let (mut output, input) = ring(1024, || 0);
//! let (_my_idle, upstream) = waiter(WaitStrategy::Park);
//! let (mut idle, summer) = waiter(WaitStrategy::Park);
//! let thread = std::thread::spawn(move || {
//!     let mut agent = Summer { input, upstream, sum: 0, done: false };
//!     run(&mut agent, &mut idle).map(|()| agent.sum)
//! });
//! for value in 1..=100 {
//!     *output.try_claim().expect("room for all of them") = value;
//! }
//! output.publish();
//! summer.wake(); // once a batch, after the publish
//! drop(output);
//! summer.wake(); // an end that is dropped is news, too
//! assert_eq!(thread.join().expect("no panic"), Ok(5050));
//! ```

use crate::wait::Idle;

/// A thread's work, cut into duty cycles that never block.
pub trait Agent {
    /// What ends the agent early.
    type Error;

    /// What the agent is called; the operating system's name of its thread.
    fn role(&self) -> &str;

    /// One duty cycle: looks once at *every* input (rings, stop flag, deadlines), does a bounded
    /// piece of what it finds, and returns how much that was in any unit; 0 means that there was
    /// nothing to do. It wakes the agents whose inputs it changed.
    ///
    /// # Errors
    ///
    /// Whatever makes it impossible or wrong to go on; it is not called again.
    fn do_work(&mut self) -> Result<usize, Self::Error>;

    /// Whether the agent has come to its end in good order.
    fn is_done(&self) -> bool;
}

/// Runs an agent on this thread until it is done: work, and idle when there was none.
///
/// [`Agent::do_work`] is called at least once. The agent stays with the caller; dropping it drops
/// its rings' ends, and that is how its neighbours learn that it ended.
///
/// # Errors
///
/// The agent's own, at once.
pub fn run<A: Agent + ?Sized>(agent: &mut A, idle: &mut Idle) -> Result<(), A::Error> {
    loop {
        let work = agent.do_work()?;
        if agent.is_done() {
            return Ok(());
        }
        idle.idle(work);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::wait::{WaitStrategy, waiter};

    struct Countdown {
        left: u32,
        fail_at: u32,
    }

    impl Agent for Countdown {
        type Error = u32;

        fn role(&self) -> &str {
            "countdown"
        }

        fn do_work(&mut self) -> Result<usize, u32> {
            if self.left == self.fail_at {
                return Err(self.left);
            }
            self.left -= 1;
            Ok(self.left as usize % 2)
        }

        fn is_done(&self) -> bool {
            self.left == 0
        }
    }

    #[test]
    fn runs_until_done() {
        for strategy in WaitStrategy::ALL {
            let (mut idle, _waker) = waiter(strategy);
            let mut agent = Countdown {
                left: 1000,
                fail_at: u32::MAX,
            };
            assert_eq!(run(&mut agent, &mut idle), Ok(()));
            assert!(agent.is_done());
        }
    }

    #[test]
    fn an_error_ends_the_loop_at_once() {
        let (mut idle, _waker) = waiter(WaitStrategy::Park);
        let mut agent = Countdown {
            left: 10,
            fail_at: 7,
        };
        assert_eq!(run(&mut agent, &mut idle), Err(7));
        assert_eq!(agent.left, 7);
    }
}
