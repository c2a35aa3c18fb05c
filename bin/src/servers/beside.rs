//! What a process does beside leading: a front door, a relay, a cache writer, each if it is asked to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use kilter_engine::wait::{WaitStrategy, waiter};
use kilter_io::{
    api::{Health, Keys, Parts, Pool},
    clock::SystemClock,
    outbox::{Hands, LogGuard, OutboxCounters, OutboxSettings, Relay, mysql_door},
};
use parking_lot::Mutex;

use super::{
    follow::{Feed, Follower},
    readers::Readers,
    redis::Cache,
    settings::{kafka_settings, mysql_settings},
    watch::Watching,
};
use crate::{
    cli,
    config::{Config, Ledger},
    front::{
        Accounts, Awaited, Behind, FrontDoor, Leading, MemoryFirst, Pages, READS_MAX, Roles,
        door_limits, tell_outbox,
    },
    signals::Hangup,
    threads::Threads,
};

/// How often figures are told.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// How long a stop waits for the relay to let go of its leases; they expire by themselves, too.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// How many may watch results at once.
const WATCHERS_MAX: usize = 64;

/// What the process does beside leading.
pub struct Beside<'a> {
    /// The settings' sources, to be read again.
    args: &'a cli::ConfigArgs,
    hangup: Hangup,
    /// What the process leads, for readers of the front door.
    leading: Arc<Leading>,
    /// Who waits for outcomes.
    awaited: Awaited,
    front: Mutex<Option<FrontDoor>>,
    relay: Option<Relaying>,
    guard: Option<Relaying>,
    counters: Option<Arc<OutboxCounters>>,
    _follower: Option<Follower>,
    cache: Cache,
    told: Mutex<Option<Instant>>,
}

struct Relaying {
    threads: Threads,
    stop: Arc<AtomicBool>,
}

/// What it is started from.
pub struct BesideStart<'a> {
    /// The settings.
    pub config: &'a Config,
    /// Where they come from.
    pub args: &'a cli::ConfigArgs,
    /// What the process does.
    pub roles: Roles,
    /// The keys of the front door.
    pub keys: Option<Keys>,
    /// How many partitions the command topic has.
    pub partitions: u32,
    /// What clients hear about the process.
    pub health: Health,
    /// Whether secrets are to be read again.
    pub hangup: Hangup,
}

impl<'a> Beside<'a> {
    /// Starts what the roles say.
    ///
    /// # Errors
    ///
    /// When a server refuses us, an address cannot be had, or the system gives no thread.
    pub fn start(start: BesideStart<'a>) -> anyhow::Result<Self> {
        let BesideStart { config, roles, .. } = start;
        let cache = if roles.cache {
            Cache::start(config)?
        } else {
            Cache::none()
        };
        // Before anything is produced.
        let guard = match roles.api || roles.relay {
            true => Some(Relaying::guard(&start)?),
            false => None,
        };
        let leading = Arc::new(Leading::default());
        let awaited = Awaited::default();
        let (front, hands) = match roles.api {
            true => {
                let (front, hands) = open(&start, &leading, &awaited)?;
                (Some(front), hands)
            }
            false => (None, Hands::default()),
        };
        let feed = match cache.offers() {
            // A node that leads offers what it commits by itself.
            Some(offers) if !roles.engine => Some(Feed {
                offers,
                mysql: mysql_settings(config),
                partitions: start.partitions,
            }),
            _ => None,
        };
        let follower = if front.is_some() || feed.is_some() {
            let (heard, leads) = (awaited.clone(), Arc::clone(&leading));
            let partitions = start.partitions;
            let is_needless = feed.is_none();
            Some(Follower::start(
                kafka_settings(config),
                Box::new(move |result| heard.tell_seen(result)),
                // Whoever waits hears of everything from the shards of this process.
                Box::new(move || is_needless && leads.has_all(partitions)),
                feed,
            )?)
        } else {
            None
        };
        let counters = front.as_ref().map(|front| Arc::clone(front.counters()));
        let counters = match roles.relay {
            true => Some(counters.unwrap_or_default()),
            false => counters,
        };
        let relay = match (&counters, roles.relay) {
            (Some(counters), true) => Some(Relaying::start(&start, hands, Arc::clone(counters))?),
            _ => None,
        };
        Ok(Self {
            args: start.args,
            hangup: start.hangup,
            leading,
            awaited,
            front: Mutex::new(front),
            relay,
            guard,
            counters,
            _follower: follower,
            cache,
            told: Mutex::new(None),
        })
    }

    /// What the process leads, to be said by whoever does.
    pub fn leading(&self) -> &Leading {
        &self.leading
    }

    /// Who is to be told of results.
    pub fn awaited(&self) -> &Awaited {
        &self.awaited
    }

