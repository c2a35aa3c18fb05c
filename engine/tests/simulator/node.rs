//! A node from its start to its end: lease, start transaction, loading, and its agents.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::Ordering,
};

use kilter_engine::{
    HashRange, Partition, epoch::OffsetRow, poller::PartitionStart, regroup::writer_ranges,
};

use super::{
    lease::LEASE_MS,
    locks::Locked,
    process::{Fault, NodeClock, Process},
    reader::Reader,
    running::{Running, Stepped},
    sights::{Sight, saw},
    stage::Stage,
    store::NodeStore,
    topic::NodeSink,
};
use crate::support::topology::{Outside, Plan, Setup, assemble, load};

/// A node.
pub struct Node {
    pub process: Rc<Process>,
    pub setup: Setup,
    phase: RefCell<Phase>,
    /// Asked to stop in good order.
    pub leaving: Cell<bool>,
}

/// How far a node's start is.
#[derive(Clone)]
enum Phase {
    Joining,
    Regrouping,
    Loading,
    Running(Rc<Running>),
}

impl Node {
    pub fn new(process: Rc<Process>, setup: Setup) -> Self {
        Self {
            process,
            setup,
            phase: RefCell::new(Phase::Joining),
            leaving: Cell::new(false),
        }
    }

    pub fn is_joining(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Joining)
    }

    /// One step of it, chosen by the seed.
    pub fn step(&self, stage: &Rc<Stage>) -> Stepped {
        let phase = self.phase.borrow().clone();
        if stage.database.borrow().is_away() && !matches!(phase, Phase::Running(_)) {
            return Stepped::On;
        }
        match phase {
            Phase::Joining => self.join(stage),
            Phase::Regrouping => self.regroup(stage),
            Phase::Loading => self.load(stage),
            Phase::Running(running) => self.run(stage, &running),
        }
    }

    fn join(&self, stage: &Rc<Stage>) -> Stepped {
        if self.leaving.get() {
            return Stepped::Ends;
        }
        let mut database = stage.database.borrow_mut();
        let mut free = database.free();
        if free.is_empty() {
            return Stepped::On;
        }
        // Its share of the free ones; which ones is the seed's to say.
        for _ in 0..stage.below(free.len() as u64) {
            free.swap_remove(stage.below(free.len() as u64) as usize);
        }
        free.sort_unstable();
        let before_ms = self.process.now_ms(stage);
        if let Ok(()) = database.take(&self.process, &free) {
            if stage.below(10) == 0 {
                // It never learns that it has them. The same owner may take them again, expired.
                saw(Sight::LeaseAnswerLost);
                self.process.held.borrow_mut().clear();
                return Stepped::On;
            }
            self.process.deadline_ms.set(before_ms + LEASE_MS);
            self.phase.replace(Phase::Regrouping);
        }
        Stepped::On
    }

    fn regroup(&self, stage: &Rc<Stage>) -> Stepped {
        let ranges = writer_ranges(self.setup.shards, self.setup.writers);
        match stage.database.borrow_mut().regroup(&self.process, &ranges) {
            Err(Fault::LockTimeout) => return Stepped::On,
            Err(_) => return Stepped::Ends,
            Ok(()) => {}
        }
        // If the answer is lost, the same once more finds it done.
        if stage.below(10) > 0 {
            self.phase.replace(Phase::Loading);
        }
        Stepped::On
    }

    /// One snapshot of everything, whoever has the lease by now.
    fn load(&self, stage: &Rc<Stage>) -> Stepped {
        let database = stage.database.borrow();
        let held = self.process.held.borrow().clone();
        let ranges = writer_ranges(self.setup.shards, self.setup.writers);
        let mut rows: Vec<Vec<OffsetRow>> = vec![Vec::new(); ranges.len()];
        for &partition in &held {
            for row in database.rows_of(Partition::new(partition)) {
                let inside = |range: &HashRange| range.intersect(row.range) == Some(row.range);
                let Some(writer) = ranges.iter().position(inside) else {
                    // Somebody else has split the rows for himself.
                    assert!(!database.holds(&self.process), "{row:?} in {ranges:?}");
                    return Stepped::Ends;
                };
                rows[writer].push(*row);
            }
        }
        if held.len() > 1 {
            saw(Sight::SeveralPartitions);
        }
        let term = self.process.term.get();
        let (shards, starts) = load(&database.disk, &self.setup, term, &rows, &held);
        if starts
            .iter()
            .any(|start| rows.iter().flatten().any(|row| ahead(row, start)))
        {
            saw(Sight::RowsApart);
        }
        self.process.notes.replace(database.notes.clone());
        drop(database);
        let plan = Plan {
            setup: &self.setup,
            term,
            rows,
            shards,
            notes: self.process.notes.borrow().clone(),
            batch: 1 + stage.below(64) as usize,
            starts: starts.clone(),
        };
        let outside = Outside {
            log: Reader::open(stage, &self.process, &starts),
            clock: NodeClock {
                stage: stage.clone(),
                process: self.process.clone(),
            },
            sink: NodeSink {
                ended: None,
                durable: None,
                stage: stage.clone(),
                process: self.process.clone(),
            },
        };
        let agents = assemble(plan, outside, || NodeStore {
            stage: stage.clone(),
            process: self.process.clone(),
        });
        let running = Running::new(agents, stage);
        self.phase.replace(Phase::Running(Rc::new(running)));
        Stepped::On
    }

    fn run(&self, stage: &Rc<Stage>, running: &Running) -> Stepped {
        let late = self.process.now_ms(stage) > self.process.deadline_ms.get();
        // A process that wakes up too late does not notice at once: its threads just go on.
        if stage.below(if late { 3 } else { 12 }) == 0 {
            return self.keep(stage, late);
        }
        if self.leaving.get() {
            running.stop.store(true, Ordering::Release);
            if running.is_done() {
                stage.database.borrow_mut().release(&self.process);
                saw(Sight::Left);
                return Stepped::Ends;
            }
        }
        running.step(stage, &self.process)
    }

    /// Renews the leases. Past its own deadline the node does nothing else.
    fn keep(&self, stage: &Rc<Stage>, late: bool) -> Stepped {
        let before_ms = self.process.now_ms(stage);
        let due_ms = self
            .process
            .deadline_ms
            .get()
            .saturating_sub(LEASE_MS * 2 / 3);
        let mut database = stage.database.borrow_mut();
        if before_ms < due_ms || database.is_away() {
            return Stepped::On;
        }
        match database.renew(&self.process) {
            Err(Locked) => Stepped::On,
            Ok(true) => {
                if late {
                    saw(Sight::RenewedLate);
                }
                self.process.deadline_ms.set(before_ms + LEASE_MS);
                Stepped::On
            }
            Ok(false) => {
                saw(Sight::LeaseLost);
                Stepped::Ends
            }
        }
    }
}

fn ahead(row: &OffsetRow, start: &PartitionStart) -> bool {
    row.partition == start.partition() && row.offset > start.offset()
}
