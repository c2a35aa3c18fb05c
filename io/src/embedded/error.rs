//! What can go wrong with a data directory.

use std::path::PathBuf;

use kilter_engine::{EpochNumber, Offset, Term};

/// Why a data directory, its log or its store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// A file or directory operation failed.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another process has the directory.
    #[error(
        "{} is in use by process {pid}; stop it first, or use another --data directory", path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as its lock file says.
        pid: String,
    },
    /// There is no Kilter data there.
    #[error("{} holds no Kilter data: {missing} is missing", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
        /// The file that should be there.
        missing: &'static str,
    },
    /// One of the two files is gone.
    #[error(
        "{}: {missing} is missing or empty, but {present} is there, and neither is of use without \
         the other; put back the {missing} that belongs to it, or start in a new directory", path.display()
    )]
    Lost {
        /// The directory.
        path: PathBuf,
        /// The file that should be there.
        missing: &'static str,
        /// The one that is.
        present: &'static str,
    },
    /// A database operation failed.
    #[error("{file}: cannot {what}")]
    Sqlite {
        /// Which file.
        file: PathBufDisplay,
        /// What was tried.
        what: &'static str,
        /// The database's reason.
        source: rusqlite::Error,
    },
    /// The disk, or the space this process may use, is full.
    #[error(
        "{file}: no space left to {what}; nothing is torn: free some space and start again, what \
         was answered is kept"
    )]
    Full {
        /// Which file.
        file: PathBufDisplay,
        /// What was tried.
        what: &'static str,
        /// The database's reason.
        source: rusqlite::Error,
    },
    /// A file is a database, but not one of ours.
    #[error("{file} is not a Kilter {kind} (application id {application_id:#x})")]
    NotOurs {
        /// Which file.
        file: PathBufDisplay,
        /// What it should be.
        kind: &'static str,
        /// What it says it is.
        application_id: i32,
    },
    /// A file was written by a newer version.
    #[error("{file} has format {found}, this program knows {known}; use a newer kilter")]
    Newer {
        /// Which file.
        file: PathBufDisplay,
        /// Its format.
        found: i32,
        /// The newest known.
        known: i32,
    },
    /// Log and store of two different directories.
    #[error(
        "log.db belongs to {log}, store.db to {store}: files of two directories were mixed; put \
         back the ones that belong together"
    )]
    Mixed {
        /// The log's identity.
        log: String,
        /// The store's identity.
        store: String,
    },
    /// The log is not the one the store knows.
    #[error(
        "the log is not the one this store was made from: {why}; put back the log.db that belongs \
         to this store.db"
    )]
    OtherLog {
        /// What differs.
        why: String,
    },
    /// Something in a file is not what this program writes.
    #[error("{file}: {what}; run kilter audit")]
    Corrupt {
        /// Which file.
        file: PathBufDisplay,
        /// What is wrong.
        what: String,
    },
    /// The log has a hole.
    #[error("log.db: offset {found} follows where {expected} should be")]
    Gap {
        /// The offset that was expected.
        expected: Offset,
        /// The one that came.
        found: Offset,
    },
    /// Another node has the store.
    #[error("epoch {epoch}: term {ours} is over, the store is at term {theirs}; this node stops")]
    Fenced {
        /// The epoch that was to be committed.
        epoch: EpochNumber,
        /// Our term.
        ours: Term,
        /// The store's term.
        theirs: Term,
    },
    /// The offset rows are not what this node committed last.
    #[error(
        "epoch {epoch}: the offset rows were changed by another hand: {what}; run kilter audit"
    )]
    Offsets {
        /// The epoch that was to be committed.
        epoch: EpochNumber,
        /// What differs.
        what: String,
    },
    /// The input could not be read.
    #[error("cannot read {name}")]
    Input {
        /// The input's name.
        name: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A note about a record that is not there.
    #[error("the log has no offset {offset} yet, it ends at {end}")]
    NoteBeyond {
        /// The record.
        offset: Offset,
        /// The offset behind the last record.
        end: Offset,
    },
    /// A note about a record that is answered already.
    #[error(
        "offset {offset} is committed already (up to {committed}); a note can only be about a record ahead"
    )]
    NoteBehind {
        /// The record.
        offset: Offset,
        /// The next offset to be applied.
        committed: Offset,
    },
}

/// A path that prints as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathBufDisplay(pub PathBuf);

impl std::fmt::Display for PathBufDisplay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}
