//! The deployed mode: the log in Kafka, the store in MySQL, the projection in Redis.

pub mod audit;
mod init;
mod keeper;
mod observe;
pub mod operator;
pub mod read;
mod reload;
mod serve;
mod session;
mod settings;
mod start;

pub use init::init;
pub use serve::serve;
