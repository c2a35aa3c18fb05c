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
use parking_lot::Mutex;

use super::{dir::LogEnd, error::EmbeddedError};

/// The write-ahead log of the command log, to be synchronised beside whoever commits to it.
#[derive(Debug)]
pub struct LogSync {
    /// Of our own: SQLite holds its locks on other files, so that closing this one frees none.
    wal: File,
    path: PathBuf,
    told_end: Arc<LogEnd>,
    /// The disk failed: held while it is waited for, so that nobody's success follows a failure unseen.
    lost: Mutex<bool>,
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
            lost: Mutex::new(false),
        })
    }

    /// Waits for the disk: everything that was committed before this call is durable when it returns,
    /// and the log's end is told to be `end`, or where it was told to be if that is further on.
    ///
    /// # Errors
    ///
    /// When the disk fails. What was committed since the last time is then of unknown fate, and
    /// another try would tell nothing, because systems forget what they could not write: every later
    /// call fails, too.
    pub fn sync(&self, end: Offset) -> Result<(), EmbeddedError> {
        let mut lost = self.lost.lock();
        let done = match *lost {
            true => Err(io::Error::other("it could not be written before")),
            false => self.wal.sync_data(),
        };
        *lost = done.is_err();
        done.map_err(failed("make durable", &self.path))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_durable_behind_a_failure() {
        let told_end = Arc::new(LogEnd::default());
        told_end.set(Offset::new(3));
        let path = PathBuf::from("/dev/null");
        let mut sync = LogSync {
            // Which cannot be synchronised.
            wal: File::open(&path).unwrap(),
            path,
            told_end: Arc::clone(&told_end),
            lost: Mutex::new(false),
        };
        let said = sync.sync(Offset::new(5)).unwrap_err().to_string();
        assert_eq!(said, "cannot make durable /dev/null");
        sync.wal = tempfile::tempfile().unwrap();
        assert!(
            sync.sync(Offset::new(6)).is_err(),
            "the system has forgotten it"
        );
        assert_eq!(told_end.get(), Offset::new(3));
    }
}
