//! Balances that wait to be written: the newest image of each.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use kilter_engine::{
    balance_hash,
    epoch::{BalanceImage, EpochPart},
};
use parking_lot::{Condvar, Mutex};

use super::stripe::Stripe;

/// Stripes of one writer: enough that those who offer and the one who takes seldom meet.
const STRIPES_A_WRITER: usize = 16;

/// The newest image of each balance that is not yet in Redis, shared by those who commit epochs
/// and those who write to Redis.
///
/// It holds at most one image a balance, however long Redis is away: some 150 bytes each. Offering
/// waits for nothing but other short critical sections. A balance always goes to the same writer.
#[derive(Debug)]
pub struct Offers {
    stripes: Box<[Mutex<Stripe>]>,
    /// One for each writer, and one more for who offers everything.
    desks: Box<[Desk]>,
    batch: usize,
    /// Images may have been missed: every balance is to be offered once more.
    has_missed: AtomicBool,
}

/// What one writer waits at.
#[derive(Debug, Default)]
struct Desk {
    waiting: AtomicUsize,
    /// The stripe that is taken from next, so that each has its turn.
    next: AtomicUsize,
    bell: Mutex<()>,
    rung: Condvar,
}

impl Offers {
    /// Nothing waits; `writers` will take, each being woken when `batch` balances wait for it.
    ///
    /// # Panics
    ///
    /// If `writers` or `batch` is 0.
    pub fn new(writers: usize, batch: usize) -> Self {
        assert!(writers > 0, "no writers");
        assert!(batch > 0, "batches of nothing");
        Self {
            stripes: (0..writers * STRIPES_A_WRITER)
                .map(|_| Mutex::default())
                .collect(),
            desks: (0..=writers).map(|_| Desk::default()).collect(),
            batch,
            has_missed: AtomicBool::new(false),
        }
    }

    /// Some balances may have changed without being offered: all will be, in the background, if
    /// there is a source to read them from.
    pub fn miss_some(&self) {
        self.has_missed.store(true, Ordering::Release);
    }

    /// Whether that was said since the last time it was asked.
    pub(super) fn take_missed(&self) -> bool {
        self.has_missed.swap(false, Ordering::AcqRel)
    }

    /// How many writers there are.
    pub fn writers(&self) -> usize {
        self.desks.len() - 1
    }

    /// The desk at which full offers are paused.
    pub(super) fn background(&self) -> usize {
        self.desks.len() - 1
    }

    /// The size of a batch, in balances.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// How many balances wait.
    pub fn waiting(&self) -> usize {
        let waiting = |desk: &Desk| desk.waiting.load(Ordering::Relaxed);
        self.desks.iter().map(waiting).sum()
    }

    /// Takes in the balances of a committed epoch. Each stripe is locked once at most.
    pub fn offer(&self, part: &EpochPart) {
        self.offer_images(&part.balances);
    }

    /// Takes in one balance.
    pub fn offer_image(&self, image: &BalanceImage) {
        self.offer_images(std::slice::from_ref(image));
    }

    /// Takes in some balances, in any order of versions: a newer one that waits stays.
    pub fn offer_images(&self, images: &[BalanceImage]) {
        if images.is_empty() {
            return;
        }
        // By counting sort, so that the images of a stripe come together.
        let mut ends = vec![0_u32; self.stripes.len()];
        let places: Vec<u32> = images
            .iter()
            .map(|image| {
                let stripe = self.stripe_of(image);
                ends[stripe] += 1;
                stripe as u32
            })
            .collect();
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total - *end;
        }
        let mut order = vec![0_u32; images.len()];
        for (index, &stripe) in places.iter().enumerate() {
            let end = &mut ends[stripe as usize];
            order[*end as usize] = index as u32;
            *end += 1;
        }
        let mut begin = 0;
        for (index, &end) in ends.iter().enumerate() {
            let chosen = &order[begin..end as usize];
            begin = end as usize;
            if chosen.is_empty() {
                continue;
            }
            let desk = &self.desks[index / STRIPES_A_WRITER];
            let mut stripe = self.stripes[index].lock();
            let before = stripe.len();
            for &image in chosen {
                stripe.offer(&images[image as usize]);
            }
            let added = stripe.len() - before;
            // Under the stripe's lock, so that it is never taken away before it was added.
            let waited = desk.waiting.fetch_add(added, Ordering::Relaxed);
            drop(stripe);
            if waited < self.batch && waited + added >= self.batch {
                self.ring(index / STRIPES_A_WRITER);
            }
        }
    }

    /// Moves up to `limit` of a writer's balances to the end of `to`, those first that wait longest
    /// in their stripe.
    pub(super) fn take(&self, writer: usize, limit: usize, to: &mut Vec<BalanceImage>) {
        let desk = &self.desks[writer];
        let full = to.len() + limit;
        let first = desk.next.load(Ordering::Relaxed);
        for step in 0..STRIPES_A_WRITER {
            if to.len() >= full || desk.waiting.load(Ordering::Relaxed) == 0 {
                break;
            }
            let turn = (first + step) % STRIPES_A_WRITER;
            desk.next.store(turn + 1, Ordering::Relaxed);
            let mut stripe = self.stripes[writer * STRIPES_A_WRITER + turn].lock();
            let before = to.len();
            stripe.take(full - before, to);
            desk.waiting.fetch_sub(to.len() - before, Ordering::Relaxed);
        }
    }

    /// How many balances wait for one writer.
    pub(super) fn waiting_for(&self, writer: usize) -> usize {
        self.desks[writer].waiting.load(Ordering::Relaxed)
    }

    /// Waits until a batch waits for the writer, `time` has passed, or it is told to stop.
    pub(super) fn wait_for_batch(&self, writer: usize, time: Duration, stop: &AtomicBool) {
        self.wait(writer, time, || {
            self.waiting_for(writer) >= self.batch || stop.load(Ordering::Acquire)
        });
    }

    /// Waits until `time` has passed, whatever is offered, or until told to stop.
    pub(super) fn pause(&self, writer: usize, time: Duration, stop: &AtomicBool) {
        self.wait(writer, time, || stop.load(Ordering::Acquire));
    }

    fn wait(&self, writer: usize, time: Duration, done: impl Fn() -> bool) {
        let deadline = Instant::now() + time;
        let desk = &self.desks[writer];
        let mut bell = desk.bell.lock();
        while !done() && Instant::now() < deadline {
            desk.rung.wait_until(&mut bell, deadline);
        }
    }

    /// Lets the writer look up, because a batch waits or it is to stop.
    fn ring(&self, writer: usize) {
        let desk = &self.desks[writer];
        // Who holds the bell has looked and not yet fallen asleep.
        drop(desk.bell.lock());
        desk.rung.notify_all();
    }

    /// Lets every writer look up.
    pub(super) fn ring_all(&self) {
        (0..self.desks.len()).for_each(|writer| self.ring(writer));
    }

    fn stripe_of(&self, image: &BalanceImage) -> usize {
        // The stripes' tables use the low bits and the highest seven.
        let bits = hash(image) >> 16 & 0xffff_ffff;
        (bits as usize * self.stripes.len()) >> 32
    }
}

