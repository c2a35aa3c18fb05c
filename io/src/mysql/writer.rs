//! One writer: its own connection, an epoch a transaction.

mod bisect;
mod session;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_engine::{
    HashRange, Leg, Partition,
    epoch::{BalanceImage, Epoch, EpochPart, Landed, OffsetRow, RowStep},
    ledger::LedgerEntry,
    store::{Committed, Store},
};

use self::session::Session;
use super::{
    connection::{Patience, is_lost},
    error::MysqlError,
    lease, rows,
    settings::MysqlSettings,
    text::{Rows, Spelling},
};

/// What a writer is told.
#[derive(Clone, Debug)]
pub struct WriterSettings {
    /// Its server; another than the other writers' is another way to the same store.
    pub mysql: MysqlSettings,
    /// The consumer group of the offset rows.
    pub group: String,
    /// The topic of the offset rows.
    pub topic: String,
    /// The lease's owner.
    pub owner: String,
    /// How long the lease lasts: a connection that is silent for so long in a transaction is
    /// ended by the server.
    pub lease_ttl: Duration,
    /// The writer's number.
    pub index: usize,
    /// Whether ledger entries go into the store; else the result topic is the ledger.
    pub ledger: bool,
}

/// How long the stages of one epoch's transaction took, and how much it held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Sorting rows and spelling them.
    pub spell: Duration,
    /// Locking and comparing the offset rows.
    pub lock: Duration,
    /// Staging and upsert of balances.
    pub balances: Duration,
    /// Ledger entries.
    pub ledger: Duration,
    /// Accounts and offsets.
    pub offsets: Duration,
    /// The fence.
    pub fence: Duration,
    /// COMMIT.
    pub commit: Duration,
    /// How many ledger entries.
    pub entries: u64,
    /// How many balances.
    pub images: u64,
}

/// Who hears what a writer does.
pub trait Watch: Send + Sync {
    /// An epoch was committed.
    fn committed(&self, _epoch: &Epoch<'_>, _times: &StageTimes) {}

    /// A try failed and will be repeated.
    fn retrying(&self, _why: &MysqlError) {}
}

impl Watch for () {}

/// Commits the epochs of one hash range.
pub struct MysqlWriter {
    settings: WriterSettings,
    session: Option<Session>,
    used: Instant,
    batch: Batch,
    watch: Arc<dyn Watch>,
}

/// An epoch as rows, spelled once however often the transaction is tried.
#[derive(Debug)]
struct Batch {
    images: Vec<BalanceImage>,
    /// Part and index of each entry, by position.
    order: Vec<(u32, u32)>,
    staged: Rows,
    ledger: Rows,
    time_ms: i64,
    /// How many balances are new: what tells inserted rows from updated ones.
    new_balances: u64,
    opened: Vec<u64>,
    legs: Rows,
}

impl MysqlWriter {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or refuses, or is another store than the lease's.
    pub fn open(settings: WriterSettings, watch: Arc<dyn Watch>) -> Result<Self, MysqlError> {
        let mut session = Session::open(&settings)?;
        session.knows_owner(&settings)?;
        Ok(Self {
            batch: Batch::new(session.spelling()),
            session: Some(session),
            settings,
            used: Instant::now(),
            watch,
        })
    }

    /// Whether epochs go by LOAD DATA LOCAL; else by INSERT, which is slower.
    pub fn loads_data(&self) -> bool {
        self.batch.staged.spelling() == Spelling::Lines
    }

    fn try_commit(&mut self, epoch: &Epoch<'_>) -> Result<Committed, MysqlError> {
        let session = match self.session.take() {
            Some(session) => self.session.insert(session),
            None => {
                let session = Session::open(&self.settings)?;
                if session.spelling() != self.batch.staged.spelling() {
                    self.batch = Batch::new(session.spelling());
                    self.batch.fill(epoch, &self.settings);
                }
                self.session.insert(session)
            }
        };
        let mut times = StageTimes::default();
        let mut clock = Stopwatch::new();
        session.db.run("begin an epoch", "START TRANSACTION")?;
        let before = compare_offsets(session, &self.settings, epoch)?;
        times.lock = clock.lap();
        if before == Committed::Before {
            session.db.run("end a known epoch", "ROLLBACK")?;
            return Ok(before);
        }
        session.balances(&mut self.batch.staged, self.batch.new_balances)?;
        times.balances = clock.lap();
        session.ledger(&mut self.batch.ledger)?;
        times.ledger = clock.lap();
        session.legs(&self.batch.legs)?;
        session.activate(&self.batch.opened)?;
        let moved = epoch.rows.iter().filter(|step| step.before != step.after);
        rows::write(
            &mut session.db,
            &self.settings.group,
            &self.settings.topic,
            moved.map(|step| &step.after),
        )?;
        times.offsets = clock.lap();
        fence(session, &self.settings, epoch)?;
        times.fence = clock.lap();
        session.db.run("commit an epoch", "COMMIT")?;
        times.commit = clock.lap();
        times.entries = self.batch.ledger.count();
        times.images = self.batch.staged.count();
        self.watch.committed(epoch, &times);
        Ok(Committed::Now)
    }

