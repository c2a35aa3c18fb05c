//! The data directory, its lock and its identity.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kilter_engine::Offset;

use super::{
    connection::{Db, Pages},
    error::EmbeddedError,
    log_sync,
    schema::{self, Kind},
};

const LOCK: &str = "LOCK";
const LOG: &str = "log.db";
const STORE: &str = "store.db";

/// A directory with a log and a store.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held while a node may write; `None` for reading.
    _lock: Option<File>,
    /// Behind which offset the log ends, told by whoever appends to it in this process.
    log_end: Arc<LogEnd>,
}

/// Where the log ends; everything below is durable. So that whoever waits for more need not ask the
/// file.
#[derive(Debug)]
pub(super) struct LogEnd(AtomicU64);

impl LogEnd {
    /// Behind which offset it ends.
    pub(super) fn get(&self) -> Offset {
        Offset::new(self.0.load(Ordering::Acquire))
    }

    /// Somebody tells from now on, beginning here.
    pub(super) fn set(&self, end: Offset) {
        self.0.store(end.get(), Ordering::Release);
    }

    /// The log ends here from now on, or further on if that was told.
    pub(super) fn reach(&self, end: Offset) {
        // Release: whoever sees it finds the records.
        self.0.fetch_max(end.get(), Ordering::Release);
    }
}

impl Default for LogEnd {
    /// Nobody in this process says where: it may go on for ever.
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl DataDir {
    /// Opens a directory to run a node on it, making it if needed, and keeps others out until
    /// the value is dropped.
    ///
    /// # Errors
    ///
    /// When it cannot be made or written, another process has it, or its files are not ours,
    /// do not belong together, or come from a newer version.
    pub fn open_exclusive(path: &Path) -> Result<Self, EmbeddedError> {
        let file_error = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| EmbeddedError::File { what, path, source }
        };
        std::fs::create_dir_all(path).map_err(file_error("make the data directory", path))?;
        let lock_path = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(file_error("write", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message: an unreadable pid is an unknown one.
                let _ = lock.read_to_string(&mut pid);
                let pid = match pid.trim() {
                    "" => "(unknown)".to_owned(),
                    pid => pid.to_owned(),
                };
                return Err(EmbeddedError::Locked {
                    path: path.to_owned(),
                    pid,
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(file_error("lock", &lock_path)(source));
            }
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(file_error("write", &lock_path))?;
        let dir = Self {
            path: path.to_owned(),
            _lock: Some(lock),
            log_end: Arc::default(),
        };
        dir.prepare()?;
        Ok(dir)
    }

    /// Opens a directory for reading, beside a running node or without one.
    ///
    /// # Errors
    ///
    /// When there is no data, or the files are not ours or do not belong together.
    pub fn open_for_reading(path: &Path) -> Result<Self, EmbeddedError> {
        let dir = Self {
            path: path.to_owned(),
            _lock: None,
            log_end: Arc::default(),
        };
        for missing in [LOG, STORE] {
            if !path.join(missing).is_file() {
                return Err(EmbeddedError::Empty {
                    path: path.to_owned(),
                    missing,
                });
            }
        }
        let log = Db::read(&dir.log_path())?;
        schema::check(&log, Kind::Log)?;
        let store = Db::read(&dir.store_path())?;
        schema::check(&store, Kind::Store)?;
        let of = |db: &Db| {
            schema::setting(db, "identity")?.ok_or_else(|| db.corrupt("it has no identity"))
        };
        belong_together(of(&log)?, of(&store)?)?;
        Ok(dir)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn log_end(&self) -> &Arc<LogEnd> {
        &self.log_end
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.path.join(LOG)
    }

    pub(super) fn store_path(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// Makes both files, or checks them.
    fn prepare(&self) -> Result<(), EmbeddedError> {
        let identity = new_identity();
        let lost = |missing, present| EmbeddedError::Lost {
            path: self.path.clone(),
            missing,
            present,
        };
        let (log_was_there, store_was_there) =
            (is_there(&self.log_path()), is_there(&self.store_path()));
        if store_was_there && !log_was_there {
            return Err(lost(LOG, STORE));
        }
        let log = Db::write(&self.log_path(), Pages::LOG)?;
        // What an earlier process committed last may not be durable, and the store must never be ahead
        // of what is. SQLite sees to it at the end of the last connection, which this one is not if
        // somebody reads.
        log_sync::sync_left(&self.log_path())?;
        // The store takes the log's identity: a crash between the two leaves a log alone, and the
        // next start goes on from there.
        let log_identity = schema::prepare(&log, Kind::Log, &identity)?;
        // A new store beside a used log would begin again at term 1 and epoch 1, without the
        // window and the notes under which the log was applied.
        if !store_was_there && holds_records(&log)? {
            return Err(lost(STORE, LOG));
        }
        let store = Db::write(&self.store_path(), Pages::STORE)?;
        let store_identity = schema::prepare(&store, Kind::Store, &log_identity)?;
        belong_together(log_identity, store_identity)
    }
}

/// Whether anything was ever written to a file.
fn is_there(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

fn holds_records(log: &Db) -> Result<bool, EmbeddedError> {
    log.connection
        .query_row("SELECT EXISTS (SELECT 1 FROM records)", [], |row| {
            row.get(0)
        })
        .map_err(log.failed("look for records"))
}

fn belong_together(log: String, store: String) -> Result<(), EmbeddedError> {
    if log == store {
        Ok(())
    } else {
        Err(EmbeddedError::Mixed { log, store })
    }
}

/// A name no other directory has: time, process, and the hasher's random keys.
fn new_identity() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()));
    format!("{:016x}{:016x}", random(), random())
}
