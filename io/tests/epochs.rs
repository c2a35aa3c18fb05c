//! The store's side of an epoch: once, under the right term, from the right offsets.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use kilter_engine::{
    AccountId, Amount, Code, CommandKind, Currency, EpochNumber, HashRange, Offset, Partition,
    Position, Term,
    epoch::{BalanceImage, Cut, DeadLetter, Epoch, EpochPart, LastRecord, PartitionCut, RowStep},
    hash::key_hash,
    ledger::{BalanceState, LedgerEntry, TransactionId},
    notes::{Note, NoteKind},
    record::NOT_ISSUED,
    store::{Committed, Store},
};
use kilter_io::embedded::{
    CommandLog, DataDir, EmbeddedError, EmbeddedStore, GENERATION, NewRecord, PARTITION, Started,
    StoreReader, StoreWriter,
};

struct Place {
    _temporary: tempfile::TempDir,
    dir: DataDir,
}

fn place(records: usize) -> Place {
    let temporary = tempfile::tempdir().unwrap();
    let dir = DataDir::open_exclusive(temporary.path()).unwrap();
    let mut log = CommandLog::open(&dir, 86_400_000).unwrap();
    let batch = vec![NewRecord::new(b"{}"); records];
    log.append(&batch, 1000).unwrap();
    Place {
        _temporary: temporary,
        dir,
    }
}

fn start(place: &Place) -> Started {
    EmbeddedStore::open(&place.dir)
        .unwrap()
        .start(&place.dir, &[HashRange::ALL])
        .unwrap()
}

fn cut(epoch: u64, offset: u64) -> Cut {
    Cut {
        epoch: EpochNumber::new(epoch),
        partitions: vec![PartitionCut {
            partition: PARTITION,
            generation: GENERATION,
            offset: Offset::new(offset),
            clock_ms: 1000,
            last: LastRecord {
                key_hash: key_hash(b""),
                timestamp_ms: 1000,
            },
        }],
        last: false,
    }
}

/// One deposit of `units` at `offset`, which makes the balance's version `version`.
fn deposit(offset: u64, version: u64) -> EpochPart {
    let account_id = AccountId::new(7).unwrap();
    let currency = Currency::parse(b"USDT").unwrap();
    let amount: Amount = "0.000000000000000001".parse().unwrap();
    let state = |version: u64| BalanceState {
        available: Amount::from_units(i128::from(version)).unwrap(),
        frozen: Amount::ZERO,
        version,
    };
    let after = state(version);
    EpochPart {
        balances: vec![BalanceImage {
            account_id,
            currency,
            available: after.available,
            frozen: after.frozen,
            version,
            partition: PARTITION,
        }],
        ledger: vec![LedgerEntry {
            position: Position {
                generation: GENERATION,
                partition: PARTITION,
                offset: Offset::new(offset),
                ..Position::default()
            },
            account_id,
            currency,
            kind: CommandKind::Deposit,
            failure: None,
            amount,
            transaction_id: TransactionId::new(&format!("t-{offset}")).unwrap(),
            before: state(version - 1),
            after,
            time_ms: 1000,
            remembered_ms: 1000,
        }],
        ..EpochPart::default()
    }
}

fn commit(
    writer: &mut StoreWriter,
    started: &Started,
    cut: &Cut,
    part: EpochPart,
) -> Result<Committed, EmbeddedError> {
    let steps: Vec<RowStep> = started.rows[0]
        .iter()
        .map(|row| RowStep {
            before: *row,
            after: row.advanced_to(cut, started.term),
        })
        .collect();
    writer.commit(&Epoch {
        cut,
        term: started.term,
        rows: &steps,
        parts: &[Box::new(part)],
    })
}

/// Everything in the store that an epoch can change, as text.
fn dump(place: &Place) -> String {
    let reader = StoreReader::open(&place.dir).unwrap();
    let mut dump = format!("{:?}\n", reader.offsets().unwrap());
    reader
        .balances(|row| {
            dump.push_str(&format!("{row:?}\n"));
            Ok::<(), EmbeddedError>(())
        })
        .unwrap();
    reader
        .ledger(None, |row| {
            dump.push_str(&format!("{row:?}\n"));
            Ok::<(), EmbeddedError>(())
        })
        .unwrap();
    reader
        .dead_letters(|row| {
            dump.push_str(&format!("{row:?}\n"));
            Ok::<(), EmbeddedError>(())
        })
        .unwrap();
    dump
}

#[test]
fn an_epoch_whose_answer_got_lost_is_told_as_committed_before() {
    let place = place(3);
    let started = start(&place);
    let mut writer = StoreWriter::open(&place.dir).unwrap();
    let first = cut(1, 3);
    assert_eq!(
        commit(&mut writer, &started, &first, deposit(0, 1)).unwrap(),
        Committed::Now
    );
    let once = dump(&place);
    assert_eq!(
        commit(&mut writer, &started, &first, deposit(0, 1)).unwrap(),
        Committed::Before
    );
    assert_eq!(dump(&place), once);
}

