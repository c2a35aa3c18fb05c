//! The result topic: producers' messages on their way, and what is durable.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use kilter_engine::{
    EpochNumber, Position, Posting, Term,
    epoch::Cut,
    notes::Note,
    result::{ResultRecord, ResultSink},
};

use super::{
    process::{Fault, Process},
    sights::{Sight, saw},
    stage::Stage,
};
use crate::support::rng::Rng;

/// The topic, and what was sent to it.
pub struct Topic {
    /// Sent and not acknowledged, by producer, in order.
    in_flight: BTreeMap<u64, VecDeque<Copy>>,
    copies: BTreeMap<Position, Vec<Copy>>,
    /// The answer of the highest term for each position: what a consumer takes.
    pub answers: BTreeMap<Position, ResultRecord>,
    rng: Rng,
}

/// One message, and how many notes its node knew that may change its answer.
#[derive(Clone, Debug)]
struct Copy {
    notes: usize,
    result: ResultRecord,
}

impl Topic {
    pub fn new(rng: Rng) -> Self {
        Self {
            in_flight: BTreeMap::new(),
            copies: BTreeMap::new(),
            answers: BTreeMap::new(),
            rng,
        }
    }

    /// How many answers stand. A refusal has one result: should a note have made one of several
    /// postings' answers, those of a lower term fall with it.
    pub fn count(&self) -> usize {
        let stands = |(position, result): &(&Position, &ResultRecord)| {
            let first = Position {
                posting: Posting::default(),
                ..**position
            };
            result.term >= self.answers[&first].term
        };
        self.answers.iter().filter(stands).count()
    }

    fn send(&mut self, process: &Process, result: &ResultRecord) {
        let notes = process.notes.borrow();
        let copy = Copy {
            notes: notes
                .iter()
                .filter(|note| concerns(note, result.position))
                .count(),
            result: result.clone(),
        };
        let queue = self.in_flight.entry(process.owner).or_default();
        queue.push_back(copy);
    }

    /// Makes some of a producer's messages durable. Whether all are.
    fn append_some(&mut self, owner: u64) -> bool {
        let Some(queue) = self.in_flight.get_mut(&owner) else {
            return true;
        };
        let count = 1 + self.rng.below(1 + queue.len() as u64) as usize;
        let copies: Vec<Copy> = queue.drain(..count.min(queue.len())).collect();
        let rest = queue.len();
        for copy in copies {
            if self.rng.one_in(100) {
                saw(Sight::ResultTwice);
                self.append(copy.clone());
            }
            self.append(copy);
        }
        rest == 0
    }

    /// What a dead producer had sent arrives in part, or not at all.
    pub fn append_late(&mut self, is_dead: impl Fn(u64) -> bool) {
        let dead = self.in_flight.keys().copied().find(|owner| is_dead(*owner));
        let Some(owner) = dead else {
            return;
        };
        if self.rng.one_in(4) || self.append_some(owner) {
            self.in_flight.remove(&owner);
        } else {
            saw(Sight::LateResults);
        }
    }

    fn append(&mut self, copy: Copy) {
        let position = copy.result.position;
        let copies = self.copies.entry(position).or_default();
        for old in copies.iter().filter(|old| old.notes == copy.notes) {
            // The same answer each time: only the term may differ.
            let as_old = ResultRecord {
                term: old.result.term,
                ..copy.result.clone()
            };
            assert_eq!(old.result, as_old, "another answer than the first time");
        }
        let right = copies.iter().map(|old| old.result.term).max();
        if right.is_none_or(|term: Term| term <= copy.result.term) {
            if copies.iter().any(|old| old.notes != copy.notes) {
                saw(Sight::OtherAnswer);
            }
            self.answers.insert(position, copy.result.clone());
        }
        copies.push(copy);
    }
}

/// Whether a note may change the answer at a position: it is about this record or an earlier one.
fn concerns(note: &Note, position: Position) -> bool {
    note.partition == position.partition && note.offset <= position.offset
}

/// A node's producer.
pub struct NodeSink {
    pub stage: Rc<Stage>,
    pub process: Rc<Process>,
    pub ended: Option<EpochNumber>,
    pub durable: Option<EpochNumber>,
}

impl ResultSink for NodeSink {
    type Error = Fault;

    fn result(&mut self, result: &ResultRecord) -> Result<(), Fault> {
        let topic = &mut *self.stage.topic.borrow_mut();
        topic.send(&self.process, result);
        if topic.rng.one_in(30) {
            topic.append_some(self.process.owner);
        }
        Ok(())
    }

    fn end(&mut self, cut: &Cut) -> Result<(), Fault> {
        self.ended = Some(cut.epoch);
        Ok(())
    }

    fn durable(&mut self) -> Result<Option<EpochNumber>, Fault> {
        if self.ended != self.durable {
            self.stage.pause(&self.process)?;
            // What was sent behind the end must have arrived, too: later than need be, never sooner.
            if self
                .stage
                .topic
                .borrow_mut()
                .append_some(self.process.owner)
            {
                self.durable = self.ended;
            }
        }
        Ok(self.durable)
    }
}
