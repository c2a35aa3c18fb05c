//! One life of a node in the simulator: every agent of the real topology, stepped by one thread.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use kilter_engine::{
    Partition, Term,
    agent::Agent,
    clock::Clock,
    epoch::{EpochPart, OffsetRow},
    ledger::BalanceState,
    loader::Loader,
    partitioner::Partitioner,
    poller::{PartitionStart, Poller, PollerPort, PollerSettings, PollerStart},
    publisher::{Acknowledged, Publisher},
    regroup::{regroup, writer_ranges, writer_shards},
    ring::ring,
    shard::{
        ShardSettings,
        agent::{ShardAgent, ShardPorts},
    },
    slot::CommandSlot,
    wait::{WaitStrategy, waiter},
    writer::{Writer, WriterPort, WriterProgress, WriterStart},
};

use super::{
    disk::{Disk, GENERATION, SimLog, SimSink, SimStore},
    rng::Rng,
    traffic::Entry,
};

/// How one life is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub shards: usize,
    pub writers: usize,
    pub command_slots: usize,
    pub result_slots: usize,
    pub parts: usize,
    pub flush_max_commands: u64,
    pub window_ms: u64,
    pub partitions: u32,
    /// One commit in so many fails; 0 never.
    pub fault_one_in: u64,
}

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
pub struct World {
    poller: Poller<SimLog, SimClock>,
    shards: Vec<ShardAgent>,
    publisher: Publisher<SimSink>,
    writers: Vec<Writer<SimStore>>,
    stop: Arc<AtomicBool>,
    /// How likely each agent is to be stepped: a slow writer is one that is seldom chosen.
    weights: Vec<u64>,
}

impl World {
    /// Takes the lease, regroups the offset rows and loads, as a node does at start.
    pub fn start(
        disk: &Rc<RefCell<Disk>>,
        entries: &Rc<Vec<Entry>>,
        setup: &Setup,
        rng: &mut Rng,
    ) -> Self {
        let (term, rows) = take_lease(disk, setup);
        let (shards, starts) = load(&disk.borrow(), setup, term, &rows);
        let stop = Arc::new(AtomicBool::new(false));
        let first_epoch = rows.iter().flatten().map(|row| row.epoch).max();
        let last_epoch = first_epoch.expect("there are rows");
        let acknowledged = Arc::new(Acknowledged::up_to(last_epoch));
        let (_, waker) = waiter(WaitStrategy::BusySpin);

        let mut poller_ports = Vec::new();
        let mut result_rings = Vec::new();
        let mut agents = Vec::new();
        let mut writer_ports = Vec::new();
        for (index, shard) in shards.into_iter().enumerate() {
            let (commands, commands_out) = ring(setup.command_slots, CommandSlot::new);
            let (results, results_out) = ring(setup.result_slots, Default::default);
            let (full, full_out) = ring(setup.parts.next_power_of_two(), || None);
            let (mut empty, empty_out) = ring(setup.parts.next_power_of_two(), || None);
            for _ in 1..setup.parts {
                assert!(empty.push(Box::new(EpochPart::default())).is_ok());
            }
            let spilled_bytes = Arc::default();
            poller_ports.push(PollerPort {
                commands,
                spilled_bytes: Arc::clone(&spilled_bytes),
                shard: waker.clone(),
            });
            result_rings.push(results_out);
            writer_ports.push(WriterPort {
                full: full_out,
                empty,
                shard: waker.clone(),
            });
            let ports = ShardPorts {
                commands: commands_out,
                results,
                full,
                empty: empty_out,
                spilled_bytes,
                gauges: Arc::default(),
                poller: waker.clone(),
                publisher: waker.clone(),
                writer: waker.clone(),
            };
            agents.push(ShardAgent::new(index, shard, ports, Box::default()));
        }
        let offsets: Vec<_> = starts.iter().map(|s| (s.partition(), s.offset())).collect();
        let progress: Vec<_> = (0..setup.writers)
            .map(|_| Arc::new(WriterProgress::at(last_epoch)))
            .collect();
        let poller = Poller::new(
            PollerStart {
                settings: PollerSettings {
                    flush_interval_ms: 20,
                    flush_max_commands: setup.flush_max_commands,
                    flush_max_bytes: 1 << 14,
                    batch: 1 + rng.below(64) as usize,
                    spill_max_bytes: 1 << 10,
                    window_ms: setup.window_ms,
                },
                partitions: starts,
                notes: Vec::new(),
                first_epoch: last_epoch.next(),
                stop: stop.clone(),
                paused: Arc::default(),
                writers: progress.clone(),
                progress: Arc::default(),
            },
            SimLog::open(entries, &offsets, Rng::new(rng.next())),
            SimClock {
                now_ns: Cell::new(0),
                rng: RefCell::new(Rng::new(rng.next())),
            },
            poller_ports,
        );
        let sink = SimSink {
            disk: disk.clone(),
            waiting: Vec::new(),
            durable: None,
            rng: Rng::new(rng.next()),
            fault_one_in: setup.fault_one_in,
        };
        let publisher = Publisher::new(result_rings, sink, acknowledged.clone(), vec![waker]);
        let mut writer_ports = writer_ports.into_iter();
        let writers = writer_shards(setup.shards, setup.writers)
            .into_iter()
            .zip(rows)
            .enumerate()
            .map(|(index, (group, rows))| {
                let start = WriterStart {
                    index,
                    term,
                    rows,
                    acknowledged: acknowledged.clone(),
                    progress: Arc::clone(&progress[index]),
                };
                let store = SimStore {
                    disk: disk.clone(),
                    rng: Rng::new(rng.next()),
                    fault_one_in: setup.fault_one_in,
                };
                Writer::new(
                    start,
                    store,
                    writer_ports.by_ref().take(group.len()).collect(),
                )
            })
            .collect();
        let agents_in_all = 2 + setup.shards + setup.writers;
        let weights = (0..agents_in_all)
            .map(|_| *rng.pick(&[1, 4, 16, 64]))
            .collect();
        Self {
            poller,
            shards: agents,
            publisher,
            writers,
            stop,
            weights,
        }
    }