    /// The writers of Redis.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// To be called again and again: reads secrets again when asked to, and tells figures.
    ///
    /// # Errors
    ///
    /// The first failure of anything that this process does beside leading.
    pub fn look(&self) -> anyhow::Result<()> {
        let front = self.front.lock();
        if let Some(front) = &*front {
            front.check()?;
        }
        if let Some(relay) = &self.relay
            && let Some(error) = relay.threads.failure()
        {
            return Err(error.context("the relay cannot go on"));
        }
        if let Some(guard) = &self.guard
            && let Some(error) = guard.threads.failure()
        {
            return Err(error.context("what is accepted cannot be brought to the log"));
        }
        if self.hangup.is_asked()
            && let Some(front) = &*front
        {
            match Config::from_args(self.args) {
                Ok(config) => front.reload(&config.api),
                Err(mistakes) => {
                    tracing::error!("the keys for signatures stay as they were: {mistakes}");
                }
            }
        }
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= FIGURES_INTERVAL) {
            *told = Some(Instant::now());
            self.cache.tell_figures();
            if let Some(front) = &*front {
                front.tell_figures();
            }
            if let Some(counters) = &self.counters {
                tell_outbox(counters);
            }
        }
        Ok(())
    }

    /// Closes the front door, while whoever leads still answers those who wait.
    pub fn close_front(&self) {
        if let Some(front) = self.front.lock().take() {
            front.close();
        }
    }

    /// Ends all of it in good order.
    pub fn stop(self) {
        self.close_front();
        if let Some(relay) = self.relay {
            relay.stop();
        }
        if let Some(guard) = self.guard {
            guard.stop();
        }
        self.cache.stop();
    }
}

impl Relaying {
    fn start(
        start: &BesideStart<'_>,
        hands: Hands,
        counters: Arc<OutboxCounters>,
    ) -> anyhow::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let settings = outbox_settings(start.config, start.partitions);
        let clock = SystemClock::new();
        let relay = Relay::new(settings, hands, counters, Arc::clone(&stop), clock)?;
        let mut threads = Threads::new();
        threads.spawn(relay, waiter(WaitStrategy::Park), None)?;
        Ok(Self { threads, stop })
    }

    fn guard(start: &BesideStart<'_>) -> anyhow::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let settings = outbox_settings(start.config, start.partitions);
        let mut guard = LogGuard::new(settings, Arc::clone(&stop))?;
        guard.check()?;
        let mut threads = Threads::new();
        threads.spawn(guard, waiter(WaitStrategy::Park), None)?;
        Ok(Self { threads, stop })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        let until = Instant::now() + STOP_LIMIT;
        while !self.threads.are_done() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// Opens the front door; what it has in hands is not the relay's.
fn open(
    start: &BesideStart<'_>,
    leading: &Arc<Leading>,
    awaited: &Awaited,
) -> anyhow::Result<(FrontDoor, Hands)> {
    let config = start.config;
    let api = &config.api;
    let readers = (0..api.read_threads)
        .map(|_| Readers::new(config))
        .collect();
    let pool = Pool::start("api-reads", readers, READS_MAX).context("no thread for reads")?;
    let pool = Arc::new(pool);
    let accepts = waiter(WaitStrategy::Park);
    let sends = waiter(WaitStrategy::Park);
    let clock = SystemClock::new();
    let (door, acceptor, sender) = mysql_door(
        &outbox_settings(config, start.partitions),
        door_limits(api),
        clock,
        accepts.1.clone(),
        sends.1.clone(),
    )?;
    let hands = sender.hands();
    let mut threads = Threads::new();
    threads.spawn(acceptor, accepts, None)?;
    threads.spawn(sender, sends, None)?;
    let watching = Arc::new(Watching::start(
        kafka_settings(config),
        mysql_settings(config),
        start.partitions,
        WATCHERS_MAX,
    )?);
    let parts = Parts {
        door: Arc::new(door.clone()),
        balances: Arc::new(MemoryFirst::new(
            Arc::clone(leading),
            Arc::new(Accounts::default()),
            Arc::clone(&pool),
        )),
        ledger: Arc::new(Pages(Arc::clone(&pool))),
        transactions: pool,
        outcomes: Arc::new(awaited.clone()),
        results: Arc::clone(&watching) as Arc<_>,
        health: start.health.clone(),
        clock: Arc::new(clock),
    };
    let behind = Behind {
        door,
        threads,
        awaited: awaited.clone(),
        end_watching: Box::new(move || watching.stop()),
    };
    let front = FrontDoor::open(api, start.keys.clone(), parts, behind)?;
    Ok((front, hands))
}

/// How the outbox of this configuration behaves.
pub fn outbox_settings(config: &Config, partitions: u32) -> OutboxSettings {
    OutboxSettings {
        window_ms: config.engine.window.as_millis() as u64,
        ledger: config.engine.ledger == Ledger::Mysql,
        answer_limit: config.api.request_timeout.min(Duration::from_secs(5)),
        relay_delay: config.relay.delay,
        lease_ttl: config.lease.ttl,
        trim_age: config.relay.keep_payloads,
        ..OutboxSettings::new(mysql_settings(config), kafka_settings(config), partitions)
    }
}
