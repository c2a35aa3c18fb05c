//! One wake for several things that are given to a thread one after the other.

use super::Waker;
use crate::sync::{AtomicBool, Ordering};

/// A [`Waker`] that is called once for all that was put since the last time, by whoever flushes first.
/// Shared by everyone that gives the thread work in this way.
#[derive(Debug)]
pub struct DeferredWaker {
    waker: Waker,
    /// Whether something was put of which the thread may not have heard.
    is_due: AtomicBool,
}

impl DeferredWaker {
    /// Wakes by this waker.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self {
            waker,
            is_due: AtomicBool::new(false),
        }
    }

    /// To be called after something was put into the thread's inputs; [`DeferredWaker::flush`] has to
    /// follow, or the thread may sleep over it for as long as it parks.
    pub fn defer(&self) {
        // Release: whoever takes the mark wakes for what was put before it, too. A swap, though the old
        // value is of no interest: a store would end the release sequence of a mark that was set before
        // by another thread, and whoever takes this one might wake without that thread's work.
        self.is_due.swap(true, Ordering::Release);
    }

    /// Wakes the thread if something was put since the last time. A load while nothing was.
    pub fn flush(&self) {
        if self.is_due.load(Ordering::Relaxed) && self.is_due.swap(false, Ordering::Acquire) {
            self.waker.wake();
        }
    }

    /// Wakes the thread at once, as [`Waker::wake`].
    pub fn wake(&self) {
        self.waker.wake();
    }
}
