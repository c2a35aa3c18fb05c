//! One life of a node as leader: from the lease that was taken to the one that is given back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use kilter_engine::{Offset, Partition};
use kilter_io::{
    kafka::LogWatch,
    mysql::{Db, Lease, Taken},
};
use metrics::gauge;

use super::{
    beside::Beside,
    keeper::Keeper,
    settings::mysql_settings,
    start::{self, FoundLog, Running},
};
use crate::{
    config::Config,
    http::{Health, State},
    metrics_names as names,
    node::{Node, Observer},
    signals::Interrupt,
};

/// How often the main thread looks around.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How often the log is asked whether it is still the same, and the group's offsets are told.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How a session ended, if nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked for it.
    Asked,
    /// Partitions lie idle: their node is gone. Taking them means to begin anew.
    MoreToTake,
}

/// What a session needs.
pub struct Session<'a, O> {
    /// The settings.
    pub config: &'a Config,
    /// The log.
    pub found: &'a FoundLog,
    /// The lease, by its owner's name.
    pub lease: Arc<Lease>,
    /// What it has.
    pub taken: Taken,
    /// When the statement that took it was sent.
    pub sent: Instant,
    /// What the node says about itself.
    pub health: &'a Arc<Health>,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// What the process does besides.
    pub beside: &'a Beside<'a>,
    /// Hears of commits.
    pub observer: Arc<O>,
}

