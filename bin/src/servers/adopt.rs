//! `kilter log adopt`: from now on this log, from stated offsets on.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail, ensure};
use kilter_engine::{Generation, Offset, Partition, epoch::LastRecord};
use kilter_io::{
    kafka::{CommandConsumer, KafkaError, is_known},
    mysql::{self, AdoptFrom, Db, KnownLog, Lease, owner_name},
};

use super::settings::{kafka_settings, mysql_settings};
use crate::{Answer, cli, config::Config};

/// How long the lease is held for it at most.
const LEASE: Duration = Duration::from_secs(60);

/// Runs it.
///
/// # Errors
///
/// When nothing differs, somebody leads, an offset is not there, or a server cannot be used.
pub fn adopt(args: &cli::Adopt) -> anyhow::Result<Answer> {
    let config = Config::from_args(&args.source)?;
    let kafka = kafka_settings(&config);
    let settings = mysql_settings(&config);
    let mut db =
        Db::open(&settings).with_context(|| format!("the store {}", settings.address()))?;
    mysql::is_ready(&mut db)?;
    let Some(known) = mysql::known_log(&mut db)? else {
        bail!("the store knows no log yet, so there is none to be left");
    };
    let consumer = CommandConsumer::new(&kafka)?;
    let found = consumer.identity()?;
    let is_same_topic = found.topic_id == known.topic_id && found.cluster_id == known.cluster_id;
    ensure!(
        found.partitions >= known.partitions || !is_same_topic,
        "the topic has {} partitions, it had {}; Kafka itself never takes any away",
        found.partitions,
        known.partitions
    );
    let most = found.partitions.max(known.partitions);
    let lease = Lease::new(owner_name(), LEASE);
    let taken = lease.take(&mut db, most, usize::MAX)?;
    let adopted = if taken.partitions.len() == most as usize {
        Adoption {
            args,
            consumer: &consumer,
            known: &known,
            is_same_topic,
            count: found.partitions,
            group: &config.kafka.group,
        }
        .run(&mut db, &lease, &taken)
    } else {
        Err(anyhow::anyhow!(
            "a node leads, or its lease has not expired yet: stop all nodes first"
        ))
    };
    if !taken.partitions.is_empty() {
        lease.release(&mut db, &taken, taken.clean)?;
    }
    adopted.map(|()| Answer::Yes)
}

struct Adoption<'a> {
    args: &'a cli::Adopt,
    consumer: &'a CommandConsumer,
    known: &'a KnownLog,
    is_same_topic: bool,
    count: u32,
    group: &'a str,
}

impl Adoption<'_> {
    fn run(&self, db: &mut Db, lease: &Lease, taken: &mysql::Taken) -> anyhow::Result<()> {
        let old: Vec<Partition> = (0..self.known.partitions).map(Partition::new).collect();
        let rows = mysql::offsets(db, self.group, &self.known.topic, &old)?;
        let grows = self.count > self.known.partitions;
        if self.is_same_topic && !grows && !self.args.even_so {
            let differs = rows
                .iter()
                .find_map(|row| is_known(self.consumer, row.partition, row.offset, row.last).err());
            match differs {
                Some(KafkaError::OtherLog { .. } | KafkaError::OutOfRange { .. }) => {}
                Some(error) => return Err(error.into()),
                None => bail!(
                    "this is the log that the store knows, and it goes on where the store ends: \
                     nothing is to be adopted. To move the offsets all the same, which skips \
                     records or applies them again, add --even-so"
                ),
            }
        }
        if self.is_same_topic && grows {
            for row in &rows {
                let end = self.consumer.range(row.partition)?.end;
                ensure!(
                    row.offset.get() >= end,
                    "partition {} is committed up to {} of {end}: what lies there belongs to users \
                     who move to other partitions. Stop producers, let a node with the old number \
                     of partitions come to the end, and try again",
                    row.partition,
                    row.offset
                );
            }
        }
        let asked = parse(&self.args.from)?;
        let mut from = Vec::new();
        for number in 0..self.count {
            let partition = Partition::new(number);
            let at = self.begin(partition, &asked, grows)?;
            match at {
                AdoptFrom::Committed => println!("partition {partition}: goes on where it is"),
                AdoptFrom::At(offset, _) => println!("partition {partition}: from offset {offset}"),
            }
            from.push((partition, at));
        }
        let identity = self.consumer.identity()?;
        let log = KnownLog {
            generation: Generation::new(self.known.generation.get() + 1),
            cluster_id: identity.cluster_id,
            topic: self.known.topic.clone(),
            topic_id: identity.topic_id,
            partitions: self.count,
        };
        mysql::adopt(db, lease, taken, self.group, &log, &from, &self.args.reason)?;
        println!(
            "adopted {} ({} partitions) as log generation {}; generation {} is over, its ledger and \
             its transaction ids stay",
            log.topic, log.partitions, log.generation, self.known.generation
        );
        Ok(())
    }

    /// Where a partition is read from.
    fn begin(
        &self,
        partition: Partition,
        asked: &BTreeMap<Option<u32>, String>,
        grows: bool,
    ) -> anyhow::Result<AdoptFrom> {
        let own = asked
            .get(&Some(partition.get()))
            .or_else(|| asked.get(&None));
        let range = self.consumer.range(partition)?;
        let offset = match own.map(String::as_str) {
            None if self.is_same_topic && partition.get() < self.known.partitions && grows => {
                return Ok(AdoptFrom::Committed);
            }
            None if self.is_same_topic && grows => range.first,
            None => bail!(
                "partition {partition}: say where to begin with --from: earliest, latest or an \
                 offset from {} to {}",
                range.first,
                range.end
            ),
            Some("earliest") => range.first,
            Some("latest") => range.end,
            Some(text) => {
                let offset: u64 = text
                    .parse()
                    .with_context(|| format!("--from {text:?} is no offset, earliest or latest"))?;
                ensure!(
                    (range.first..=range.end).contains(&offset),
                    "--from {offset}: partition {partition} holds the offsets {} to {}",
                    range.first,
                    range.end
                );
                offset
            }
        };
        let last = if offset > range.first {
            let (found_at, last) = self.consumer.record_at(partition, offset - 1)?;
            if found_at == offset - 1 {
                last
            } else {
                LastRecord::default()
            }
        } else {
            LastRecord::default()
        };
        Ok(AdoptFrom::At(Offset::new(offset), last))
    }
}

/// `OFFSET` for all partitions, `P=OFFSET` for one.
fn parse(from: &[String]) -> anyhow::Result<BTreeMap<Option<u32>, String>> {
    let mut asked = BTreeMap::new();
    for text in from {
        let (partition, offset) = match text.split_once('=') {
            None => (None, text.as_str()),
            Some((partition, offset)) => {
                let number = partition
                    .parse()
                    .with_context(|| format!("--from {text:?}: {partition:?} is no partition"))?;
                (Some(number), offset)
            }
        };
        ensure!(
            asked.insert(partition, offset.to_owned()).is_none(),
            "--from {text:?}: this partition was given twice"
        );
    }
    Ok(asked)
}
