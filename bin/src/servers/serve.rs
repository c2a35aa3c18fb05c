//! `kilter serve` on servers: waits for a lease, leads, and waits again.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use kilter_io::api::Keys;
use kilter_io::mysql::{Db, Lease, MysqlError, Taken, owner_name};

use super::{
    beside::{Beside, BesideStart},
    session::{Ended, Session},
    settings::mysql_settings,
    start::{self, FoundLog},
};
use crate::{
    Answer, cli,
    config::Config,
    exporter::Exporter,
    front::{Roles, keys},
    http::{Health, Server, State},
    logging,
    signals::{Hangup, Interrupt},
};

/// The first and the longest pause before servers that are away are tried again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How often a process that does not lead looks around.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs `kilter serve --config`.
///
/// # Errors
///
/// Whatever stopped the node; the process should be started again.
pub fn serve(args: &cli::Serve) -> anyhow::Result<Answer> {
    let config = Config::from_args(&args.source)?;
    logging::init(&config.log);
    let roles = Roles::of(&args.role, &config);
    if roles.are_none() {
        bail!(
            "there is nothing to do: no --role is left by START_API, START_CONSUMER, START_RELAY \
             and START_REDIS_UPDATER"
        );
    }
    roles.check(&config)?;
    let keys = match roles.api {
        true => keys(&config.api)?,
        false => None,
    };
    let interrupt = Interrupt::listen()?;
    let hangup = Hangup::listen()?;
    let exporter = Exporter::install()?;
    let health = Arc::new(Health::starting("looking for log and store"));
    let mut server = match config.metrics.enabled {
        true => {
            let address = SocketAddr::new(config.metrics.bind, config.metrics.port);
            let server = Server::start(address, Arc::clone(&health), exporter.render())
                .with_context(|| format!("cannot listen on {address} (metrics.port)"))?;
            tracing::info!(address = %server.address(), "figures and health");
            Some(server)
        }
        false => None,
    };
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, %roles, "{}", config.summary());
    let served = Serving {
        config: &config,
        args: &args.source,
        roles,
        health: &health,
        interrupt: &interrupt,
    }
    .run(keys, hangup);
    if let Err(error) = &served {
        tracing::error!("{error:#}");
        health.set(State::Failed {
            why: format!("{error:#}"),
        });
    }
    if let Some(server) = &mut server {
        server.stop();
    }
    served.map(|()| Answer::Yes)
}

struct Serving<'a> {
    config: &'a Config,
    args: &'a cli::ConfigArgs,
    roles: Roles,
    health: &'a Arc<Health>,
    interrupt: &'a Interrupt,
}

impl Serving<'_> {
    fn run(&self, keys: Option<Keys>, hangup: Hangup) -> anyhow::Result<()> {
        let Some((mut db, found)) = self.find()? else {
            return Ok(());
        };
        let beside = Beside::start(BesideStart {
            config: self.config,
            args: self.args,
            roles: self.roles,
            keys,
            partitions: found.identity.partitions,
            health: self.health.for_clients(),
            hangup,
        })?;
        if self.roles.engine {
            self.lead(&mut db, &found, &beside)?;
        } else {
            self.health.set(State::Ready);
            while !self.interrupt.is_asked() {
                beside.look()?;
                std::thread::park_timeout(LOOK_INTERVAL);
            }
        }
        self.health.set(State::Stopping);
        beside.stop();
        tracing::info!("stopped; everything that was read is committed");
        Ok(())
    }

    /// Takes leases and works, again and again, until asked to stop.
    fn lead(&self, db: &mut Db, found: &FoundLog, beside: &Beside<'_>) -> anyhow::Result<()> {
        let observer = beside.cache().observer();
        loop {
            // A name of its own for each life: what an earlier one left behind is nobody's.
            let lease = Arc::new(Lease::new(owner_name(), self.config.lease.ttl));
            let Some((taken, sent)) = self.take(db, found, &lease, beside)? else {
                return Ok(());
            };
            tracing::info!(
                term = taken.term.get(),
                partitions = taken.partitions.len(),
                owner = lease.owner(),
                "leading"
            );
            let session = Session {
                config: self.config,
                found,
                lease,
                taken,
                sent,
                health: self.health,
                interrupt: self.interrupt,
                observer: Arc::clone(&observer),
                beside,
            };
            if session.run()? == Ended::Asked {
                return Ok(());
            }
        }
    }

    /// Log and store, as soon as both are there; `None` when asked to stop.
    fn find(&self) -> anyhow::Result<Option<(Db, FoundLog)>> {
        let began = Instant::now();
        let limit = self
            .config
            .mysql
            .outage_limit
            .max(self.config.kafka.outage_limit);
        let mut pause = BACKOFF_FIRST;
        loop {
            if self.interrupt.is_asked() {
                return Ok(None);
            }
            let settings = mysql_settings(self.config);
            let found = (|| {
                let mut db = Db::open(&settings)
                    .with_context(|| format!("the store {}", settings.address()))?;
                db.refuse_many_primaries()?;
                let found = start::find_log(self.config, &mut db)?;
                anyhow::Ok((db, found))
            })();
            match found {
                Ok(found) => return Ok(Some(found)),
                Err(error) if start::is_absence(&error) && began.elapsed() < limit => {
                    tracing::warn!("trying again: {error:#}");
                    self.health.set(State::Starting {
                        what: format!("waiting for servers: {error:#}"),
                    });
                    self.pause(pause);
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Free partitions, as soon as there are any; `None` when asked to stop.
    fn take(
        &self,
        db: &mut Db,
        found: &FoundLog,
        lease: &Lease,
        beside: &Beside<'_>,
    ) -> anyhow::Result<Option<(Taken, Instant)>> {
        let partitions = found.identity.partitions;
        let most = match self.config.lease.partitions_max {
            0 => usize::MAX,
            max => max as usize,
        };
        let mut told = false;
        let mut away: Option<Instant> = None;
        loop {
            if self.interrupt.is_asked() {
                return Ok(None);
            }
            beside.look()?;
            let sent = Instant::now();
            match lease.take(db, partitions, most) {
                Ok(taken) if !taken.partitions.is_empty() => return Ok(Some((taken, sent))),
                Ok(_) => {
                    away = None;
                    let leader = leader(db, partitions)?;
                    if !told {
                        tracing::info!(leader, "waiting as a standby");
                        told = true;
                    }
                    self.health.set(State::Standby { leader });
                }
                Err(error) if error.is_passing() => {
                    let since = *away.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.config.mysql.outage_limit {
                        bail!(error);
                    }
                    tracing::warn!("no lease can be taken: {error}");
                    if let Ok(again) = Db::open(&mysql_settings(self.config)) {
                        *db = again;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            self.pause(self.config.lease.ttl / 10);
        }
    }

    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.interrupt.is_asked() {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// Who has the first partition that is held.
fn leader(db: &mut Db, partitions: u32) -> Result<String, MysqlError> {
    let rows = match Lease::look(db, partitions) {
        Ok(rows) => rows,
        Err(error) if error.is_passing() => Vec::new(),
        Err(error) => return Err(error),
    };
    let owner = rows.into_iter().find_map(|row| row.owner);
    Ok(owner.unwrap_or_else(|| "nobody".into()))
}
