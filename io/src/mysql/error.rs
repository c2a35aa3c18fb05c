//! What can go wrong with a MySQL store, and whether it passes by itself.

use kilter_engine::{EpochNumber, Partition, Term};

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MysqlError {
    /// A statement failed.
    #[error("MySQL: cannot {what}")]
    Statement {
        /// What was tried.
        what: &'static str,
        /// The server's or the connection's reason.
        source: Box<mysql::Error>,
    },
    /// What passes by itself did not pass in time.
    #[error(
        "MySQL: cannot {what}, tried again for {seconds} s (mysql.outage_limit_ms); nothing is \
         lost: the node goes on from its last epoch when it is started again"
    )]
    Outage {
        /// What was tried.
        what: &'static str,
        /// For how long, in s.
        seconds: u64,
        /// The last reason.
        source: Box<mysql::Error>,
    },
    /// The server took other rows than it was given.
    #[error(
        "MySQL: {what}: {found} rows where {expected} were due, {warnings} warnings{said}; the \
         epoch was rolled back"
    )]
    Counts {
        /// What was written.
        what: &'static str,
        /// How many rows should have been counted.
        expected: u64,
        /// How many were.
        found: u64,
        /// How many warnings the server gave.
        warnings: u16,
        /// What the first of them says.
        said: String,
    },
    /// The store does not take an epoch for its data; the record at fault is known.
    #[error(
        "the store does not take what the record at partition {partition} offset {offset} did: \
         {why}; nothing of its epoch is committed. Once the cause is mended, start again. If the \
         record itself is at fault, have it answered as refused: kilter log refuse --partition \
         {partition} --offset {offset} --reason TEXT"
    )]
    Row {
        /// The record's partition.
        partition: Partition,
        /// The record's offset.
        offset: u64,
        /// What the server said.
        why: String,
    },
    /// Another node has the lease.
    #[error(
        "epoch {epoch}: the lease of partition {partition} went to {owner} with term {theirs}, \
         ours was {ours}; nothing of the epoch is committed and this node stops"
    )]
    Fenced {
        /// The epoch that was to be committed.
        epoch: EpochNumber,
        /// The partition.
        partition: Partition,
        /// Our term.
        ours: Term,
        /// The store's term.
        theirs: Term,
        /// Who has it.
        owner: String,
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
    /// The lease is gone.
    #[error(
        "the lease of partition {partition} went to {owner} with term {theirs}, ours was {ours}"
    )]
    LeaseLost {
        /// The partition.
        partition: Partition,
        /// Our term.
        ours: Term,
        /// The store's term.
        theirs: Term,
        /// Who has it.
        owner: String,
    },
    /// A writer's server is not the store that the lease was taken in.
    #[error(
        "the database {database:?} on {address} shows no lease of this node ({owner}): it is another \
         store than the one the lease was taken in, or another node has taken over by now. Each \
         writer's server (mysql.writers) must be a way to the same store"
    )]
    OtherStore {
        /// The writer's server.
        address: String,
        /// The database.
        database: String,
        /// The lease's owner.
        owner: String,
    },
    /// There are no tables of ours.
    #[error(
        "the database {database:?} on {address} has no Kilter tables; make them with: kilter init"
    )]
    NoSchema {
        /// The server.
        address: String,
        /// The database.
        database: String,
    },
    /// The tables are of another version.
    #[error("the database has schema version {found}, this program needs {needed}; {way_out}")]
    OtherSchema {
        /// Its version.
        found: u32,
        /// What this program needs.
        needed: u32,
        /// What to do.
        way_out: &'static str,
    },
    /// The schema cannot be brought up to date.
    #[error("cannot bring the schema up to date: {why}")]
    Migration {
        /// Why.
        why: String,
    },
    /// Rows that were there before cannot be taken over.
    #[error("the rows that are there cannot be taken over, nothing was changed:\n{list}")]
    Legacy {
        /// What is wrong, a line each.
        list: String,
    },
    /// Something else is set than this node was told.
    #[error("{what} is {stored:?} in the store, but {asked:?} is configured; {way_out}")]
    Differs {
        /// What.
        what: &'static str,
        /// What the store says.
        stored: String,
        /// What the configuration says.
        asked: String,
        /// What to do.
        way_out: String,
    },
    /// A server whose locks do not hold everywhere.
    #[error(
        "the server is one of several primaries ({what}): their locks are local, so two nodes \
         could write at once; use a server with a single primary"
    )]
    ManyPrimaries {
        /// How that is known.
        what: &'static str,
    },
    /// The store has another log by now than this process produces for.
    #[error(
        "the store has adopted log generation {theirs}, and this process produces for generation \
         {ours}: it ends, and is to be started again. Nothing is lost: what it sent and did not \
         mark is sent again"
    )]
    Adopted {
        /// The generation that it was started with.
        ours: u32,
        /// The store's.
        theirs: u32,
    },
    /// Something in the store is not what this program writes.
    #[error("the store: {what}; run kilter audit")]
    Corrupt {
        /// What.
        what: String,
    },
    /// A note about a record that is answered already, or not there.
    #[error("{why}")]
    Note {
        /// Why.
        why: String,
    },
}

