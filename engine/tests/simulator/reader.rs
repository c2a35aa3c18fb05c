//! A node's reader of the log: it picks OPENs out of what it reads and claims for them.

use std::rc::Rc;

use kilter_engine::{
    Body, Offset, Partition, decode,
    log::{Log, Taken},
    may_be_open,
    notes::NoteKind,
    partitioner::Partitioner,
    poller::PartitionStart,
    record::{Mark, NOT_ISSUED, Record},
};

use super::{
    process::{Fault, Process},
    sights::{Sight, saw},
    stage::Stage,
};
use crate::support::{disk::GENERATION, traffic::Entry};

/// Reads a node's partitions.
pub struct Reader {
    stage: Rc<Stage>,
    process: Rc<Process>,
    queues: Vec<Queue>,
}

/// One partition.
struct Queue {
    /// The indices of its entries.
    entries: Vec<usize>,
    next: usize,
    clock_ms: i64,
}

impl Reader {
    pub fn open(stage: &Rc<Stage>, process: &Rc<Process>, starts: &[PartitionStart]) -> Self {
        let queues = starts.iter().map(|start| {
            let is_mine = |entry: &Entry| {
                entry.partition == start.partition().get() && entry.offset >= start.offset().get()
            };
            let entries = stage.entries.iter().enumerate();
            Queue {
                entries: entries
                    .filter(|(_, entry)| is_mine(entry))
                    .map(|(index, _)| index)
                    .collect(),
                next: 0,
                clock_ms: start.clock_ms(),
            }
        });
        Self {
            queues: queues.collect(),
            stage: stage.clone(),
            process: process.clone(),
        }
    }

    fn noted(&self, entry: &Entry, kind: NoteKind) -> bool {
        self.process.notes.borrow().iter().any(|note| {
            (note.partition.get(), note.offset.get(), note.kind)
                == (entry.partition, entry.offset, kind)
        })
    }

    /// The verdict that goes along with a record. It is durable before the record is offered;
    /// `None` is no answer from the store, and the record has to wait.
    fn mark(&self, entry: &Entry, clock_ms: i64) -> Result<Option<Mark>, Fault> {
        if entry.mark == Mark::Oversize {
            return Ok(Some(Mark::Oversize));
        }
        if !may_be_open(&entry.value) || self.noted(entry, NoteKind::Refuse) {
            return Ok(Some(Mark::None));
        }
        let Ok(command) = decode(&entry.value) else {
            return Ok(Some(Mark::None));
        };
        if command.body != Body::Open {
            return Ok(Some(Mark::None));
        }
        let window_ms = self.stage.shape.window_ms as i64;
        let in_time = entry
            .issued_at_ms
            .is_none_or(|at| clock_ms <= at + window_ms / 2 && at <= clock_ms + window_ms / 4);
        let right = Partitioner::Murmur2.partition(&entry.key, self.stage.shape.partitions);
        if !in_time || entry.key != command.user_id.as_bytes() || entry.partition != right {
            // Refused for that before the verdict is looked at, and it claims nothing.
            return Ok(Some(Mark::ClaimRefused));
        }
        self.stage.pause(&self.process)?;
        let mut database = self.stage.database.borrow_mut();
        if database.is_away() {
            return Ok(None);
        }
        let claimed = database.claim(command.account_id.get(), &command.user_id);
        if database.loses_an_answer() {
            saw(Sight::ClaimAnswerLost);
            return Ok(None);
        }
        drop(database);
        self.stage.pause(&self.process)?;
        Ok(Some(if claimed {
            Mark::Claimed
        } else {
            Mark::ClaimRefused
        }))
    }

    /// Offers the next record of a partition; `None` when there is none, or it has to wait.
    fn offer(
        &mut self,
        index: usize,
        take: &mut dyn FnMut(Record<'_>) -> Taken,
    ) -> Result<Option<Taken>, Fault> {
        let stage = self.stage.clone();
        let queue = &self.queues[index];
        let Some(entry) = queue.entries.get(queue.next) else {
            return Ok(None);
        };
        if *entry >= stage.appended.get() {
            return Ok(None);
        }
        let entry = &stage.entries[*entry];
        let clock_ms = if self.noted(entry, NoteKind::IgnoreTime) {
            queue.clock_ms
        } else {
            queue.clock_ms.max(entry.timestamp_ms)
        };
        let Some(mark) = self.mark(entry, clock_ms)? else {
            return Ok(None);
        };
        let record = Record {
            generation: GENERATION,
            partition: Partition::new(entry.partition),
            offset: Offset::new(entry.offset),
            timestamp_ms: entry.timestamp_ms,
            issued_at_ms: entry.issued_at_ms.unwrap_or(NOT_ISSUED),
            mark,
            key: &entry.key,
            value: &entry.value,
            headers: &[],
        };
        let taken = take(record);
        if taken == Taken::Yes {
            self.queues[index].next += 1;
            self.queues[index].clock_ms = clock_ms;
        }
        Ok(Some(taken))
    }
}

impl Log for Reader {
    type Error = Fault;

    fn poll(
        &mut self,
        max: usize,
        take: &mut dyn FnMut(Record<'_>) -> Taken,
    ) -> Result<usize, Fault> {
        let mut taken = 0;
        let first = self.stage.below(self.queues.len() as u64) as usize;
        for turn in 0..self.queues.len() {
            let index = (first + turn) % self.queues.len();
            while taken < max {
                match self.offer(index, take)? {
                    None => break,
                    Some(Taken::NotNow) => return Ok(taken),
                    Some(Taken::Yes) => taken += 1,
                }
                if self.stage.below(20) == 0 {
                    break;
                }
            }
        }
        Ok(taken)
    }
}
