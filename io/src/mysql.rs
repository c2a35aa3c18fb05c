//! The store in MySQL or MariaDB: an epoch is one transaction.
//!
//! Every connection speaks READ COMMITTED except the one that loads; every statement that waits
//! has a deadline; every answer is counted. What passes by itself (a lost connection, a lock, a
//! server that is away or read-only) is tried again up to a limit; what the server says about the
//! data stops the node.

mod adopt;
mod balances;
mod claims;
mod connection;
mod error;
mod held;
mod lease;
mod legacy;
mod load;
mod lookup;
mod notes;
pub(crate) mod outbox;
mod reader;
mod rows;
mod schema;
mod settings;
mod start;
mod text;
mod writer;

pub use adopt::{From as AdoptFrom, adopt};
pub use balances::BalancePages;
pub use claims::{Claims, Wish};
pub use connection::Db;
pub use error::MysqlError;
pub(crate) use error::chain;
pub use lease::{Lease, LeaseRow, Taken, owner_name};
pub use load::{LoadAsked, LoadFailure, Loaded, load};
pub use lookup::{EntryPlace, MysqlLookup, TimedBalance};
pub use notes::{add_note, notes};
pub use outbox::{Legs, ResendError, TransactionLookup};
pub(crate) use reader::OutboxLeg;
pub use reader::{MysqlReader, WindowRow};
pub use rows::OwnedOffsetRow;
pub use schema::{InitLog, init, is_ready, print as print_schema};
pub use settings::{MysqlSettings, Tls};
pub use start::{
    KnownLog, StartAsked, Started, StoreSettings, expect_settings, known_log, offsets, put_log,
    start, store_settings,
};
pub use writer::{MysqlWriter, StageTimes, Watch, WriterSettings};
