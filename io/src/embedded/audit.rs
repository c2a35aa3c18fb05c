//! The audit: store and log held against each other, record by record.
//!
//! One pass over the log in offset order, merged with ledger and dead letters, all in one
//! snapshot. What each record must have done is worked out again with plain integers, apart from
//! the engine's own rules; only the decoder is shared.

mod against;
mod ending;
mod state;

use rusqlite::Rows;

use kilter_engine::{
    Body, Offset, POSTINGS_MAX, decode,
    epoch::OffsetRow,
    hash::key_hash,
    record::{NOT_ISSUED, Record},
};

use super::{
    GENERATION, PARTITION,
    connection::Db,
    dir::DataDir,
    error::EmbeddedError,
    log_reader,
    reader::{StoreReader, entry},
    rows, start,
};
use crate::{
    flights::{Flights, InFlight},
    rows::LedgerRow,
};
use ending::Letter;
use state::State;

/// How many differences are told in words.
const FIRST: usize = 20;

/// How often progress is told, in records.
const PROGRESS_RECORDS: u64 = 50_000;

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Records that are committed.
    pub records: u64,
    /// Records that are not yet.
    pub waiting: u64,
    /// Ledger entries.
    pub entries: u64,
    /// Records whose id was answered before.
    pub duplicates: u64,
    /// Records that were refused.
    pub dead_letters: u64,
    /// Accounts.
    pub accounts: u64,
    /// Balances.
    pub balances: u64,
    /// Legs of transfers that have left and not landed.
    pub in_flight: InFlight,
    /// How many differences there are.
    pub differences: u64,
    /// The first of them, in words.
    pub first: Vec<String>,
}

impl AuditReport {
    /// Notes a difference.
    fn differs(&mut self, what: String) {
        self.differences += 1;
        if self.first.len() < FIRST {
            self.first.push(what);
        }
    }
}

/// Audits a directory. `progress` is told how many records were looked at.
///
/// # Errors
///
/// When it cannot be read. What is wrong with the data is in the report.
pub fn audit(dir: &DataDir, progress: &mut dyn FnMut(u64)) -> Result<AuditReport, EmbeddedError> {
    let reader = StoreReader::open(dir)?;
    let db = &reader.db;
    // One snapshot of the store; the log only grows, and what grows behind it is waiting.
    db.batch("begin to read", "BEGIN")?;
    let mut report = AuditReport::default();
    let offsets = rows::read(db)?;
    let mut state = State::new(start::windows(db)?);
    let mut flights = Flights::default();
    let failed = db.failed("read it");

    let mut ledger = db
        .connection
        .prepare(
            "SELECT generation, partition, offset, posting, account_id, NULL, currency_code,
                    transaction_id, type, amount, available_before, available_after,
                    frozen_before, frozen_after, version, error_code, created_at, remembered_at,
                    leg
             FROM balance_transactions ORDER BY generation, partition, offset, posting",
        )
        .map_err(&failed)?;
    let mut ledger = Cursor::new(db, ledger.query([]).map_err(&failed)?, |row| {
        entry(row).map(|row| (row.offset, row))
    })?;
    let mut letters = db
        .connection
        .prepare(
            "SELECT generation, partition, offset, code, failed_at, issued_at, key, value
             FROM dead_letters ORDER BY generation, partition, offset",
        )
        .map_err(&failed)?;
    let mut letters = Cursor::new(db, letters.query([]).map_err(&failed)?, |row| {
        letter(row).map(|letter| (letter.offset, letter))
    })?;
    let mut log = db
        .connection
        .prepare(
            "SELECT offset, timestamp_ms, issued_at_ms, mark, key, value FROM log.records
             ORDER BY offset",
        )
        .map_err(&failed)?;
    let mut records = log.query([]).map_err(&failed)?;
    let notes = notes(db)?;

    let mut next = Offset::new(0);
    while let Some(row) = records.next().map_err(&failed)? {
        let record = log_reader::read(row).map_err(&failed)?;
        if record.offset != next {
            report.differs(format!("offset {next} is missing from the log"));
        }
        next = record.offset.next();
        if next.get().is_multiple_of(PROGRESS_RECORDS) {
            progress(next.get());
        }
        let number = record.offset.get();
        for (offset, _) in ledger.before(number)? {
            report.differs(format!("offset {offset}: a ledger entry of no record"));
        }
        for (offset, _) in letters.before(number)? {
            report.differs(format!("offset {offset}: a dead letter of no record"));
        }
        let entries = ledger.at(number)?;
        let letter = letters.at(number)?;
        let entries = entries_of_the_log(entries, &mut report);
        let letter = letters_of_the_log(letter, &mut report);
        let hash = key_hash(record.key);
        let committed = offsets
            .iter()
            .find(|row| row.range.contains(hash))
            .is_some_and(|row| record.offset < row.offset);
        state.tick(&record, notes.contains(&(number, "IGNORE_TIME".to_owned())));
        against_offsets(&offsets, &record, hash, state.clock_ms(), &mut report);
        if !committed {
            report.waiting += 1;
            state.wait(&record);
            if !entries.is_empty() || !letter.is_empty() {
                report.differs(format!(
                    "offset {number}: the store has what this record did, but it is not committed"
                ));
            }
            continue;
        }
        report.records += 1;
        let refused = notes.contains(&(number, "REFUSE".to_owned()));
        one(
            &record,
            refused,
            &entries,
            &letter,
            &mut state,
            &mut flights,
            &mut report,
        );
    }
    for (offset, _) in ledger.rest()? {
        report.differs(format!("offset {offset}: a ledger entry of no record"));
    }
    for (offset, _) in letters.rest()? {
        report.differs(format!("offset {offset}: a dead letter of no record"));
    }
    for row in &offsets {
        if row.offset > next {
            report.differs(format!(
                "the store is at offset {}, the log ends at {next}",
                row.offset
            ));
        }
    }
    state.against_accounts(&reader, &mut report)?;
    state.against_claims(db, &mut report)?;
    state.against_balances(&reader, &mut report)?;
    state.against_legs(db, &mut report)?;
    let (in_flight, wrong) = flights.finish(true);
    report.in_flight = in_flight;
    wrong.into_iter().for_each(|what| report.differs(what));
    db.batch("end reading", "COMMIT")?;
    Ok(report)
}

