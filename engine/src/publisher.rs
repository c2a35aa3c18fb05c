//! The publisher: results of all shards to one sink, acknowledged epoch by epoch.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    EpochNumber,
    agent::Agent,
    epoch::Cut,
    result::{ResultSink, ResultSlot},
    ring::Consumer,
    wait::Waker,
};

/// How many results it takes from one ring before it looks at the next.
const BATCH: usize = 256;

/// The last epoch whose results are durable. Written by the publisher, read by writers.
#[derive(Debug, Default)]
pub struct Acknowledged(AtomicU64);

impl Acknowledged {
    /// Everything up to the epoch before the first one of this run is.
    pub fn up_to(epoch: EpochNumber) -> Self {
        Self(AtomicU64::new(epoch.get()))
    }

    /// The last epoch. Acquire: what the sink did for it is visible.
    pub fn get(&self) -> EpochNumber {
        EpochNumber::new(self.0.load(Ordering::Acquire))
    }

    fn set(&self, epoch: EpochNumber) {
        self.0.store(epoch.get(), Ordering::Release);
    }
}

/// Takes results out of the shards' rings, publishes them at once, and makes them durable when
/// all shards have reached the end of an epoch.
pub struct Publisher<S: ResultSink> {
    rings: Vec<Consumer<ResultSlot>>,
    reached: Vec<Option<Arc<Cut>>>,
    sink: S,
    acknowledged: Arc<Acknowledged>,
    wakers: Vec<Waker>,
    /// The epoch behind which the node stops, once it has ended.
    last: Option<EpochNumber>,
    ended: EpochNumber,
    done: bool,
}

impl<S: ResultSink> Publisher<S> {
    /// A publisher over one ring a shard. `wakers` are the shards' (room again) and the writers'.
    pub fn new(
        rings: Vec<Consumer<ResultSlot>>,
        sink: S,
        acknowledged: Arc<Acknowledged>,
        wakers: Vec<Waker>,
    ) -> Self {
        let reached = rings.iter().map(|_| None).collect();
        Self {
            rings,
            reached,
            sink,
            ended: acknowledged.get(),
            acknowledged,
            wakers,
            last: None,
            done: false,
        }
    }

    /// The sink, when the thread has ended.
    pub fn into_sink(self) -> S {
        self.sink
    }

    /// Takes a batch from one ring, but nothing behind the end of an epoch that other shards
    /// have not reached.
    fn drain(&mut self, index: usize) -> Result<usize, S::Error> {
        if self.reached[index].is_some() {
            return Ok(0);
        }
        let ring = &mut self.rings[index];
        let (head, tail) = ring.peek_mut(BATCH);
        let mut taken = 0;
        for slot in head.iter_mut().chain(tail.iter_mut()) {
            taken += 1;
            if let Some(cut) = slot.end.take() {
                self.reached[index] = Some(cut);
                break;
            }
            self.sink.result(&slot.result)?;
            // A ring full of old slots must hold no records.
            slot.result.dead_letter = None;
        }
        ring.release(taken);
        Ok(taken)
    }

    /// When every shard has reached the end of the same epoch.
    fn finish_epoch(&mut self) -> Result<usize, S::Error> {
        if self.reached.iter().any(Option::is_none) {
            return Ok(0);
        }
        let cuts: Vec<Arc<Cut>> = self.reached.iter_mut().filter_map(Option::take).collect();
        let cut = &cuts[0];
        assert!(
            cuts.iter().all(|other| other.epoch == cut.epoch),
            "shards ended different epochs"
        );
        assert!(
            cut.epoch > self.ended,
            "epoch {} ended behind epoch {}",
            cut.epoch,
            self.ended
        );
        self.sink.end(cut)?;
        self.ended = cut.epoch;
        if cut.last {
            self.last = Some(cut.epoch);
        }
        Ok(1)
    }

    /// Tells the writers which epochs' results are durable.
    fn acknowledge(&mut self) -> Result<usize, S::Error> {
        let Some(durable) = self.sink.durable()? else {
            return Ok(0);
        };
        if durable <= self.acknowledged.get() {
            return Ok(0);
        }
        assert!(durable <= self.ended, "epoch {durable} has not ended");
        self.acknowledged.set(durable);
        self.done = self.last.is_some_and(|last| durable >= last);
        Ok(1)
    }
}

impl<S: ResultSink> Agent for Publisher<S> {
    type Error = S::Error;

    fn role(&self) -> &str {
        "publisher"
    }

    fn do_work(&mut self) -> Result<usize, S::Error> {
        let mut work = 0;
        for index in 0..self.rings.len() {
            work += self.drain(index)?;
        }
        work += self.finish_epoch()?;
        work += self.acknowledge()?;
        if work > 0 {
            self.wakers.iter().for_each(Waker::wake);
        }
        Ok(work)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
