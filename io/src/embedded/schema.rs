//! The tables of both files, and how a file is known to be ours.

use super::{connection::Db, error::EmbeddedError};

/// Which of the two files.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Log,
    Store,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Store => "store",
        }
    }

    /// "KLog" and "KSto".
    fn application_id(self) -> i32 {
        match self {
            Self::Log => i32::from_be_bytes(*b"KLog"),
            Self::Store => i32::from_be_bytes(*b"KSto"),
        }
    }

    /// The tables, from the first format to the present one: each piece of SQL makes the next.
    fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Log => &[LOG, LOG_2],
            Self::Store => &[STORE, STORE_2, STORE_3],
        }
    }

    /// The present format.
    fn format(self) -> i32 {
        self.steps().len() as i32
    }
}

/// Makes the tables of a new file, or checks that an old one is ours and not from the future, and
/// brings it to the present format.
/// `identity` is the directory's, written once; returns the one the file has.
pub(super) fn prepare(db: &Db, kind: Kind, identity: &str) -> Result<String, EmbeddedError> {
    let (application_id, _) = marks(db)?;
    if application_id == 0 {
        let tables: i64 = db
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(db.failed("read its schema"))?;
        if tables == 0 {
            let sql = format!(
                "BEGIN IMMEDIATE; {} PRAGMA application_id = {}; PRAGMA user_version = {};",
                kind.steps().concat(),
                kind.application_id(),
                kind.format()
            );
            db.batch("make its tables", &sql)?;
            db.connection
                .execute(
                    "INSERT INTO settings (name, value) VALUES ('identity', ?1)",
                    [identity],
                )
                .map_err(db.failed("write its identity"))?;
            db.batch("make its tables", "COMMIT")?;
        }
    }
    check(db, kind)?;
    upgrade(db, kind)?;
    setting(db, "identity")?.ok_or_else(|| db.corrupt("it has no identity"))
}

/// Makes what newer formats have besides. A crash leaves the old format or the new one.
fn upgrade(db: &Db, kind: Kind) -> Result<(), EmbeddedError> {
    let (_, format) = marks(db)?;
    let missing = kind.steps().get(format.max(0) as usize..);
    let missing = missing.unwrap_or_default().concat();
    if missing.is_empty() {
        return Ok(());
    }
    let to = kind.format();
    db.batch(
        "bring it to the present format",
        &format!("BEGIN IMMEDIATE; {missing} PRAGMA user_version = {to}; COMMIT"),
    )
}

/// Checks that a file is ours and not from the future.
pub(super) fn check(db: &Db, kind: Kind) -> Result<(), EmbeddedError> {
    let (application_id, format) = marks(db)?;
    if application_id != kind.application_id() {
        return Err(EmbeddedError::NotOurs {
            file: db.file(),
            kind: kind.name(),
            application_id,
        });
    }
    if format > kind.format() {
        return Err(EmbeddedError::Newer {
            file: db.file(),
            found: format,
            known: kind.format(),
        });
    }
    Ok(())
}

fn marks(db: &Db) -> Result<(i32, i32), EmbeddedError> {
    let pragma = |name: &str| {
        db.connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(db.failed("read its header"))
    };
    Ok((pragma("application_id")?, pragma("user_version")?))
}

/// A setting's text, if it is there.
pub(super) fn setting(db: &Db, name: &str) -> Result<Option<String>, EmbeddedError> {
    let mut statement = db
        .connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .map_err(db.failed("read its settings"))?;
    let mut rows = statement
        .query([name])
        .map_err(db.failed("read its settings"))?;
    match rows.next().map_err(db.failed("read its settings"))? {
        Some(row) => Ok(Some(row.get(0).map_err(db.failed("read its settings"))?)),
        None => Ok(None),
    }
}

const LOG: &str = "
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- The command log. An offset is never used twice and never left out.
CREATE TABLE records (
    offset INTEGER PRIMARY KEY,
    timestamp_ms INTEGER NOT NULL,
    issued_at_ms INTEGER,
    mark INTEGER NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    full_bytes INTEGER,     -- of a value too large to keep whole: its length
    full_sha256 BLOB        -- and its SHA-256
) STRICT;

-- Which account and which user were bound to each other, for ever.
CREATE TABLE claims (
    account_id INTEGER PRIMARY KEY,
    user_id BLOB NOT NULL UNIQUE
) STRICT;

-- Inputs that were appended: how many of their lines, and what those were.
CREATE TABLE inputs (
    id INTEGER PRIMARY KEY,
    lines INTEGER NOT NULL,
    digest BLOB NOT NULL,
    first_line BLOB NOT NULL    -- the digest behind the first line: who might be it
) STRICT;
CREATE INDEX inputs_lines ON inputs (lines);
";

/// What was accepted for the log: unique for ever over user, transaction id and leg.
const LOG_2: &str = "
CREATE TABLE outbox_events (
    user_id BLOB NOT NULL,
    transaction_id BLOB NOT NULL,
    leg TEXT NOT NULL DEFAULT '',   -- a leg's name, OPEN where an account is opened, else empty
    event_id TEXT NOT NULL,
    record_offset INTEGER NOT NULL, -- where its record lies
    request_hash BLOB,              -- SHA-256 of a client's command; NULL for legs
    issued_at_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, transaction_id, leg)
) STRICT, WITHOUT ROWID;
";

