//! The weather: what is broken on purpose, and how often.

use kilter_engine::notes::NoteKind;

use super::{
    lease::LEASE_MS,
    sights::{Sight, saw},
    stage::Stage,
};

/// How rough it is: each happens once in so many steps.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub crash: u64,
    pub freeze: u64,
    pub leave: u64,
    pub outage: u64,
    pub operator: u64,
    /// One COMMIT in so many loses its answer.
    pub lost: u64,
    /// One pause in so many is a long one.
    pub nap: u64,
    /// Whoever meets a lock of somebody who stands still kills him one time in so many, and else
    /// waits.
    pub kill: u64,
}

impl Stage {
    /// Breaks something.
    pub(super) fn blow(&self) {
        let weather = self.weather;
        let nodes = self.nodes.borrow().clone();
        if let Some(index) = self.below(1 + nodes.len() as u64).checked_sub(1) {
            let node = &nodes[index as usize];
            if self.one_in(weather.crash) {
                saw(Sight::Crashed);
                self.bury(&node.process);
            } else if self.one_in(weather.freeze) {
                saw(Sight::Froze);
                let steps = self.below(1_000);
                node.process.frozen_until.set(self.steps.get() + steps);
            } else if self.one_in(weather.leave) {
                node.leaving.set(true);
            }
        }
        if self.one_in(weather.outage) {
            let until_ms = self.now_ms.get() + self.below(2 * LEASE_MS);
            self.database.borrow_mut().away_until_ms = until_ms;
        }
        if self.one_in(weather.operator) {
            self.decide();
        }
    }

    /// The operator has a look at why a node stopped, or at any record.
    fn decide(&self) {
        let blamed = self.blamed.borrow_mut().pop();
        let (partition, offset, kind) = match blamed {
            Some(blamed) => (
                blamed.partition.get(),
                blamed.offset.get(),
                NoteKind::IgnoreTime,
            ),
            None => {
                let entry = &self.entries[self.below(self.entries.len() as u64) as usize];
                let kind = if self.one_in(4) {
                    NoteKind::IgnoreTime
                } else {
                    NoteKind::Refuse
                };
                (entry.partition, entry.offset, kind)
            }
        };
        let mut database = self.database.borrow_mut();
        if !database.is_away() {
            // Locked: he tries again another day.
            let _ = database.write_note(partition, offset, kind);
        }
    }
}
