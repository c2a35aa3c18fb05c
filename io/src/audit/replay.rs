//! The log applied once more, by real shards from nothing, and held against the store.
//!
//! One partition after the other: a user lives in one. Memory holds the balances and accounts of
//! the whole store, and of one partition the shard and its window.

mod partition;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_engine::{
    Currency, Generation, Leg, LegName, Offset, Partition,
    epoch::{BalanceImage, OffsetRow},
    hash::key_hash,
    log::{Log, Taken},
    notes::{Note, NoteKind},
    partitioner::Partitioner,
    poller::PartitionStart,
    record::{Mark, Record},
    wait::{WaitStrategy, waiter},
};
use parking_lot::Mutex;

use super::{
    AuditError,
    report::{Kind, Report},
};
use crate::{
    kafka::{Claimer, CommandConsumer, KafkaError, KafkaLog, KafkaSettings, LogStart, TopicLedger},
    mysql::{MysqlError, MysqlReader, MysqlSettings, OutboxLeg, WindowRow},
    rows::{AccountRow, BalanceRow, LedgerRow},
};
use partition::Replayed;

/// How many records are asked for at once.
const BATCH: usize = 1024;

/// Over how many offsets ledger entries are compared together.
const STRETCH: u64 = 5000;

/// The longest wait for a record while there are more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is applied once more.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The way to the log.
    pub kafka: &'a KafkaSettings,
    /// The way to the claims, which are read and never written.
    pub mysql: &'a MysqlSettings,
    /// How far each hash range of the log is committed.
    pub offsets: &'a [OffsetRow],
    /// How keys go to partitions.
    pub partitioner: Partitioner,
    /// The ledger, if it is the result topic; else it is in the store.
    pub topic: Option<&'a TopicLedger>,
    /// How many bytes the window of a partition may take.
    pub window_bytes: u64,
}

/// Why the log cannot be applied once more.
pub type Impossible = String;

/// What the log made, over all partitions.
#[derive(Default)]
struct Made {
    balances: BTreeMap<(u64, Currency), BalanceImage>,
    accounts: HashMap<u64, Box<str>>,
}

/// Applies the log up to the committed offsets, and notes what the store has otherwise. `progress`
/// is told how many records were applied.
///
/// # Errors
///
/// When something cannot be read. `Ok(Err(_))` says why the log cannot be applied from nothing.
pub fn replay(
    store: &mut MysqlReader,
    asked: Asked<'_>,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Result<Result<(), Impossible>, AuditError> {
    let Some(known) = store.logs()?.into_iter().next() else {
        return Ok(Err("the store knows no log yet".into()));
    };
    if known.generation != Generation::new(1) {
        return Ok(Err(format!(
            "the store is at log generation {}, which does not begin from nothing",
            known.generation
        )));
    }
    if store.has_openings()? {
        return Ok(Err(
            "the store was taken over from another system, so its log does not begin from nothing"
                .into(),
        ));
    }
    let notes = store.notes(known.generation)?;
    let windows = store.windows()?;
    let mut partitions: Vec<Partition> = asked.offsets.iter().map(|row| row.partition).collect();
    partitions.dedup();
    let mut reads = Vec::new();
    for partition in partitions {
        // A reader of its own for each: what one has fetched ahead must not come to the next.
        let consumer = CommandConsumer::new(asked.kafka)?;
        let range = consumer.range(partition)?;
        if range.first != 0 {
            return Ok(Err(format!(
                "the log of partition {partition} begins at offset {}, what was before is gone",
                range.first
            )));
        }
        reads.push((partition, consumer));
    }
    let mut made = Made::default();
    for (partition, consumer) in reads {
        let rows: Vec<OffsetRow> = asked
            .offsets
            .iter()
            .filter(|row| row.partition == partition)
            .copied()
            .collect();
        let windows = windows
            .iter()
            .filter(|row| (row.generation, row.partition) == (known.generation, partition))
            .copied()
            .collect();
        let replay = PartitionReplay {
            asked,
            partition,
            generation: known.generation,
            partition_count: known.partitions,
            rows,
            notes: &notes,
        };
        replay.run(store, consumer, windows, &mut made, report, progress)?;
    }
    against_store(store, made, report)?;
    Ok(Ok(()))
}

/// One partition on its way through a shard.
struct PartitionReplay<'a> {
    asked: Asked<'a>,
    partition: Partition,
    generation: Generation,
    partition_count: u32,
    rows: Vec<OffsetRow>,
    notes: &'a [Note],
}

