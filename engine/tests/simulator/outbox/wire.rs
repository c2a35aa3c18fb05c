//! Messages on their way to the log: in order of each producer, and then lost, late or twice.

use std::collections::{BTreeMap, VecDeque};

use kilter_engine::record::Mark;

use super::{
    growing::GrowingLog,
    sights::{Sight, saw},
};
use crate::support::{rng::Rng, traffic::Meaning};

/// One event as it is produced.
#[derive(Clone, Debug)]
pub struct Message {
    /// The row it is a copy of, and of which issue; `None` is another producer's.
    pub row: Option<(usize, u32)>,
    pub user: String,
    pub value: Vec<u8>,
    pub issued_at_ms: Option<i64>,
    pub mark: Mark,
    pub meaning: Meaning,
}

/// The log has a message.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub row: usize,
    pub issues: u32,
    pub issued_at_ms: i64,
    pub timestamp_ms: i64,
}

/// One producer's connection.
#[derive(Default)]
struct Channel {
    queue: VecDeque<Message>,
    acks: VecDeque<Ack>,
    has_failed: bool,
}

/// What nobody waits for any more. It arrives from its beginning, or not at all.
struct Stray {
    from_ms: i64,
    queue: VecDeque<Message>,
    again: bool,
}

/// All that is on its way.
pub struct Wire {
    channels: BTreeMap<u64, Channel>,
    strays: Vec<Stray>,
    next: u64,
    window_ms: i64,
    rng: Rng,
}

impl Wire {
    pub fn new(window_ms: u64, rng: Rng) -> Self {
        Self {
            channels: BTreeMap::new(),
            strays: Vec::new(),
            next: 0,
            window_ms: window_ms as i64,
            rng,
        }
    }

    /// A new producer.
    pub fn connect(&mut self) -> u64 {
        self.next += 1;
        self.channels.insert(self.next, Channel::default());
        self.next
    }

    pub fn send(&mut self, producer: u64, message: Message) {
        let channel = self.channels.get_mut(&producer);
        channel.expect("connected").queue.push_back(message);
    }

    /// What the log acknowledged to a producer.
    pub fn hear(&mut self, producer: u64) -> VecDeque<Ack> {
        let channel = self.channels.get_mut(&producer);
        std::mem::take(&mut channel.expect("connected").acks)
    }

    pub fn has_failed(&self, producer: u64) -> bool {
        self.channels[&producer].has_failed
    }

    /// The producer is gone. What it had sent may arrive any time.
    pub fn disconnect(&mut self, producer: u64, now_ms: i64) {
        if let Some(channel) = self.channels.remove(&producer) {
            self.leave(channel.queue, now_ms, false);
        }
    }

    fn leave(&mut self, queue: VecDeque<Message>, now_ms: i64, again: bool) {
        if queue.is_empty() {
            return;
        }
        let late_ms = match self.rng.below(3) {
            0 => 0,
            1 => self.rng.below(self.window_ms as u64) as i64,
            _ => self.window_ms + self.rng.below(self.window_ms as u64) as i64,
        };
        self.strays.push(Stray {
            from_ms: now_ms + late_ms,
            queue,
            again,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.strays.is_empty() && self.channels.values().all(|it| it.queue.is_empty())
    }

    /// When the last stray may arrive.
    pub fn last_ms(&self) -> Option<i64> {
        self.strays.iter().map(|stray| stray.from_ms).max()
    }

    /// Something arrives, or breaks.
    pub fn step(&mut self, log: &mut GrowingLog, now_ms: i64, is_calm: bool) {
        if self.rng.one_in(3) {
            self.step_stray(log, now_ms);
            return;
        }
        let busy = self.channels.iter();
        let busy: Vec<u64> = busy
            .filter(|(_, channel)| !channel.queue.is_empty())
            .map(|(producer, _)| *producer)
            .collect();
        if busy.is_empty() {
            return;
        }
        let producer = *self.rng.pick(&busy);
        let Some(channel) = self.channels.get_mut(&producer) else {
            return;
        };
        if !is_calm && self.rng.one_in(12) {
            // Of unknown fate, all of them.
            channel.has_failed = true;
            let queue = std::mem::take(&mut channel.queue);
            self.leave(queue, now_ms, false);
            return;
        }
        let Some(message) = channel.queue.pop_front() else {
            return;
        };
        let place = log.append(&message, now_ms);
        if let Some((row, issues)) = message.row {
            channel.acks.push_back(Ack {
                row,
                issues,
                issued_at_ms: message.issued_at_ms.expect("rows are issued"),
                timestamp_ms: place.timestamp_ms,
            });
        }
        if !is_calm && message.row.is_some() && self.rng.one_in(10) {
            self.leave([message].into(), now_ms, true);
        }
    }

    fn step_stray(&mut self, log: &mut GrowingLog, now_ms: i64) {
        if self.strays.is_empty() {
            return;
        }
        let index = self.rng.below(self.strays.len() as u64) as usize;
        let stray = &mut self.strays[index];
        if now_ms < stray.from_ms {
            return;
        }
        if !stray.again && self.rng.one_in(4) {
            saw(Sight::Lost);
            self.strays.swap_remove(index);
            return;
        }
        if let Some(message) = stray.queue.pop_front() {
            saw(if stray.again {
                Sight::Twice
            } else {
                Sight::Stray
            });
            log.append(&message, now_ms);
        }
        if stray.queue.is_empty() {
            self.strays.swap_remove(index);
        }
    }
}
