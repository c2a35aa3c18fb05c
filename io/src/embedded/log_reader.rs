//! The log's reading end, for the poller.

use std::sync::Arc;

use kilter_engine::{
    Offset,
    log::{Log, Taken},
    record::{Mark, NOT_ISSUED, Record},
};
use rusqlite::{OptionalExtension, Row};

use super::{
    GENERATION, PARTITION, connection::Db, dir::DataDir, dir::LogEnd, error::EmbeddedError,
};

/// Reads the log in order, from an offset on, beside whoever appends.
#[derive(Debug)]
pub struct LogReader {
    db: Db,
    next: Offset,
    end: Arc<LogEnd>,
}

impl LogReader {
    /// A reader whose first record is the one at `from`.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(dir: &DataDir, from: Offset) -> Result<Self, EmbeddedError> {
        Ok(Self {
            db: Db::read(&dir.log_path())?,
            next: from,
            end: Arc::clone(dir.log_end()),
        })
    }

    /// The next offset it will read.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// The offset behind the last durable record.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn end(&self) -> Result<Offset, EmbeddedError> {
        let failed = self.db.failed("find the log's end");
        let last: Option<i64> = self
            .db
            .connection
            .prepare_cached("SELECT max(offset) FROM records")
            .map_err(&failed)?
            .query_row([], |row| row.get(0))
            .optional()
            .map_err(&failed)?
            .flatten();
        let last = Offset::new(last.map_or(0, |last| last as u64 + 1));
        Ok(last.min(self.end.get()))
    }
}

impl Log for LogReader {
    type Error = EmbeddedError;

    fn poll(
        &mut self,
        max: usize,
        take: &mut dyn FnMut(Record<'_>) -> Taken,
    ) -> Result<usize, EmbeddedError> {
        let end = self.end.get();
        if self.next >= end {
            return Ok(0);
        }
        // What is committed and not durable lies behind the end.
        let most = (end.get() - self.next.get()).min(max as u64);
        let failed = self.db.failed("read the log");
        let mut statement = self
            .db
            .connection
            .prepare_cached(
                "SELECT offset, timestamp_ms, issued_at_ms, mark, key, value
                 FROM records WHERE offset >= ?1 ORDER BY offset LIMIT ?2",
            )
            .map_err(&failed)?;
        let mut rows = statement
            .query([self.next.get() as i64, most as i64])
            .map_err(&failed)?;
        let mut taken = 0;
        while let Some(row) = rows.next().map_err(&failed)? {
            let record = read(row).map_err(&failed)?;
            if record.offset != self.next {
                return Err(EmbeddedError::Gap {
                    expected: self.next,
                    found: record.offset,
                });
            }
            if take(record) == Taken::NotNow {
                break;
            }
            self.next = self.next.next();
            taken += 1;
        }
        Ok(taken)
    }
}

/// A row of the log as a record, borrowed from the database's page.
pub(super) fn read<'a>(row: &'a Row<'_>) -> rusqlite::Result<Record<'a>> {
    let mark: u8 = row.get(3)?;
    let issued_at_ms: Option<i64> = row.get(2)?;
    Ok(Record {
        generation: GENERATION,
        partition: PARTITION,
        offset: Offset::new(row.get::<_, i64>(0)? as u64),
        timestamp_ms: row.get(1)?,
        issued_at_ms: issued_at_ms.unwrap_or(NOT_ISSUED),
        mark: Mark::from_u8(mark)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(3, i64::from(mark)))?,
        key: row.get_ref(4)?.as_blob()?,
        value: row.get_ref(5)?.as_blob()?,
        headers: &[],
    })
}