    /// A connection that was idle may have been closed by the server, which is no fault.
    fn freshen(&mut self) {
        if self.used.elapsed() >= self.settings.lease_ttl / 2
            && let Some(session) = &mut self.session
            && session.db.conn.ping().is_err()
        {
            self.session = None;
        }
    }

    fn give_up_connection_if(&mut self, error: &MysqlError) {
        // The transaction must be gone before the next try, and a lock timeout undoes only its
        // statement. Without a connection the server undoes it; who reconnects waits for that.
        let rolled_back = match &mut self.session {
            Some(session) if !is_lost(error) => session.db.roll_back(),
            _ => false,
        };
        if !rolled_back {
            self.session = None;
        }
    }
}

impl Store for MysqlWriter {
    type Error = MysqlError;

    fn commit(&mut self, epoch: &Epoch<'_>) -> Result<Committed, MysqlError> {
        if epoch.rows.iter().all(|step| step.before == step.after) {
            // Nothing moved, so there is nothing in it.
            return Ok(Committed::Now);
        }
        self.freshen();
        self.batch.fill(epoch, &self.settings);
        let mut patience = Patience::new(self.settings.mysql.outage_limit);
        loop {
            let error = match self.try_commit(epoch) {
                Ok(committed) => {
                    self.used = Instant::now();
                    return Ok(committed);
                }
                Err(error) => error,
            };
            self.give_up_connection_if(&error);
            if error.is_passing() {
                tracing::warn!(
                    writer = self.settings.index,
                    epoch = epoch.cut.epoch.get(),
                    "trying again: {}",
                    super::error::chain(&error)
                );
                self.watch.retrying(&error);
                patience.pause(error)?;
            } else if error.is_about_rows() {
                return Err(self.name_the_record(epoch, error));
            } else {
                return Err(error);
            }
        }
    }
}

impl Batch {
    fn new(spelling: Spelling) -> Self {
        Self {
            images: Vec::new(),
            order: Vec::new(),
            staged: Rows::new(spelling),
            ledger: Rows::new(spelling),
            time_ms: 0,
            new_balances: 0,
            opened: Vec::new(),
            legs: Rows::new(Spelling::Values),
        }
    }

    fn fill(&mut self, epoch: &Epoch<'_>, settings: &WriterSettings) {
        let ledger = settings.ledger;
        self.time_ms = clock_ms(epoch);
        self.images.clear();
        self.order.clear();
        self.opened.clear();
        self.new_balances = 0;
        // Who has no ledger here needs no order.
        if ledger {
            self.put_in_order(epoch);
        }
        for part in epoch.parts {
            self.images.extend_from_slice(&part.balances);
            self.opened
                .extend(part.opened.iter().map(|open| open.account_id.get()));
            self.new_balances += part.new_balances;
        }
        // By the keys of the tables: neighbouring rows share a page while it is hot, and two
        // writers never wait for each other in a circle.
        self.images
            .sort_unstable_by_key(|image| (image.account_id, image.currency));
        self.opened.sort_unstable();
        self.staged.clear();
        for image in &self.images {
            self.staged.image(image, self.time_ms);
        }
        self.ledger.clear();
        if ledger {
            for at in &self.order {
                let (entry, landed) = entry_at(epoch.parts, *at);
                self.ledger.entry(entry, landed);
            }
        }
        self.legs.clear();
        let mut legs: Vec<&Leg> = epoch.parts.iter().flat_map(|part| &part.legs).collect();
        legs.sort_unstable_by_key(|leg| leg.name);
        for leg in legs {
            self.legs.leg(leg, &settings.topic);
        }
    }

