//! What survives a crash in the simulator: the log, the store, the published results.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use kilter_engine::{
    EpochNumber, Generation, Leg, LegName, Offset, Partition, Position, Term,
    epoch::{BalanceImage, Cut, DeadLetter, Epoch, Landed, OffsetRow, OpenedAccount, RowStep},
    ledger::LedgerEntry,
    log::{Log, Taken},
    record::{NOT_ISSUED, Record},
    result::{ResultRecord, ResultSink},
    store::{Committed, Store},
};

use super::{rng::Rng, traffic::Entry};

/// The life of the log that the simulator plays.
pub const GENERATION: Generation = Generation::new(1);

/// Why a simulated part failed. Always an injected fault or the fence.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("crashed before the commit")]
    BeforeCommit,
    #[error("crashed after the commit")]
    AfterCommit,
    #[error("another node has term {0}")]
    Fenced(Term),
    #[error("crashed while publishing")]
    Publishing,
}

/// The committed state.
#[derive(Clone, Debug)]
pub struct Disk {
    pub term: Term,
    pub rows: Vec<OffsetRow>,
    pub balances: BTreeMap<(u64, String), BalanceImage>,
    pub ledger: BTreeMap<Position, LedgerEntry>,
    pub landed: BTreeMap<Position, Landed>,
    pub legs: BTreeMap<LegName, Leg>,
    pub accounts: BTreeMap<u64, String>,
    pub dead: BTreeMap<(u32, u64), DeadLetter>,
    pub results: BTreeMap<Position, ResultRecord>,
}

impl Disk {
    pub fn new(partitions: u32) -> Self {
        let rows = (0..partitions)
            .map(|partition| OffsetRow::first(Partition::new(partition), GENERATION))
            .collect();
        Self {
            term: Term::default(),
            rows,
            balances: BTreeMap::new(),
            ledger: BTreeMap::new(),
            landed: BTreeMap::new(),
            legs: BTreeMap::new(),
            accounts: BTreeMap::new(),
            dead: BTreeMap::new(),
            results: BTreeMap::new(),
        }
    }

    /// What the offset rows say about an epoch that is to be committed.
    pub fn compare(&self, steps: &[RowStep]) -> Held {
        let is = |pick: fn(&RowStep) -> &OffsetRow| {
            steps.iter().all(|step| self.rows.contains(pick(step)))
        };
        if steps.iter().any(|step| step.before != step.after) && is(|step| &step.after) {
            Held::This
        } else if is(|step| &step.before) {
            Held::Last
        } else {
            Held::Other
        }
    }

    /// Makes an epoch's changes, and asserts that each is made for the first time.
    pub fn apply(&mut self, changes: &Changes) {
        for image in &changes.balances {
            let place = (image.account_id.get(), image.currency.to_string());
            let old = self.balances.insert(place, *image);
            assert!(
                old.is_none_or(|old| old.version < image.version),
                "a version that does not rise: {old:?} {image:?}"
            );
        }
        for entry in &changes.ledger {
            let place = (entry.account_id.get(), entry.currency.to_string());
            // A credit may have failed for naming the account of somebody else.
            assert!(
                entry.failure.is_some()
                    || self
                        .balances
                        .get(&place)
                        .is_none_or(|image| image.partition == entry.position.partition),
                "a balance's image names another partition than its records: {entry:?}"
            );
            let old = self.ledger.insert(entry.position, *entry);
            assert!(
                old.is_none(),
                "two effects of one record: {entry:?} {old:?}"
            );
        }
        for (position, landed) in &changes.landed {
            self.landed.insert(*position, landed.clone());
        }
        for leg in &changes.legs {
            let old = self.legs.insert(leg.name, leg.clone());
            assert!(old.is_none(), "one leg twice: {leg:?} {old:?}");
        }
        for account in &changes.opened {
            let old = self
                .accounts
                .insert(account.account_id.get(), account.user_id.to_string());
            assert!(old.is_none(), "opened twice: {account:?}");
        }
        for letter in &changes.dead_letters {
            let place = (letter.partition.get(), letter.offset.get());
            let old = self.dead.insert(place, letter.clone());
            assert!(old.is_none(), "two dead letters of one record: {old:?}");
        }
        for step in &changes.rows {
            let held = self.rows.iter_mut().find(|row| **row == step.before);
            *held.unwrap_or_else(|| panic!("no offset row {:?}", step.before)) = step.after;
        }
    }
}

/// Which epoch the offset rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The one before: go on.
    Last,
    /// This one: it was committed before.
    This,
    /// Neither.
    Other,
}

/// All that an epoch changes; outlives the call that brought it.
#[derive(Clone, Debug)]
pub struct Changes {
    pub term: Term,
    pub rows: Vec<RowStep>,
    balances: Vec<BalanceImage>,
    ledger: Vec<LedgerEntry>,
    landed: Vec<(Position, Landed)>,
    legs: Vec<Leg>,
    opened: Vec<OpenedAccount>,
    dead_letters: Vec<DeadLetter>,
}

impl Changes {
    pub fn of(epoch: &Epoch<'_>) -> Self {
        let parts = || epoch.parts.iter();
        Self {
            term: epoch.term,
            rows: epoch.rows.to_vec(),
            balances: parts().flat_map(|part| &part.balances).copied().collect(),
            ledger: parts().flat_map(|part| &part.ledger).copied().collect(),
            landed: parts()
                .flat_map(|part| {
                    let of = |landed: &Landed| {
                        (part.ledger[landed.entry as usize].position, landed.clone())
                    };
                    part.landed.iter().map(of)
                })
                .collect(),
            legs: parts().flat_map(|part| &part.legs).cloned().collect(),
            opened: parts().flat_map(|part| &part.opened).cloned().collect(),
            dead_letters: parts()
                .flat_map(|part| &part.dead_letters)
                .cloned()
                .collect(),
        }
    }
}

