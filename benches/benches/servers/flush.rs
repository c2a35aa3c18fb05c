//! Epochs from memory to MySQL against a node's whole way from Kafka.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_benches::measure::Spread;
use kilter_engine::{
    AccountId, Amount, CommandKind, Currency, EpochNumber, Generation, Offset, Partition, Posting,
    Term,
    epoch::{BalanceImage, Cut, Epoch, EpochPart, LastRecord, OffsetRow, PartitionCut, RowStep},
    key_hash,
    ledger::{BalanceState, LedgerEntry, Position, TransactionId},
    range::shard_of,
    regroup::{writer_ranges, writer_shards},
    store::{Committed, Store},
};
use kilter_io::{
    kafka::KafkaSettings,
    mysql::{Db, Lease, MysqlWriter, StartAsked, WriterSettings, owner_name, start},
};

use crate::{
    child::Node,
    commands, in_turns, number, pairs,
    servers::{Database, Servers},
    thousands,
};

/// What the prototype committed, commands a second.
const PROTOTYPE: f64 = 1313.0;

/// As a node has by default.
const SHARDS: usize = 2;
const EPOCH: u64 = 32_768;

/// For how long a node that ends at its start is started again.
const RESTARTS: Duration = Duration::from_secs(30);

/// Longer than any round: nobody renews it.
const LEASE: Duration = Duration::from_secs(3600);

pub fn run(servers: &Servers) {
    let count = number("COMMANDS", 600_000);
    let rounds = number("ROUNDS", 3);
    for accounts in [10_000, 100_000] {
        let kafka = servers.topics(&format!("flush-{accounts}"), "flush-results");
        commands::fill(&kafka, count, accounts);
        // Two writers are worth it where the server has cores for them.
        let writers: &[usize] = if accounts == 10_000 { &[1, 2] } else { &[1] };
        for &writers in writers {
            compare(
                servers,
                &kafka,
                Size {
                    count,
                    accounts,
                    writers,
                },
                rounds,
            );
        }
    }
}

#[derive(Clone, Copy)]
struct Size {
    count: u64,
    accounts: u64,
    writers: usize,
}

fn compare(servers: &Servers, kafka: &KafkaSettings, size: Size, rounds: u64) {
    let mut bare_rates = Vec::new();
    let mut node_rates = Vec::new();
    let mut told = Vec::new();
    in_turns(
        rounds,
        [
            &mut || bare_rates.push(bare(&servers.database(), kafka, size)),
            &mut || {
                let (rate, epoch, cpu_us) = node(&servers.database(), kafka, size);
                // Each writer counts its own.
                let epoch = epoch * size.writers as f64;
                node_rates.push(rate);
                told.push(format!("{epoch:.0} at {cpu_us:.2} µs"));
            },
        ],
    );
    let Size {
        count,
        accounts,
        writers,
    } = size;
    let bare = Spread::of(bare_rates.iter().copied());
    let node = Spread::of(node_rates.iter().copied());
    println!("flush: {count} commands, {accounts} accounts, {writers} writer(s), each round:");
    println!("  bare rows/s      {}", thousands(&bare_rates));
    println!("  node commands/s  {}", thousands(&node_rates));
    println!(
        "  node's mean epoch and its CPU a command: {}",
        told.join(", ")
    );
    println!(
        "  medians: node {:.0}/s, bare {:.0}/s, ratio of medians {:.2}, pair by pair {} (goal 0.75); \
         {:.1} times the prototype (goal 60)",
        node.median,
        bare.median,
        node.median / bare.median,
        pairs(&node_rates, &bare_rates),
        node.median / PROTOTYPE
    );
}

