//! A writer: assembles epochs of neighbouring shards and commits each as one transaction.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crossbeam::utils::CachePadded;

use crate::{
    EpochNumber, Term,
    agent::Agent,
    epoch::{Epoch, EpochPart, OffsetRow, RowStep},
    publisher::Acknowledged,
    ring::{Consumer, Producer},
    store::{Committed, Store},
    wait::Waker,
};

/// How far a writer got. Written by its thread, read by whoever watches.
#[derive(Debug, Default)]
pub struct WriterProgress {
    epoch: CachePadded<AtomicU64>,
}

impl WriterProgress {
    /// A writer that starts behind `epoch`.
    pub fn at(epoch: EpochNumber) -> Self {
        Self {
            epoch: CachePadded::new(AtomicU64::new(epoch.get())),
        }
    }

    /// The last epoch it committed. Acquire: the commit happened before.
    pub fn epoch(&self) -> EpochNumber {
        EpochNumber::new(self.epoch.load(Ordering::Acquire))
    }
}

/// The rings between a writer and one of its shards.
pub struct WriterPort {
    /// Epoch parts from the shard.
    pub full: Consumer<Option<Box<EpochPart>>>,
    /// Emptied parts back to it.
    pub empty: Producer<Option<Box<EpochPart>>>,
    /// Wakes the shard.
    pub shard: Waker,
}

/// What a writer starts from.
pub struct WriterStart {
    /// Its number.
    pub index: usize,
    /// The term everything is committed under.
    pub term: Term,
    /// The offset rows of its hash range, as the store holds them.
    pub rows: Vec<OffsetRow>,
    /// Which epochs' results are durable.
    pub acknowledged: Arc<Acknowledged>,
    /// Where it tells how far it got.
    pub progress: Arc<WriterProgress>,
}

/// Commits the epochs of a group of neighbouring shards.
///
/// The rules: an epoch is committed when every shard of the group handed over its part and its
/// results are acknowledged; epochs are committed in order; a part goes back to its shard only
/// when it is durable.
pub struct Writer<S: Store> {
    role: String,
    term: Term,
    store: S,
    ports: Vec<WriterPort>,
    parts: Vec<Option<Box<EpochPart>>>,
    #[expect(clippy::vec_box, reason = "parts travel through rings by pointer")]
    ready: Vec<Box<EpochPart>>,
    rows: Vec<OffsetRow>,
    steps: Vec<RowStep>,
    acknowledged: Arc<Acknowledged>,
    progress: Arc<WriterProgress>,
    done: bool,
}

impl<S: Store> Writer<S> {
    /// A writer over its shards' ports.
    pub fn new(start: WriterStart, store: S, ports: Vec<WriterPort>) -> Self {
        let parts = ports.iter().map(|_| None).collect();
        Self {
            role: format!("writer-{}", start.index),
            term: start.term,
            store,
            ready: Vec::with_capacity(ports.len()),
            parts,
            ports,
            steps: Vec::with_capacity(start.rows.len()),
            rows: start.rows,
            acknowledged: start.acknowledged,
            progress: start.progress,
            done: false,
        }
    }

    /// The offset rows as last committed.
    pub fn rows(&self) -> &[OffsetRow] {
        &self.rows
    }

    /// The store, when the thread has ended.
    pub fn into_store(self) -> S {
        self.store
    }

    fn collect(&mut self) -> usize {
        let mut work = 0;
        for (part, port) in self.parts.iter_mut().zip(&mut self.ports) {
            if part.is_none() {
                *part = port.full.pop();
                work += usize::from(part.is_some());
            }
        }
        work
    }

    /// The epoch that can be committed now, if there is one.
    fn complete(&self) -> Option<EpochNumber> {
        let mut epochs = self.parts.iter().map(|part| {
            let cut = part.as_ref()?.cut.as_ref();
            Some(cut.map_or_else(|| unreachable!("a part without a cut"), |cut| cut.epoch))
        });
        let first = epochs.next()??;
        for epoch in epochs {
            assert_eq!(epoch?, first, "shards handed over different epochs");
        }
        (first <= self.acknowledged.get()).then_some(first)
    }

    fn commit(&mut self, number: EpochNumber) -> Result<(), S::Error> {
        self.ready
            .extend(self.parts.iter_mut().filter_map(Option::take));
        let Some(cut) = self.ready[0].cut.clone() else {
            unreachable!("a part without a cut");
        };
        assert!(
            number > self.progress.epoch(),
            "epoch {number} behind epoch {}",
            self.progress.epoch()
        );
        self.steps.clear();
        self.steps.extend(self.rows.iter().map(|row| RowStep {
            before: *row,
            after: row.advanced_to(&cut, self.term),
        }));
        // Records of a row that is ahead were skipped, so an epoch that moves no row did nothing.
        assert!(
            self.steps.iter().any(|step| step.before != step.after)
                || self.ready.iter().all(|part| part.is_empty()),
            "epoch {number} has entries but moves no offset"
        );
        let epoch = Epoch {
            cut: &cut,
            term: self.term,
            rows: &self.steps,
            parts: &self.ready,
        };
        let (Committed::Now | Committed::Before) = self.store.commit(&epoch)?;
        for (row, step) in self.rows.iter_mut().zip(&self.steps) {
            *row = step.after;
        }
        self.progress.epoch.store(number.get(), Ordering::Release);
        self.done = cut.last;
        for (port, mut part) in self.ports.iter_mut().zip(self.ready.drain(..)) {
            part.clear();
            // No room only when the shard has ended: then nobody needs it.
            let _ = port.empty.push(part);
            port.shard.wake();
        }
        Ok(())
    }
}

impl<S: Store> Agent for Writer<S> {
    type Error = S::Error;

    fn role(&self) -> &str {
        &self.role
    }

    fn do_work(&mut self) -> Result<usize, S::Error> {
        let mut work = self.collect();
        if let Some(epoch) = self.complete() {
            self.commit(epoch)?;
            work += 1;
        }
        Ok(work)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
