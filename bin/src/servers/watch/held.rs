//! What watchers of a process hold, in bytes, and how much that may be.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What all watchers of the process hold.
#[derive(Debug)]
pub struct Total {
    bytes: AtomicUsize,
    max: usize,
    /// What each may hold however much the others do.
    share: usize,
}

impl Total {
    /// At most `max` bytes for all of so many watchers together, give or take their fair shares.
    pub fn new(max: usize, watchers: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            max,
            share: max / watchers.max(1),
        })
    }
}

/// What one watcher holds; gives it back when it goes.
#[derive(Debug)]
pub struct Held {
    total: Arc<Total>,
    own: usize,
}

impl Held {
    /// Nothing yet.
    pub fn none(total: Arc<Total>) -> Self {
        Self { total, own: 0 }
    }

    /// So many bytes more; whether that is still allowed.
    pub fn add(&mut self, bytes: usize) -> bool {
        self.own += bytes;
        let all = self.total.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        all <= self.total.max || self.own <= self.total.share
    }

    /// So many bytes less.
    pub fn sub(&mut self, bytes: usize) {
        assert!(bytes <= self.own, "more is given back than was held");
        self.own -= bytes;
        self.total.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What it holds.
    pub fn bytes(&self) -> usize {
        self.own
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sub(self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_a_bound_and_each_a_share() {
        let total = Total::new(100, 4);
        let (mut greedy, mut modest) = (Held::none(total.clone()), Held::none(total.clone()));
        assert!(greedy.add(100));
        assert!(!greedy.add(1));
        assert!(modest.add(25), "a fair share is always there");
        assert!(!modest.add(1));
        greedy.sub(1);
        drop(greedy);
        assert!(modest.add(70));
        assert_eq!(modest.bytes(), 96);
        drop(modest);
        assert_eq!(total.bytes.load(Ordering::Relaxed), 0);
    }
}
