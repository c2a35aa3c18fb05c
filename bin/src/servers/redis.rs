//! The projection into Redis: offered what was committed, and never waited for.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use kilter_engine::epoch::Epoch;
use kilter_io::{
    mysql::BalancePages,
    redis::{Offers, Projection, RedisSettings, RedisWriter, rebuild as rebuild_all},
};

use super::settings::mysql_settings;
use crate::{
    Answer, cli, config::Config, metrics_names as names, node::Observer, progress::Progress,
};

/// How long a stop waits for what still waits to be written; the next start offers everything.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The way to Redis.
pub fn redis_settings(config: &Config) -> RedisSettings {
    let redis = &config.redis;
    RedisSettings {
        host: redis.host.clone(),
        port: redis.port,
        password: Some(redis.password.expose().to_owned()).filter(|text| !text.is_empty()),
        db: redis.db,
        key_prefix: redis.key_prefix.clone(),
        cluster: redis.cluster,
        batch: redis.batch as usize,
        interval: redis.interval,
        timeout: redis.timeout,
        ..RedisSettings::default()
    }
}

/// The running writers, if Redis is wanted.
pub struct Cache(Option<Projection>);

impl Cache {
    /// Starts the writers.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let settings = redis_settings(config);
        let source = BalancePages::opener(mysql_settings(config));
        let offers = Arc::new(Offers::new(config.redis.threads.into(), settings.batch));
        let projection =
            RedisWriter::spawn(&settings, offers, Some(source)).context("no thread for Redis")?;
        Ok(Self(Some(projection)))
    }

    /// No writers.
    pub fn none() -> Self {
        Self(None)
    }

    /// Where balances are offered, if there are writers.
    pub fn offers(&self) -> Option<Arc<Offers>> {
        let projection = self.0.as_ref()?;
        Some(Arc::clone(projection.offers()))
    }

    /// Who offers what a node commits.
    pub fn observer(&self) -> Arc<Committed> {
        Arc::new(Committed(self.offers()))
    }

    /// Tells how it goes.
    pub fn tell_figures(&self) {
        if let Some(projection) = &self.0 {
            let status = projection.status();
            metrics::gauge!(names::REDIS_WAITING).set(projection.offers().waiting() as f64);
            metrics::counter!(names::REDIS_WRITTEN).absolute(status.written());
            metrics::counter!(names::REDIS_RETRIES).absolute(status.retries());
        }
    }

    /// Writes what waits, as far as that is possible soon.
    pub fn stop(self) {
        if let Some(projection) = self.0
            && !projection.stop(STOP_LIMIT)
        {
            tracing::warn!(
                "Redis did not take everything before the end; the next start offers it"
            );
        }
    }
}

/// Offers the balances of each committed epoch.
pub struct Committed(Option<Arc<Offers>>);

impl Observer for Committed {
    fn committed(&self, epoch: &Epoch<'_>) {
        if let Some(offers) = &self.0 {
            for part in epoch.parts {
                offers.offer(part);
            }
        }
    }
}

/// Runs `kilter redis rebuild`.
///
/// # Errors
///
/// When a server cannot be reached for long.
pub fn redis(args: &cli::Redis) -> anyhow::Result<Answer> {
    let cli::Redis::Rebuild(args) = args;
    let config = Config::from_args(args)?;
    let settings = redis_settings(&config);
    let source = BalancePages::opener(mysql_settings(&config));
    let mut progress = Progress::new("rebuilding", None);
    let rebuilt = rebuild_all(&settings, source, &mut |at| {
        progress.set(at.rows, || "balances offered".into());
    })?;
    progress.finish();
    println!(
        "{} balances offered to {}, {} written, the others were there",
        rebuilt.rows,
        settings.address(),
        rebuilt.written
    );
    Ok(Answer::Yes)
}