/// Holds one committed record against what the store says it did.
fn one(
    record: &Record<'_>,
    refused: bool,
    entries: &[(u64, LedgerRow)],
    letter: &[(u64, Letter)],
    state: &mut State,
    flights: &mut Flights,
    report: &mut AuditReport,
) {
    let offset = record.offset;
    let expected = state.judge(record, refused);
    match (&expected, entries, letter) {
        (ending::Ending::Refused(code), [], [(_, held)]) => {
            report.dead_letters += 1;
            // Fed in by hand it says nothing of the leg itself.
            if let Ok(command) = decode(record.value)
                && let Body::Leg(leg) = &command.body
                && record.issued_at_ms != NOT_ISSUED
            {
                flights.refused(leg.name);
            }
            if let Some(what) = held.differs_from(record, *code, state.clock_ms()) {
                report.differs(format!("offset {offset}: {what}"));
            }
        }
        (ending::Ending::Opened | ending::Ending::Duplicate, [], []) => {
            report.duplicates += u64::from(expected == ending::Ending::Duplicate);
        }
        (ending::Ending::Answered(answers), held, []) if answers.len() == held.len() => {
            for (posting, (answer, (_, held))) in (0..).zip(answers.iter().zip(held)) {
                report.entries += 1;
                if let Some(what) = flights.entry(held) {
                    report.differs(what);
                }
                let other = (held.posting != posting)
                    .then(|| format!("its posting is {}, should be {posting}", held.posting));
                if let Some(what) = other.or_else(|| answer.differs_from(held)) {
                    report.differs(format!("offset {offset}: {what}"));
                }
            }
        }
        _ => report.differs(format!(
            "offset {offset}: should be {expected}, the store has {} ledger entries and {} dead \
             letters of it",
            entries.len(),
            letter.len()
        )),
    }
}