    /// Whether the log was read to its end.
    pub fn has_read_all(&self) -> bool {
        self.poller.log().is_at_end()
    }

    /// Asks the node to stop cleanly.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether every agent ended.
    pub fn is_done(&self) -> bool {
        self.poller.is_done()
            && self.shards.iter().all(Agent::is_done)
            && self.publisher.is_done()
            && self.writers.iter().all(Agent::is_done)
    }

    /// Lets one agent, chosen by the seed, do one piece of work.
    ///
    /// # Errors
    ///
    /// When it failed, as text: the node is dead then.
    pub fn step(&mut self, rng: &mut Rng) -> Result<usize, String> {
        let mut ticket = rng.below(self.weights.iter().sum());
        let index = self
            .weights
            .iter()
            .position(|weight| {
                let chosen = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                chosen
            })
            .unwrap();
        let shards = self.shards.len();
        match index {
            0 => self.poller.do_work().map_err(|e| e.to_string()),
            1 => self.publisher.do_work().map_err(|e| e.to_string()),
            _ if index < 2 + shards => self.shards[index - 2].do_work().map_err(|e| e.to_string()),
            _ => self.writers[index - 2 - shards]
                .do_work()
                .map_err(|e| e.to_string()),
        }
    }

    /// The sum of the shards' state hashes.
    pub fn state_hash(&self) -> u128 {
        self.shards
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

fn load(
    disk: &Disk,
    setup: &Setup,
    term: Term,
    rows: &[Vec<OffsetRow>],
) -> (Vec<kilter_engine::shard::Shard>, Vec<PartitionStart>) {
    let starts: Vec<PartitionStart> = (0..setup.partitions)
        .map(|partition| {
            let rows: Vec<OffsetRow> = rows
                .iter()
                .flatten()
                .filter(|row| row.partition == Partition::new(partition))
                .copied()
                .collect();
            PartitionStart::of_rows(&rows)
        })
        .collect();
    let settings = ShardSettings {
        range: kilter_engine::HashRange::ALL,
        term,
        partitions: starts.iter().map(|s| (s.partition(), GENERATION)).collect(),
        partition_count: setup.partitions,
        partitioner: Partitioner::Murmur2,
        window_ms: setup.window_ms,
        // Small, so that windows begin small: there are many of them in a run.
        window_bytes: 4 << 20,
        dead_letters: kilter_engine::shard::DeadLetters::WithEpoch,
    };
    let mut loader = Loader::new(setup.shards, &settings);
    for (account, user) in &disk.accounts {
        let account = kilter_engine::AccountId::new(*account).unwrap();
        loader.account(account, user).unwrap();
    }
    for image in disk.balances.values() {
        let state = BalanceState {
            available: image.available,
            frozen: image.frozen,
            version: image.version,
        };
        loader
            .balance(image.account_id, image.currency, state)
            .unwrap();
    }
    for entry in disk.ledger.values() {
        let start = starts
            .iter()
            .find(|start| start.partition() == entry.position.partition)
            .unwrap();
        loader
            .remembered(
                entry.account_id,
                entry.transaction_id.as_str(),
                entry.position.partition,
                entry.remembered_ms,
                start.clock_ms(),
            )
            .unwrap();
    }
    (loader.finish(), starts)
}
