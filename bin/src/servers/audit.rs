//! `kilter audit --config`: store, ledger and log held against each other.

use std::collections::BTreeMap;

use kilter_engine::epoch::OffsetRow;
use kilter_io::{
    audit::{self, Audited, Kind, Report, replay::Asked},
    kafka::{CommandConsumer, KafkaError, TopicLedger},
    mysql::{BalancePages, MysqlReader},
    redis::compare,
};

use super::{
    read,
    redis::redis_settings,
    settings::{kafka_settings, mysql_settings, node_settings, store_settings},
    start::identity_of,
};
use crate::{
    Answer,
    config::{Config, Ledger},
    progress::Progress,
};

/// Runs `kilter audit --config`.
///
/// # Errors
///
/// When a server cannot be reached, or this is another group's store.
pub fn run(config: &Config, replay: bool) -> anyhow::Result<Answer> {
    let settings = store_settings(config);
    // The snapshot first: the log and its results only grow, and hold what it holds.
    let mut store = read::store(config)?;
    store.expect(&settings)?;
    let offsets = read::offsets(config, &mut store)?;
    let topic = match config.engine.ledger {
        Ledger::Mysql => None,
        Ledger::Topic => Some(TopicLedger::read(&kafka_settings(config), &offsets)?),
    };
    let audited = Audited {
        settings: &settings,
        partitioner: config.kafka.partitioner,
        topic: topic.as_ref(),
    };
    let mut progress = Progress::new("auditing", None);
    let mut report = audit::audit(&mut store, audited, &mut |entries| {
        progress.set(entries, || "ledger entries".to_owned());
    })?;
    progress.finish();
    against_log(config, &mut store, &offsets, &mut report)?;
    let projection = against_projection(config)?;
    if topic.as_ref().is_some_and(|topic| !topic.is_whole()) {
        println!(
            "the topic {} has thrown away its first results: each balance is followed from the \
             first one that is kept",
            config.kafka.results
        );
    }
    let mut impossible = None;
    if replay {
        let asked = Asked {
            kafka: &kafka_settings(config),
            mysql: &mysql_settings(config),
            offsets: &offsets,
            partitioner: config.kafka.partitioner,
            topic: topic.as_ref(),
            window_bytes: node_settings(config).window_max_bytes,
        };
        let mut progress = Progress::new("applying once more", None);
        let replayed = audit::replay::replay(&mut store, asked, &mut report, &mut |records| {
            progress.set(records, || "records".to_owned());
        })?;
        progress.finish();
        impossible = replayed.err();
    }
    let answer = match print(&report) {
        Answer::Yes if !projection => Answer::No,
        answer => answer,
    };
    if let Some(why) = impossible {
        println!("not applied once more: {why}");
        return Ok(Answer::No);
    }
    Ok(answer)
}

/// Whether the log is the one that the offsets count in, and goes on where they end.
fn against_log(
    config: &Config,
    store: &mut MysqlReader,
    offsets: &[OffsetRow],
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(known) = store.logs()?.into_iter().next() else {
        return Ok(());
    };
    let consumer = CommandConsumer::new(&kafka_settings(config))?;
    match identity_of(known).expect(&consumer.identity()?) {
        Ok(()) => audit::against_log(&consumer, offsets, report)?,
        Err(error @ KafkaError::OtherLog { .. }) => {
            report.differs(Kind::Log, || error.to_string());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// How many times Redis is looked at: what is on its way to it needs a moment.
const PROJECTION_TRIES: u32 = 20;

/// How many differences are followed from look to look.
const FOLLOWED_MAX: usize = 100_000;

/// Holds Redis against the store. While a node works, some balance or other is always on its way: only
/// one at which nothing moves from look to look is wrong.
fn against_projection(config: &Config) -> anyhow::Result<bool> {
    if !config.redis.enabled {
        return Ok(true);
    }
    let settings = redis_settings(config);
    // What Redis had each time for what it has not as the store has it.
    let mut still: Option<BTreeMap<String, Option<String>>> = None;
    for tried in 1.. {
        let mut examples = Vec::new();
        let mut now = BTreeMap::new();
        let source = BalancePages::opener(mysql_settings(config));
        let compared = compare(&settings, source, &mut |difference| {
            let stands = still
                .as_ref()
                .is_none_or(|still| still.get(&difference.key) == Some(&difference.found));
            if stands && examples.len() < 5 {
                examples.push(format!("{difference:?}"));
            }
            if stands && now.len() < FOLLOWED_MAX {
                now.insert(difference.key.clone(), difference.found.clone());
            }
        });
        let compared = match compared {
            Ok(compared) => compared,
            Err(error) => {
                // A projection that cannot be asked says nothing against the store.
                println!("not audited: Redis at {}: {error}", settings.address());
                return Ok(true);
            }
        };
        if compared.is_equal() {
            println!(
                "Redis shows all {} balances as the store has them",
                compared.rows
            );
            return Ok(true);
        }
        if now.is_empty() {
            println!(
                "Redis keeps up with the store's {} balances, which change",
                compared.rows
            );
            return Ok(true);
        }
        if tried == PROJECTION_TRIES {
            println!(
                "redis: {} missing, {} behind, {} ahead, {} different, of which {} stay so; kilter \
                 redis rebuild brings them back",
                compared.missing,
                compared.behind,
                compared.ahead,
                compared.different,
                now.len()
            );
            for example in examples {
                println!("  {example}");
            }
            return Ok(false);
        }
        still = Some(now);
        std::thread::sleep(config.redis.interval);
    }
    Ok(false)
}

/// Says what was found.
fn print(report: &Report) -> Answer {
    println!(
        "audited: {} accounts{}, {} balances, {} ledger entries{}",
        report.accounts,
        match report.pending {
            0 => String::new(),
            pending => format!(" ({pending} wait for their OPEN to be applied)"),
        },
        report.balances,
        report.entries,
        match report.replayed {
            0 => String::new(),
            replayed => format!(", {replayed} records applied once more"),
        }
    );
    println!("legs in flight: {}", report.in_flight);
    if report.in_flight.refused > 0 {
        println!("what was refused lands no more by itself: kilter legs resend sends it again");
    }
    if report.is_exact() {
        println!(
            "the store is exact: every balance is what {} makes it",
            match report.replayed {
                0 => "its ledger",
                _ => "the log",
            }
        );
        return Answer::Yes;
    }
    let count: u64 = report.differences.values().map(|found| found.count).sum();
    println!("{count} differences:");
    for (kind, found) in &report.differences {
        println!("  {kind}: {}", found.count);
        for what in &found.first {
            println!("    {what}");
        }
        if found.count > found.first.len() as u64 {
            println!("    …");
        }
    }
    Answer::No
}
