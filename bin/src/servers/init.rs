//! `kilter init`: topics and tables, made where they are missing and checked where they are not.

use std::io::Write;

use anyhow::Context;
use kilter_io::{
    kafka::Admin,
    mysql::{self, Db, InitLog},
};

use super::settings::{kafka_settings, mysql_settings, store_settings};
use crate::{Answer, cli, config::Config};

/// Runs `kilter init`.
///
/// # Errors
///
/// When a server cannot be reached, or what is there is not as it must be.
pub fn init(args: &cli::Init) -> anyhow::Result<Answer> {
    let mut out = std::io::stdout().lock();
    if args.print {
        out.write_all(mysql::print_schema().as_bytes())?;
        return Ok(Answer::Yes);
    }
    let config = Config::from_args(&args.source)?;
    let kafka = kafka_settings(&config);
    let topics = Admin::new(&kafka)?
        .init(config.kafka.partitions, config.kafka.replication.into())
        .with_context(|| format!("the log at {}", kafka.brokers))?;
    for topic in &topics {
        let what = if topic.made { "made" } else { "found" };
        writeln!(
            out,
            "kafka: {what} the topic {} with {} partitions",
            topic.topic, topic.partitions
        )?;
    }
    let commands = topics.iter().find(|topic| topic.topic == kafka.commands);
    let log = InitLog {
        group: &kafka.group,
        topic: &kafka.commands,
        partitions: commands.map_or(config.kafka.partitions, |topic| topic.partitions),
    };
    let store = mysql_settings(&config);
    let done =
        mysql::init(&store, &log).with_context(|| format!("the store {}", store.address()))?;
    for line in done {
        writeln!(out, "mysql: {line}")?;
    }
    let mut db = Db::open(&store)?;
    mysql::store_settings(&mut db, &store_settings(&config))?;
    writeln!(
        out,
        "mysql: the store belongs to group {}, topic {}, partitioner murmur2, ledger in {}",
        config.kafka.group,
        config.kafka.commands,
        store_settings(&config).ledger
    )?;
    Ok(Answer::Yes)
}
