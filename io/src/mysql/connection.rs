//! A connection whose session is set up the way every statement here relies on.

use std::time::{Duration, Instant};

use mysql::{Conn, prelude::Queryable};

use super::{
    error::{MysqlError, failed},
    settings::MysqlSettings,
};

/// The first and the longest pause between two tries.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A connection and what it was made from.
#[derive(Debug)]
pub struct Db {
    pub(super) conn: Conn,
    pub(super) settings: MysqlSettings,
}

impl Db {
    /// Connects once.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, refuses, or is of a kind that cannot be relied on.
    pub fn open(settings: &MysqlSettings) -> Result<Self, MysqlError> {
        Self::connect(settings, true)
    }

    /// Connects once, for short transactions: the server ends the connection, and with it every lock,
    /// when nothing is heard of it for so long. Frees what a process holds that was stopped.
    ///
    /// # Errors
    ///
    /// As for [`Db::open`].
    pub(crate) fn open_brief(
        settings: &MysqlSettings,
        silence: Duration,
    ) -> Result<Self, MysqlError> {
        let mut db = Self::open(settings)?;
        db.run(
            "set up the session",
            &format!("SET SESSION wait_timeout = {}", silence.as_secs().max(1)),
        )?;
        Ok(db)
    }

    /// Whether the connection still stands.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.conn.ping().is_ok()
    }

    /// Connects to the server without choosing a database.
    pub(super) fn open_server(settings: &MysqlSettings) -> Result<Self, MysqlError> {
        Self::connect(settings, false)
    }

    fn connect(settings: &MysqlSettings, with_database: bool) -> Result<Self, MysqlError> {
        let mut conn =
            Conn::new(settings.opts(with_database)).map_err(failed("connect to the server"))?;
        let lock_s = settings.lock_timeout.as_secs().max(1);
        for statement in [
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
            format!(
                "SET SESSION autocommit = 1, time_zone = '+00:00', \
                 sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
                 innodb_lock_wait_timeout = {lock_s}, lock_wait_timeout = {lock_s}, \
                 max_heap_table_size = 268435456, tmp_table_size = 268435456"
            ),
            "SET NAMES utf8mb4".to_owned(),
        ] {
            conn.query_drop(statement)
                .map_err(failed("set up the session"))?;
        }
        Ok(Self {
            conn,
            settings: settings.clone(),
        })
    }

    /// Connects, and tries again until the outage limit while the server is away. `keep_on` is
    /// asked between two tries; `tell` hears of each failure.
    ///
    /// # Errors
    ///
    /// What does not pass, and [`MysqlError::Outage`] past the limit or when told to give up.
    pub fn open_patiently(
        settings: &MysqlSettings,
        keep_on: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(&MysqlError),
    ) -> Result<Self, MysqlError> {
        let mut patience = Patience::new(settings.outage_limit);
        loop {
            match Self::open(settings) {
                Ok(db) => return Ok(db),
                Err(error) if error.is_passing() && keep_on() => {
                    tell(&error);
                    patience.pause(error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Refuses servers whose locks do not hold for every writer.
    ///
    /// # Errors
    ///
    /// [`MysqlError::ManyPrimaries`], or when that cannot be found out.
    pub fn refuse_many_primaries(&mut self) -> Result<(), MysqlError> {
        let on = |value: Option<(String, String)>| {
            value.is_some_and(|(_, value)| matches!(value.as_str(), "ON" | "1" | "on"))
        };
        let failed = failed("ask for its replication");
        let galera = self
            .conn
            .query_first("SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
            .map_err(failed)?;
        if on(galera) {
            return Err(MysqlError::ManyPrimaries { what: "wsrep_on" });
        }
        let name: Option<(String, String)> = self
            .conn
            .query_first("SHOW GLOBAL VARIABLES LIKE 'group_replication_group_name'")
            .map_err(failed)?;
        let single = self
            .conn
            .query_first("SHOW GLOBAL VARIABLES LIKE 'group_replication_single_primary_mode'")
            .map_err(failed)?;
        if name.is_some_and(|(_, name)| !name.is_empty()) && !on(single) {
            return Err(MysqlError::ManyPrimaries {
                what: "group replication with several primaries",
            });
        }
        Ok(())
    }

    pub(super) fn run(&mut self, what: &'static str, sql: &str) -> Result<(), MysqlError> {
        self.conn.query_drop(sql).map_err(failed(what))
    }

    /// Rolls back after a failure. An error here means the connection is gone, and with it the
    /// transaction.
    pub(super) fn roll_back(&mut self) -> bool {
        self.conn.query_drop("ROLLBACK").is_ok()
    }
}

/// How long what passes by itself is waited for: pauses that double, up to a limit in all.
#[derive(Debug)]
pub(super) struct Patience {
    began: Option<Instant>,
    limit: Duration,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            began: None,
            limit,
            pause: BACKOFF_FIRST,
        }
    }

    /// Waits before another try, or gives up with the last error.
    pub(super) fn pause(&mut self, error: MysqlError) -> Result<(), MysqlError> {
        let began = *self.began.get_or_insert_with(Instant::now);
        if began.elapsed() >= self.limit {
            return Err(match error {
                MysqlError::Statement { what, source } => MysqlError::Outage {
                    what,
                    seconds: self.limit.as_secs(),
                    source,
                },
                other => other,
            });
        }
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(BACKOFF_MAX);
        Ok(())
    }
}

/// Whether the connection must be given up after this failure.
pub(super) fn is_lost(error: &MysqlError) -> bool {
    error.is_lost()
}
