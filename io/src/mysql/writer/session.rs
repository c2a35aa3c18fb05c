//! A writer's connection: its named lock, its staging table, and rows streamed from memory.

use std::{io::Write, sync::Arc};

use mysql::{LocalInfileHandler, prelude::Queryable};
use parking_lot::Mutex;

use super::WriterSettings;
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
    lease::hold_writer_lock,
    text::{LEDGER, OUTBOX, Rows, STAGING, Spelling},
};

/// How many ids go in one statement.
const IDS_A_STATEMENT: usize = 1000;

/// Warnings of newer servers that say nothing about rows: syntax that will go (1287, 1681), and that
/// one transaction fills a MEMORY table and an InnoDB one (6414).
const DEPRECATIONS: [u32; 3] = [1287, 1681, 6414];

/// MEMORY, because InnoDB staging costs half as much again; dropped with the connection.
const MAKE_STAGING: &str = "CREATE TEMPORARY TABLE IF NOT EXISTS kilter_staging (\
     account_id BIGINT NOT NULL, \
     currency_code VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
     available DECIMAL(36, 18) NOT NULL, frozen DECIMAL(36, 18) NOT NULL, \
     version BIGINT UNSIGNED NOT NULL, updated_at DATETIME(3) NOT NULL) ENGINE = MEMORY";

/// A row moves forward only. Assignments happen in their order, so `version` comes last. MySQL has a
/// warning for each `VALUES()` and MariaDB no row alias, but both let one name the staged columns.
const UPSERT: &str = "INSERT INTO account_balances \
     (account_id, currency_code, available, frozen, version, created_at, updated_at) \
     SELECT account_id, currency_code, available, frozen, version, updated_at, updated_at \
     FROM kilter_staging ON DUPLICATE KEY UPDATE \
     available = IF(kilter_staging.version > account_balances.version, kilter_staging.available, \
       account_balances.available), \
     frozen = IF(kilter_staging.version > account_balances.version, kilter_staging.frozen, \
       account_balances.frozen), \
     updated_at = IF(kilter_staging.version > account_balances.version, kilter_staging.updated_at, \
       account_balances.updated_at), \
     version = IF(kilter_staging.version > account_balances.version, kilter_staging.version, \
       account_balances.version)";

/// A connection that can take an epoch.
pub(super) struct Session {
    pub(super) db: Db,
    spelling: Spelling,
    /// What the next LOAD DATA reads.
    stream: Arc<Mutex<Vec<u8>>>,
    /// The largest statement the server takes, in bytes.
    packet_max: usize,
}

impl Session {
    pub(super) fn open(settings: &WriterSettings) -> Result<Self, MysqlError> {
        let mut db = Db::open(&settings.mysql)?;
        hold_writer_lock(&mut db, &settings.owner, settings.index)?;
        // Frees the locks of a process that was stopped, without anybody's help.
        let silent_s = settings.lease_ttl.as_secs().max(1);
        db.run(
            "set up the session",
            &format!("SET SESSION wait_timeout = {silent_s}"),
        )?;
        let allowed: Option<(u8, usize)> = db
            .conn
            .query_first("SELECT @@GLOBAL.local_infile, @@max_allowed_packet")
            .map_err(failed("ask what the server allows"))?;
        let (local_infile, packet_max) = allowed.unwrap_or((0, 1 << 20));
        let spelling = if local_infile == 1 && settings.mysql.local_infile {
            Spelling::Lines
        } else {
            Spelling::Values
        };
        db.run("make its staging table", MAKE_STAGING)?;
        let stream = Arc::new(Mutex::new(Vec::new()));
        let read_from = Arc::clone(&stream);
        db.conn
            .set_local_infile_handler(Some(LocalInfileHandler::new(move |_, to| {
                to.write_all(&read_from.lock())
            })));
        Ok(Self {
            db,
            spelling,
            stream,
            packet_max,
        })
    }

    /// Refuses a server that shows no lease of this node: it is not another way to the same store.
    pub(super) fn knows_owner(&mut self, settings: &WriterSettings) -> Result<(), MysqlError> {
        let leases: Option<u64> = self
            .db
            .conn
            .exec_first(
                "SELECT count(*) FROM leader_locks WHERE consumer_id = ?",
                (&settings.owner,),
            )
            .map_err(failed("look for this node's lease"))?;
        if leases.unwrap_or(0) > 0 {
            return Ok(());
        }
        Err(MysqlError::OtherStore {
            address: settings.mysql.address(),
            database: settings.mysql.database.clone(),
            owner: settings.owner.clone(),
        })
    }

    pub(super) fn spelling(&self) -> Spelling {
        self.spelling
    }

