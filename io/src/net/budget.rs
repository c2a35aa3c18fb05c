//! How much memory the requests of all clients may take while they come in.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What each connection has for itself, whatever the others take: so that those who send a lot do not
/// keep out those who send little. Their number bounds it.
const OWN_BYTES: usize = 64 << 10;

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            max,
        })
    }

    /// How many bytes are taken, beyond what connections have for themselves.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one connection takes of it.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Takes so many bytes in all, more or fewer than before; if there is no room for more, it stays
    /// as it was.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(OWN_BYTES);
        // Relaxed: a figure that orders nothing.
        if wanted <= self.bytes {
            let fewer = self.bytes - wanted;
            self.budget.used.fetch_sub(fewer, Ordering::Relaxed);
        } else {
            let more = wanted - self.bytes;
            let before = self.budget.used.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.budget.max {
                self.budget.used.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        }
        self.bytes = wanted;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_bounded_and_comes_back() {
        let budget = Budget::new(100);
        let mut one = Held::new(Arc::clone(&budget));
        let mut other = Held::new(Arc::clone(&budget));
        assert!(one.set(OWN_BYTES + 60));
        assert!(other.set(OWN_BYTES));
        assert!(!other.set(OWN_BYTES + 41));
        assert!(other.set(OWN_BYTES + 40));
        assert!(!one.set(OWN_BYTES + 61));
        assert!(one.set(10));
        assert!(other.set(OWN_BYTES + 100));
        drop(other);
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
