//! Who waits for the outcome of a command: told when its result leaves, or when time is up.
//!
//! A waiter is there before its command is, so that no outcome can pass it by. Whoever tells leaves
//! out what is DUPLICATE: it says nothing of what became of the first. While nobody waits a result
//! costs one load.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Instant,
};

use kilter_engine::IdHash;
use parking_lot::Mutex;

/// How many locks share the waiters.
const STRIPES: usize = 64;

/// What a waiter hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited<T> {
    /// How the command ended: a result for each of its postings, in their order.
    Ended(Vec<T>),
    /// Time is up, and nothing is known yet.
    TimeIsUp,
}

/// Who hears it, on the thread that has the news: short, and never waiting.
pub type Hear<T> = Box<dyn FnOnce(Waited<T>) + Send>;

/// Names one waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    key: IdHash,
    number: u64,
    until: Instant,
}

struct Waiter<T> {
    number: u64,
    user: Box<str>,
    transaction_id: Box<str>,
    until: Instant,
    /// How many results make it whole.
    postings: usize,
    results: Vec<T>,
    hear: Hear<T>,
}

type Stripe<T> = Mutex<HashMap<IdHash, Vec<Waiter<T>>>>;

/// All who wait in this process, for results of the form `T`.
pub struct Waiters<T> {
    count: AtomicUsize,
    numbers: AtomicU64,
    stripes: Box<[Stripe<T>]>,
    deadlines: Mutex<BTreeMap<(Instant, u64), IdHash>>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
            deadlines: Mutex::default(),
        }
    }
}

impl<T> Waiters<T> {
    /// Waits for the outcome of a user's transaction id, a command of so many postings, until a
    /// moment.
    pub fn wait(
        &self,
        (user, transaction_id): (&str, &str),
        postings: usize,
        until: Instant,
        hear: Hear<T>,
    ) -> Ticket {
        let key = IdHash::of(user.as_bytes(), transaction_id.as_bytes());
        // Relaxed: only a name; the locks order the rest.
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter {
            number,
            user: user.into(),
            transaction_id: transaction_id.into(),
            until,
            postings,
            results: Vec::new(),
            hear,
        };
        let mut stripe = self.stripe(&key).lock();
        stripe.entry(key).or_default().push(waiter);
        // SeqCst, under the lock: whoever applies the command, which is sent later, sees it.
        self.count.fetch_add(1, Ordering::SeqCst);
        drop(stripe);
        // Behind the waiter: a deadline that finds none is forgotten, the other way it would be
        // the waiter.
        self.deadlines.lock().insert((until, number), key);
        Ticket { key, number, until }
    }

    /// Takes a waiter back that has heard nothing yet; it will not. `None` when it has.
    pub fn forget(&self, ticket: Ticket) -> Option<Hear<T>> {
        let waiter = self.take(&ticket.key, ticket.number)?;
        self.deadlines.lock().remove(&(ticket.until, ticket.number));
        Some(waiter.hear)
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Passes the result of a posting, by its number, on to whoever waits for it; `result` makes a
    /// copy for each of them. `refused` says that there is none for any other posting. Results of
    /// one command come in order; after a crash they come again, from the first.
    pub fn tell(
        &self,
        (user, id): (&str, &str),
        posting: usize,
        refused: bool,
        result: impl Fn() -> T,
    ) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let key = IdHash::of(user.as_bytes(), id.as_bytes());
        let mut stripe = self.stripe(&key).lock();
        let Some(waiters) = stripe.get_mut(&key) else {
            return;
        };
        let mut done = Vec::new();
        let mut index = 0;
        while let Some(waiter) = waiters.get_mut(index) {
            if &*waiter.user != user || &*waiter.transaction_id != id {
                index += 1;
                continue;
            }
            if posting == 0 {
                waiter.results.clear();
            }
            if posting == waiter.results.len() {
                waiter.results.push(result());
            }
            if refused || waiter.results.len() >= waiter.postings {
                done.push(waiters.swap_remove(index));
            } else {
                index += 1;
            }
        }
        if waiters.is_empty() {
            stripe.remove(&key);
        }
        self.count.fetch_sub(done.len(), Ordering::SeqCst);
        drop(stripe);
        for waiter in done {
            self.deadlines.lock().remove(&(waiter.until, waiter.number));
            (waiter.hear)(Waited::Ended(waiter.results));
        }
    }

