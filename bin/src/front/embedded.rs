//! The front door of a directory: everything that clients need in one process.

mod reader;
mod watch;

use std::sync::Arc;

use anyhow::Context;
use kilter_engine::wait::{WaitStrategy, waiter};
use kilter_io::{
    api::{Health, Keys, Parts, Pool},
    clock::SystemClock,
    embedded::{CommandLog, DataDir, PARTITION, StoreReader},
    outbox::{Wakers, embedded_door},
};
use parking_lot::Mutex;

use self::{reader::DirReader, watch::Watching};
use super::{Accounts, Awaited, Behind, FrontDoor, Leading, MemoryFirst, Pages, READS_MAX, secret};
use crate::{
    config::{self, Config, Environment, Signatures},
    node::Node,
    threads::Threads,
};

/// The settings of a directory's front door and of the log of the program: those of the environment.
/// Without a secret in them the directory has one of its own.
///
/// # Errors
///
/// When a setting is wrong, or the secret cannot be made.
pub fn settings(dir: &DataDir) -> anyhow::Result<(config::Api, config::Log)> {
    let Config { mut api, log, .. } = Config::load(None, &Environment::of_process(), &[])?;
    let has_keys = !api.secret.is_empty() || api.secret_file.is_some();
    if api.enabled && api.signatures != Signatures::Off && !has_keys {
        api.secret_file = Some(secret::make(dir.path())?);
    }
    Ok((api, log))
}

/// What a directory's front door is opened over.
pub struct Over<'a> {
    /// The directory.
    pub dir: &'a DataDir,
    /// Its log.
    pub log: &'a Arc<Mutex<CommandLog>>,
    /// Its node.
    pub node: &'a Node,
    /// Who waits for outcomes, told by the node.
    pub awaited: Awaited,
    /// What is said about the node.
    pub health: Health,
}

/// Opens it.
///
/// # Errors
///
/// When the store cannot be read, an address cannot be had, or the system gives no thread.
pub fn open(
    settings: &config::Api,
    keys: Option<Keys>,
    over: Over<'_>,
) -> anyhow::Result<FrontDoor> {
    let clock = SystemClock::new();
    let leading = Arc::new(Leading::default());
    leading.begin(
        over.node.asker().clone(),
        vec![PARTITION],
        Box::new(|| false),
    );
    let readers = (0..settings.read_threads)
        .map(|_| Ok(DirReader(StoreReader::open(over.dir)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let pool = Pool::start("api-reads", readers, READS_MAX).context("no thread for reads")?;
    let pool = Arc::new(pool);
    let (accepts, acceptor_waker) = waiter(WaitStrategy::Park);
    let (syncs, syncer_waker) = waiter(WaitStrategy::Park);
    let wakers = Wakers {
        acceptor: acceptor_waker.clone(),
        syncer: syncer_waker.clone(),
        poller: over.node.waker(),
    };
    let limits = super::door_limits(settings);
    let log = Arc::clone(over.log);
    let (door, acceptor, syncer) = embedded_door(over.dir, log, limits, clock, wakers)?;
    let mut threads = Threads::new();
    threads.spawn(syncer, (syncs, syncer_waker), None)?;
    threads.spawn(acceptor, (accepts, acceptor_waker), None)?;
    let watching = Arc::new(Watching::new(over.dir, over.node.term())?);
    let parts = Parts {
        door: Arc::new(door.clone()),
        balances: Arc::new(MemoryFirst::new(
            leading,
            Arc::new(Accounts::default()),
            Arc::clone(&pool),
        )),
        ledger: Arc::new(Pages(Arc::clone(&pool))),
        transactions: pool,
        outcomes: Arc::new(over.awaited.clone()),
        results: Arc::clone(&watching) as Arc<_>,
        health: over.health,
        clock: Arc::new(clock),
    };
    let behind = Behind {
        door,
        threads,
        awaited: over.awaited,
        end_watching: Box::new(move || watching.stop()),
    };
    FrontDoor::open(settings, keys, parts, behind)
}
