//! What happens in a node, as figures.

use std::collections::BTreeMap;

use kilter_engine::{
    EpochNumber, Partition,
    epoch::{Cut, Epoch},
    result::{ResultRecord, ResultSink, Status},
};
use kilter_io::mysql::{MysqlError, StageTimes, Watch};
use metrics::{counter, histogram};

use crate::{front::Awaited, metrics_names as names};

/// Hears of every transaction, from the writers' threads.
#[derive(Debug, Default)]
pub struct Figures;

impl Watch for Figures {
    fn committed(&self, epoch: &Epoch<'_>, times: &StageTimes) {
        let stages = [
            ("lock", times.lock),
            ("balances", times.balances),
            ("ledger", times.ledger),
            ("offsets", times.offsets),
            ("fence", times.fence),
            ("commit", times.commit),
        ];
        for (stage, time) in stages {
            histogram!(names::EPOCH_STAGE_MS, "stage" => stage).record(ms(time));
        }
        let total: std::time::Duration = stages.iter().map(|(_, time)| *time).sum();
        counter!(names::EPOCHS).increment(1);
        // A partition has a row a hash range: the record count is its furthest step.
        let mut moved: BTreeMap<Partition, u64> = BTreeMap::new();
        for step in epoch.rows {
            let by = step.after.offset.get() - step.before.offset.get();
            let most = moved.entry(step.before.partition).or_default();
            *most = by.max(*most);
        }
        for (partition, records) in moved.into_iter().filter(|(_, records)| *records > 0) {
            let label = partition.to_string();
            counter!(names::CONSUMER_BATCHES, "partition" => label.clone()).increment(1);
            histogram!(names::CONSUMER_BATCH_SIZE, "partition" => label.clone())
                .record(records as f64);
            histogram!(names::CONSUMER_BATCH_DURATION_MS, "partition" => label).record(ms(total));
        }
    }

    fn retrying(&self, _why: &MysqlError) {
        counter!(names::STORE_RETRIES).increment(1);
    }
}

/// A time in ms, as figures have it.
fn ms(time: std::time::Duration) -> f64 {
    (time * 1000).as_secs_f64()
}

/// What became of the records of a partition since the last time that was told.
#[derive(Clone, Copy, Debug, Default)]
struct Fresh {
    success: u64,
    failed: u64,
    dead_letters: u64,
}

/// Counts results on their way to the log, and tells those who wait for them: an outcome follows
/// from the log, so that it stands before it is published.
pub struct CountedSink<S> {
    inner: S,
    awaited: Awaited,
    fresh: BTreeMap<Partition, Fresh>,
}

impl<S> CountedSink<S> {
    /// Counts what goes to `inner`.
    pub fn new(inner: S, awaited: Awaited) -> Self {
        Self {
            inner,
            awaited,
            fresh: BTreeMap::new(),
        }
    }
}

impl<S: ResultSink> ResultSink for CountedSink<S> {
    type Error = S::Error;

    fn result(&mut self, result: &ResultRecord) -> Result<(), S::Error> {
        let fresh = self.fresh.entry(result.position.partition).or_default();
        if result.status == Status::Success {
            fresh.success += 1;
        } else {
            fresh.failed += 1;
        }
        fresh.dead_letters += u64::from(result.dead_letter.is_some());
        self.inner.result(result)?;
        self.awaited.tell(result);
        Ok(())
    }

    fn end(&mut self, cut: &Cut) -> Result<(), S::Error> {
        for (partition, fresh) in std::mem::take(&mut self.fresh) {
            let label = partition.to_string();
            let records = fresh.success + fresh.failed;
            counter!(names::CONSUMER_MESSAGES, "partition" => label.clone()).increment(records);
            counter!(names::CONSUMER_SUCCESS, "partition" => label.clone())
                .increment(fresh.success);
            counter!(names::CONSUMER_FAILED, "partition" => label).increment(fresh.failed);
            counter!(names::DEAD_LETTERS).increment(fresh.dead_letters);
        }
        self.inner.end(cut)
    }

    fn durable(&mut self) -> Result<Option<EpochNumber>, S::Error> {
        self.inner.durable()
    }
}
