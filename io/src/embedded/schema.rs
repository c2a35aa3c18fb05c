//! The tables of both files, and how a file is known to be ours.

use super::{connection::Db, error::EmbeddedError};

const FORMAT: i32 = 1;

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

    fn tables(self) -> &'static str {
        match self {
            Self::Log => LOG,
            Self::Store => STORE,
        }
    }
}

/// Makes the tables of a new file, or checks that an old one is ours and not from the future.
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
                "BEGIN IMMEDIATE; {} PRAGMA application_id = {}; PRAGMA user_version = {FORMAT};",
                kind.tables(),
                kind.application_id()
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
    setting(db, "identity")?.ok_or_else(|| db.corrupt("it has no identity"))
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
    if format > FORMAT {
        return Err(EmbeddedError::Newer {
            file: db.file(),
            found: format,
            known: FORMAT,
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
