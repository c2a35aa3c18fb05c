//! The stage: everything the nodes share, and whose turn it is.
//!
//! One thread plays all of it. A call into a fake may pause in its middle, and others have their
//! turn in there: so a writer can stand between its fence and its COMMIT while another node takes
//! over.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use kilter_engine::{Offset, Partition};

use super::{
    auditor::Auditor,
    database::Database,
    node::Node,
    process::{Fault, Process},
    running::{Blamed, Stepped},
    sights::{Sight, saw},
    topic::Topic,
    weather::Weather,
};
use crate::support::{
    rng::Rng,
    topology::Setup,
    traffic::{Entry, Shape},
};

/// So many calls may stand in their middle at once.
const DEPTH_MAX: u32 = 3;

pub struct Stage {
    pub shape: Shape,
    pub entries: Vec<Entry>,
    /// How many of them are in the log by now.
    pub appended: Cell<usize>,
    /// The store's clock.
    pub now_ms: Rc<Cell<u64>>,
    pub database: RefCell<Database>,
    pub topic: RefCell<Topic>,
    auditor: RefCell<Auditor>,
    pub(super) nodes: RefCell<Vec<Rc<Node>>>,
    nodes_wanted: usize,
    pub(super) weather: Weather,
    /// Nothing is broken on purpose any more.
    calm: Cell<bool>,
    pub(super) blamed: RefCell<Vec<Blamed>>,
    owners: Cell<u64>,
    pub(super) steps: Cell<u64>,
    depth: Cell<u32>,
    rng: RefCell<Rng>,
}

impl Stage {
    pub fn new(
        shape: Shape,
        entries: Vec<Entry>,
        weather: Weather,
        nodes_wanted: usize,
        rng: &mut Rng,
    ) -> Rc<Self> {
        let now_ms = Rc::new(Cell::new(0));
        let database = Database::new(
            shape.partitions,
            now_ms.clone(),
            &weather,
            Rng::new(rng.next()),
        );
        Rc::new(Self {
            auditor: RefCell::new(Auditor::new(&shape, &entries)),
            shape,
            entries,
            appended: Cell::new(0),
            now_ms,
            database: RefCell::new(database),
            topic: RefCell::new(Topic::new(Rng::new(rng.next()))),
            nodes: RefCell::new(Vec::new()),
            nodes_wanted,
            weather,
            calm: Cell::new(false),
            blamed: RefCell::new(Vec::new()),
            owners: Cell::new(0),
            steps: Cell::new(0),
            depth: Cell::new(0),
            rng: RefCell::new(Rng::new(rng.next())),
        })
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.rng.borrow_mut().below(limit)
    }

    pub(super) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A node stopped at this record, because of its time.
    pub fn blame(&self, partition: Partition, offset: Offset) {
        let blamed = Blamed { partition, offset };
        self.blamed.borrow_mut().push(blamed);
    }

    /// One step of somebody.
    pub fn step(self: &Rc<Self>) {
        self.steps.set(self.steps.get() + 1);
        self.now_ms.set(self.now_ms.get() + self.below(3));
        if self.appended.get() < self.entries.len() && self.one_in(2) {
            self.appended.set(self.appended.get() + 1);
        }
        if self.one_in(40) {
            self.database.borrow_mut().settle_one();
        }
        if self.one_in(150) {
            self.late_results();
        }
        self.start_nodes();
        if !self.calm.get() {
            self.blow();
        }
        let nodes = self.nodes.borrow();
        if nodes.is_empty() {
            return;
        }
        let node = nodes[self.below(nodes.len() as u64) as usize].clone();
        drop(nodes);
        if self.steps.get() < node.process.frozen_until.get() || node.is_joining() {
            // Nobody works: leases expire in less steps.
            self.now_ms.set(self.now_ms.get() + self.below(6));
        }
        if node.process.dead.get() || self.steps.get() < node.process.frozen_until.get() {
            return;
        }
        if let Stepped::Ends = node.step(self) {
            self.bury(&node.process);
        }
    }

    /// Other people's turn in the middle of a call.
    pub fn pause(self: &Rc<Self>, process: &Process) -> Result<(), Fault> {
        let steps = match self.below(6) {
            0 if !self.calm.get() && self.one_in(self.weather.nap) => {
                // Long enough for a lease to expire and another node to load and commit.
                saw(Sight::Froze);
                let steps = 100 + self.below(700);
                process.frozen_until.set(self.steps.get() + steps);
                steps
            }
            0 => self.below(12),
            _ => 0,
        };
        self.wait(process, steps)
    }

    /// Lets others have `steps` in the middle of a call, if not too many stand there already.
    pub fn wait(self: &Rc<Self>, process: &Process, steps: u64) -> Result<(), Fault> {
        self.depth.set(self.depth.get() + 1);
        for _ in 0..steps {
            if self.depth.get() > DEPTH_MAX {
                break;
            }
            if process.dead.get() {
                break;
            }
            self.step();
        }
        self.depth.set(self.depth.get() - 1);
        if process.dead.get() {
            Err(Fault::Crashed)
        } else {
            Ok(())
        }
    }

