//! An answer that several may give.

use std::sync::Arc;

use kilter_io::api::Answer;
use parking_lot::Mutex;

/// The answer to a question, given by whoever gets there first.
pub struct Tell<T>(Arc<Mutex<Option<Answer<T>>>>);

impl<T> Clone for Tell<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Tell<T> {
    /// Nothing is told yet.
    pub fn new(answer: Answer<T>) -> Self {
        Self(Arc::new(Mutex::new(Some(answer))))
    }

    /// Tells, unless that was done.
    pub fn tell(&self, what: T) {
        let answer = self.0.lock().take();
        if let Some(answer) = answer {
            answer(what);
        }
    }
}