/// What to do about a failed statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is of no use any more; the statement may still run.
    Lost,
    /// The connection is fine; roll back and try again.
    Passing,
    /// The server refuses, and will refuse again.
    Refused,
}

/// Server errors that pass: locks, limits, shutdown, a full disk, a read-only server.
const PASSING: &[u16] = &[
    1021, // disk full
    1028, // sort aborted
    1037, 1038, 1041, // out of memory
    1040, // too many connections
    1114, // table full: the tablespace's disk
    1158, 1159, 1160, 1161, // network errors on the server's side
    1180, // error during COMMIT
    1203, // too many user connections
    1205, // lock wait timeout
    1213, // deadlock
    1290, // --read-only
    1317, // query interrupted
    1792, 1836, // read-only transaction, read-only mode
    1969, 3024, // statement time limit
    3100, // aborted by a replication hook
];

/// Server errors behind which the connection is gone.
const LOST: &[u16] = &[
    1053, // server shutdown in progress
    1077, 1078, 1079, // shutting down
    1152, 1184, // aborted connection
    1927, // killed
    3169, // session was killed
    4031, // disconnected for inactivity
];

/// Refusals that have nothing to do with what rows hold: rights, tables, columns, statements.
const NOT_ABOUT_ROWS: &[u16] = &[
    1036, 1044, 1045, 1049, 1054, 1064, 1109, 1142, 1143, 1146, 1148, 1149, 1227, 1305, 1356, 3948,
    4166,
];

/// What a failure means.
pub(super) fn fault(error: &mysql::Error) -> Fault {
    match error {
        mysql::Error::MySqlError(error) if LOST.contains(&error.code) => Fault::Lost,
        mysql::Error::MySqlError(error)
            if PASSING.contains(&error.code)
                // "Got error n from storage engine": disk full and the like.
                || (matches!(error.code, 1030 | 1026 | 3 | 1004)) =>
        {
            Fault::Passing
        }
        mysql::Error::MySqlError(_) => Fault::Refused,
        mysql::Error::FromRowError(_)
        | mysql::Error::FromValueError(_)
        | mysql::Error::UrlError(_) => Fault::Refused,
        _ => Fault::Lost,
    }
}

impl MysqlError {
    /// Whether trying again later may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Statement { source, .. } => fault(source) != Fault::Refused,
            _ => false,
        }
    }

    /// Whether the connection is of no use any more.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Statement { source, .. } => fault(source) == Fault::Lost,
            _ => false,
        }
    }

    /// Whether the server refused rows for what they hold.
    pub(crate) fn is_about_rows(&self) -> bool {
        match self {
            Self::Counts { .. } => true,
            Self::Statement { source, .. } => match &**source {
                mysql::Error::MySqlError(error) => {
                    fault(source) == Fault::Refused && !NOT_ABOUT_ROWS.contains(&error.code)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether another node has taken over.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::LeaseLost { .. })
    }
}

/// The error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// For `map_err`: what was tried.
pub(super) fn failed(what: &'static str) -> impl Fn(mysql::Error) -> MysqlError + Copy {
    move |source| MysqlError::Statement {
        what,
        source: Box::new(source),
    }
}