impl<O: Observer> Session<'_, O> {
    /// Loads, catches up, works, and stops in good order when asked.
    ///
    /// # Errors
    ///
    /// Whatever stopped the node. The lease is not given back then: it expires by itself when
    /// nothing of this node can commit any more.
    pub fn run(self) -> anyhow::Result<Ended> {
        let owner = self.lease.owner().to_owned();
        let keeper = Keeper::start(
            &mysql_settings(self.config),
            Arc::clone(&self.lease),
            self.taken.clone(),
            self.config.lease.renew_interval,
            self.sent,
        )?;
        self.health.set(State::Starting {
            what: "loading".into(),
        });
        let started = start::start(
            self.config,
            self.found,
            &keeper,
            &owner,
            self.interrupt,
            self.beside.awaited().clone(),
            Arc::clone(&self.observer),
        );
        let running = match started {
            Ok(running) => running,
            Err(error) => {
                // Nothing was applied, so the next may begin at once.
                keeper.release(self.taken.clean);
                if self.interrupt.is_asked() {
                    return Ok(Ended::Asked);
                }
                return Err(error);
            }
        };
        self.tell_lease(1.0);
        let deadline = keeper.deadline();
        self.beside.leading().begin(
            running.node.asker().clone(),
            self.taken.partitions.clone(),
            Box::new(move || deadline.is_past()),
        );
        let worked = self.work(&running, &keeper);
        if matches!(worked, Ok(Ended::Asked)) {
            self.health.set(State::Stopping);
            // First: whoever waits for an outcome still gets it.
            self.beside.close_front();
        }
        self.beside.leading().end();
        self.tell_lease(0.0);
        let Running { node, .. } = running;
        match worked {
            Ok(ended) => {
                node.stop().context("the last epoch could not be flushed")?;
                keeper.release(true);
                Ok(ended)
            }
            Err(error) => {
                // Its threads may wait for servers that are away; the process ends without them.
                std::mem::forget(node);
                Err(error)
            }
        }
    }

    fn work(&self, running: &Running, keeper: &Keeper) -> anyhow::Result<Ended> {
        let node = &running.node;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = std::thread::Builder::new()
                .name("log-watch".into())
                .spawn_scoped(scope, || watch(&running.watch, node, &stop))
                .context("no thread to watch the log");
            let ended = watcher.and_then(|_| self.look_after(running, keeper));
            stop.store(true, Ordering::Release);
            ended
        })
    }

    fn look_after(&self, running: &Running, keeper: &Keeper) -> anyhow::Result<Ended> {
        let node = &running.node;
        let mut idle = IdlePartitions::new(self.config, running.ends.len());
        let mut figures = Instant::now();
        let mut caught_up = false;
        loop {
            if self.interrupt.is_asked() {
                return Ok(Ended::Asked);
            }
            keeper.check()?;
            node.check()?;
            self.beside.look()?;
            caught_up = caught_up || lag(running) == 0;
            self.health.set(if keeper.is_paused() {
                State::Paused {
                    why: "the lease has run out and cannot be renewed".into(),
                }
            } else if caught_up {
                State::Ready
            } else {
                State::CatchingUp { lag: lag(running) }
            });
            if figures.elapsed() >= WATCH_INTERVAL {
                figures = Instant::now();
                tell_figures(running, keeper, self.config.engine.ring_slots);
            }
            if caught_up && idle.is_worth_taking(&self.lease, self.found.identity.partitions) {
                tracing::info!("partitions lie idle: stopping to begin anew with them");
                return Ok(Ended::MoreToTake);
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    fn tell_lease(&self, state: f64) {
        for partition in &self.taken.partitions {
            let label = partition.to_string();
            gauge!(names::LEASE_STATE, "partition" => label.clone()).set(state);
            gauge!(names::LEASE_TERM, "partition" => label).set(self.taken.term.get() as f64);
        }
    }
}

/// How many records up to where the log ended at the start are not committed.
fn lag(running: &Running) -> u64 {
    let offsets = running.node.offsets();
    offsets
        .map(|(partition, offset)| {
            let at = running.watch.effective(partition, offset);
            let end = running.ends.iter().find(|(other, _)| *other == partition);
            end.map_or(0, |(_, end)| end.saturating_sub(at))
        })
        .sum()
}

/// The thread that waits for brokers, so that nobody else does.
fn watch(watch: &LogWatch, node: &Node, stop: &AtomicBool) {
    let mut last: Vec<(Partition, Offset)> = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let offsets: Vec<_> = node.offsets().collect();
        if offsets != last {
            watch.commit(&offsets);
            last = offsets;
        }
        watch.check();
        let until = Instant::now() + WATCH_INTERVAL;
        while Instant::now() < until && !stop.load(Ordering::Acquire) {
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }
    watch.commit(&node.offsets().collect::<Vec<_>>());
}

fn tell_figures(running: &Running, keeper: &Keeper, ring_slots: usize) {
    let node = &running.node;
    for (partition, offset) in node.offsets() {
        let label = partition.to_string();
        if let Some(end) = running.watch.end(partition) {
            let lag = end.saturating_sub(running.watch.effective(partition, offset));
            gauge!(names::LAG_RECORDS, "partition" => label.clone()).set(lag as f64);
            gauge!(names::LAG_SECONDS, "partition" => label).set(node.lag_seconds(partition));
        }
    }
    for (index, used) in node.rings().iter().enumerate() {
        let ring = format!("commands-{index}");
        gauge!(names::RING_USED, "ring" => ring.clone()).set(*used as f64);
        gauge!(names::RING_SLOTS, "ring" => ring).set(ring_slots as f64);
    }
    metrics::counter!(names::POLLER_PAUSES).absolute(node.pauses());
    metrics::counter!(names::LEASE_RENEWALS).absolute(keeper.counts().0);
    let gauges = node.gauges();
    let sum = |of: fn(&kilter_engine::shard::agent::ShardGauges) -> u64| {
        gauges.iter().map(|gauges| of(gauges)).sum::<u64>() as f64
    };
    gauge!(names::ACCOUNTS).set(sum(|gauges| gauges.accounts()));
    gauge!(names::BALANCES).set(sum(|gauges| gauges.balances()));
    gauge!(names::REMEMBERED_IDS).set(sum(|gauges| gauges.ids()));
    gauge!(names::WINDOW_BYTES).set(sum(|gauges| gauges.window_bytes()));
}

/// Whether partitions of other nodes have lain idle for so long that nobody else will take them.
struct IdlePartitions<'a> {
    config: &'a Config,
    has: usize,
    since: Option<Instant>,
    asked: Instant,
}

impl<'a> IdlePartitions<'a> {
    fn new(config: &'a Config, has: usize) -> Self {
        Self {
            config,
            has,
            since: None,
            asked: Instant::now(),
        }
    }

    fn is_worth_taking(&mut self, lease: &Lease, partitions: u32) -> bool {
        let max = match self.config.lease.partitions_max {
            0 => partitions,
            max => max.min(partitions),
        };
        if self.has >= max as usize || self.asked.elapsed() < lease.ttl() {
            return false;
        }
        self.asked = Instant::now();
        let rows = Db::open(&mysql_settings(self.config))
            .and_then(|mut db| Lease::look(&mut db, partitions));
        let Ok(rows) = rows else {
            return false;
        };
        if rows.iter().any(|row| row.is_free) {
            // A standby takes them sooner than this.
            let since = *self.since.get_or_insert_with(Instant::now);
            since.elapsed() >= 2 * lease.ttl()
        } else {
            self.since = None;
            false
        }
    }
}
