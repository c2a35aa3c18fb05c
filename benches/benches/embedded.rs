//! The embedded log and store: rows a second, each alone and both at once.
//!
//! ```text
//! append:  200-byte commands ──► log.db     8192 a transaction
//! read:    log.db ──► a sum of offsets and lengths
//! commit:  8192 ledger entries + the balances they touch ──► store.db     an epoch a transaction
//! both:    append ∥ commit, a thread each
//! audit:   log and store held against each other, which also checks all of the above
//! ```
//!
//! `cargo bench -p kilter-benches --bench embedded -- [thousand rows] [directory]`. Closed loop:
//! rates, no latencies. fsync is the disk's own: the directory decides what it costs.
#![allow(clippy::float_arithmetic, reason = "rates and times; no money here")]
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may stop anywhere"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use kilter_benches::host;
use kilter_engine::epoch::{
    BalanceImage, Cut, Epoch, EpochPart, LastRecord, OffsetRow, OpenedAccount, PartitionCut,
    RowStep,
};
use kilter_engine::hash::key_hash;
use kilter_engine::ledger::{BalanceState, LedgerEntry, Position, TransactionId};
use kilter_engine::log::{Log, Taken};
use kilter_engine::store::{Committed, Store};
use kilter_engine::{AccountId, Amount, CommandKind, Currency, HashRange, Offset, Posting};
use kilter_io::embedded::{
    CommandLog, DataDir, EmbeddedStore, GENERATION, LogReader, NewRecord, PARTITION, StoreWriter,
    audit::audit,
};

const BATCH: u64 = 8192;
const ACCOUNTS: u64 = 10_000;
const START_MS: i64 = 1_700_000_000_000;

fn main() {
    let numbers: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let thousands: u64 = numbers.first().map_or(500, |arg| arg.parse().unwrap());
    let parent = numbers.get(1).map_or_else(std::env::temp_dir, Into::into);
    let epochs = (thousands * 1000).div_ceil(BATCH);
    println!("{}", host::line());
    println!(
        "{epochs} batches of {BATCH}, {ACCOUNTS} accounts, in {}",
        parent.display()
    );

    let values: Vec<Vec<u8>> = (0..epochs * BATCH).map(value).collect();
    let dir = tempfile::tempdir_in(&parent).unwrap();
    open_accounts(dir.path());
    rate("append alone", epochs, || append(dir.path(), &values));
    rate("read alone", epochs, || read(dir.path(), epochs));
    let mut work = Work::new(epochs);
    rate("commit alone", epochs, || commit(dir.path(), &mut work));
    rate("audit alone", epochs, || check(dir.path(), epochs));

    let dir = tempfile::tempdir_in(&parent).unwrap();
    open_accounts(dir.path());
    let opened = DataDir::open_exclusive(dir.path()).unwrap();
    let mut work = Work::new(epochs);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rate("append beside commit", epochs, || {
                append_to(&opened, &values)
            })
        });
        scope.spawn(|| {
            rate("commit beside append", epochs, || {
                commit_to(&opened, &mut work)
            })
        });
    });
    drop(opened);
    rate("audit alone", epochs, || check(dir.path(), epochs));
}

fn rate(what: &str, batches: u64, run: impl FnOnce() -> Vec<Duration>) {
    let started = Instant::now();
    let mut batches_took = run();
    let took = started.elapsed().as_secs_f64();
    let rows = (batches * BATCH) as f64;
    batches_took.sort();
    let at = |share: usize| match batches_took.len() {
        0 => 0.0,
        n => batches_took[(n - 1) * share / 100].as_secs_f64() * 1e3,
    };
    println!(
        "{what:<22} {:>8.0} rows/s  {:.2} µs a row  batches: p50 {:.1} ms, p99 {:.1}, max {:.1}",
        rows / took,
        took / rows * 1e6,
        at(50),
        at(99),
        at(100)
    );
}