impl PartitionReplay<'_> {
    fn run(
        &self,
        store: &mut MysqlReader,
        consumer: Arc<CommandConsumer>,
        windows: Vec<WindowRow>,
        made: &mut Made,
        report: &mut Report,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), AuditError> {
        let end = self.rows.iter().map(|row| row.offset).max();
        let end = end.unwrap_or_default().get();
        // Nothing to read, or told already: the log does not go so far.
        if end == 0 || end > consumer.range(self.partition)?.end {
            return Ok(());
        }
        let mut replayed = Replayed::new(self, windows);
        let (mut idle, waker) = waiter(WaitStrategy::Park);
        let first = OffsetRow::first(self.partition, self.generation);
        let start = LogStart {
            partitions: vec![PartitionStart::of_rows(&[first])],
            notes: self.notes.to_vec(),
            poller: waker,
            verdict: Arc::new(Mutex::new(None)),
        };
        let claimer = Claimer::reading(self.asked.mysql.clone());
        let mut log = KafkaLog::open(consumer, claimer, start)?;
        let mut next = 0;
        let mut stretch_end = STRETCH.min(end);
        let mut came = Instant::now();
        while next < end {
            let mut failure = None;
            let taken = log.poll(BATCH, &mut |record| {
                // Behind the stretch: compared first.
                if record.offset.get() >= stretch_end {
                    next = record.offset.get();
                    return Taken::NotNow;
                }
                next = record.offset.get() + 1;
                match self.one(&record, &mut replayed, report) {
                    Ok(()) => Taken::Yes,
                    Err(why) => {
                        failure = Some(why);
                        Taken::NotNow
                    }
                }
            })?;
            if let Some(why) = failure {
                report.differs(Kind::Replay, || {
                    format!("partition {} cannot be applied: {why}", self.partition)
                });
                return Ok(());
            }
            if next >= stretch_end {
                progress(report.replayed);
                self.compare(store, &mut replayed, stretch_end, made, report)?;
                stretch_end = (next.max(stretch_end) + STRETCH).min(end);
                came = Instant::now();
            } else if taken > 0 {
                came = Instant::now();
            } else if came.elapsed() > PATIENCE {
                return Err(AuditError::Log(KafkaError::Client {
                    what: "read the log to the committed offset",
                    why: format!(
                        "nothing came behind partition {} offset {next} for {PATIENCE:?}",
                        self.partition
                    ),
                }));
            }
            idle.idle(taken);
        }
        Ok(())
    }

    /// Applies a record, if it is committed.
    fn one(
        &self,
        record: &Record<'_>,
        replayed: &mut Replayed,
        report: &mut Report,
    ) -> Result<(), String> {
        let noted = |kind: NoteKind| {
            self.notes.iter().any(|note| {
                (note.partition, note.offset, note.kind) == (record.partition, record.offset, kind)
            })
        };
        let hash = key_hash(record.key);
        let mut record = *record;
        if noted(NoteKind::Refuse) {
            record.mark = Mark::OperatorRefused;
        }
        replayed.advance(&record, !noted(NoteKind::IgnoreTime))?;
        for row in self.ending_at(record.offset.next()) {
            let right = (replayed.clock_ms(), hash, record.timestamp_ms);
            let held = (row.clock_ms, row.last.key_hash, row.last.timestamp_ms);
            if held != right {
                report.differs(Kind::Replay, || {
                    format!(
                        "partition {} at offset {}: clock, last key hash and last time are \
                         {held:?}, should be {right:?}",
                        self.partition, row.offset
                    )
                });
            }
        }
        let is_committed = self
            .rows
            .iter()
            .any(|row| row.range.contains(hash) && record.offset < row.offset);
        if is_committed {
            report.replayed += 1;
            replayed.apply(&record, hash)?;
        }
        Ok(())
    }

    fn ending_at(&self, offset: Offset) -> impl Iterator<Item = &OffsetRow> {
        self.rows.iter().filter(move |row| row.offset == offset)
    }

    /// Holds the entries of the last stretch against the store's, and keeps the balances.
    fn compare(
        &self,
        store: &mut MysqlReader,
        replayed: &mut Replayed,
        stretch_end: u64,
        made: &mut Made,
        report: &mut Report,
    ) -> Result<(), AuditError> {
        let part = replayed.take();
        for image in &part.balances {
            made.balances
                .insert((image.account_id.get(), image.currency), *image);
        }
        for opened in &part.opened {
            made.accounts
                .insert(opened.account_id.get(), opened.user_id.clone());
        }
        legs(store, &part.legs, report)?;
        let mut entries: BTreeMap<(u64, u16), LedgerRow> = part
            .ledger
            .iter()
            .enumerate()
            .map(|(index, entry)| partition::as_row(entry, part.landed(index)))
            .map(|row| ((row.offset, row.posting), row))
            .collect();
        let place = (self.generation, self.partition);
        let range = (replayed.compared(), stretch_end - 1);
        replayed.compared_to(stretch_end);
        let each = |mut held: LedgerRow| {
            held.user_id.clear();
            let name = format!(
                "the ledger entry of partition {} offset {}",
                held.partition, held.offset
            );
            match entries.remove(&(held.offset, held.posting)) {
                None => {
                    report.differs(Kind::Replay, || format!("{name}: the log does not make it"))
                }
                Some(right) if right != held => report.differs(Kind::Replay, || {
                    format!("{name}: {}", partition::difference(&held, &right))
                }),
                Some(_) => {}
            }
            Ok::<(), AuditError>(())
        };
        match self.asked.topic {
            None => store.ledger_at(place, range, each)?,
            Some(topic) => topic.ledger_at(place, range, each)?,
        }
        // A topic that has thrown away its beginning cannot hold all of them.
        let is_whole = self.asked.topic.is_none_or(TopicLedger::is_whole);
        for (offset, _) in entries.into_keys().filter(|_| is_whole) {
            report.differs(Kind::Replay, || {
                format!(
                    "the ledger entry of partition {} offset {offset} is missing",
                    self.partition
                )
            });
        }
        Ok(())
    }
}