/// Spreads balances over stripes and within them.
pub(super) fn hash(image: &BalanceImage) -> u64 {
    balance_hash(image.account_id.get(), image.currency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_engine::{AccountId, Amount, Currency, Partition};

    fn image(account: u64, version: u64) -> BalanceImage {
        BalanceImage {
            account_id: AccountId::new(account).unwrap(),
            currency: Currency::parse(b"USDT").unwrap(),
            available: Amount::ZERO,
            frozen: Amount::ZERO,
            version,
            partition: Partition::new(0),
        }
    }

    #[test]
    fn the_newest_image_waits_once() {
        let offers = Offers::new(3, 100);
        let images: Vec<_> = (1..=1000).map(|account| image(account, 5)).collect();
        offers.offer_images(&images);
        assert_eq!(offers.waiting(), 1000);
        offers.offer_image(&image(7, 4));
        offers.offer_image(&image(8, 6));
        offers.offer_images(&images);
        assert_eq!(offers.waiting(), 1000);
        let mut taken = Vec::new();
        for writer in 0..3 {
            while offers.waiting_for(writer) > 0 {
                let before = taken.len();
                offers.take(writer, 7, &mut taken);
                assert!((1..=7).contains(&(taken.len() - before)));
            }
        }
        assert_eq!(offers.waiting(), 0);
        taken.sort_by_key(|image| image.account_id);
        assert_eq!(taken.len(), 1000);
        for (image, account) in taken.iter().zip(1..) {
            assert_eq!(image.account_id.get(), account);
            assert_eq!(image.version, if account == 8 { 6 } else { 5 });
        }
    }

    proptest::proptest! {
        /// Whatever is offered, taken and put back in whatever order: what comes out last of a
        /// balance, or still waits, is its newest image.
        #[test]
        fn nothing_newer_is_lost(steps in proptest::collection::vec((1_u64..20, 1_u64..50, 0_usize..6), 1..300)) {
            let offers = Offers::new(2, 10);
            let mut newest = std::collections::BTreeMap::new();
            let mut written = std::collections::BTreeMap::new();
            for (account, version, limit) in steps {
                offers.offer_image(&image(account, version));
                let best = newest.entry(account).or_insert(version);
                *best = version.max(*best);
                let mut taken = Vec::new();
                offers.take((account % 2) as usize, limit, &mut taken);
                assert!(taken.len() <= limit);
                // Every other one does not get through.
                for (index, image) in taken.iter().enumerate() {
                    if index % 2 == 0 {
                        offers.offer_image(image);
                    } else {
                        let best = written.entry(image.account_id.get()).or_insert(0);
                        *best = image.version.max(*best);
                    }
                }
                assert!(offers.waiting() <= newest.len());
            }
            let mut left = Vec::new();
            for writer in 0..2 {
                offers.take(writer, 1000, &mut left);
            }
            for image in left {
                let best = written.entry(image.account_id.get()).or_insert(0);
                *best = image.version.max(*best);
            }
            assert_eq!(written, newest);
            assert_eq!(offers.waiting(), 0);
        }
    }

    #[test]
    fn stripes_get_about_as_much_each() {
        let offers = Offers::new(2, 100);
        let mut counts = vec![0; offers.stripes.len()];
        for account in 1..=32_000 {
            counts[offers.stripe_of(&image(account, 1))] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
    }
}
