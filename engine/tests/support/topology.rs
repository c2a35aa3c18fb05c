//! The real topology, every ring between its agents, on whatever log, clock, sink and store; and
//! what a node loads before it runs.

use std::sync::{Arc, atomic::AtomicBool};

use kilter_engine::{
    AccountId, HashRange, Partition, Term,
    clock::Clock,
    epoch::{EpochPart, OffsetRow},
    ledger::BalanceState,
    loader::Loader,
    log::Log,
    notes::Note,
    partitioner::Partitioner,
    poller::{PartitionStart, Poller, PollerPort, PollerProgress, PollerSettings, PollerStart},
    publisher::{Acknowledged, Publisher},
    regroup::writer_shards,
    result::ResultSink,
    ring::ring,
    shard::{
        Shard, ShardSettings,
        agent::{ShardAgent, ShardPorts},
    },
    slot::CommandSlot,
    store::Store,
    wait::{WaitStrategy, waiter},
    writer::{Writer, WriterPort, WriterProgress, WriterStart},
};

use super::disk::{Disk, GENERATION};

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

/// What a node begins with.
pub struct Plan<'a> {
    pub setup: &'a Setup,
    pub term: Term,
    /// The offset rows of each writer.
    pub rows: Vec<Vec<OffsetRow>>,
    pub shards: Vec<Shard>,
    pub starts: Vec<PartitionStart>,
    pub notes: Vec<Note>,
    /// How many records are read at once.
    pub batch: usize,
}

/// What a node meets.
pub struct Outside<L, C, K> {
    pub log: L,
    pub clock: C,
    pub sink: K,
}

/// Every agent of a node.
pub struct Agents<L: Log, C: Clock, K: ResultSink, S: Store> {
    pub poller: Poller<L, C>,
    pub shards: Vec<ShardAgent>,
    pub publisher: Publisher<K>,
    pub writers: Vec<Writer<S>>,
    pub stop: Arc<AtomicBool>,
    pub progress: Arc<PollerProgress>,
}

/// Wires the agents of a node; `store` makes each writer's own.
pub fn assemble<L: Log, C: Clock, K: ResultSink, S: Store>(
    plan: Plan<'_>,
    outside: Outside<L, C, K>,
    mut store: impl FnMut() -> S,
) -> Agents<L, C, K, S> {
    let Plan {
        setup,
        term,
        rows,
        shards,
        starts,
        notes,
        batch,
    } = plan;
    let stop = Arc::new(AtomicBool::new(false));
    let first_epoch = rows.iter().flatten().map(|row| row.epoch).max();
    let last_epoch = first_epoch.expect("there are rows");
    let acknowledged = Arc::new(Acknowledged::up_to(last_epoch));
    let (_, waker) = waiter(WaitStrategy::BusySpin);

    let poller_progress = Arc::<PollerProgress>::default();
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
    let progress: Vec<_> = (0..setup.writers)
        .map(|_| Arc::new(WriterProgress::at(last_epoch)))
        .collect();
    let poller = Poller::new(
        PollerStart {
            settings: PollerSettings {
                flush_interval_ms: 20,
                flush_max_commands: setup.flush_max_commands,
                flush_max_bytes: 1 << 14,
                batch,
                spill_max_bytes: 1 << 10,
                window_ms: setup.window_ms,
            },
            partitions: starts,
            notes,
            first_epoch: last_epoch.next(),
            stop: stop.clone(),
            paused: Arc::default(),
            writers: progress.clone(),
            progress: poller_progress.clone(),
        },
        outside.log,
        outside.clock,
        poller_ports,
    );
    let publisher = Publisher::new(
        result_rings,
        outside.sink,
        acknowledged.clone(),
        vec![waker],
    );
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
            Writer::new(
                start,
                store(),
                writer_ports.by_ref().take(group.len()).collect(),
            )
        })
        .collect();
    Agents {
        poller,
        shards: agents,
        publisher,
        writers,
        stop,
        progress: poller_progress,
    }
}

/// Loads what concerns the `owned` partitions: their users alone, each in one of them.
pub fn load(
    disk: &Disk,
    setup: &Setup,
    term: Term,
    rows: &[Vec<OffsetRow>],
    owned: &[u32],
) -> (Vec<Shard>, Vec<PartitionStart>) {
    let starts: Vec<PartitionStart> = owned
        .iter()
        .map(|&partition| {
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
        range: HashRange::ALL,
        term,
        partitions: starts.iter().map(|s| (s.partition(), GENERATION)).collect(),
        partition_count: setup.partitions,
        partitioner: Partitioner::Murmur2,
        window_ms: setup.window_ms,
        // Small, so that windows begin small: there are many of them in a run.
        window_bytes: 4 << 20,
        dead_letters: kilter_engine::shard::DeadLetters::WithEpoch,
        entries: kilter_engine::shard::Entries::WithEpoch,
    };
    let mut loader = Loader::new(setup.shards, &settings);
    let mine = |account: u64| {
        let user = disk.accounts.get(&account);
        let user = user.unwrap_or_else(|| panic!("a row of account {account}, which is not there"));
        let partition = Partitioner::Murmur2.partition(user.as_bytes(), setup.partitions);
        owned.contains(&partition)
    };
    for (account, user) in disk.accounts.iter().filter(|(id, _)| mine(**id)) {
        let account = AccountId::new(*account).unwrap();
        loader.account(account, user).unwrap();
    }
    let balances = disk.balances.values();
    for image in balances.filter(|image| mine(image.account_id.get())) {
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
        let mut starts = starts.iter();
        let start = starts.find(|start| start.partition() == entry.position.partition);
        let Some(start) = start else {
            continue;
        };
        if let Some(landed) = disk.landed.get(&entry.position) {
            loader
                .remembered_leg(
                    &landed.user_id,
                    &landed.name,
                    entry.position.partition,
                    entry.remembered_ms,
                    start.clock_ms(),
                )
                .unwrap();
            continue;
        }
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
