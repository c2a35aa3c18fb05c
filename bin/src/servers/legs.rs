//! `kilter legs --config`: the legs of a store on servers.

use anyhow::Context;
use kilter_engine::clock::Clock;
use kilter_io::{
    clock::SystemClock,
    mysql::{self, Db, Legs},
    outbox::FlyingLeg,
};

use super::{
    beside::outbox_settings,
    settings::{mysql_settings, store_settings},
};
use crate::{Answer, cli, config::Config};

/// Every leg that has not landed.
///
/// # Errors
///
/// When the store cannot be read, or `each` fails.
pub fn flying(
    config: &Config,
    each: impl FnMut(FlyingLeg) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut db, legs) = open(config)?;
    legs.flying(&mut db, each)
}

/// Sends one again.
///
/// # Errors
///
/// When it is not one to be sent again, or the store cannot be used.
pub fn resend(config: &Config, args: &cli::ResendLeg) -> anyhow::Result<Answer> {
    let (mut db, legs) = open(config)?;
    let now_ms = SystemClock::new().wall_ms();
    legs.resend(&mut db, args.name, &args.reason, args.not_landed, now_ms)?;
    println!("the leg {} is issued anew: the relay sends it", args.name);
    Ok(Answer::Yes)
}

fn open(config: &Config) -> anyhow::Result<(Db, Legs)> {
    let settings = mysql_settings(config);
    let mut db =
        Db::open(&settings).with_context(|| format!("the store {}", settings.address()))?;
    mysql::is_ready(&mut db)?;
    mysql::expect_settings(&mut db, &store_settings(config))?;
    // Legs come of a log that a node has read, so the store knows how many partitions it has.
    let partitions = mysql::known_log(&mut db)?.map_or(1, |log| log.partitions);
    Ok((db, Legs::new(&outbox_settings(config, partitions))))
}