/// Commands a second of a node from its first commit to its last, its mean epoch, and its CPU
/// time a command in µs.
pub fn node_rate(
    database: &Database<'_>,
    kafka: &KafkaSettings,
    count: u64,
    settings: &[(&str, &str)],
) -> (f64, f64, f64) {
    let mut conn = database.conn();
    let mut node = Node::start(database, kafka, settings);
    let begin = Instant::now();
    let mut first = None;
    loop {
        let committed = database.committed(&mut conn);
        if committed == 0 && node.has_ended() && begin.elapsed() < RESTARTS {
            // As a supervisor does; a fault of a start is no rate, but it is to be known.
            println!("  THE NODE ENDED AT ITS START: {}", node.last_words());
            node = Node::start(database, kafka, settings);
        }
        let now = Instant::now();
        let (at, from, cpu) = match first {
            None if committed > 0 => *first.insert((now, committed, node.cpu())),
            None => (now, 0, Duration::ZERO),
            Some(first) => first,
        };
        if committed == count {
            let done = (count - from) as f64;
            let cpu_us = (node.cpu() - cpu).as_secs_f64() * 1e6 / done;
            let epochs = node.figure("kilter_epochs_total");
            return (
                done / (now - at).as_secs_f64(),
                count as f64 / epochs,
                cpu_us,
            );
        }
        assert!(committed < count, "{committed} of {count} commands");
        node.check(begin);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn node(database: &Database<'_>, kafka: &KafkaSettings, size: Size) -> (f64, f64, f64) {
    database.open_accounts(size.accounts);
    let writers = size.writers.to_string();
    let told = node_rate(database, kafka, size.count, &[("ENGINE_WRITERS", &writers)]);
    check(database, size);
    told
}

/// Rows a second behind the first epoch of each writer.
fn bare(database: &Database<'_>, kafka: &KafkaSettings, size: Size) -> f64 {
    database.open_accounts(size.accounts);
    let lease = Lease::new(owner_name(), LEASE);
    let mut db = Db::open(&database.settings).unwrap();
    let taken = lease.take(&mut db, 1, 1).unwrap();
    let ranges = writer_ranges(SHARDS, size.writers);
    let asked = StartAsked {
        group: &kafka.group,
        topic: &kafka.commands,
        generation: Generation::new(1),
        ranges: &ranges,
        window_ms: 86_400_000,
    };
    let started = start(&mut db, &lease, &taken, asked).unwrap();
    let work = Work::new(size);
    let writers: Vec<MysqlWriter> = (0..size.writers)
        .map(|index| {
            let settings = WriterSettings {
                mysql: database.settings.clone(),
                group: kafka.group.clone(),
                topic: kafka.commands.clone(),
                owner: lease.owner().to_owned(),
                lease_ttl: LEASE,
                index,
                ledger: true,
            };
            MysqlWriter::open(settings, Arc::new(())).unwrap()
        })
        .collect();
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .zip(&work.parts)
            .zip(&started.rows)
            .map(|((writer, parts), rows)| {
                let (cuts, term) = (&work.cuts, taken.term);
                scope.spawn(move || commit(writer, cuts, parts, rows[0], term))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    check(database, size);
    let first = spans.iter().map(|(first, _)| *first).min().unwrap();
    let last = spans.iter().map(|(_, last)| *last).max().unwrap();
    (size.count - EPOCH) as f64 / (last - first).as_secs_f64()
}

type Parts = Vec<Box<EpochPart>>;

/// Commits all epochs; when the first was committed, and the last.
fn commit(
    mut writer: MysqlWriter,
    cuts: &[Cut],
    parts: &[Parts],
    first: OffsetRow,
    term: Term,
) -> (Instant, Instant) {
    assert!(writer.loads_data());
    let mut row = first;
    let mut times = Vec::new();
    for (cut, parts) in cuts.iter().zip(parts) {
        let after = row.advanced_to(cut, term);
        let committed = writer
            .commit(&Epoch {
                cut,
                term,
                rows: &[RowStep { before: row, after }],
                parts,
            })
            .unwrap();
        assert_eq!(committed, Committed::Now);
        row = after;
        times.push(Instant::now());
    }
    (times[0], times[times.len() - 1])
}

fn check(database: &Database<'_>, size: Size) {
    let (balances, versions, adds_up) = database.sums(&commands::sum(size.count));
    assert!(adds_up, "the balances are not what was deposited");
    assert_eq!(versions, size.count);
    assert!(balances <= size.accounts);
}

/// The epochs that a node makes of the topic, made beforehand: of each writer, its shards' parts.
struct Work {
    cuts: Vec<Cut>,
    parts: Vec<Vec<Parts>>,
}

impl Work {
    fn new(size: Size) -> Self {
        let groups = writer_shards(SHARDS, size.writers);
        let accounts = size.accounts as usize;
        let hashes: Vec<u64> = (0..=accounts)
            .map(|id| key_hash(format!("u-{id}").as_bytes()))
            .collect();
        let mut balances = vec![BalanceState::default(); accounts + 1];
        let mut touched = vec![u64::MAX; accounts + 1];
        let mut cuts = Vec::new();
        let mut parts: Vec<Vec<Parts>> = groups.iter().map(|_| Vec::new()).collect();
        let time_ms = 1_790_000_000_000;
        for epoch in 0..size.count.div_ceil(EPOCH) {
            let end = size.count.min((epoch + 1) * EPOCH);
            let mut shards: Parts = (0..SHARDS).map(|_| Box::default()).collect();
            for number in epoch * EPOCH..end {
                let id = commands::account(number, size.accounts);
                let part = &mut shards[shard_of(hashes[id as usize], SHARDS as u32) as usize];
                let entry = entry(number, id, balances[id as usize], time_ms);
                balances[id as usize] = entry.after;
                part.new_balances += u64::from(entry.before.version == 0);
                part.ledger.push(entry);
                if std::mem::replace(&mut touched[id as usize], epoch) != epoch {
                    part.balances.push(image(entry, BalanceState::default()));
                    part.changed_by.push(entry.position);
                }
            }
            for part in &mut shards {
                for image in &mut part.balances {
                    let state = balances[image.account_id.get() as usize];
                    image.available = state.available;
                    image.version = state.version;
                }
            }
            let id = commands::account(end - 1, size.accounts);
            cuts.push(Cut {
                epoch: EpochNumber::new(epoch + 1),
                partitions: vec![PartitionCut {
                    partition: Partition::new(0),
                    generation: Generation::new(1),
                    offset: Offset::new(end),
                    clock_ms: time_ms,
                    last: LastRecord {
                        key_hash: hashes[id as usize],
                        timestamp_ms: time_ms,
                    },
                }],
                last: false,
            });
            for (writer, group) in groups.iter().enumerate() {
                parts[writer].push(shards.drain(..group.len()).collect());
            }
        }
        Self { cuts, parts }
    }
}

fn entry(number: u64, id: u64, before: BalanceState, time_ms: i64) -> LedgerEntry {
    let units = i128::from(commands::whole(number)) * 10_i128.pow(18) + 25 * 10_i128.pow(16);
    let amount = Amount::from_units(units).unwrap();
    LedgerEntry {
        position: Position {
            generation: Generation::new(1),
            partition: Partition::new(0),
            offset: Offset::new(number),
            posting: Posting::default(),
        },
        account_id: AccountId::new(id).unwrap(),
        currency: Currency::parse(b"USDT").unwrap(),
        kind: CommandKind::Deposit,
        failure: None,
        amount,
        transaction_id: TransactionId::new(&commands::id("c", number)).unwrap(),
        before,
        after: BalanceState {
            available: before.available.checked_add(amount).unwrap(),
            version: before.version + 1,
            ..before
        },
        time_ms,
        remembered_ms: time_ms,
    }
}

fn image(entry: LedgerEntry, state: BalanceState) -> BalanceImage {
    BalanceImage {
        account_id: entry.account_id,
        currency: entry.currency,
        available: state.available,
        frozen: state.frozen,
        version: state.version,
        partition: entry.position.partition,
    }
}
