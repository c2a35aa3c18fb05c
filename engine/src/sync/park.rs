//! Crossbeam's `Parker` for the models.
//!
//! loom's own `park` is not used: an `unpark` there also wakes a thread that waits for a lock or
//! a join, and is then lost.

use std::time::Duration;

use loom::sync::{Arc, Condvar, Mutex};

#[derive(Debug, Default)]
struct Token {
    given: Mutex<bool>,
    changed: Condvar,
}

/// Parks a thread until it is given a token.
#[derive(Debug)]
pub struct Parker {
    unparker: Unparker,
}

impl Parker {
    /// A parker without a token.
    #[must_use]
    pub fn new() -> Self {
        Self {
            unparker: Unparker::default(),
        }
    }

    /// Waits for the token and takes it. There is no upper bound, on purpose: a lost wake-up, which
    /// a bound would only make slow, becomes a deadlock that the model reports.
    pub fn park_timeout(&self, _limit: Duration) {
        let token = &self.unparker.token;
        let mut given = token.given.lock().expect("not poisoned");
        while !*given {
            given = token.changed.wait(given).expect("not poisoned");
        }
        *given = false;
    }

    /// The other end.
    pub fn unparker(&self) -> &Unparker {
        &self.unparker
    }
}

/// Gives the token.
#[derive(Clone, Debug, Default)]
pub struct Unparker {
    token: Arc<Token>,
}

impl Unparker {
    /// Gives the token; a second one before it is taken is the same one.
    pub fn unpark(&self) {
        *self.token.given.lock().expect("not poisoned") = true;
        self.token.changed.notify_one();
    }
}