#[test]
fn an_old_term_commits_nothing() {
    let place = place(3);
    let old = start(&place);
    let mut writer = StoreWriter::open(&place.dir).unwrap();
    let new = start(&place);
    assert_eq!(new.term, Term::new(old.term.get() + 1));
    let before = dump(&place);
    let error = commit(&mut writer, &old, &cut(1, 3), deposit(0, 1)).unwrap_err();
    assert!(matches!(error, EmbeddedError::Fenced { .. }), "{error}");
    assert_eq!(dump(&place), before);
    commit(&mut writer, &new, &cut(1, 3), deposit(0, 1)).unwrap();
}

#[test]
fn other_offsets_than_the_last_epochs_commit_nothing() {
    let place = place(6);
    let mut started = start(&place);
    let mut writer = StoreWriter::open(&place.dir).unwrap();
    commit(&mut writer, &started, &cut(1, 3), deposit(0, 1)).unwrap();
    started.rows[0][0].offset = Offset::new(1);
    let before = dump(&place);
    let error = commit(&mut writer, &started, &cut(2, 6), deposit(4, 2)).unwrap_err();
    assert!(matches!(error, EmbeddedError::Offsets { .. }), "{error}");
    assert_eq!(dump(&place), before);
}

#[test]
fn what_the_store_has_already_rolls_the_whole_epoch_back() {
    let place = place(9);
    let mut started = start(&place);
    let mut writer = StoreWriter::open(&place.dir).unwrap();
    commit(&mut writer, &started, &cut(1, 3), deposit(0, 1)).unwrap();
    started.rows = vec![StoreReader::open(&place.dir).unwrap().offsets().unwrap()];
    let before = dump(&place);
    // The same ledger position, and the same version of a balance.
    for part in [deposit(0, 2), deposit(4, 1)] {
        let mut part = part;
        part.dead_letters.push(DeadLetter {
            generation: GENERATION,
            partition: PARTITION,
            offset: Offset::new(5),
            code: Code::Malformed,
            message: "x".into(),
            failed_at_ms: 1000,
            issued_at_ms: NOT_ISSUED,
            key: Box::default(),
            value: b"{}".as_slice().into(),
            headers: Box::default(),
        });
        assert!(commit(&mut writer, &started, &cut(2, 9), part).is_err());
        assert_eq!(dump(&place), before);
    }
    commit(&mut writer, &started, &cut(2, 9), deposit(4, 2)).unwrap();
}

#[test]
fn rows_are_split_at_new_borders_and_joined_again() {
    let place = place(4);
    let store = EmbeddedStore::open(&place.dir).unwrap();
    let halves = [HashRange::of_shard(0, 2), HashRange::of_shard(1, 2)];
    let mut started = store.start(&place.dir, &halves).unwrap();
    // Only the second writer commits before the crash.
    started.rows.swap(0, 1);
    let mut writer = StoreWriter::open(&place.dir).unwrap();
    commit(&mut writer, &started, &cut(1, 4), deposit(0, 1)).unwrap();
    let thirds: Vec<HashRange> = (0..3).map(|n| HashRange::of_shard(n, 3)).collect();
    let started = store.start(&place.dir, &thirds).unwrap();
    let offsets: Vec<Vec<u64>> = started
        .rows
        .iter()
        .map(|rows| rows.iter().map(|row| row.offset.get()).collect())
        .collect();
    assert_eq!(offsets, [vec![0], vec![0, 4], vec![4]]);
    assert_eq!(started.last_epoch, EpochNumber::new(1));
}

#[test]
fn notes_are_about_records_ahead_only() {
    let place = place(4);
    let started = start(&place);
    let mut writer = StoreWriter::open(&place.dir).unwrap();
    commit(&mut writer, &started, &cut(1, 2), deposit(0, 1)).unwrap();
    let store = EmbeddedStore::open(&place.dir).unwrap();
    let note = |offset: u64| Note {
        generation: GENERATION,
        partition: Partition::new(0),
        offset: Offset::new(offset),
        kind: NoteKind::Refuse,
    };
    let error = store
        .add_note(&place.dir, &note(1), "too late")
        .unwrap_err();
    assert!(matches!(error, EmbeddedError::NoteBehind { .. }), "{error}");
    let error = store
        .add_note(&place.dir, &note(4), "too early")
        .unwrap_err();
    assert!(matches!(error, EmbeddedError::NoteBeyond { .. }), "{error}");
    store.add_note(&place.dir, &note(2), "in time").unwrap();
    assert_eq!(start(&place).notes, [note(2)]);
}
