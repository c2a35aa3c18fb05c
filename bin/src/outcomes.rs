//! Counts how records ended, on their way to wherever results go.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use comfy_table::{CellAlignment, Table, presets};
use kilter_engine::{
    EpochNumber,
    epoch::Cut,
    result::{ResultRecord, ResultSink, Status},
};
use kilter_io::results::JsonLines;
use parking_lot::Mutex;

/// How many records ended in one way, and which was the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub records: u64,
    /// The lowest offset among them.
    pub first_offset: u64,
}

/// Endings by name: SUCCESS, or a class and its code.
pub type Counts = BTreeMap<(&'static str, &'static str), Count>;

/// Counts that the publisher's thread writes and others read, an epoch at a time.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(Arc<Mutex<Counts>>);

impl Outcomes {
    /// The counts as of the last flush.
    pub fn counts(&self) -> Counts {
        self.0.lock().clone()
    }

    /// How many records ended this way.
    pub fn of(&self, class: &'static str, code: &'static str) -> u64 {
        self.0
            .lock()
            .get(&(class, code))
            .map_or(0, |count| count.records)
    }

    /// How many were answered or refused in all.
    pub fn total(&self) -> u64 {
        self.0.lock().values().map(|count| count.records).sum()
    }

    /// A table for people.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
            "outcome",
            "code",
            "records",
            "first offset",
        ]);
        for index in [2, 3] {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for ((class, code), count) in self.counts() {
            table.add_row([
                class.to_owned(),
                code.to_owned(),
                count.records.to_string(),
                count.first_offset.to_string(),
            ]);
        }
        table
    }
}

/// Something that looks at each result as it is published.
pub trait Watch: Send {
    /// A result was published at `now`, which is looked at once for several results.
    fn published(&mut self, result: &ResultRecord, now: Instant);

    /// An epoch's results are durable.
    fn flushed(&mut self) {}
}

impl Watch for () {
    fn published(&mut self, _result: &ResultRecord, _now: Instant) {}
}

/// How many results share one look at the clock.
const RESULTS_PER_LOOK: u32 = 16;

/// Counts results, shows them to a watcher, and passes them on to another sink if there is one.
pub struct CountingSink<W, S = JsonLines> {
    outcomes: Outcomes,
    fresh: Counts,
    inner: Option<S>,
    ended: Option<EpochNumber>,
    watch: W,
    looked: Instant,
    looks_in: u32,
}

impl<W: Watch, S: ResultSink> CountingSink<W, S> {
    /// A sink that adds to `outcomes`.
    pub fn new(outcomes: Outcomes, inner: Option<S>, watch: W) -> Self {
        Self {
            outcomes,
            fresh: Counts::new(),
            inner,
            ended: None,
            watch,
            looked: Instant::now(),
            looks_in: 0,
        }
    }
}

impl<W: Watch, S: ResultSink> ResultSink for CountingSink<W, S> {
    type Error = S::Error;

    fn result(&mut self, result: &ResultRecord) -> Result<(), S::Error> {
        let name = match result.status {
            Status::Success => ("SUCCESS", ""),
            Status::Failed(code) => ("FAILED", code.as_str()),
            Status::Duplicate => ("DUPLICATE", ""),
            Status::Refused(code) => ("REFUSED", code.as_str()),
        };
        let offset = result.position.offset.get();
        let count = self.fresh.entry(name).or_insert(Count {
            records: 0,
            first_offset: offset,
        });
        count.records += 1;
        count.first_offset = count.first_offset.min(offset);
        if self.looks_in == 0 {
            self.looked = Instant::now();
            self.looks_in = RESULTS_PER_LOOK;
        }
        self.looks_in -= 1;
        self.watch.published(result, self.looked);
        match &mut self.inner {
            Some(inner) => inner.result(result),
            None => Ok(()),
        }
    }

    fn end(&mut self, cut: &Cut) -> Result<(), S::Error> {
        if let Some(inner) = &mut self.inner {
            inner.end(cut)?;
        }
        self.ended = Some(cut.epoch);
        let mut counts = self.outcomes.0.lock();
        for (name, fresh) in std::mem::take(&mut self.fresh) {
            let count = counts.entry(name).or_insert(Count {
                records: 0,
                first_offset: fresh.first_offset,
            });
            count.records += fresh.records;
            count.first_offset = count.first_offset.min(fresh.first_offset);
        }
        drop(counts);
        self.looks_in = 0;
        self.watch.flushed();
        Ok(())
    }

    fn durable(&mut self) -> Result<Option<EpochNumber>, S::Error> {
        match &mut self.inner {
            Some(inner) => inner.durable(),
            None => Ok(self.ended),
        }
    }
}
