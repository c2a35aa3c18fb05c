//! The agents of a node that has started, stepped one at a time.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
};

use kilter_engine::{
    Offset, Partition,
    agent::Agent,
    poller::{Poller, PollerError, PollerProgress},
    publisher::Publisher,
    shard::agent::ShardAgent,
    writer::Writer,
};

use super::{
    process::{Fault, NodeClock, Process},
    reader::Reader,
    sights::{Sight, saw},
    stage::Stage,
    store::NodeStore,
    topic::NodeSink,
};
use crate::support::topology::Agents;

/// The agents; whoever is in the middle of a call is borrowed.
pub struct Running {
    poller: RefCell<Poller<Reader, NodeClock>>,
    shards: Vec<RefCell<ShardAgent>>,
    publisher: RefCell<Publisher<NodeSink>>,
    writers: Vec<RefCell<Writer<NodeStore>>>,
    pub stop: Arc<AtomicBool>,
    progress: Arc<PollerProgress>,
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

impl Running {
    pub fn new(agents: Agents<Reader, NodeClock, NodeSink, NodeStore>, stage: &Stage) -> Self {
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

    pub fn is_done(&self) -> bool {
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
    pub fn step(&self, stage: &Rc<Stage>, process: &Process) -> Stepped {
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
