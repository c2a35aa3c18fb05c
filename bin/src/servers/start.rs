//! From a lease to a running node: log known again, rows split, state loaded, threads started.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use kilter_engine::{
    Generation, HashRange, Partition,
    loader::Loader,
    partitioner::Partitioner,
    regroup::writer_ranges,
    shard::{DeadLetters, Entries, Shard, ShardSettings},
};
use kilter_io::{
    kafka::{
        Admin, Claimer, CommandConsumer, KafkaError, KafkaLog, KafkaSink, LogIdentity, LogStart,
        LogWatch, Receipts, is_known,
    },
    mysql::{
        self, Db, KnownLog, LoadAsked, MysqlError, MysqlSettings, MysqlWriter, StartAsked, Started,
        Watch, WriterSettings,
    },
};
use parking_lot::Mutex;

use super::{
    keeper::Keeper,
    observe::{CountedSink, Figures},
    reload,
    settings::{kafka_settings, mysql_settings, node_settings, store_settings, writer_mysql},
};
use crate::{
    config::{Config, Ledger},
    front::Awaited,
    node::{Launch, Node, NodeSettings, Observer, partition_starts},
    signals::Interrupt,
};

/// How long the start waits for a row of a result set.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// The log as it was found, before anything was taken.
pub struct FoundLog {
    /// Reads it.
    pub consumer: Arc<CommandConsumer>,
    /// What tells it from others.
    pub identity: LogIdentity,
    /// Which life of the log the store counts in.
    pub generation: Generation,
}

/// A node at work, and what looks after its log.
pub struct Running {
    /// The node.
    pub node: Node,
    /// Looks after the log.
    pub watch: LogWatch,
    /// Where each partition ended when the node began to read.
    pub ends: Vec<(Partition, u64)>,
}

/// Finds the log, and checks that it is the one which the store knows; a store that knows none
/// gets to know this one.
///
/// # Errors
///
/// When a server cannot be reached, or this is another log.
pub fn find_log(config: &Config, db: &mut Db) -> anyhow::Result<FoundLog> {
    mysql::is_ready(db)?;
    mysql::store_settings(db, &store_settings(config))?;
    let settings = kafka_settings(config);
    let consumer =
        kilter_io::kafka::off_cores(&config.engine.pin, || CommandConsumer::new(&settings))?;
    let identity = consumer.identity()?;
    let generation = match mysql::known_log(db)? {
        Some(known) => {
            let generation = known.generation;
            identity_of(known).expect(&identity)?;
            generation
        }
        None => {
            let first = Generation::new(1);
            let log = KnownLog {
                generation: first,
                cluster_id: identity.cluster_id.clone(),
                topic: settings.commands.clone(),
                topic_id: identity.topic_id.clone(),
                partitions: identity.partitions,
            };
            mysql::put_log(db, &log, "the first log of this store")?;
            first
        }
    };
    Ok(FoundLog {
        consumer,
        identity,
        generation,
    })
}

/// The identity in what the store knows.
pub fn identity_of(known: KnownLog) -> LogIdentity {
    LogIdentity {
        cluster_id: known.cluster_id,
        topic_id: known.topic_id,
        partitions: known.partitions,
    }
}

