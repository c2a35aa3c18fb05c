//! What the disk and the stores do by themselves: one fsync, and the rows that a front door made,
//! made once more by a loop that does nothing else.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use kilter_benches::measure;
use kilter_io::embedded::{CommandLog, DataDir};
use mysql::{Conn, Row, Value, prelude::Queryable};
use rusqlite::{Connection, params};

use crate::servers::Database;

const WINDOW_MS: u64 = 86_400_000;

/// How long it takes to make 4 KiB durable in a directory, many times.
pub fn fsync(dir: &Path) -> Histogram<u64> {
    let mut file = File::create(dir.join("fsync")).unwrap();
    file.write_all(&[0; 4096]).unwrap();
    file.sync_all().unwrap();
    let mut times = measure::latencies();
    for turn in 0..500_u64 {
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&[turn as u8; 4096]).unwrap();
        let begin = Instant::now();
        file.sync_data().unwrap();
        times.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    times
}

/// What a directory's log has of commands: a record and its key.
pub struct LogRow {
    offset: i64,
    timestamp_ms: i64,
    issued_at_ms: i64,
    key: Vec<u8>,
    value: Vec<u8>,
    transaction_id: Vec<u8>,
    leg: String,
    event_id: String,
    hash: Vec<u8>,
}

/// The rows of the commands whose ids begin so.
pub fn log_rows(dir: &Path, prefix: &str) -> Vec<LogRow> {
    let log = Connection::open(dir.join("log.db")).unwrap();
    let mut select = log
        .prepare(
            "SELECT r.offset, r.timestamp_ms, r.issued_at_ms, r.key, r.value, e.transaction_id, \
             e.leg, e.event_id, e.request_hash \
             FROM outbox_events AS e JOIN records AS r ON r.offset = e.record_offset \
             WHERE e.leg = '' AND CAST(e.transaction_id AS TEXT) LIKE ?1 || '-%' ORDER BY r.offset",
        )
        .unwrap();
    let rows = select.query_map([prefix], |row| {
        Ok(LogRow {
            offset: row.get(0)?,
            timestamp_ms: row.get(1)?,
            issued_at_ms: row.get(2)?,
            key: row.get(3)?,
            value: row.get(4)?,
            transaction_id: row.get(5)?,
            leg: row.get(6)?,
            event_id: row.get(7)?,
            hash: row.get(8)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Of how many batches those are: each has a time of its own, to the millisecond.
pub fn log_batches(dir: &Path, prefix: &str) -> usize {
    let log = Connection::open(dir.join("log.db")).unwrap();
    let batches: i64 = log
        .query_row(
            "SELECT COUNT(DISTINCT issued_at_ms) FROM outbox_events WHERE leg = '' \
             AND CAST(transaction_id AS TEXT) LIKE ?1 || '-%'",
            [prefix],
            |row| row.get(0),
        )
        .unwrap();
    batches as usize
}

/// An empty log of its own, as a node opens it.
pub fn empty_log(dir: &Path) -> Connection {
    let opened = DataDir::open_exclusive(dir).unwrap();
    drop(CommandLog::open(&opened, WINDOW_MS).unwrap());
    drop(opened);
    let log = Connection::open(dir.join("log.db")).unwrap();
    log.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 15000;
         PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;",
    )
    .unwrap();
    log
}

/// Makes these rows durable, in one transaction.
pub fn insert_log(log: &mut Connection, rows: &[LogRow]) {
    let transaction = log.transaction().unwrap();
    {
        let mut record = transaction
            .prepare_cached(
                "INSERT INTO records (offset, timestamp_ms, issued_at_ms, mark, key, value) \
                 VALUES (?1, ?2, ?3, 0, ?4, ?5)",
            )
            .unwrap();
        for row in rows {
            record
                .execute(params![
                    row.offset,
                    row.timestamp_ms,
                    row.issued_at_ms,
                    row.key,
                    row.value
                ])
                .unwrap();
        }
        let mut event = transaction
            .prepare_cached(
                "INSERT INTO outbox_events (user_id, transaction_id, leg, event_id, \
                 record_offset, request_hash, issued_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .unwrap();
        for row in rows {
            event
                .execute(params![
                    row.key,
                    row.transaction_id,
                    row.leg,
                    row.event_id,
                    row.offset,
                    row.hash,
                    row.issued_at_ms
                ])
                .unwrap();
        }
    }
    transaction.commit().unwrap();
}

const COLUMNS: &str = "event_id, topic, partition_key, transaction_id, leg, payload, request_hash, \
     status, created_at, issued_at_ms, key_hash";

/// What a database has of commands whose ids begin so, each as SQL spells it.
pub fn outbox_rows(database: &Database<'_>, prefix: &str) -> Vec<String> {
    let rows: Vec<Row> = database
        .conn()
        .query(format!(
            "SELECT event_id, topic, partition_key, transaction_id, leg, payload, request_hash, \
             'PENDING', CAST(created_at AS CHAR), issued_at_ms, key_hash FROM outbox_events \
             WHERE transaction_id LIKE '{prefix}-%' ORDER BY id"
        ))
        .unwrap();
    let literal = |value: Value| value.as_sql(false);
    rows.into_iter()
        .map(|row| {
            let values: Vec<String> = row.unwrap().into_iter().map(literal).collect();
            format!("({})", values.join(","))
        })
        .collect()
}

/// Of how many batches those are: each is a statement, which has one time.
pub fn outbox_batches(database: &Database<'_>, prefix: &str) -> usize {
    let batches: Option<usize> = database
        .conn()
        .query_first(format!(
            "SELECT COUNT(DISTINCT created_at) FROM outbox_events \
             WHERE transaction_id LIKE '{prefix}-%'"
        ))
        .unwrap();
    batches.unwrap_or(0)
}

/// Makes these rows durable, in one statement.
pub fn insert_outbox(conn: &mut Conn, rows: &[String]) {
    let sql = format!(
        "INSERT INTO outbox_events ({COLUMNS}) VALUES {}",
        rows.join(",")
    );
    conn.query_drop(sql).unwrap();
    assert_eq!(conn.affected_rows(), rows.len() as u64);
}

/// Inserts rows in batches; rows a second.
pub fn rate<R>(rows: &[R], batch: usize, mut insert: impl FnMut(&[R])) -> f64 {
    let begin = Instant::now();
    for batch in rows.chunks(batch) {
        insert(batch);
    }
    rows.len() as f64 / begin.elapsed().as_secs_f64()
}

/// Inserts row by row at a steady rate; from when each was due.
pub fn at_rate<R>(rows: &[R], rate: u64, mut insert: impl FnMut(&[R])) -> Histogram<u64> {
    let mut times = measure::latencies();
    let begin = Instant::now();
    for (index, row) in rows.iter().enumerate() {
        let due = begin + Duration::from_nanos(index as u64 * 1_000_000_000 / rate);
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        insert(std::slice::from_ref(row));
        times.saturating_record(due.elapsed().as_nanos() as u64);
    }
    times
}
