//! What this process leads at the moment, for readers: whose balances it has in memory.

use kilter_engine::{Partition, shard::question::Asker};
use parking_lot::RwLock;

/// Whether what is led may be somebody else's by now.
pub type IsOver = Box<dyn Fn() -> bool + Send + Sync>;

/// The node that leads in this process, while one does.
#[derive(Default)]
pub struct Leading(RwLock<Option<Led>>);

struct Led {
    asker: Asker,
    partitions: Vec<Partition>,
    is_over: IsOver,
}

impl Leading {
    /// A node leads these partitions from now on, while not `is_over`: when its lease has run out,
    /// another one may have gone on.
    pub fn begin(&self, asker: Asker, partitions: Vec<Partition>, is_over: IsOver) {
        *self.0.write() = Some(Led {
            asker,
            partitions,
            is_over,
        });
    }

    /// Nothing is led any more.
    pub fn end(&self) {
        *self.0.write() = None;
    }

    /// The way to the shards that have a partition's users, if they are in this process.
    pub fn asker(&self, partition: Partition) -> Option<Asker> {
        let led = self.0.read();
        let led = led.as_ref()?;
        let is_ours = led.partitions.contains(&partition) && !(led.is_over)();
        is_ours.then(|| led.asker.clone())
    }

    /// Wakes the shards that were asked something since the last time.
    pub fn wake(&self) {
        if let Some(led) = &*self.0.read() {
            led.asker.wake();
        }
    }

    /// Whether every one of so many partitions is led here.
    pub fn has_all(&self, partitions: u32) -> bool {
        let led = self.0.read();
        led.as_ref()
            .is_some_and(|led| led.partitions.len() as u32 == partitions)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use kilter_engine::{
        shard::question::questions,
        wait::{WaitStrategy, waiter},
    };

    #[test]
    fn only_what_is_led_and_not_over_is_asked() {
        let leading = Leading::default();
        assert!(leading.asker(Partition::new(1)).is_none());
        let (_, waker) = waiter(WaitStrategy::BusySpin);
        let (way, _asked) = questions(1);
        let over = Arc::<AtomicBool>::default();
        let is_over = Arc::clone(&over);
        leading.begin(
            Asker::new(vec![(way, waker)]),
            vec![Partition::new(1)],
            Box::new(move || is_over.load(Ordering::Acquire)),
        );
        assert!(leading.asker(Partition::new(1)).is_some());
        assert!(leading.asker(Partition::new(0)).is_none());
        assert!(leading.has_all(1) && !leading.has_all(2));
        over.store(true, Ordering::Release);
        assert!(leading.asker(Partition::new(1)).is_none());
        over.store(false, Ordering::Release);
        leading.end();
        assert!(leading.asker(Partition::new(1)).is_none());
    }
}
