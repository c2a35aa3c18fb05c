//! One life of a node in the simulator: every agent of the real topology, stepped by one thread.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::Ordering,
};

use kilter_engine::{
    Offset, Partition, Term,
    agent::Agent,
    clock::Clock,
    epoch::OffsetRow,
    log::Log,
    regroup::{regroup, writer_ranges},
};

pub use super::topology::Setup;
use super::{
    disk::{Disk, SimLog, SimSink, SimStore},
    rng::Rng,
    topology::{Agents, Outside, Plan, assemble, load},
    traffic::Entry,
};

/// A clock that moves a little whenever it is looked at, and a day that never ends.
pub struct SimClock {
    now_ns: Cell<u64>,
    rng: RefCell<Rng>,
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        i64::MAX / 2
    }

    fn monotonic_ns(&self) -> u64 {
        let step = self.rng.borrow_mut().below(4_000_000);
        self.now_ns.set(self.now_ns.get() + step);
        self.now_ns.get()
    }
}

/// A node between start and crash.
pub struct World<L: Log = SimLog> {
    agents: Agents<L, SimClock, SimSink, SimStore>,
    /// How likely each agent is to be stepped: a slow writer is one that is seldom chosen.
    weights: Vec<u64>,
}

impl World {
    /// A node on a log that was written before.
    pub fn start(
        disk: &Rc<RefCell<Disk>>,
        entries: &Rc<Vec<Entry>>,
        setup: &Setup,
        rng: &mut Rng,
    ) -> Self {
        Self::start_on(disk, setup, rng, |offsets, rng| {
            SimLog::open(entries, offsets, rng)
        })
    }

    /// Whether the log was read to its end.
    pub fn has_read_all(&self) -> bool {
        self.agents.poller.log().is_at_end()
    }
}

impl<L: Log> World<L> {
    /// Takes the lease, regroups the offset rows and loads, as a node does at start.
    pub fn start_on(
        disk: &Rc<RefCell<Disk>>,
        setup: &Setup,
        rng: &mut Rng,
        open: impl FnOnce(&[(Partition, Offset)], Rng) -> L,
    ) -> Self {
        let (term, rows) = take_lease(disk, setup);
        let owned: Vec<u32> = (0..setup.partitions).collect();
        let (shards, starts) = load(&disk.borrow(), setup, term, &rows, &owned);
        let batch = 1 + rng.below(64) as usize;
        let offsets: Vec<_> = starts.iter().map(|s| (s.partition(), s.offset())).collect();
        let outside = Outside {
            log: open(&offsets, Rng::new(rng.next())),
            clock: SimClock {
                now_ns: Cell::new(0),
                rng: RefCell::new(Rng::new(rng.next())),
            },
            sink: SimSink {
                disk: disk.clone(),
                waiting: Vec::new(),
                durable: None,
                rng: Rng::new(rng.next()),
                fault_one_in: setup.fault_one_in,
            },
        };
        let plan = Plan {
            setup,
            term,
            rows,
            shards,
            starts,
            notes: Vec::new(),
            batch,
        };
        let agents = assemble(plan, outside, || SimStore {
            disk: disk.clone(),
            rng: Rng::new(rng.next()),
            fault_one_in: setup.fault_one_in,
        });
        let agents_in_all = 2 + setup.shards + setup.writers;
        let weights = (0..agents_in_all)
            .map(|_| *rng.pick(&[1, 4, 16, 64]))
            .collect();
        Self { agents, weights }
    }

    /// Asks the node to stop cleanly.
    pub fn stop(&self) {
        self.agents.stop.store(true, Ordering::Release);
    }

    /// Whether every agent ended.
    pub fn is_done(&self) -> bool {
        self.agents.poller.is_done()
            && self.agents.shards.iter().all(Agent::is_done)
            && self.agents.publisher.is_done()
            && self.agents.writers.iter().all(Agent::is_done)
    }

    /// Lets one agent, chosen by the seed, do one piece of work.
    ///
    /// # Errors
    ///
    /// When it failed, as text: the node is dead then. That agent does nothing any more, as its thread
    /// has ended; the others may go on for as long as nobody stops them.
    pub fn step(&mut self, rng: &mut Rng) -> Result<usize, String> {
        let all = self.weights.iter().sum();
        if all == 0 {
            return Ok(0);
        }
        let mut ticket = rng.below(all);
        let index = self
            .weights
            .iter()
            .position(|weight| {
                let chosen = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                chosen
            })
            .unwrap();
        let shards = self.agents.shards.len();
        let done = match index {
            0 => self.agents.poller.do_work().map_err(|e| e.to_string()),
            1 => self.agents.publisher.do_work().map_err(|e| e.to_string()),
            _ if index < 2 + shards => self.agents.shards[index - 2]
                .do_work()
                .map_err(|e| e.to_string()),
            _ => self.agents.writers[index - 2 - shards]
                .do_work()
                .map_err(|e| e.to_string()),
        };
        if done.is_err() {
            self.weights[index] = 0;
        }
        done
    }

    /// The sum of the shards' state hashes.
    pub fn state_hash(&self) -> u128 {
        self.agents
            .shards
            .iter()
            .fold(0, |sum, agent| sum.wrapping_add(agent.shard().state_hash()))
    }
}

fn take_lease(disk: &Rc<RefCell<Disk>>, setup: &Setup) -> (Term, Vec<Vec<OffsetRow>>) {
    let disk = &mut *disk.borrow_mut();
    disk.term = Term::new(disk.term.get() + 1);
    let ranges = writer_ranges(setup.shards, setup.writers);
    let mut groups: Vec<Vec<OffsetRow>> = vec![Vec::new(); ranges.len()];
    for partition in 0..setup.partitions {
        let rows: Vec<OffsetRow> = disk
            .rows
            .iter()
            .filter(|row| row.partition == Partition::new(partition))
            .copied()
            .collect();
        for (group, rows) in groups.iter_mut().zip(regroup(&rows, &ranges)) {
            group.extend(rows);
        }
    }
    disk.rows = groups.concat();
    (disk.term, groups)
}
