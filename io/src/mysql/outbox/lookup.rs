//! What became of a transaction id, from the outbox, the offsets and the ledger.

use mysql::{Row, prelude::Queryable};

use super::{
    fate::{Window, account_in},
    place::{Place, Wanted, find},
};
use crate::hex::hex;
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
    held::Held,
    reader::{Cells, ENTRY, JOIN, entry},
    settings::MysqlSettings,
};
use crate::outbox::{LegState, Lookup, LookupError, Outcome, Status, TransactionState};
use crate::rows::LedgerRow;

/// How many records' entries are read in one statement.
const PLACES_A_STATEMENT: usize = 200;

/// The window that counts while no node has started, in ms.
const NO_WINDOW_MS: u64 = 86_400_000;

/// The ledger entries of the record at a place, if they are of this transaction id.
pub(super) fn entries_at(
    db: &mut Db,
    place: Place,
    transaction_id: &[u8],
) -> Result<Vec<LedgerRow>, MysqlError> {
    let mut entries = entries_at_all(db, &[place])?;
    entries.retain(|entry| entry.transaction_id.as_bytes() == transaction_id);
    Ok(entries)
}

/// The ledger entries of the records at some places, those of one record by posting.
pub(super) fn entries_at_all(db: &mut Db, places: &[Place]) -> Result<Vec<LedgerRow>, MysqlError> {
    const WHAT: &str = "read the ledger";
    let mut entries = Vec::new();
    for places in places.chunks(PLACES_A_STATEMENT) {
        let places: Vec<String> = places
            .iter()
            .map(|(generation, partition, offset)| {
                format!(
                    "(t.generation = {generation} AND t.`partition` = {partition} \
                     AND t.`offset` = {offset})"
                )
            })
            .collect();
        let rows: Vec<Row> = db
            .conn
            .query(format!(
                "SELECT {ENTRY} FROM balance_transactions AS t FORCE INDEX (PRIMARY) {JOIN} \
                 WHERE {} ORDER BY t.generation, t.`partition`, t.`offset`, t.posting",
                places.join(" OR ")
            ))
            .map_err(failed(WHAT))?;
        for row in rows {
            entries.push(entry(Cells::of(row, WHAT))?);
        }
    }
    Ok(entries)
}

/// Looks transaction ids up in a MySQL store. Connects when it is asked, and again after a failure.
#[derive(Debug)]
pub struct TransactionLookup {
    held: Held,
    log: Log,
}

/// Whose offsets tell how far the log is applied.
#[derive(Debug)]
struct Log {
    group: String,
    topic: String,
}

/// A row of the outbox, as far as its outcome is concerned.
struct Sought {
    event_id: String,
    user: Vec<u8>,
    transaction_id: Vec<u8>,
    leg: Vec<u8>,
    issued_at_ms: i64,
    key_hash: u64,
    is_sent: bool,
    is_late: bool,
    place: Option<Place>,
}

impl TransactionLookup {
    /// Looks up in this store, whose offsets are of this group and topic.
    pub fn new(settings: MysqlSettings, group: String, topic: String) -> Self {
        Self {
            held: Held::new(settings),
            log: Log { group, topic },
        }
    }
}

impl Log {
    fn look(
        &self,
        db: &mut Db,
        user: &[u8],
        transaction_id: &[u8],
    ) -> Result<Option<TransactionState>, MysqlError> {
        let which = format!(
            "FORCE INDEX (name) WHERE partition_key = x'{}' AND transaction_id = x'{}' \
             AND leg = ''",
            hex(user),
            hex(transaction_id)
        );
        let Some(sought) = sought(db, &which)?.into_iter().next() else {
            return Ok(None);
        };
        let outcome = self.outcome(db, &sought)?;
        let mut legs = Vec::new();
        for entry in &outcome.entries {
            if entry.kind == "TRANSFER" && entry.error_code.is_none() {
                legs.extend(self.legs(db, entry)?);
            }
        }
        Ok(Some(TransactionState {
            event_id: sought.event_id,
            issued_at_ms: sought.issued_at_ms,
            outcome,
            legs,
        }))
    }

    /// The legs that came of a debit so far.
    fn legs(&self, db: &mut Db, debit: &LedgerRow) -> Result<Vec<LegState>, MysqlError> {
        let name = |kind| {
            let name = format!(
                "leg:{}/{}/{}/{}/{kind}",
                debit.generation, debit.partition, debit.offset, debit.posting
            );
            format!("'{name}'")
        };
        let which = format!(
            "FORCE INDEX (event_id) WHERE event_id IN ({}, {}) ORDER BY id",
            name("CREDIT"),
            name("REFUND")
        );
        let mut legs = Vec::new();
        for leg in sought(db, &which)? {
            legs.push(LegState {
                name: String::from_utf8_lossy(&leg.leg).into_owned(),
                outcome: self.outcome(db, &leg)?,
                event_id: leg.event_id,
            });
        }
        Ok(legs)
    }

