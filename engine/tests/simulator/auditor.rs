//! Holds the durable state against the twin, at every end of a node.

use std::collections::BTreeMap;

use kilter_engine::{
    Amount, Code, CommandKind, Currency, Partition,
    ledger::{BalanceState, LedgerEntry},
    notes::{Note, NoteKind},
    record::Mark,
};

use super::{database::Database, topic::Topic};
use crate::support::{
    check, money,
    traffic::{Entry, Meaning, Shape},
    twin::{Judged, Twin},
};

/// The twin, and how far it has judged.
///
/// It judges what lies below the highest committed offset of each partition: there every claim is
/// made, and no note can come any more.
pub struct Auditor {
    twin: Twin,
    /// Indices of the entries of each partition, and how many were judged.
    queues: Vec<(Vec<usize>, usize)>,
    judged: Vec<(Entry, Judged)>,
    notes: Vec<Note>,
    shape: Shape,
}

impl Auditor {
    pub fn new(shape: &Shape, entries: &[Entry]) -> Self {
        let queue = |partition| {
            let mine = |index: &usize| entries[*index].partition == partition;
            ((0..entries.len()).filter(mine).collect(), 0)
        };
        Self {
            twin: Twin::new(shape.window_ms, shape.partitions),
            queues: (0..shape.partitions).map(queue).collect(),
            judged: Vec::new(),
            notes: Vec::new(),
            shape: shape.clone(),
        }
    }

    /// What the twin came to.
    pub fn twin(&self) -> &Twin {
        &self.twin
    }

    /// How many results there are of what it judged.
    pub fn results(&self) -> usize {
        let judged = self.judged.iter();
        judged.map(|(entry, judged)| judged.results(entry)).sum()
    }

    /// Asserts every invariant of what is durable now.
    pub fn audit(&mut self, database: &mut Database, topic: &Topic, entries: &[Entry]) {
        if self.notes != database.notes {
            // A note may be about what other hash ranges are past already: all of it again.
            self.notes.clone_from(&database.notes);
            self.twin = Twin::new(self.shape.window_ms, self.shape.partitions);
            self.judged.clear();
            self.queues.iter_mut().for_each(|(_, judged)| *judged = 0);
        }
        for (partition, (queue, judged)) in (0..).zip(&mut self.queues) {
            let rows = database.rows_of(Partition::new(partition));
            let end = rows.map(|row| row.offset.get()).max().unwrap_or(0);
            for &index in &queue[*judged..] {
                if entries[index].offset >= end {
                    break;
                }
                let entry = as_met(&entries[index], database);
                let verdict = self.twin.judge(&entry);
                self.judged.push((entries[index].clone(), verdict));
                *judged += 1;
            }
        }
        database.disk.results.clone_from(&topic.answers);
        check::disk_is_exact(&database.disk, &self.judged);
        check::sums_are_equal(&database.disk);
        money::is_constant(&database.disk, &self.judged);
        balances_follow_the_ledger(database);
        ids_are_used_once(database, self.shape.window_ms);
        for (account, user) in &database.disk.accounts {
            assert_eq!(database.claims.get(account), Some(user), "opened unclaimed");
        }
    }
}

/// The record as claims and notes make it.
fn as_met(entry: &Entry, database: &Database) -> Entry {
    let mut entry = entry.clone();
    if entry.mark != Mark::Oversize {
        entry.mark = match &entry.meaning {
            Meaning::Open(person) if database.claims.get(&person.account) == Some(&person.user) => {
                Mark::Claimed
            }
            Meaning::Open(_) => Mark::ClaimRefused,
            _ => Mark::None,
        };
    }
    let notes = database.notes.iter();
    for note in notes
        .filter(|note| (note.partition.get(), note.offset.get()) == (entry.partition, entry.offset))
    {
        match note.kind {
            NoteKind::Refuse => entry.mark = Mark::OperatorRefused,
            NoteKind::IgnoreTime => entry.timestamp_ms = i64::MIN,
        }
    }
    entry
}

/// Each balance's entries are a chain without a gap: what one leaves the next one finds.
fn balances_follow_the_ledger(database: &Database) {
    let mut states: BTreeMap<(u64, Currency), BalanceState> = BTreeMap::new();
    for entry in database.disk.ledger.values() {
        if matches!(
            entry.failure,
            Some(Code::AccountNotFound | Code::AccountMismatch)
        ) {
            // A credit without an account: it says nothing of the one that it names.
            assert_eq!(entry.kind, CommandKind::Credit, "{entry:?}");
            assert_eq!((entry.before, entry.after), Default::default());
            continue;
        }
        let place = (entry.account_id.get(), entry.currency);
        let state = states.entry(place).or_default();
        assert_eq!(*state, entry.before, "{entry:?}");
        let moved = entry.failure.is_none();
        assert_eq!(
            entry.after.version,
            entry.before.version + u64::from(moved),
            "{entry:?}"
        );
        assert!(moved || entry.after == entry.before, "{entry:?}");
        let fits = |amount: Amount| !amount.is_negative();
        assert!(fits(entry.after.available) && fits(entry.after.frozen));
        *state = entry.after;
    }
    for image in database.disk.balances.values() {
        let place = (image.account_id.get(), image.currency);
        let state = states.get(&place).copied().unwrap_or_default();
        assert_eq!(
            (image.available, image.frozen, image.version),
            (state.available, state.frozen, state.version),
            "{image:?} is not what its ledger adds up to"
        );
    }
}

/// No id is answered twice while it is remembered.
fn ids_are_used_once(database: &Database, window_ms: u64) {
    let granule_ms = window_ms.div_ceil(40) as i64;
    let mut used: BTreeMap<(u64, String), &LedgerEntry> = BTreeMap::new();
    for entry in database.disk.ledger.values() {
        let place = match database.disk.landed.get(&entry.position) {
            Some(landed) => (0, landed.name.to_string()),
            None => {
                let id = entry.transaction_id.as_str();
                (entry.account_id.get(), id.to_owned())
            }
        };
        if let Some(old) = used.insert(place, entry) {
            if old.position.offset == entry.position.offset {
                // Postings of one command.
                continue;
            }
            let age =
                entry.time_ms.div_euclid(granule_ms) - old.remembered_ms.div_euclid(granule_ms);
            assert!(age > 40, "one id, two effects: {old:?} {entry:?}");
        }
    }
}