    /// Finds the order of the entries by their places in the log.
    fn put_in_order(&mut self, epoch: &Epoch<'_>) {
        self.order.clear();
        for (index, part) in epoch.parts.iter().enumerate() {
            let entries = 0..part.ledger.len() as u32;
            self.order
                .extend(entries.map(|entry| (index as u32, entry)));
        }
        // Each part is in order already, so the stable sort merges runs.
        self.order
            .sort_by_key(|at| entry_at(epoch.parts, *at).0.position);
    }
}

/// An entry, and what it has besides if it is a leg's.
fn entry_at(
    parts: &[Box<EpochPart>],
    (part, entry): (u32, u32),
) -> (&LedgerEntry, Option<&Landed>) {
    let part = &parts[part as usize];
    let landed = match part.landed.is_empty() {
        true => None,
        false => part.landed(entry as usize),
    };
    (&part.ledger[entry as usize], landed)
}

/// The latest clock of the epoch's partitions: the time of its balances.
fn clock_ms(epoch: &Epoch<'_>) -> i64 {
    let clocks = epoch.cut.partitions.iter().map(|end| end.clock_ms);
    clocks.max().unwrap_or(0)
}

fn partitions(epoch: &Epoch<'_>) -> Vec<Partition> {
    let mut partitions: Vec<Partition> = epoch
        .rows
        .iter()
        .map(|step| step.before.partition)
        .collect();
    partitions.sort_unstable();
    partitions.dedup();
    partitions
}

/// What the offset rows say of this epoch, under lock: to be done, or done before.
fn compare_offsets(
    session: &mut Session,
    settings: &WriterSettings,
    epoch: &Epoch<'_>,
) -> Result<Committed, MysqlError> {
    let firsts = epoch.rows.iter().map(|step| step.before.range.first());
    let lasts = epoch.rows.iter().map(|step| step.before.range.last());
    let range = HashRange::new(firsts.min().unwrap_or(0), lasts.max().unwrap_or(0));
    let held = rows::read(
        &mut session.db,
        &settings.group,
        &settings.topic,
        &partitions(epoch),
        range.unwrap_or(HashRange::ALL),
        true,
    )?;
    let holds = |pick: fn(&RowStep) -> &OffsetRow| {
        held.len() == epoch.rows.len() && epoch.rows.iter().all(|step| held.contains(pick(step)))
    };
    if holds(|step| &step.after) {
        return Ok(Committed::Before);
    }
    if holds(|step| &step.before) {
        return Ok(Committed::Now);
    }
    // The likely reason, and the better message.
    fence(session, settings, epoch)?;
    let missing = epoch.rows.iter().find(|step| !held.contains(&step.before));
    Err(MysqlError::Offsets {
        epoch: epoch.cut.epoch,
        what: missing.map_or_else(
            || format!("{} rows instead of {}", held.len(), epoch.rows.len()),
            |step| {
                let row = &step.before;
                let found = held.iter().find(|other| {
                    (other.partition, other.range.first()) == (row.partition, row.range.first())
                });
                format!(
                    "partition {} hashes {} to {} were at offset {} epoch {}, now {}",
                    row.partition,
                    row.range.first(),
                    row.range.last(),
                    row.offset,
                    row.epoch,
                    found.map_or_else(
                        || "there is no such row".to_owned(),
                        |row| format!(
                            "at offset {} epoch {} term {}",
                            row.offset, row.epoch, row.term
                        )
                    )
                )
            },
        ),
    })
}

fn fence(
    session: &mut Session,
    settings: &WriterSettings,
    epoch: &Epoch<'_>,
) -> Result<(), MysqlError> {
    lease::check(
        &mut session.db,
        &settings.owner,
        epoch.term,
        &partitions(epoch),
        "LOCK IN SHARE MODE",
    )
    .map_err(|error| match error {
        MysqlError::LeaseLost {
            partition,
            ours,
            theirs,
            owner,
        } => MysqlError::Fenced {
            epoch: epoch.cut.epoch,
            partition,
            ours,
            theirs,
            owner,
        },
        other => other,
    })
}

/// Laps of a stopwatch.
struct Stopwatch(Instant);

impl Stopwatch {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.0;
        self.0 = now;
        lap
    }
}