    /// Brings balances forward. `new` of them must not be there yet, and all others must.
    pub(super) fn balances(&mut self, rows: &mut Rows, new: u64) -> Result<(), MysqlError> {
        let count = rows.count();
        if count == 0 {
            return Ok(());
        }
        // Not TRUNCATE: that commits.
        self.db
            .run("empty its staging table", "DELETE FROM kilter_staging")?;
        self.put("staged balances", "kilter_staging", STAGING, rows)?;
        self.db.run("write balances", UPSERT)?;
        // One for a row inserted, two for one moved forward, none for one left alone.
        self.counted("balances", 2 * count - new)
    }

    pub(super) fn ledger(&mut self, rows: &mut Rows) -> Result<(), MysqlError> {
        if rows.count() == 0 {
            return Ok(());
        }
        self.put("ledger entries", "balance_transactions", LEDGER, rows)
    }

    /// Puts legs into the outbox. By INSERT always: LOAD DATA would hold the table's lock on
    /// AUTO_INCREMENT, which everybody needs who accepts commands.
    pub(super) fn legs(&mut self, rows: &Rows) -> Result<(), MysqlError> {
        if rows.count() == 0 {
            return Ok(());
        }
        self.insert("legs in the outbox", "outbox_events", OUTBOX, rows)
    }

    /// Makes claimed accounts active.
    pub(super) fn activate(&mut self, ids: &[u64]) -> Result<(), MysqlError> {
        for chunk in ids.chunks(IDS_A_STATEMENT) {
            let list: Vec<String> = chunk.iter().map(u64::to_string).collect();
            self.db.run(
                "make accounts active",
                &format!(
                    "UPDATE accounts SET state = 'ACTIVE', updated_at = UTC_TIMESTAMP(3) \
                     WHERE id IN ({}) AND state = 'PENDING'",
                    list.join(",")
                ),
            )?;
            self.counted("accounts made active", chunk.len() as u64)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        what: &'static str,
        table: &str,
        columns: &str,
        rows: &mut Rows,
    ) -> Result<(), MysqlError> {
        match self.spelling {
            Spelling::Lines => self.load(what, table, columns, rows),
            Spelling::Values => self.insert(what, table, columns, rows),
        }
    }

    fn load(
        &mut self,
        what: &'static str,
        table: &str,
        columns: &str,
        rows: &mut Rows,
    ) -> Result<(), MysqlError> {
        let count = rows.count();
        std::mem::swap(rows.buffer(), &mut *self.stream.lock());
        let loaded = self.db.run(
            what,
            &format!(
                "LOAD DATA LOCAL INFILE 'kilter' INTO TABLE {table} CHARACTER SET binary \
                 ({columns})"
            ),
        );
        std::mem::swap(rows.buffer(), &mut *self.stream.lock());
        loaded?;
        // LOCAL means IGNORE: what the server does not like it skips or bends, with a warning.
        self.counted(what, count)
    }

    fn insert(
        &mut self,
        what: &'static str,
        table: &str,
        columns: &str,
        rows: &Rows,
    ) -> Result<(), MysqlError> {
        let head = format!("INSERT INTO {table} ({columns}) VALUES ");
        for (values, count) in rows.pieces(self.packet_max.saturating_sub(head.len() + 1024)) {
            let mut sql = String::with_capacity(head.len() + values.len());
            sql.push_str(&head);
            // Ids are spelled in hexadecimal, everything else is ASCII by nature.
            match std::str::from_utf8(values) {
                Ok(values) => sql.push_str(values),
                Err(_) => unreachable!("values are ASCII"),
            }
            self.db.run(what, &sql)?;
            self.counted(what, count)?;
        }
        Ok(())
    }

    /// Refuses the last statement if it changed other than `expected` rows, or warned of rows.
    fn counted(&mut self, what: &'static str, expected: u64) -> Result<(), MysqlError> {
        let (found, mut warnings) = (self.db.conn.affected_rows(), self.db.conn.warnings());
        let mut said: Option<(String, u32, String)> = None;
        if warnings > 0 {
            let listed: Vec<(String, u32, String)> = self
                .db
                .conn
                .query("SHOW WARNINGS")
                .map_err(failed("ask for its warnings"))?;
            // The server lists some of them only, and those that it leaves out count.
            let harmless = listed
                .iter()
                .filter(|(_, code, _)| DEPRECATIONS.contains(code));
            warnings = warnings.saturating_sub(u16::try_from(harmless.count()).unwrap_or(0));
            said = listed
                .into_iter()
                .find(|(_, code, _)| !DEPRECATIONS.contains(code));
        }
        if found == expected && warnings == 0 {
            return Ok(());
        }
        Err(MysqlError::Counts {
            what,
            expected,
            found,
            warnings,
            said: said.map_or_else(String::new, |(_, code, text)| {
                format!(", the first is {code}: {text}")
            }),
        })
    }
}
