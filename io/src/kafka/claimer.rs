//! Claims for OPEN records, made in the store before any shard sees them.

use std::time::{Duration, Instant};

use kilter_engine::{
    command::Body,
    decode::decode,
    record::Mark,
    rules::{Envelope, Rules},
};

use super::error::KafkaError;
use crate::mysql::{Claims, Db, MysqlSettings, Wish};

/// The first and the longest pause between two tries.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Settles claims, and waits out a store that is away without blocking the poller.
pub struct Claimer {
    settings: MysqlSettings,
    /// By which an OPEN may claim; without them claims are looked up and none is made.
    rules: Option<Rules>,
    db: Option<Db>,
    claims: Claims,
    /// Since when the store is away, and when it is tried next.
    away: Option<(Instant, Instant)>,
    backoff: Duration,
}

impl Claimer {
    /// Claims by these rules in this store. Connects when the first claim comes.
    pub fn new(settings: MysqlSettings, rules: Rules) -> Self {
        Self::with(settings, Some(rules))
    }

    /// Looks up what was claimed, and claims nothing: for records that were applied before.
    pub fn reading(settings: MysqlSettings) -> Self {
        Self::with(settings, None)
    }

    fn with(settings: MysqlSettings, rules: Option<Rules>) -> Self {
        Self {
            settings: MysqlSettings {
                // The poller does nothing else meanwhile.
                statement_timeout: settings.statement_timeout.min(Duration::from_secs(5)),
                ..settings
            },
            rules,
            db: None,
            claims: Claims::default(),
            away: None,
            backoff: BACKOFF_FIRST,
        }
    }

    /// The window; without rules one that no record is ahead of.
    pub(super) fn window_ms(&self) -> u64 {
        self.rules.map_or(u64::MAX, |rules| rules.window_ms)
    }

    /// What a record wants to claim, if it is an OPEN that passes all checks which need no state.
    pub(super) fn wish(&self, envelope: &Envelope<'_>, value: &[u8]) -> Option<Wish> {
        let command = decode(value).ok()?;
        if !matches!(command.body, Body::Open) {
            return None;
        }
        // What is refused anyway claims nothing.
        if let Some(rules) = &self.rules {
            rules.check(envelope, &command.user_id).ok()?;
        }
        Some(Wish {
            account_id: command.account_id,
            user: command.user_id.as_bytes().to_vec(),
            partition: envelope.partition,
        })
    }

    /// The verdicts, or `None` while the store is away.
    ///
    /// # Errors
    ///
    /// When the store refuses, or was away for longer than its outage limit.
    pub(super) fn settle(&mut self, wishes: &[Wish]) -> Result<Option<Vec<Mark>>, KafkaError> {
        if self.away.is_some_and(|(_, next)| Instant::now() < next) {
            return Ok(None);
        }
        match self.try_settle(wishes) {
            Ok(verdicts) => {
                self.away = None;
                self.backoff = BACKOFF_FIRST;
                let mark = |claimed: bool| {
                    if claimed {
                        Mark::Claimed
                    } else {
                        Mark::ClaimRefused
                    }
                };
                Ok(Some(verdicts.into_iter().map(mark).collect()))
            }
            Err(error) => {
                self.db = None;
                let now = Instant::now();
                let since = self.away.map_or(now, |(since, _)| since);
                if !error.is_passing() || now - since >= self.settings.outage_limit {
                    return Err(KafkaError::Claims(error));
                }
                tracing::warn!("accounts wait to be claimed: {error}");
                self.away = Some((since, now + self.backoff));
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                Ok(None)
            }
        }
    }

    fn try_settle(&mut self, wishes: &[Wish]) -> Result<Vec<bool>, crate::mysql::MysqlError> {
        let db = match self.db.take() {
            Some(db) => self.db.insert(db),
            None => self.db.insert(Db::open(&self.settings)?),
        };
        match self.rules {
            Some(_) => self.claims.settle(db, wishes),
            None => self.claims.look(db, wishes),
        }
    }
}