fn value(offset: u64) -> Vec<u8> {
    let account = account(offset);
    let mut value = format!(
        r#"{{"transactionId":"7f3c9a52-{offset:012}","accountId":{account},"userId":"user-{account}","currencyCode":"USDT","type":"DEPOSIT","amount":"{}.25","description":"bench""#,
        offset % 1000
    );
    while value.len() < 198 {
        value.push(' ');
    }
    value.push('}');
    value.into_bytes()
}

/// Which account a record is of: uniform, by a multiplicative hash.
fn account(offset: u64) -> u64 {
    1 + (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % ACCOUNTS
}

/// The accounts, opened and applied: the first records of the log, all of one time.
fn open_accounts(dir: &Path) {
    let dir = DataDir::open_exclusive(dir).unwrap();
    let open = |id| {
        format!(
            r#"{{"transactionId":"open-{id}","userId":"user-{id}","accountId":{id},"type":"OPEN"}}"#
        )
    };
    let values: Vec<String> = (1..=ACCOUNTS).map(open).collect();
    let batch: Vec<NewRecord<'_>> = values
        .iter()
        .map(|value| NewRecord::new(value.as_bytes()))
        .collect();
    CommandLog::open(&dir, 86_400_000)
        .unwrap()
        .append(&batch, START_MS)
        .unwrap();
    let opened = (1..=ACCOUNTS)
        .map(|id| OpenedAccount {
            account_id: AccountId::new(id).unwrap(),
            user_id: format!("user-{id}").into(),
            time_ms: START_MS,
        })
        .collect();
    let part = EpochPart {
        opened,
        ..EpochPart::default()
    };
    commit_to(
        &dir,
        &mut Work {
            parts: vec![[Box::new(part)]],
        },
    );
}

fn append(dir: &Path, values: &[Vec<u8>]) -> Vec<Duration> {
    append_to(&DataDir::open_exclusive(dir).unwrap(), values)
}

fn append_to(dir: &DataDir, values: &[Vec<u8>]) -> Vec<Duration> {
    let mut log = CommandLog::open(dir, 86_400_000).unwrap();
    values
        .chunks(BATCH as usize)
        .zip(START_MS..)
        .map(|(values, now_ms)| {
            let started = Instant::now();
            let batch: Vec<NewRecord<'_>> =
                values.iter().map(|value| NewRecord::new(value)).collect();
            log.append(&batch, now_ms).unwrap();
            started.elapsed()
        })
        .collect()
}

fn read(dir: &Path, batches: u64) -> Vec<Duration> {
    let dir = DataDir::open_for_reading(dir).unwrap();
    let mut log = LogReader::open(&dir, Offset::new(ACCOUNTS)).unwrap();
    let (mut offsets, mut bytes, mut took) = (0, 0, Vec::new());
    loop {
        let started = Instant::now();
        let taken = log
            .poll(BATCH as usize, &mut |record| {
                offsets += record.offset.get() - ACCOUNTS;
                bytes += record.value.len() as u64;
                Taken::Yes
            })
            .unwrap();
        if taken == 0 {
            break;
        }
        took.push(started.elapsed());
    }
    let rows = batches * BATCH;
    assert_eq!((offsets, bytes), (rows * (rows - 1) / 2, rows * 199));
    took
}

/// Epochs made beforehand.
struct Work {
    parts: Vec<[Box<EpochPart>; 1]>,
}

impl Work {
    fn new(epochs: u64) -> Self {
        let currency: Currency = "USDT".parse().unwrap();
        let mut balances = vec![BalanceState::default(); ACCOUNTS as usize + 1];
        let mut touched = vec![u64::MAX; ACCOUNTS as usize + 1];
        let parts = (0..epochs)
            .map(|epoch| {
                let mut part = EpochPart::with_capacity(BATCH as usize);
                for offset in epoch * BATCH..(epoch + 1) * BATCH {
                    let id = account(offset);
                    let amount = Amount::from_units(
                        i128::from(offset % 1000) * 10_i128.pow(18) + 25 * 10_i128.pow(16),
                    )
                    .unwrap();
                    let before = balances[id as usize];
                    let after = BalanceState {
                        available: before.available.checked_add(amount).unwrap(),
                        version: before.version + 1,
                        ..before
                    };
                    balances[id as usize] = after;
                    let time_ms = START_MS + epoch as i64;
                    part.ledger.push(LedgerEntry {
                        position: Position {
                            generation: GENERATION,
                            partition: PARTITION,
                            offset: Offset::new(ACCOUNTS + offset),
                            posting: Posting::default(),
                        },
                        account_id: AccountId::new(id).unwrap(),
                        currency,
                        kind: CommandKind::Deposit,
                        failure: None,
                        amount,
                        transaction_id: TransactionId::new(&format!("7f3c9a52-{offset:012}"))
                            .unwrap(),
                        before,
                        after,
                        time_ms,
                        remembered_ms: time_ms,
                    });
                    if touched[id as usize] != epoch {
                        touched[id as usize] = epoch;
                        part.balances.push(BalanceImage {
                            account_id: AccountId::new(id).unwrap(),
                            currency,
                            available: Amount::ZERO,
                            frozen: Amount::ZERO,
                            version: 0,
                            partition: PARTITION,
                        });
                    }
                }
                for image in &mut part.balances {
                    let state = balances[image.account_id.get() as usize];
                    image.available = state.available;
                    image.version = state.version;
                }
                [Box::new(part)]
            })
            .collect();
        Self { parts }
    }
}

fn commit(dir: &Path, work: &mut Work) -> Vec<Duration> {
    commit_to(&DataDir::open_exclusive(dir).unwrap(), work)
}

fn commit_to(dir: &DataDir, work: &mut Work) -> Vec<Duration> {
    let store = EmbeddedStore::open(dir).unwrap();
    let started = store.start(dir, &[HashRange::ALL]).unwrap();
    let mut writer: StoreWriter = StoreWriter::open(dir).unwrap();
    let mut row: OffsetRow = started.rows[0][0];
    let mut number = started.last_epoch.next();
    let mut took = Vec::with_capacity(work.parts.len());
    for parts in &work.parts {
        let (offset, clock_ms, id) = match parts[0].ledger.last() {
            Some(last) => (
                last.position.offset.next(),
                last.time_ms,
                last.account_id.get(),
            ),
            None => (Offset::new(ACCOUNTS), START_MS, ACCOUNTS),
        };
        let cut = Cut {
            epoch: number,
            partitions: vec![PartitionCut {
                partition: PARTITION,
                generation: GENERATION,
                offset,
                clock_ms,
                last: LastRecord {
                    key_hash: key_hash(format!("user-{id}").as_bytes()),
                    timestamp_ms: clock_ms,
                },
            }],
            last: false,
        };
        let after = row.advanced_to(&cut, started.term);
        let begun = Instant::now();
        let committed = writer
            .commit(&Epoch {
                cut: &cut,
                term: started.term,
                rows: &[RowStep { before: row, after }],
                parts,
            })
            .unwrap();
        took.push(begun.elapsed());
        assert_eq!(committed, Committed::Now);
        row = after;
        number = number.next();
    }
    took
}

/// What the store holds is what the log says: by the audit, which shares no rules with this bench.
fn check(dir: &Path, epochs: u64) -> Vec<Duration> {
    let dir = DataDir::open_for_reading(dir).unwrap();
    let report = audit(&dir, &mut |_| {}).unwrap();
    assert_eq!(report.differences, 0, "{report:#?}");
    assert_eq!(report.entries, epochs * BATCH);
    assert_eq!((report.accounts, report.balances), (ACCOUNTS, ACCOUNTS));
    Vec::new()
}
