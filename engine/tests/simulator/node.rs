//! A node from its start to its end: lease, start transaction, loading, and its agents.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::Ordering,
};

use kilter_engine::{
    Offset, Partition, agent::Agent, epoch::OffsetRow, poller::PollerError, regroup::writer_ranges,
    shard::agent::ShardAgent,
};

use super::{
    database::Locked,
    lease::LEASE_MS,
    process::{Fault, NodeClock, Process},
    reader::Reader,
    sights::{Sight, saw},
    stage::Stage,
    store::NodeStore,
    topic::NodeSink,
};
use crate::support::topology::{Agents, Outside, Plan, Setup, assemble, load};

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

/// The agents; whoever is in the middle of a call is borrowed.
struct Running {
    poller: RefCell<kilter_engine::poller::Poller<Reader, NodeClock>>,
    shards: Vec<RefCell<ShardAgent>>,
    publisher: RefCell<kilter_engine::publisher::Publisher<NodeSink>>,
    writers: Vec<RefCell<kilter_engine::writer::Writer<NodeStore>>>,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    progress: std::sync::Arc<kilter_engine::poller::PollerProgress>,
    weights: Vec<u64>,
}

/// What became of a step.
pub enum Stepped {
    /// It goes on.
    On,
    /// The process ends: by a fault, or because it left.
    Ends,
}

impl From<Result<usize, Fault>> for Stepped {
    fn from(done: Result<usize, Fault>) -> Self {
        match done {
            Ok(_) => Self::On,
            Err(_) => Self::Ends,
        }
    }
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
                let inside = |range: &kilter_engine::HashRange| {
                    range.intersect(row.range) == Some(row.range)
                };
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

fn ahead(row: &OffsetRow, start: &kilter_engine::poller::PartitionStart) -> bool {
    row.partition == start.partition() && row.offset > start.offset()
}

impl Running {
    fn new(agents: Agents<Reader, NodeClock, NodeSink, NodeStore>, stage: &Stage) -> Self {
        let count = 2 + agents.shards.len() + agents.writers.len();
        Self {
            poller: RefCell::new(agents.poller),
            shards: agents.shards.into_iter().map(RefCell::new).collect(),
            publisher: RefCell::new(agents.publisher),
            writers: agents.writers.into_iter().map(RefCell::new).collect(),
            stop: agents.stop,
            progress: agents.progress,
            weights: {
                // Seldom chosen is slow: a node may have one slow thread, or be even.
                let spread = if stage.below(3) == 0 { 7 } else { 3 };
                let weight = |_| 1 << stage.below(spread);
                (0..count).map(weight).collect()
            },
        }
    }

    fn is_done(&self) -> bool {
        self.poller.try_borrow().is_ok_and(|it| it.is_done())
            && self.publisher.try_borrow().is_ok_and(|it| it.is_done())
            && self
                .shards
                .iter()
                .all(|it| it.try_borrow().is_ok_and(|it| it.is_done()))
            && self
                .writers
                .iter()
                .all(|it| it.try_borrow().is_ok_and(|it| it.is_done()))
    }

    /// Lets one agent do one piece of work; nothing if it is in the middle of one.
    fn step(&self, stage: &Rc<Stage>, process: &Process) -> Stepped {
        let mut ticket = stage.below(self.weights.iter().sum());
        let chosen = self.weights.iter().position(|weight| {
            let chosen = ticket < *weight;
            ticket = ticket.saturating_sub(*weight);
            chosen
        });
        let shards = self.shards.len();
        match chosen.unwrap_or(0) {
            0 => self.poll(stage, process),
            1 => match self.publisher.try_borrow_mut() {
                Ok(mut publisher) => publisher.do_work().into(),
                Err(_) => Stepped::On,
            },
            index if index < 2 + shards => match self.shards[index - 2].try_borrow_mut() {
                Ok(mut shard) => {
                    let done = shard.do_work();
                    done.unwrap_or_else(|error| panic!("{error}"));
                    Stepped::On
                }
                Err(_) => Stepped::On,
            },
            index => match self.writers[index - 2 - shards].try_borrow_mut() {
                Ok(mut writer) => writer.do_work().into(),
                Err(_) => Stepped::On,
            },
        }
    }

    fn poll(&self, stage: &Stage, process: &Process) -> Stepped {
        let Ok(mut poller) = self.poller.try_borrow_mut() else {
            return Stepped::On;
        };
        let paused = self.progress.paused();
        let done = poller.do_work();
        if self.progress.paused() > paused {
            saw(Sight::Paused);
        }
        match done {
            Ok(_) => Stepped::On,
            Err(PollerError::Log(_)) => Stepped::Ends,
            Err(PollerError::TimeAhead {
                partition, offset, ..
            }) => {
                saw(Sight::TimeAhead);
                let database = stage.database.borrow();
                let mut rows = database.rows_of(partition);
                assert!(
                    rows.all(|row| row.offset <= offset) || !database.holds(process),
                    "partition {partition}: a stop at offset {offset}, which cannot be noted any more"
                );
                stage.blame(partition, offset);
                Stepped::Ends
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A record at which a node stopped.
#[derive(Clone, Copy, Debug)]
pub struct Blamed {
    pub partition: Partition,
    pub offset: Offset,
}