    fn outcome(&self, db: &mut Db, row: &Sought) -> Result<Outcome, MysqlError> {
        if !row.is_sent {
            return Ok(Outcome::bare(Status::Pending));
        }
        if let Some(place) = row.place {
            let entries = entries_at(db, place, &row.transaction_id)?;
            if !entries.is_empty() {
                return Ok(Outcome::of(entries));
            }
            if !self.is_past(db, place, row.key_hash)? {
                return Ok(Outcome::bare(Status::Pending));
            }
        }
        // Another copy may have been first. From here on, nothing that is missing can still come
        // of this one: the offset was read before the ledger.
        let first = entry_place(db, row)?.or(row.place);
        let entries = match first {
            Some(first) => entries_at(db, first, &row.transaction_id)?,
            None => Vec::new(),
        };
        Ok(match entries.is_empty() {
            false => Outcome::of(entries),
            // What expired is issued anew; a leg has to end some day.
            true if row.is_late || !row.leg.is_empty() || row.place.is_none() => {
                Outcome::bare(Status::Pending)
            }
            true => Outcome::bare(Status::Refused),
        })
    }

    /// Whether a place is committed for this key. What an older log had and was not committed is
    /// sent again when the next one is adopted.
    fn is_past(
        &self,
        db: &mut Db,
        (generation, partition, offset): Place,
        key_hash: u64,
    ) -> Result<bool, MysqlError> {
        let committed: Option<(u32, u64)> = db
            .conn
            .exec_first(
                "SELECT generation, `offset` FROM consumer_offsets WHERE consumer_group = ? \
                 AND topic = ? AND `partition` = ? AND first_hash <= ? AND last_hash >= ?",
                (&self.group, &self.topic, partition, key_hash, key_hash),
            )
            .map_err(failed("read its offsets"))?;
        Ok(match committed {
            Some(committed) => committed > (generation, offset),
            None => super::sent::generation(db)? > generation,
        })
    }
}

/// Where a row's entry is. A credit may be entered under an account that nobody has, so the account
/// is the one that its command names; trimmed, the one that its user has.
fn entry_place(db: &mut Db, row: &Sought) -> Result<Option<Place>, MysqlError> {
    let payload: Option<Option<String>> = db
        .conn
        .exec_first(
            "SELECT payload FROM outbox_events WHERE event_id = ?",
            (&row.event_id,),
        )
        .map_err(failed("look for events"))?;
    let account = match payload.flatten().as_deref().and_then(account_in) {
        Some(account) => Some(account),
        None => db
            .conn
            .exec_first("SELECT id FROM accounts WHERE user_id = ?", (&row.user,))
            .map_err(failed("read accounts"))?,
    };
    let Some(account_id) = account else {
        return Ok(None);
    };
    let wanted = Wanted {
        account_id,
        user: &row.user,
        transaction_id: &row.transaction_id,
        leg: &row.leg,
        issued_at_ms: row.issued_at_ms,
    };
    let window = Window::read(db, NO_WINDOW_MS)?;
    find(db, &window, None, &wanted)
}

fn sought(db: &mut Db, which: &str) -> Result<Vec<Sought>, MysqlError> {
    type Cells = (
        String,
        Vec<u8>,
        Vec<u8>,
        Vec<u8>,
        i64,
        u64,
        bool,
        bool,
        (Option<u32>, Option<u32>, Option<u64>),
    );
    let failed = failed("look for events");
    let rows: Vec<Row> = db
        .conn
        .query(format!(
            "SELECT event_id, partition_key, transaction_id, leg, issued_at_ms, key_hash, \
             status = 'SENT', late, sent_generation, sent_partition, sent_offset \
             FROM outbox_events {which}"
        ))
        .map_err(failed)?;
    let read = |mut row: Row| -> Option<Cells> {
        Some((
            row.take(0)?,
            row.take(1)?,
            row.take(2)?,
            row.take(3)?,
            row.take(4)?,
            row.take(5)?,
            row.take(6)?,
            row.take(7)?,
            (row.take(8)?, row.take(9)?, row.take(10)?),
        ))
    };
    rows.into_iter()
        .map(|row| {
            let cells = read(row).ok_or_else(|| MysqlError::Corrupt {
                what: "a row of outbox_events cannot be read".into(),
            })?;
            let (generation, partition, offset) = cells.8;
            Ok(Sought {
                event_id: cells.0,
                user: cells.1,
                transaction_id: cells.2,
                leg: cells.3,
                issued_at_ms: cells.4,
                key_hash: cells.5,
                is_sent: cells.6,
                is_late: cells.7,
                place: generation
                    .zip(partition)
                    .zip(offset)
                    .map(|((g, p), o)| (g, p, o)),
            })
        })
        .collect()
}

impl Lookup for TransactionLookup {
    fn transaction(
        &mut self,
        user_id: &str,
        transaction_id: &str,
    ) -> Result<Option<TransactionState>, LookupError> {
        let (user, id) = (user_id.as_bytes(), transaction_id.as_bytes());
        Ok(self.held.read(|db| self.log.look(db, user, id))?)
    }
}