/// Starts a node on the partitions that the keeper holds.
///
/// # Errors
///
/// When the log does not go on where the store ends, the state cannot be loaded, or a part of the
/// node cannot be started.
pub fn start(
    config: &Config,
    found: &FoundLog,
    keeper: &Keeper,
    owner: &str,
    interrupt: &Interrupt,
    awaited: Awaited,
    observer: Arc<impl Observer>,
) -> anyhow::Result<Running> {
    let settings = node_settings(config);
    let kafka = kafka_settings(config);
    let topics = Admin::new(&kafka)?.check_all()?;
    let letter_max = topics
        .iter()
        .find(|topic| topic.topic == kafka.dead_letters)
        .map_or(1_000_000, |topic| topic.max_message_bytes);
    let started = begin(config, found, keeper, owner, &settings)?;
    let starts = partition_starts(&started.rows);
    let mut ends = Vec::new();
    for at in &starts {
        is_known(&found.consumer, at.partition(), at.offset(), at.last())?;
        let end = found.consumer.range(at.partition())?.end;
        ends.push((at.partition(), end));
        tracing::info!(
            partition = at.partition().get(),
            offset = at.offset().get(),
            end,
            "going on"
        );
    }
    let shards = load(config, found, keeper, &settings, &started, interrupt)?;
    let launch = Launch {
        term: keeper.taken().term,
        last_epoch: started.last_epoch,
        rows: started.rows.clone(),
        window_ms: started.window_ms,
        notes: started.notes.clone(),
        shards: shards.0,
        paused: keeper.paused(),
    };
    let figures: Arc<dyn Watch> = Arc::new(Figures);
    let stores = (0..settings.writers)
        .map(|index| {
            let writer = WriterSettings {
                mysql: writer_mysql(config, index),
                group: kafka.group.clone(),
                topic: kafka.commands.clone(),
                owner: owner.to_owned(),
                lease_ttl: config.lease.ttl,
                index,
                ledger: config.engine.ledger == Ledger::Mysql,
            };
            let writer = MysqlWriter::open(writer, Arc::clone(&figures))
                .with_context(|| format!("writer {index} cannot be connected"))?;
            if !writer.loads_data() {
                tracing::warn!(
                    writer = index,
                    "no LOAD DATA LOCAL (local_infile is off, here or on the server): epochs go \
                     by INSERT, which is slower"
                );
            }
            Ok(writer)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let verdict = Arc::new(Mutex::new(None));
    let claimer = Claimer::new(mysql_settings(config), shards.1.rules());
    let log_verdict = Arc::clone(&verdict);
    let notes = started.notes.clone();
    let consumer = Arc::clone(&found.consumer);
    let receipts = Arc::<Receipts>::default();
    let of_sink = Arc::clone(&receipts);
    let pin = &config.engine.pin;
    let node = Node::launch(
        &settings,
        launch,
        |poller| {
            let start = LogStart {
                partitions: starts,
                notes,
                poller,
                verdict: log_verdict,
            };
            Ok(KafkaLog::open(consumer, claimer, start)?)
        },
        |publisher| {
            let sink = kilter_io::kafka::off_cores(pin, || {
                KafkaSink::new(&kafka, letter_max, Some(publisher), of_sink)
            });
            Ok(CountedSink::new(sink?, awaited))
        },
        stores,
        observer,
    )?;
    Ok(Running {
        node,
        watch: LogWatch::new(
            Arc::clone(&found.consumer),
            found.identity.clone(),
            verdict,
            receipts,
        ),
        ends,
    })
}

/// The start transaction.
fn begin(
    config: &Config,
    found: &FoundLog,
    keeper: &Keeper,
    owner: &str,
    settings: &NodeSettings,
) -> anyhow::Result<Started> {
    let lease = kilter_io::mysql::Lease::new(owner.to_owned(), config.lease.ttl);
    let mut db = Db::open(&mysql_settings(config))?;
    let ranges = writer_ranges(settings.shards, settings.writers);
    let asked = StartAsked {
        group: &config.kafka.group,
        topic: &config.kafka.commands,
        generation: found.generation,
        ranges: &ranges,
        window_ms: config.engine.window.as_millis() as u64,
    };
    Ok(mysql::start(&mut db, &lease, keeper.taken(), asked)?)
}

/// The shards, filled, and the settings that they share.
fn load(
    config: &Config,
    found: &FoundLog,
    keeper: &Keeper,
    settings: &NodeSettings,
    started: &Started,
    interrupt: &Interrupt,
) -> anyhow::Result<(Vec<Shard>, ShardSettings)> {
    let starts = partition_starts(&started.rows);
    let count = found.identity.partitions;
    let shard_settings = ShardSettings {
        range: HashRange::ALL,
        term: keeper.taken().term,
        partitions: starts
            .iter()
            .map(|at| (at.partition(), at.generation()))
            .collect(),
        partition_count: count,
        partitioner: Partitioner::Murmur2,
        window_ms: started.window_ms,
        window_bytes: settings.window_max_bytes / settings.shards as u64,
        dead_letters: DeadLetters::WithResults,
        entries: match config.engine.ledger {
            Ledger::Mysql => Entries::WithEpoch,
            Ledger::Topic => Entries::WithResults,
        },
    };
    let mut loader = Loader::new(settings.shards, &shard_settings);
    let partitions: Vec<(Partition, i64)> = starts
        .iter()
        .map(|at| (at.partition(), at.clock_ms()))
        .collect();
    let asked = LoadAsked {
        partitions: &partitions,
        partition_count: count,
        generation: found.generation,
        window_ms: started.window_ms,
        ids: config.engine.ledger == Ledger::Mysql,
    };
    let mut db = Db::open(&MysqlSettings {
        statement_timeout: LOAD_TIMEOUT,
        ..mysql_settings(config)
    })?;
    let mut lost: Option<MysqlError> = None;
    let loaded = mysql::load(&mut db, &mut loader, &asked, &mut |at| {
        let done = at.accounts + at.balances;
        tracing::info!(
            accounts = at.accounts,
            balances = at.balances,
            ids = at.ids,
            rows_per_s = at.rows_per_s,
            remaining = at.expected.saturating_sub(done),
            "loading"
        );
        lost = keeper.check().err();
        lost.is_none() && !interrupt.is_asked()
    });
    if let Some(lost) = lost {
        return Err(lost.into());
    }
    let mut loaded = loaded.context("the store cannot be loaded")?;
    if config.engine.ledger == Ledger::Topic {
        loaded.ids = reload::ids(config, found, keeper, started, &partitions, &mut loader)?;
    }
    tracing::info!(
        accounts = loaded.accounts,
        balances = loaded.balances,
        ids = loaded.ids,
        "loaded"
    );
    Ok((loader.finish(), shard_settings))
}

/// Whether an error says that a broker or a server was not there, at a start.
pub fn is_absence(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<MysqlError>() {
            return error.is_passing();
        }
        matches!(
            cause.downcast_ref::<KafkaError>(),
            Some(KafkaError::Client { .. })
        )
    })
}
