//! What an operator decides about a node on servers.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use kilter_engine::{
    Offset, Partition,
    notes::{Note, NoteKind},
};
use kilter_io::{
    kafka::CommandConsumer,
    mysql::{self, Db},
};

use super::{
    read,
    settings::{kafka_settings, mysql_settings},
    start::identity_of,
};
use crate::{
    Answer, cli,
    config::Config,
    operator::{meaning, words},
};

/// Runs `kilter window --config`: prints the windows that hold now. Another one is configured.
///
/// # Errors
///
/// When the store cannot be read, or a length is given.
pub fn window(config: &Config, length: Option<Duration>) -> anyhow::Result<Answer> {
    if let Some(length) = length {
        let length = length.as_millis() as u64;
        bail!(
            "on servers the window is configuration: set engine.window to {}; it takes effect at \
             the first start after a clean stop, from the end of the log on",
            words(length)
        );
    }
    // The last one of each partition holds.
    let mut windows = BTreeMap::new();
    for row in read::store(config)?.windows()? {
        windows.insert(row.partition, row.window_ms);
    }
    let asked_ms = config.engine.window.as_millis() as u64;
    let Some(first) = windows.values().next().copied() else {
        println!(
            "no node has led yet; transaction ids will be remembered for {}",
            words(asked_ms)
        );
        return Ok(Answer::Yes);
    };
    if windows.values().all(|window_ms| *window_ms == first) {
        println!("transaction ids are remembered for {}", words(first));
    } else {
        for (partition, window_ms) in &windows {
            println!(
                "transaction ids of partition {partition} are remembered for {}",
                words(*window_ms)
            );
        }
    }
    if windows.values().any(|window_ms| *window_ms != asked_ms) {
        println!(
            "engine.window is {}: it takes effect at the first start after a clean stop",
            words(asked_ms)
        );
    }
    Ok(Answer::Yes)
}

/// Runs `kilter log … --config`.
///
/// # Errors
///
/// When log or store cannot be used, this is not the log that the store knows, or the record is
/// applied already or not there yet.
pub fn note(config: &Config, args: &cli::Note, kind: NoteKind) -> anyhow::Result<Answer> {
    let settings = mysql_settings(config);
    let mut db =
        Db::open(&settings).with_context(|| format!("the store {}", settings.address()))?;
    mysql::is_ready(&mut db)?;
    let Some(known) = mysql::known_log(&mut db)? else {
        bail!("the store knows no log yet: no node has ever been started on it");
    };
    let kafka = kafka_settings(config);
    let consumer = CommandConsumer::new(&kafka)?;
    let generation = known.generation;
    let count = known.partitions;
    identity_of(known).expect(&consumer.identity()?)?;
    if args.partition >= count {
        bail!(
            "--partition {}: the topic {} has {count} partitions, the first is 0",
            args.partition,
            kafka.commands
        );
    }
    let partition = Partition::new(args.partition);
    let end = consumer.range(partition)?.end;
    if args.offset >= end {
        bail!(
            "partition {partition} offset {} is not in the log yet, which ends at {end}; a note \
             can only be about a record that is there",
            args.offset
        );
    }
    let decided = Note {
        generation,
        partition,
        offset: Offset::new(args.offset),
        kind,
    };
    mysql::add_note(
        &mut db,
        &kafka.group,
        &kafka.commands,
        &decided,
        &args.reason,
    )?;
    println!(
        "noted for partition {partition} offset {}: it is {}",
        args.offset,
        meaning(kind)
    );
    Ok(Answer::Yes)
}