const STORE: &str = "
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    user_id BLOB NOT NULL UNIQUE,
    shard_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,    -- ms since 1970, as all times here
    updated_at INTEGER NOT NULL
) STRICT;

-- Amounts are exact decimal text.
CREATE TABLE account_balances (
    account_id INTEGER NOT NULL,
    currency_code TEXT NOT NULL,
    available TEXT NOT NULL,
    frozen TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, currency_code)
) STRICT, WITHOUT ROWID;

CREATE TABLE balance_transactions (
    generation INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    posting INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    currency_code TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    type TEXT NOT NULL,
    amount TEXT NOT NULL,
    available_before TEXT NOT NULL,
    available_after TEXT NOT NULL,
    frozen_before TEXT NOT NULL,
    frozen_after TEXT NOT NULL,
    version INTEGER NOT NULL,       -- of the balance after it
    error_code TEXT,                -- NULL is SUCCESS, else why it FAILED
    created_at INTEGER NOT NULL,    -- the record's time
    remembered_at INTEGER,          -- from when its id is remembered, if that is later
    status TEXT AS (CASE WHEN error_code IS NULL THEN 'SUCCESS' ELSE 'FAILED' END),
    PRIMARY KEY (generation, partition, offset, posting)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    generation INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    failed_at INTEGER NOT NULL,
    issued_at INTEGER,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (generation, partition, offset)
) STRICT, WITHOUT ROWID;

-- How far each hash range of a partition is applied. Hashes are 16 hex digits.
CREATE TABLE consumer_offsets (
    partition INTEGER NOT NULL,
    first_hash TEXT NOT NULL,
    last_hash TEXT NOT NULL,
    generation INTEGER NOT NULL,
    offset INTEGER NOT NULL,        -- the next one to apply
    clock INTEGER NOT NULL,
    last_key_hash TEXT NOT NULL,
    last_timestamp INTEGER NOT NULL,
    term INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    consumer_group TEXT AS ('balance-consumer-group'),
    topic TEXT AS ('balance-changes'),
    PRIMARY KEY (partition, first_hash)
) STRICT, WITHOUT ROWID;

-- How long transaction ids are remembered, from which offset on.
CREATE TABLE windows (
    from_offset INTEGER PRIMARY KEY,
    window_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE leader_locks (
    id INTEGER PRIMARY KEY,         -- the partition
    owner TEXT NOT NULL,
    term INTEGER NOT NULL
) STRICT;

CREATE TABLE operator_notes (
    generation INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (generation, partition, offset, kind)
) STRICT, WITHOUT ROWID;
";

/// The legs of transfers: which leg an entry is of and the user that it was for, and what is to
/// become a record of the log.
const STORE_2: &str = "
ALTER TABLE balance_transactions ADD COLUMN leg TEXT;
ALTER TABLE balance_transactions ADD COLUMN leg_user BLOB;

CREATE TABLE legs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    transaction_id TEXT NOT NULL,
    payload BLOB NOT NULL,
    issued_at INTEGER NOT NULL,     -- the clock of the record that it comes from
    status TEXT NOT NULL            -- PENDING, or SENT once it is in the log
) STRICT;
CREATE INDEX legs_pending ON legs (id) WHERE status = 'PENDING';
";

/// The way from a leg to its entry.
const STORE_3: &str = "
CREATE INDEX balance_transactions_leg ON balance_transactions (leg) WHERE leg IS NOT NULL;
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::connection::Pages;

    #[test]
    fn a_file_of_the_first_format_is_brought_to_the_present_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let db = Db::write(&path, Pages::LOG).unwrap();
        let old = format!(
            "{LOG} PRAGMA application_id = {}; PRAGMA user_version = 1;
             INSERT INTO settings (name, value) VALUES ('identity', 'old');
             INSERT INTO records (timestamp_ms, mark, key, value) VALUES (1, 0, x'', x'');",
            Kind::Log.application_id()
        );
        db.batch("make it", &old).unwrap();
        for _ in 0..2 {
            assert_eq!(prepare(&db, Kind::Log, "new").unwrap(), "old");
            assert_eq!(marks(&db).unwrap().1, Kind::Log.format());
            let rows: (i64, i64) = db
                .connection
                .query_row(
                    "SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM outbox_events)",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .unwrap();
            assert_eq!(rows, (1, 0));
        }
        let of = |path: &std::path::Path| {
            let db = Db::read(path).unwrap();
            let mut statement = db
                .connection
                .prepare("SELECT sql FROM sqlite_schema ORDER BY name")
                .unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect::<Vec<Option<String>>>()
        };
        let new = folder.path().join("new.db");
        prepare(&Db::write(&new, Pages::LOG).unwrap(), Kind::Log, "new").unwrap();
        assert_eq!(of(&path), of(&new));
    }
}
