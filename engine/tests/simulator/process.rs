//! A node as an operating system's process: it lives, stands still, or is dead.

use std::cell::{Cell, RefCell};

use kilter_engine::{Term, clock::Clock, notes::Note};
use std::rc::Rc;

use super::stage::Stage;

/// Why a part of a node failed. Always an injected fault, or another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the process is dead")]
    Crashed,
    #[error("the connection was lost")]
    Lost,
    #[error("a row was locked for too long")]
    LockTimeout,
    #[error("the store does not answer")]
    Outage,
    #[error("owner or term of a lease is another")]
    Fenced,
    #[error("the offset rows are of another node")]
    Elsewhere,
}

/// One start of a node.
pub struct Process {
    /// New for each start.
    pub owner: u64,
    pub dead: Cell<bool>,
    /// It stands still until this step.
    pub frozen_until: Cell<u64>,
    /// The partitions it took, and the term.
    pub held: RefCell<Vec<u32>>,
    pub term: Cell<Term>,
    /// The notes as it loaded them.
    pub notes: RefCell<Vec<Note>>,
    /// How fast its clock goes, in eighths of the store's.
    pub rate_eighths: u64,
    /// What it thinks the time of day is.
    pub wall_ms: i64,
    /// Until when it may think that it has its leases, by its own clock.
    pub deadline_ms: Cell<u64>,
}

impl Process {
    /// Its own clock, which never goes back and may be wrong in every other way.
    pub fn now_ms(&self, stage: &Stage) -> u64 {
        self.owner * 1_000_000 + stage.now_ms.get() * self.rate_eighths / 8
    }
}

/// The clocks of a node as its poller sees them.
pub struct NodeClock {
    pub stage: Rc<Stage>,
    pub process: Rc<Process>,
}

impl Clock for NodeClock {
    fn wall_ms(&self) -> i64 {
        self.process.wall_ms
    }

    fn monotonic_ns(&self) -> u64 {
        self.process.now_ms(&self.stage) * 1_000_000
    }
}