    /// Nothing is broken any more; who stands still goes on.
    pub fn calm(&self) {
        self.calm.set(true);
        self.appended.set(self.entries.len());
        let mut database = self.database.borrow_mut();
        database.lost_one_in = 0;
        database.away_until_ms = 0;
    }

    /// Whether every record is committed by every hash range it may belong to.
    pub fn is_committed(&self) -> bool {
        let database = self.database.borrow();
        (0..self.shape.partitions).all(|partition| {
            let mut mine = self.entries.iter().rev();
            let last = mine.find(|entry| entry.partition == partition);
            let mut rows = database.rows_of(Partition::new(partition));
            last.is_none_or(|last| rows.all(|row| row.offset.get() > last.offset))
        })
    }

    /// Asks every node to stop in good order. Whether all have.
    pub fn ask_to_leave(&self) -> bool {
        let nodes = self.nodes.borrow();
        nodes.iter().for_each(|node| node.leaving.set(true));
        nodes.is_empty()
    }

    /// Asserts every invariant, and with the twin at the log's end that nothing is missing.
    pub fn audit_the_end(&self) {
        self.audit();
        let database = self.database.borrow();
        let auditor = self.auditor.borrow();
        let answers = self.topic.borrow().count();
        assert_eq!(answers, auditor.results(), "every record is answered");
        assert_eq!(database.disk.balances.len(), auditor.twin().purses().len());
        assert_eq!(
            database.disk.accounts.len(),
            auditor.twin().accounts().len()
        );
    }

    fn audit(&self) {
        let mut database = self.database.borrow_mut();
        let topic = self.topic.borrow();
        let mut auditor = self.auditor.borrow_mut();
        auditor.audit(&mut database, &topic, &self.entries);
    }

    /// A process is gone: what it held in memory with it.
    pub(super) fn bury(&self, process: &Process) {
        if process.dead.replace(true) {
            return;
        }
        let mut nodes = self.nodes.borrow_mut();
        nodes.retain(|node| node.process.owner != process.owner);
        drop(nodes);
        self.database.borrow_mut().disconnect(process.owner);
        self.audit();
    }

    fn late_results(&self) {
        let nodes = self.nodes.borrow();
        let is_dead = |owner| nodes.iter().all(|node| node.process.owner != owner);
        self.topic.borrow_mut().append_late(is_dead);
    }

    /// Whoever supervises the nodes starts one where one is missing.
    fn start_nodes(&self) {
        let count = self.nodes.borrow().len();
        let wanted = if self.calm.get() {
            let joining = self.nodes.borrow().iter().any(|node| node.is_joining());
            let free = !self.database.borrow().free().is_empty();
            usize::from(free && !joining) + count
        } else {
            self.nodes_wanted
        };
        if count < wanted && !self.leaving() && self.one_in(20) {
            let node = self.new_node();
            self.nodes.borrow_mut().push(Rc::new(node));
        }
    }

    fn leaving(&self) -> bool {
        self.calm.get() && self.is_committed()
    }

    fn new_node(&self) -> Node {
        self.owners.set(self.owners.get() + 1);
        let owner = self.owners.get();
        self.database.borrow_mut().connect(owner);
        let calm = self.calm.get();
        let rng = &mut *self.rng.borrow_mut();
        let process = Process {
            owner,
            dead: Cell::new(false),
            frozen_until: Cell::new(0),
            held: RefCell::default(),
            term: Cell::default(),
            notes: RefCell::default(),
            rate_eighths: if calm {
                8
            } else {
                *rng.pick(&[1, 6, 8, 8, 8, 10, 64])
            },
            wall_ms: if calm || !rng.one_in(5) {
                i64::MAX / 2
            } else {
                rng.pick(&self.entries).timestamp_ms
            },
            deadline_ms: Cell::default(),
        };
        let shards = rng.between(1, 6) as usize;
        let setup = Setup {
            shards,
            writers: rng.between(1, shards.min(3) as u64) as usize,
            command_slots: *rng.pick(&[2, 4, 64]),
            result_slots: *rng.pick(&[16, 32, 128]),
            parts: *rng.pick(&[2, 3, 4]),
            flush_max_commands: *rng.pick(&[1, 7, 50, 1000]),
            window_ms: self.shape.window_ms,
            partitions: self.shape.partitions,
            fault_one_in: 0,
        };
        Node::new(Rc::new(process), setup)
    }

    /// Lets go of the nodes, which hold the stage.
    pub fn clear(&self) {
        self.nodes.borrow_mut().clear();
    }

    /// How many steps were played.
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }
}
