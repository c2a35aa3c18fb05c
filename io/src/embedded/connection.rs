//! A connection to one of the two files, and what its errors mean.

use std::{path::Path, path::PathBuf, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::error::{EmbeddedError, PathBufDisplay};

/// How long a statement waits for another connection's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// How a file is cut into pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    /// A page's size; that of a file which is there already stays.
    bytes: u32,
    /// How many pages the write-ahead log may hold before they go into the file.
    checkpoint: u32,
}

impl Pages {
    /// For keys that come in any order, each of which writes a page of its own. Whoever appends much has
    /// a [`Checkpointer`](super::checkpoint::Checkpointer).
    pub(super) const LOG: Self = Self {
        bytes: 4096,
        checkpoint: 1000,
    };

    /// For rows in order.
    pub(super) const STORE: Self = Self {
        bytes: 8192,
        checkpoint: 1000,
    };
}

/// A SQLite connection that knows its file.
#[derive(Debug)]
pub(super) struct Db {
    pub(super) connection: Connection,
    file: PathBuf,
}

impl Db {
    /// Opens a file for writing; makes it if it is not there.
    pub(super) fn write(path: &Path, pages: Pages) -> Result<Self, EmbeddedError> {
        let Pages { bytes, checkpoint } = pages;
        Self::open(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .and_then(|db| {
            db.batch(
                "open",
                &format!(
                    "PRAGMA page_size = {bytes};
                     PRAGMA journal_mode = WAL;
                     PRAGMA synchronous = FULL;
                     PRAGMA wal_autocheckpoint = {checkpoint};
                     PRAGMA journal_size_limit = 67108864;
                     PRAGMA cache_size = -65536;
                     PRAGMA temp_store = MEMORY;"
                ),
            )?;
            Ok(db)
        })
    }

    /// Opens a file that must be there, for reading beside a running node.
    pub(super) fn read(path: &Path) -> Result<Self, EmbeddedError> {
        // Read and write, because a reader of a WAL file may have to make its shared memory.
        let both = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Self::open(path, both).or_else(|_| Self::open(path, only))?;
        db.batch(
            "open",
            "PRAGMA query_only = ON; PRAGMA cache_size = -65536;",
        )?;
        Ok(db)
    }

    fn open(path: &Path, flags: OpenFlags) -> Result<Self, EmbeddedError> {
        let connection =
            Connection::open_with_flags(path, flags).map_err(|source| EmbeddedError::Sqlite {
                file: PathBufDisplay(path.to_owned()),
                what: "open it",
                source,
            })?;
        let db = Self {
            connection,
            file: path.to_owned(),
        };
        db.connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(db.failed("set its lock time-out"))?;
        db.connection.set_prepared_statement_cache_capacity(64);
        // Or a statement is prepared anew when it gets another LIMIT.
        db.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(db.failed("keep its statements"))?;
        Ok(db)
    }

    /// The file, for messages.
    pub(super) fn file(&self) -> PathBufDisplay {
        PathBufDisplay(self.file.clone())
    }

    /// Runs several statements.
    pub(super) fn batch(&self, what: &'static str, sql: &str) -> Result<(), EmbeddedError> {
        self.connection
            .execute_batch(sql)
            .map_err(self.failed(what))
    }

    /// What an error of this connection means.
    pub(super) fn failed(
        &self,
        what: &'static str,
    ) -> impl Fn(rusqlite::Error) -> EmbeddedError + use<> {
        let file = self.file();
        move |source| match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => EmbeddedError::Full {
                file: file.clone(),
                what,
                source,
            },
            _ => EmbeddedError::Sqlite {
                file: file.clone(),
                what,
                source,
            },
        }
    }

    /// A file that does not hold what it should.
    pub(super) fn corrupt(&self, what: impl Into<String>) -> EmbeddedError {
        EmbeddedError::Corrupt {
            file: self.file(),
            what: what.into(),
        }
    }
}
