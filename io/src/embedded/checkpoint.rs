//! Takes a file's write-ahead log into the file beside whoever writes.
//!
//! SQLite does it within a commit, which then takes as long as writing thousands of pages in any
//! order. Here a thread of its own does nearly all of it while commits go on; what those added
//! meanwhile is little, and a commit takes that in, after which the write-ahead log begins anew. The
//! longer it was, the more often a page in it was written again, and each goes into the file once.

use std::{
    os::raw::c_int,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags, hooks::Wal, wal::CheckpointMode};

use super::{connection::Db, error::EmbeddedError};

/// From how many pages on it is begun: 60 MiB of them.
pub(super) const BEGIN_PAGES: u32 = 15_000;
/// At how many times as many a commit waits for it.
const WAIT_TIMES: u32 = 4;
/// How long at most; then it grows further.
const WAIT_LIMIT: Duration = Duration::from_secs(10);
/// What SQLite writes before each page.
const FRAME_HEADER_BYTES: u32 = 24;
/// How few may be left for a commit to take in, as a part of those it begins with.
const LEFT_PART: u32 = 30;
/// How often the thread goes over what was added meanwhile.
const ROUNDS: u32 = 4;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing; the write-ahead log may grow.
    Growing,
    /// The thread takes it in.
    Taking,
    /// The rest is a commit's.
    Ending,
}

#[derive(Debug)]
struct Shared {
    /// From how many pages on it is begun.
    begin_pages: u32,
    step: Mutex<Step>,
    changed: Condvar,
    /// How long the write-ahead log is, in pages. Relaxed: a figure, nothing is ordered by it.
    pages: AtomicU32,
}

/// The thread. It ends with the connection whose commits it follows, which is to be dropped before this.
#[derive(Debug)]
pub(super) struct Checkpointer {
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Follows the commits of a connection, instead of SQLite's own way: begins at so many pages.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened once more, or the system has no thread.
    pub(super) fn follow(
        db: &mut Db,
        path: &Path,
        begin_pages: u32,
    ) -> Result<Self, EmbeddedError> {
        let failed = db.failed("follow its write-ahead log");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let own = Connection::open_with_flags(path, flags).map_err(&failed)?;
        // As durable as commits are: what is taken in may be overwritten in the write-ahead log.
        own.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")
            .map_err(&failed)?;
        let shared = Arc::new(Shared {
            begin_pages,
            step: Mutex::new(Step::Growing),
            changed: Condvar::new(),
            pages: AtomicU32::new(0),
        });
        // As long as it may get: cut at less, it would be cut by a commit, each time it begins anew, and
        // then grow again, which costs the file system more than to be written over.
        let page: u32 = db
            .connection
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .map_err(&failed)?;
        let longest = u64::from(WAIT_TIMES * begin_pages) * u64::from(page + FRAME_HEADER_BYTES);
        db.connection
            .pragma_update_and_check(None, "journal_size_limit", longest as i64, |_| Ok(()))
            .map_err(&failed)?;
        let (begin, begun) = sync_channel(1);
        let theirs = Arc::clone(&shared);
        let thread = Builder::new()
            .name("log-checkpoint".to_owned())
            .spawn(move || run(&own, &begun, &theirs))
            .map_err(|source| EmbeddedError::File {
                what: "start a thread for",
                path: path.to_owned(),
                source,
            })?;
        db.connection
            .wal_hook(Some(move |wal: &mut Wal, pages| {
                committed(wal, pages, &shared, &begin);
                Ok(())
            }))
            .map_err(&failed)?;
        Ok(Self {
            thread: Some(thread),
        })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// After a commit, within it.
fn committed(wal: &mut Wal, pages: c_int, shared: &Shared, begin: &SyncSender<()>) {
    let pages = u32::try_from(pages).unwrap_or(0);
    shared.pages.store(pages, Ordering::Relaxed);
    let mut step = shared.step.lock();
    if *step == Step::Growing && pages >= shared.begin_pages {
        *step = match begin.try_send(()) {
            // Full only if it was told and has not come to it.
            Ok(()) | Err(TrySendError::Full(())) => Step::Taking,
            Err(TrySendError::Disconnected(())) => Step::Ending,
        };
    }
    if pages >= WAIT_TIMES * shared.begin_pages {
        let is_taking = |step: &mut Step| *step == Step::Taking;
        shared
            .changed
            .wait_while_for(&mut step, is_taking, WAIT_LIMIT);
    }
    if *step == Step::Ending {
        *step = Step::Growing;
        drop(step);
        // As SQLite does: what fails is tried again, and nothing is lost by it.
        if let Err(error) = wal.checkpoint() {
            tracing::warn!(%error, pages, "the log's write-ahead log cannot be taken in");
        }
    }
}

fn run(own: &Connection, begun: &Receiver<()>, shared: &Shared) {
    // Until the connection goes, and what follows its commits with it.
    while begun.recv().is_ok() {
        let _ends = Ends(shared);
        for _ in 0..ROUNDS {
            match own.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE) {
                Ok((_, taken)) => {
                    let taken = u32::try_from(taken).unwrap_or(0);
                    let pages = shared.pages.load(Ordering::Relaxed);
                    if pages.saturating_sub(taken) <= shared.begin_pages / LEFT_PART {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the log's write-ahead log cannot be taken in");
                    break;
                }
            }
        }
    }
}

/// Leaves the rest to a commit, whatever happens to the thread.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        *self.0.step.lock() = Step::Ending;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::connection::Pages;

    #[test]
    fn a_write_ahead_log_in_use_is_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        let mut db = Db::write(&path, Pages::LOG).unwrap();
        let checkpointer = Checkpointer::follow(&mut db, &path, BEGIN_PAGES).unwrap();
        let limit: i64 = db
            .connection
            .pragma_query_value(None, "journal_size_limit", |row| row.get(0))
            .unwrap();
        assert!(
            limit > i64::from(WAIT_TIMES * BEGIN_PAGES) * 4096,
            "{limit}"
        );
        drop(db);
        drop(checkpointer);
    }

    #[test]
    fn the_write_ahead_log_begins_anew_and_everything_is_in_the_file() {
        const BEGIN: u32 = 100;
        const COMMITS: i64 = 2000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        let mut db = Db::write(&path, Pages::LOG).unwrap();
        db.batch("make", "CREATE TABLE t (n INTEGER PRIMARY KEY, v BLOB)")
            .unwrap();
        let checkpointer = Checkpointer::follow(&mut db, &path, BEGIN).unwrap();
        // A reader in between, as the poller is one.
        let reader = Db::read(&path).unwrap();
        for n in 0..COMMITS {
            db.connection
                .execute("INSERT INTO t VALUES (?1, zeroblob(8000))", [n])
                .unwrap();
            let seen: i64 = reader
                .connection
                .query_row("SELECT MAX(n) FROM t", [], |row| row.get(0))
                .unwrap();
            assert_eq!(seen, n);
        }
        // Never truncated, so it is as long as it ever was.
        let wal = std::fs::metadata(dir.path().join("log.db-wal")).unwrap();
        let most = u64::from(BEGIN * (WAIT_TIMES + 1)) * 4120;
        assert!(wal.len() < most, "{} bytes, at most {most}", wal.len());
        let file = std::fs::metadata(&path).unwrap().len();
        assert!(
            file > COMMITS as u64 * 8000 - most,
            "{file} bytes in the file"
        );
        drop(db);
        drop(checkpointer);
        let rows: i64 = reader
            .connection
            .query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, COMMITS);
    }
}