/// Holds the legs that left against the outbox. What is trimmed was sent and is not looked at.
fn legs(store: &mut MysqlReader, made: &[Leg], report: &mut Report) -> Result<(), AuditError> {
    let names: Vec<LegName> = made.iter().map(|leg| leg.name).collect();
    let held: HashMap<String, OutboxLeg> = store
        .legs_named(&names)?
        .into_iter()
        .map(|leg| (leg.event_id.clone(), leg))
        .collect();
    for leg in made {
        let name = leg.name;
        let right = leg.payload();
        match held.get(&format!("leg:{name}")) {
            None => report.differs(Kind::Replay, || {
                format!("the leg {name} is missing in the outbox")
            }),
            Some(held) => {
                let payload = held.payload.as_ref().map(String::as_bytes);
                let is_right = payload.is_none_or(|payload| payload == right)
                    && held.user == leg.user_id.as_bytes();
                if !is_right {
                    report.differs(Kind::Replay, || {
                        format!(
                            "the leg {name} is {}, the log makes it {}",
                            held.payload.as_deref().unwrap_or("for another user"),
                            String::from_utf8_lossy(&right)
                        )
                    });
                }
            }
        }
    }
    Ok(())
}

/// Holds balances and accounts against the store's.
fn against_store(
    store: &mut MysqlReader,
    mut made: Made,
    report: &mut Report,
) -> Result<(), AuditError> {
    store.balances(|held: BalanceRow| {
        let name = format!("account {} {}", held.account_id as i64, held.currency_code);
        let currency = Currency::parse(held.currency_code.as_bytes()).ok();
        let place = currency.map(|currency| (held.account_id, currency));
        match place.and_then(|place| made.balances.remove(&place)) {
            None => report.differs(Kind::Replay, || {
                format!("{name}: a balance that the log does not make")
            }),
            Some(image) => {
                let right = (
                    image.available.to_string(),
                    image.frozen.to_string(),
                    image.version,
                );
                let held = (held.available, held.frozen, held.version);
                if held != right {
                    report.differs(Kind::Replay, || {
                        format!(
                            "{name}: available, frozen and version are {held:?}, the log makes \
                             them {right:?}"
                        )
                    });
                }
            }
        }
        Ok::<(), MysqlError>(())
    })?;
    for (account_id, currency) in made.balances.into_keys() {
        report.differs(Kind::Replay, || {
            format!("account {account_id} {currency}: the balance is missing")
        });
    }
    store.accounts(|held: AccountRow| {
        let opened = made.accounts.remove(&held.account_id);
        let is_right = match &opened {
            Some(user) => held.state == "ACTIVE" && **user == *held.user_id,
            None => held.state == "PENDING",
        };
        if !is_right {
            report.differs(Kind::Replay, || {
                format!(
                    "account {} of user {:?} is {}, {}",
                    held.account_id as i64,
                    held.user_id,
                    held.state,
                    match &opened {
                        Some(user) => format!("the log opens it for user {user:?}"),
                        None => "the log does not open it".into(),
                    }
                )
            });
        }
        Ok::<(), MysqlError>(())
    })?;
    for (account_id, user) in made.accounts {
        report.differs(Kind::Replay, || {
            format!("account {account_id} of user {user:?}: the account is missing")
        });
    }
    Ok(())
}