/// One writer's connection.
pub struct SimStore {
    pub disk: Rc<RefCell<Disk>>,
    pub rng: Rng,
    /// One commit in so many fails, before or after it is durable; 0 never.
    pub fault_one_in: u64,
}

impl Store for SimStore {
    type Error = Fault;

    fn commit(&mut self, epoch: &Epoch<'_>) -> Result<Committed, Fault> {
        if self.fault_one_in > 0 && self.rng.one_in(self.fault_one_in) {
            return Err(Fault::BeforeCommit);
        }
        let done = self.transact(epoch)?;
        let moves = epoch.rows.iter().any(|step| step.before != step.after);
        if moves && self.rng.one_in(10) {
            // The answer got lost, and the whole transaction is tried again.
            assert_eq!(self.transact(epoch)?, Committed::Before);
            return Ok(Committed::Before);
        }
        if self.fault_one_in > 0 && self.rng.one_in(self.fault_one_in) {
            return Err(Fault::AfterCommit);
        }
        Ok(done)
    }
}

impl SimStore {
    fn transact(&mut self, epoch: &Epoch<'_>) -> Result<Committed, Fault> {
        let disk = &mut *self.disk.borrow_mut();
        if disk.term != epoch.term {
            return Err(Fault::Fenced(disk.term));
        }
        match disk.compare(epoch.rows) {
            Held::This => return Ok(Committed::Before),
            Held::Last => disk.apply(&Changes::of(epoch)),
            Held::Other => panic!("the offset rows are not the last epoch's"),
        }
        Ok(Committed::Now)
    }
}

/// The log, read from where the store says.
pub struct SimLog {
    pub entries: Rc<Vec<Entry>>,
    /// For each partition the indices of its records, and which comes next.
    queues: Vec<(Vec<usize>, usize)>,
    rng: Rng,
}

impl SimLog {
    pub fn open(entries: &Rc<Vec<Entry>>, starts: &[(Partition, Offset)], rng: Rng) -> Self {
        let queues = starts
            .iter()
            .map(|(partition, offset)| {
                let queue: Vec<usize> = (0..entries.len())
                    .filter(|index| {
                        let entry = &entries[*index];
                        entry.partition == partition.get() && entry.offset >= offset.get()
                    })
                    .collect();
                (queue, 0)
            })
            .collect();
        Self {
            entries: entries.clone(),
            queues,
            rng,
        }
    }

    pub fn is_at_end(&self) -> bool {
        self.queues.iter().all(|(queue, next)| *next == queue.len())
    }
}

impl Log for SimLog {
    type Error = Fault;

    fn poll(
        &mut self,
        max: usize,
        take: &mut dyn FnMut(Record<'_>) -> Taken,
    ) -> Result<usize, Fault> {
        let mut taken = 0;
        let first = self.rng.below(self.queues.len() as u64) as usize;
        for turn in 0..self.queues.len() {
            let index = (first + turn) % self.queues.len();
            let (queue, next) = &mut self.queues[index];
            while taken < max && *next < queue.len() {
                let entry = &self.entries[queue[*next]];
                let record = Record {
                    generation: GENERATION,
                    partition: Partition::new(entry.partition),
                    offset: Offset::new(entry.offset),
                    timestamp_ms: entry.timestamp_ms,
                    issued_at_ms: entry.issued_at_ms.unwrap_or(NOT_ISSUED),
                    mark: entry.mark,
                    key: &entry.key,
                    value: &entry.value,
                    headers: &[],
                };
                if take(record) == Taken::NotNow {
                    return Ok(taken);
                }
                *next += 1;
                taken += 1;
                if self.rng.one_in(20) {
                    break;
                }
            }
        }
        Ok(taken)
    }
}

/// The result topic: what is not flushed may get lost in a crash, or not.
pub struct SimSink {
    pub disk: Rc<RefCell<Disk>>,
    pub waiting: Vec<ResultRecord>,
    pub durable: Option<EpochNumber>,
    pub rng: Rng,
    pub fault_one_in: u64,
}

impl SimSink {
    fn publish(&mut self, count: usize) {
        let disk = &mut *self.disk.borrow_mut();
        for result in self.waiting.drain(..count) {
            match disk.results.get(&result.position) {
                // The same answer again: only the term may differ.
                Some(old) => assert_eq!(
                    ResultRecord {
                        term: result.term,
                        ..old.clone()
                    },
                    result,
                    "another answer than the first time"
                ),
                None => {
                    disk.results.insert(result.position, result);
                }
            }
        }
    }
}

impl ResultSink for SimSink {
    type Error = Fault;

    fn result(&mut self, result: &ResultRecord) -> Result<(), Fault> {
        self.waiting.push(result.clone());
        if self.rng.one_in(50) {
            let count = self.rng.below(1 + self.waiting.len() as u64) as usize;
            self.publish(count);
        }
        if self.fault_one_in > 0 && self.rng.one_in(50 * self.fault_one_in) {
            return Err(Fault::Publishing);
        }
        Ok(())
    }

    fn end(&mut self, cut: &Cut) -> Result<(), Fault> {
        self.publish(self.waiting.len());
        self.durable = Some(cut.epoch);
        Ok(())
    }

    fn durable(&mut self) -> Result<Option<EpochNumber>, Fault> {
        Ok(self.durable)
    }
}
