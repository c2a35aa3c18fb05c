//! A node on a directory: everything in one process, no servers.

use std::sync::Arc;

use anyhow::Context;
use kilter_engine::{
    HashRange,
    loader::Loader,
    partitioner::Partitioner,
    poller::PartitionStart,
    regroup::writer_ranges,
    result::ResultSink,
    shard::{DeadLetters, Entries, Shard, ShardSettings},
};
use kilter_io::embedded::{
    DataDir, EmbeddedStore, GENERATION, LogReader, PARTITION, Started, StoreWriter, load,
};

use crate::node::{Launch, Node, NodeSettings, Observer};

/// Takes the lease, loads, and starts every thread. `tell` is given lines of progress.
///
/// # Errors
///
/// When the store cannot be read or is not this log's, or a thread cannot be started.
pub fn start<S>(
    dir: &DataDir,
    settings: &NodeSettings,
    sink: S,
    observer: Arc<impl Observer>,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<Node>
where
    S: ResultSink + Send + 'static,
{
    let store = EmbeddedStore::open(dir)?;
    let ranges = writer_ranges(settings.shards, settings.writers);
    let started = store
        .start(dir, &ranges)
        .with_context(|| format!("cannot start on {}", dir.path().display()))?;
    let start = PartitionStart::of_rows(&started.rows.concat());
    let shards = load_shards(&store, settings, &started, &start, tell)?;
    drop(store);
    let log = LogReader::open(dir, start.offset())?;
    let stores = (0..settings.writers)
        .map(|_| StoreWriter::open(dir))
        .collect::<Result<Vec<_>, _>>()?;
    let launch = Launch {
        term: started.term,
        last_epoch: started.last_epoch,
        rows: started.rows,
        window_ms: started.settings.window_ms,
        notes: started.notes,
        shards,
        paused: Arc::default(),
    };
    Node::launch(
        settings,
        launch,
        |_| Ok(log),
        |_| Ok(sink),
        stores,
        observer,
    )
}

fn load_shards(
    store: &EmbeddedStore,
    settings: &NodeSettings,
    started: &Started,
    start: &PartitionStart,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<Vec<Shard>> {
    let window_ms = started.settings.window_ms;
    let shard_settings = ShardSettings {
        range: HashRange::ALL,
        term: started.term,
        partitions: vec![(PARTITION, GENERATION)],
        partition_count: 1,
        partitioner: Partitioner::Murmur2,
        window_ms,
        window_bytes: settings.window_max_bytes / settings.shards as u64,
        dead_letters: DeadLetters::WithEpoch,
        entries: Entries::WithEpoch,
    };
    let mut loader = Loader::new(settings.shards, &shard_settings);
    let loaded = load(store, &mut loader, start.clock_ms(), window_ms, &mut |at| {
        tell(format!(
            "loading: {} accounts, {} balances, {} transaction ids",
            at.accounts, at.balances, at.ids
        ));
    })
    .context("the store cannot be loaded")?;
    if loaded.accounts > 0 {
        tell(format!(
            "loaded {} accounts, {} balances and {} transaction ids; going on at offset {}",
            loaded.accounts,
            loaded.balances,
            loaded.ids,
            start.offset()
        ));
    }
    Ok(loader.finish())
}
