//! The log as it grows, and the twin's verdict on each record of it.

use std::{cell::RefCell, rc::Rc};

use kilter_engine::{
    Offset, Partition,
    log::{Log, Taken},
    partitioner::Partitioner,
    record::{NOT_ISSUED, Record},
};

use super::wire::Message;
use crate::support::{
    disk::{Fault, GENERATION},
    rng::Rng,
    traffic::Entry,
    twin::{Judged, Twin},
};

/// Every record of every partition.
pub struct GrowingLog {
    partitions: Vec<Vec<Entry>>,
    /// All of them in the order they came, as the twin judges them.
    pub judged: Vec<(Entry, Judged)>,
    twin: Twin,
    window_ms: i64,
    rng: Rng,
}

/// Where a message came to lie.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub timestamp_ms: i64,
}

impl GrowingLog {
    pub fn new(partitions: u32, window_ms: u64, rng: Rng) -> Self {
        Self {
            partitions: vec![Vec::new(); partitions as usize],
            judged: Vec::new(),
            twin: Twin::new(window_ms, partitions),
            window_ms: window_ms as i64,
            rng,
        }
    }

    /// Appends, at the time that the broker takes it to be: clocks of brokers differ, and step back.
    pub fn append(&mut self, message: &Message, now_ms: i64) -> Place {
        let count = self.partitions.len() as u32;
        let key = message.user.as_bytes();
        let partition = Partitioner::Murmur2.partition(key, count);
        let skew_ms = self.window_ms / 16;
        let timestamp_ms = match self.rng.below(12) {
            0 => now_ms - skew_ms,
            1 => now_ms + skew_ms,
            _ => now_ms,
        };
        let queue = &mut self.partitions[partition as usize];
        let gap = if self.rng.one_in(40) { 2 } else { 0 };
        let entry = Entry {
            partition,
            offset: queue.last().map_or(0, |last| last.offset + 1) + gap,
            timestamp_ms,
            issued_at_ms: message.issued_at_ms,
            mark: message.mark,
            key: key.to_vec(),
            value: message.value.clone(),
            meaning: message.meaning.clone(),
        };
        queue.push(entry.clone());
        let verdict = self.twin.judge(&entry);
        self.judged.push((entry, verdict));
        Place { timestamp_ms }
    }

    /// The next offset of each partition.
    pub fn ends(&self) -> impl Iterator<Item = (Partition, Offset)> {
        let partitions = (0..).zip(&self.partitions);
        partitions.map(|(partition, entries)| {
            let end = entries.last().map_or(0, |last| last.offset + 1);
            (Partition::new(partition), Offset::new(end))
        })
    }
}

/// A node's way through it.
pub struct Reader {
    log: Rc<RefCell<GrowingLog>>,
    /// For each partition which record comes next.
    next: Vec<usize>,
    rng: Rng,
}

impl Reader {
    pub fn open(log: &Rc<RefCell<GrowingLog>>, starts: &[(Partition, Offset)], rng: Rng) -> Self {
        let mut next = vec![0; starts.len()];
        for (partition, offset) in starts {
            let partition = partition.get() as usize;
            next[partition] = log.borrow().partitions[partition]
                .partition_point(|entry| entry.offset < offset.get());
        }
        Self {
            log: log.clone(),
            next,
            rng,
        }
    }
}

impl Log for Reader {
    type Error = Fault;

    fn poll(
        &mut self,
        max: usize,
        take: &mut dyn FnMut(Record<'_>) -> Taken,
    ) -> Result<usize, Fault> {
        let log = self.log.borrow();
        let mut taken = 0;
        let first = self.rng.below(self.next.len() as u64) as usize;
        for turn in 0..self.next.len() {
            let index = (first + turn) % self.next.len();
            let next = &mut self.next[index];
            while taken < max
                && let Some(entry) = log.partitions[index].get(*next)
            {
                let record = Record {
                    generation: GENERATION,
                    partition: Partition::new(entry.partition),
                    offset: Offset::new(entry.offset),
                    timestamp_ms: entry.timestamp_ms,
                    issued_at_ms: entry.issued_at_ms.unwrap_or(NOT_ISSUED),
                    mark: entry.mark,
                    key: &entry.key,
                    value: &entry.value,
                    headers: &[],
                };
                if take(record) == Taken::NotNow {
                    return Ok(taken);
                }
                *next += 1;
                taken += 1;
                if self.rng.one_in(20) {
                    break;
                }
            }
        }
        Ok(taken)
    }
}