/// The entries that the log's one partition and generation can have; others belong nowhere.
fn entries_of_the_log(
    mut entries: Vec<(u64, LedgerRow)>,
    report: &mut AuditReport,
) -> Vec<(u64, LedgerRow)> {
    entries.retain(|(offset, row)| {
        let is_one = (row.generation, row.partition) == (GENERATION.get(), PARTITION.get())
            && usize::from(row.posting) < POSTINGS_MAX;
        if !is_one {
            report.differs(format!(
                "offset {offset}: a ledger entry of generation {}, partition {}, posting {}, of \
                 no record",
                row.generation, row.partition, row.posting
            ));
        }
        is_one
    });
    entries
}

fn letters_of_the_log(
    mut letters: Vec<(u64, Letter)>,
    report: &mut AuditReport,
) -> Vec<(u64, Letter)> {
    letters.retain(|(offset, letter)| {
        let is_one = (letter.generation, letter.partition) == (GENERATION.get(), PARTITION.get());
        if !is_one {
            report.differs(format!(
                "offset {offset}: a dead letter of generation {}, partition {}, of no record",
                letter.generation, letter.partition
            ));
        }
        is_one
    });
    letters
}

/// The offset rows that end behind this record must know its clock, key and time: a start goes
/// on from them.
fn against_offsets(
    offsets: &[OffsetRow],
    record: &Record<'_>,
    hash: u64,
    clock_ms: i64,
    report: &mut AuditReport,
) {
    let next = record.offset.next();
    for row in offsets.iter().filter(|row| row.offset == next) {
        let right = (clock_ms, hash, record.timestamp_ms);
        let held = (row.clock_ms, row.last.key_hash, row.last.timestamp_ms);
        if held != right {
            report.differs(format!(
                "the offset row at {next}: clock, last key hash and last time are {held:?}, should \
                 be {right:?}"
            ));
        }
    }
}

fn letter(row: &rusqlite::Row<'_>) -> rusqlite::Result<Letter> {
    Ok(Letter {
        generation: row.get(0)?,
        partition: row.get(1)?,
        offset: row.get::<_, i64>(2)? as u64,
        code: row.get(3)?,
        failed_at_ms: row.get(4)?,
        issued_at_ms: row.get(5)?,
        key: row.get(6)?,
        value: row.get(7)?,
    })
}

fn notes(db: &Db) -> Result<Vec<(u64, String)>, EmbeddedError> {
    let failed = db.failed("read the operators' notes");
    let mut statement = db
        .connection
        .prepare("SELECT offset, kind FROM operator_notes")
        .map_err(&failed)?;
    let notes = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))
        .map_err(&failed)?;
    notes.collect::<Result<_, _>>().map_err(&failed)
}

type Read<T> = fn(&rusqlite::Row<'_>) -> rusqlite::Result<(u64, T)>;

/// Rows in offset order, looked at one ahead.
struct Cursor<'a, T> {
    db: &'a Db,
    rows: Rows<'a>,
    read: Read<T>,
    head: Option<(u64, T)>,
}

impl<'a, T> Cursor<'a, T> {
    fn new(db: &'a Db, rows: Rows<'a>, read: Read<T>) -> Result<Self, EmbeddedError> {
        let mut cursor = Self {
            db,
            rows,
            read,
            head: None,
        };
        cursor.advance()?;
        Ok(cursor)
    }

    fn advance(&mut self) -> Result<Option<(u64, T)>, EmbeddedError> {
        let failed = self.db.failed("read it");
        let row = self.rows.next().map_err(&failed)?;
        let next = row.map(self.read).transpose().map_err(&failed)?;
        Ok(std::mem::replace(&mut self.head, next))
    }

    fn take_while(&mut self, take: impl Fn(u64) -> bool) -> Result<Vec<(u64, T)>, EmbeddedError> {
        let mut taken = Vec::new();
        while self.head.as_ref().is_some_and(|(offset, _)| take(*offset)) {
            taken.extend(self.advance()?);
        }
        Ok(taken)
    }

    fn before(&mut self, offset: u64) -> Result<Vec<(u64, T)>, EmbeddedError> {
        self.take_while(|head| head < offset)
    }

    fn at(&mut self, offset: u64) -> Result<Vec<(u64, T)>, EmbeddedError> {
        self.take_while(|head| head == offset)
    }

    fn rest(&mut self) -> Result<Vec<(u64, T)>, EmbeddedError> {
        self.take_while(|_| true)
    }
}
