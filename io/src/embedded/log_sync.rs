//! Makes durable what was committed to the log.
//!
//! SQLite would wait for the disk within each commit, and whoever commits with it. Here a commit only
//! writes to the write-ahead log, and its end is told to nobody in this process until that file is
//! synchronised, by whatever thread has the time. What lies behind the told end may be lost with the
//! machine's power, as a whole commit or not at all: nothing has come of it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use kilter_engine::Offset;

use super::{dir::LogEnd, error::EmbeddedError};

/// The write-ahead log of the command log, to be synchronised beside whoever commits to it.
#[derive(Debug)]
pub struct LogSync {
    /// Of our own: SQLite holds its locks on other files, so that closing this one frees none.
    wal: File,
    path: PathBuf,
    told_end: Arc<LogEnd>,
}

impl LogSync {
    /// Opens the file beside `log`, which is open for writing. SQLite makes its name durable, when it
    /// begins it.
    pub(super) fn open(log: &Path, told_end: Arc<LogEnd>) -> Result<Self, EmbeddedError> {
        let path = wal_of(log);
        let wal = File::open(&path).map_err(failed("open", &path))?;
        Ok(Self {
            wal,
            path,
            told_end,
        })
    }

    /// Waits for the disk: everything that was committed before this call is durable when it returns,
    /// and the log's end is told to be `end`, or where it was told to be if that is further on.
    ///
    /// # Errors
    ///
    /// When the disk fails. What was committed since the last time is then of unknown fate, and
    /// another try would tell nothing: systems forget what they could not write.
    pub fn sync(&self, end: Offset) -> Result<(), EmbeddedError> {
        self.wal
            .sync_data()
            .map_err(failed("make durable", &self.path))?;
        self.told_end.reach(end);
        Ok(())
    }
}

/// Makes durable what an earlier process left in the write-ahead log of a file, if there is one: that
/// may have ended before it came to it.
pub(super) fn sync_left(log: &Path) -> Result<(), EmbeddedError> {
    let path = wal_of(log);
    match File::open(&path).and_then(|wal| wal.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("make durable", &path)(error))
        }
        _ => Ok(()),
    }
}

fn wal_of(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError + use<> {
    let path = path.to_owned();
    move |source| EmbeddedError::File { what, path, source }
}
