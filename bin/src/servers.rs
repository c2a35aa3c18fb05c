//! The deployed mode: the log in Kafka, the store in MySQL, the projection in Redis.

mod adopt;
mod apply;
pub mod audit;
mod beside;
mod client;
mod demo;
mod follow;
mod init;
mod keeper;
pub mod legs;
mod load;
mod observe;
pub mod operator;
pub mod read;
mod readers;
mod redis;
mod reload;
mod serve;
mod session;
mod settings;
mod start;
mod watch;

pub use adopt::adopt;
pub use apply::apply;
pub use demo::demo;
pub use init::init;
pub use load::load;
pub use redis::redis;
pub use serve::serve;
