//! Records whose time is far ahead of the node's own clock.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::{convert::Infallible, sync::Arc};

use kilter_engine::{
    EpochNumber, Generation, HashRange, Offset, Partition,
    agent::Agent,
    clock::Clock,
    epoch::OffsetRow,
    log::{Log, Taken},
    poller::{PartitionStart, Poller, PollerError, PollerPort, PollerSettings, PollerStart},
    record::{Mark, NOT_ISSUED, Record},
    ring::{Consumer, ring},
    slot::CommandSlot,
    wait::{WaitStrategy, waiter},
};

const WINDOW_MS: u64 = 4_000;

/// Records of one partition: offset and timestamp.
struct Records(Vec<(u64, i64)>);

impl Log for Records {
    type Error = Infallible;

    fn poll(
        &mut self,
        _max: usize,
        take: &mut dyn FnMut(Record<'_>) -> Taken,
    ) -> Result<usize, Infallible> {
        let mut taken = 0;
        while let Some((offset, timestamp_ms)) = self.0.first().copied() {
            let record = Record {
                generation: Generation::new(1),
                partition: Partition::new(0),
                offset: Offset::new(offset),
                timestamp_ms,
                issued_at_ms: NOT_ISSUED,
                mark: Mark::None,
                key: b"u",
                value: b"{}",
                headers: &[],
            };
            if take(record) == Taken::NotNow {
                break;
            }
            self.0.remove(0);
            taken += 1;
        }
        Ok(taken)
    }
}

/// The node's clock stands at 0.
struct Noon;

impl Clock for Noon {
    fn wall_ms(&self) -> i64 {
        0
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

/// A poller over one shard whose partition has two hash ranges, committed to offsets 2 and 5.
fn poller(records: Vec<(u64, i64)>) -> (Poller<Records, Noon>, Consumer<CommandSlot>) {
    let first = OffsetRow::first(Partition::new(0), Generation::new(1));
    let row = |shard, offset| OffsetRow {
        range: HashRange::of_shard(shard, 2),
        offset: Offset::new(offset),
        ..first
    };
    let (commands, shard) = ring(8, CommandSlot::new);
    let start = PollerStart {
        settings: PollerSettings {
            flush_interval_ms: 20,
            flush_max_commands: 100,
            flush_max_bytes: 1 << 20,
            batch: 100,
            spill_max_bytes: 1 << 20,
            window_ms: WINDOW_MS,
        },
        partitions: vec![PartitionStart::of_rows(&[row(0, 2), row(1, 5)])],
        notes: Vec::new(),
        first_epoch: EpochNumber::new(1),
        stop: Arc::default(),
        paused: Arc::default(),
        writers: Vec::new(),
        progress: Arc::default(),
    };
    let port = PollerPort {
        commands,
        spilled_bytes: Arc::default(),
        shard: waiter(WaitStrategy::BusySpin).1,
    };
    (
        Poller::new(start, Records(records), Noon, vec![port]),
        shard,
    )
}

#[test]
fn a_time_far_ahead_stops_the_node() {
    let (mut poller, _shard) = poller(vec![(5, 1_000), (6, 1_001)]);
    let error = poller.do_work().unwrap_err();
    assert!(
        matches!(error, PollerError::TimeAhead { offset, .. } if offset == Offset::new(6)),
        "{error}"
    );
}

/// A node with another clock let it in, and its time is in the store: no note can be written about
/// it any more, so a node that stopped there could not be helped.
#[test]
fn a_time_that_is_committed_by_another_range_does_not_stop_the_node() {
    let (mut poller, _shard) = poller(vec![(4, 1_000_000), (5, 1_000)]);
    assert_eq!(poller.do_work().unwrap(), 2);
}