    /// Tells everybody whose time is up by `now`; returns when the next one's is.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        loop {
            let (number, key) = {
                let mut deadlines = self.deadlines.lock();
                let (&(until, number), &key) = deadlines.first_key_value()?;
                if until > now {
                    return Some(until);
                }
                deadlines.pop_first();
                (number, key)
            };
            if let Some(waiter) = self.take(&key, number) {
                (waiter.hear)(Waited::TimeIsUp);
            }
        }
    }

    fn take(&self, key: &IdHash, number: u64) -> Option<Waiter<T>> {
        let mut stripe = self.stripe(key).lock();
        let waiters = stripe.get_mut(key)?;
        let index = waiters.iter().position(|waiter| waiter.number == number)?;
        let waiter = waiters.swap_remove(index);
        if waiters.is_empty() {
            stripe.remove(key);
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
        Some(waiter)
    }

    fn stripe(&self, key: &IdHash) -> &Stripe<T> {
        &self.stripes[key.tag as usize % STRIPES]
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    type Heard = Arc<Mutex<Vec<(&'static str, Waited<u8>)>>>;

    fn wait(
        waiters: &Waiters<u8>,
        heard: &Heard,
        name: &'static str,
        user: &str,
        ms: u64,
    ) -> Ticket {
        let heard = Arc::clone(heard);
        let until = Instant::now() + Duration::from_millis(ms);
        let hear = move |waited| heard.lock().push((name, waited));
        waiters.wait((user, "t"), 1, until, Box::new(hear))
    }

    #[test]
    fn everybody_hears_the_outcome_once() {
        let waiters = Waiters::default();
        let heard = Heard::default();
        wait(&waiters, &heard, "one", "ann", 60_000);
        wait(&waiters, &heard, "two", "ann", 60_000);
        wait(&waiters, &heard, "bob", "bob", 60_000);
        waiters.tell(("ann", "other"), 0, false, || 1);
        waiters.tell(("anna", "t"), 0, false, || 2);
        assert_eq!(heard.lock().len(), 0);
        waiters.tell(("ann", "t"), 0, false, || 3);
        waiters.tell(("ann", "t"), 0, false, || 4);
        let mut names: Vec<_> = heard.lock().iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(names, ["one", "two"]);
        for (_, waited) in heard.lock().iter() {
            assert_eq!(*waited, Waited::Ended(vec![3]));
        }
        assert_eq!(waiters.count(), 1);
    }

    #[test]
    fn postings_are_heard_together() {
        let waiters = Waiters::default();
        let heard = Arc::<Mutex<Vec<Waited<u8>>>>::default();
        let wait = |id: &str| {
            let heard = Arc::clone(&heard);
            let until = Instant::now() + Duration::from_secs(60);
            let hear = move |waited| heard.lock().push(waited);
            waiters.wait(("ann", id), 2, until, Box::new(hear));
        };
        wait("t");
        // The end of what was told to others before.
        waiters.tell(("ann", "t"), 1, false, || 9);
        waiters.tell(("ann", "t"), 0, false, || 1);
        // Told again from the first, after a crash.
        waiters.tell(("ann", "t"), 0, false, || 2);
        assert_eq!(heard.lock().len(), 0);
        waiters.tell(("ann", "t"), 1, false, || 3);
        assert_eq!(*heard.lock(), [Waited::Ended(vec![2, 3])]);
        wait("r");
        waiters.tell(("ann", "r"), 0, true, || 4);
        assert_eq!(heard.lock()[1], Waited::Ended(vec![4]));
        assert_eq!(waiters.count(), 0);
    }

    #[test]
    fn time_is_up_for_those_whose_it_is() {
        let waiters = Waiters::default();
        let heard = Heard::default();
        wait(&waiters, &heard, "soon", "ann", 10);
        let late = wait(&waiters, &heard, "late", "ann", 60_000);
        let next = waiters.expire(Instant::now() + Duration::from_secs(1));
        assert_eq!(next, Some(late.until));
        assert_eq!(*heard.lock(), [("soon", Waited::TimeIsUp)]);
        assert!(waiters.forget(late).is_some());
        assert!(waiters.forget(late).is_none());
        assert_eq!(waiters.expire(Instant::now()), None);
        assert_eq!(waiters.count(), 0);
    }
}
