//! A node without threads: log, shards and store tied together step by step.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
#![allow(dead_code, reason = "each test file uses a part")]

use kilter_engine::decode::decode;
use kilter_engine::epoch::{Cut, Epoch, EpochPart, LastRecord, PartitionCut, RowStep};
use kilter_engine::hash::key_hash;
use kilter_engine::loader::Loader;
use kilter_engine::log::{Log, Taken};
use kilter_engine::partitioner::Partitioner;
use kilter_engine::regroup::writer_ranges;
use kilter_engine::result::ResultRecord;
use kilter_engine::shard::{Item, Shard, ShardSettings};
use kilter_engine::store::Store;
use kilter_engine::{HashRange, Offset};
use kilter_io::embedded::{
    CommandLog, DataDir, EmbeddedStore, GENERATION, LogReader, NewRecord, PARTITION, StoreWriter,
    load,
};

pub const NOW_MS: i64 = 1_700_000_000_000;

pub fn open(user: &str, account: u64) -> Vec<u8> {
    format!(r#"{{"transactionId":"open-{user}-{account}","userId":"{user}","accountId":{account},"type":"OPEN"}}"#)
        .into_bytes()
}

pub fn command(id: &str, user: &str, account: u64, kind: &str, amount: &str) -> Vec<u8> {
    format!(
        r#"{{"transactionId":"{id}","userId":"{user}","accountId":{account},"currencyCode":"USDT","type":"{kind}","amount":"{amount}"}}"#
    )
    .into_bytes()
}

/// A bit of everything: accounts, all kinds, every ending.
pub fn mixture(count: u64) -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = (1..=20).map(|id| open(&format!("u-{id}"), id)).collect();
    values.push(open("u-1", 1));
    values.push(open("u-1", 2));
    values.push(open("thief", 3));
    for n in 0..count {
        let account = 1 + n * 7 % 20;
        let user = format!("u-{account}");
        let kind = [
            "DEPOSIT", "WITHDRAW", "FREEZE", "UNFREEZE", "SETTLE", "DEPOSIT",
        ];
        let kind = kind[(n % 6) as usize];
        let id = format!("t-{}", if n % 11 == 10 && n > 20 { n - 20 } else { n });
        let amount = format!("{}.{:03}", n * 13 % 50, 1 + n % 900);
        values.push(match n % 29 {
            17 => b"not json".to_vec(),
            18 => command(&id, &user, account + 1, kind, &amount),
            19 => command(&id, "nobody", account, kind, &amount),
            20 => command(&id, &user, account, kind, "-1"),
            21 => Vec::new(),
            22 => b"\xff\xfe".to_vec(),
            23 => command(
                &format!("max-{n}"),
                &user,
                account,
                "DEPOSIT",
                "999999999999999999",
            ),
            _ => command(&id, &user, account, kind, &amount),
        });
    }
    values
}

pub fn append(dir: &DataDir, values: &[Vec<u8>], now_ms: i64) {
    let mut log = CommandLog::open(dir, 86_400_000).unwrap();
    for (n, batch) in values.chunks(50).enumerate() {
        let batch: Vec<NewRecord<'_>> = batch.iter().map(|value| NewRecord::new(value)).collect();
        log.append(&batch, now_ms + n as i64 * 100).unwrap();
    }
}

/// Reads and applies what the log has, on shards with a writer each, and commits epoch by epoch.
pub fn apply(dir: &DataDir, shards: usize, records: usize) {
    let ranges: Vec<HashRange> = writer_ranges(shards, shards);
    let store = EmbeddedStore::open(dir).unwrap();
    let started = store.start(dir, &ranges).unwrap();
    let from = &started.rows[0][0];
    let settings = ShardSettings {
        range: ranges[0],
        term: started.term,
        partitions: vec![(PARTITION, GENERATION)],
        partition_count: 1,
        partitioner: Partitioner::Murmur2,
        window_ms: started.settings.window_ms,
        window_bytes: 64 << 20,
        dead_letters: kilter_engine::shard::DeadLetters::WithEpoch,
        entries: kilter_engine::shard::Entries::WithEpoch,
    };
    let mut loader = Loader::new(shards, &settings);
    load(
        &store,
        &mut loader,
        from.clock_ms,
        settings.window_ms,
        &mut |_| {},
    )
    .unwrap();
    let mut shards = loader.finish();
    let mut writers: Vec<StoreWriter> = ranges
        .iter()
        .map(|_| StoreWriter::open(dir).unwrap())
        .collect();
    let mut rows = started.rows.clone();
    let mut log = LogReader::open(dir, from.offset).unwrap();
    let mut clock_ms = from.clock_ms;
    let mut epoch = started.last_epoch;
    loop {
        let mut parts: Vec<[Box<EpochPart>; 1]> = shards.iter().map(|_| [Box::default()]).collect();
        let mut end: Option<(Offset, LastRecord)> = None;
        log.poll(records, &mut |record| {
            clock_ms = record.timestamp_ms.max(clock_ms);
            let key_hash = key_hash(record.key);
            let last = LastRecord {
                key_hash,
                timestamp_ms: record.timestamp_ms,
            };
            end = Some((record.offset.next(), last));
            let owner = shards
                .iter()
                .position(|shard| shard.range().contains(key_hash));
            let owner = owner.unwrap();
            let item = Item {
                generation: record.generation,
                partition: record.partition,
                offset: record.offset,
                clock_ms,
                issued_at_ms: record.issued_at_ms,
                key_hash,
                mark: record.mark,
                key: record.key,
                value: record.value,
                headers: &[],
                decoded: decode(record.value),
            };
            let mut results: Vec<ResultRecord> = Vec::new();
            shards[owner]
                .apply(&[item], &mut parts[owner][0], &mut results)
                .unwrap();
            Taken::Yes
        })
        .unwrap();
        let Some((offset, last)) = end else { return };
        epoch = epoch.next();
        let cut = Cut {
            epoch,
            partitions: vec![PartitionCut {
                partition: PARTITION,
                generation: GENERATION,
                offset,
                clock_ms,
                last,
            }],
            last: false,
        };
        shards.iter_mut().for_each(Shard::end_epoch);
        for ((writer, rows), parts) in writers.iter_mut().zip(&mut rows).zip(&parts) {
            let steps: Vec<RowStep> = rows
                .iter()
                .map(|row| RowStep {
                    before: *row,
                    after: row.advanced_to(&cut, started.term),
                })
                .collect();
            let epoch = Epoch {
                cut: &cut,
                term: started.term,
                rows: &steps,
                parts,
            };
            writer.commit(&epoch).unwrap();
            *rows = steps.iter().map(|step| step.after).collect();
        }
    }
}
