//! A writer's connection to the store they all share, with everything that can happen to it.

use std::rc::Rc;

use kilter_engine::{
    epoch::Epoch,
    store::{Committed, Store},
};

use super::{
    process::{Fault, Process},
    sights::{Sight, saw},
    stage::Stage,
};
use crate::support::disk::{Changes, Held};

/// How often a transaction is tried before the node gives up.
const TRIES: u32 = 30;

/// How many steps of the others a node waits before it tries again, at first.
const BACK_OFF_STEPS: u64 = 2;

/// A writer's way to the store.
pub struct NodeStore {
    pub stage: Rc<Stage>,
    pub process: Rc<Process>,
}

impl Store for NodeStore {
    type Error = Fault;

    fn commit(&mut self, epoch: &Epoch<'_>) -> Result<Committed, Fault> {
        for tries in 0..TRIES {
            match self.attempt(epoch) {
                // The whole transaction again; its locking read tells what became of the last one.
                Err(Fault::Lost) => {}
                Err(Fault::LockTimeout) => saw(Sight::LockTimeout),
                Err(fault) => {
                    match fault {
                        Fault::Fenced => saw(Sight::Fenced),
                        Fault::Elsewhere => saw(Sight::Elsewhere),
                        _ => {}
                    }
                    return Err(fault);
                }
                done => return done,
            }
            // Meanwhile its other threads go on, until their buffers are full.
            let steps = BACK_OFF_STEPS << tries.min(6);
            self.stage.wait(&self.process, steps)?;
        }
        saw(Sight::Outage);
        Err(Fault::Outage)
    }
}

impl NodeStore {
    fn attempt(&self, epoch: &Epoch<'_>) -> Result<Committed, Fault> {
        if self.stage.database.borrow().is_away() {
            return Err(Fault::Lost);
        }
        let id = self.stage.database.borrow_mut().begin(&self.process);
        let done = self.transact(id, epoch);
        // After `Lost` somebody else decides what becomes of it.
        if matches!(
            done,
            Ok(Committed::Before) | Err(Fault::LockTimeout | Fault::Fenced | Fault::Elsewhere)
        ) {
            self.stage.database.borrow_mut().roll_back(id);
        }
        done
    }

    fn transact(&self, id: u64, epoch: &Epoch<'_>) -> Result<Committed, Fault> {
        let stage = &self.stage;
        stage.pause(&self.process)?;
        let held = stage.database.borrow_mut().lock_rows(id, epoch.rows)?;
        match held {
            Held::This => {
                saw(Sight::CommittedBefore);
                return Ok(Committed::Before);
            }
            Held::Other => {
                assert!(
                    !stage.database.borrow().holds(&self.process),
                    "the leader's offset rows are not its last epoch's"
                );
                return Err(Fault::Elsewhere);
            }
            Held::Last => {}
        }
        stage.pause(&self.process)?;
        stage.database.borrow_mut().fence(id, &self.process)?;
        stage.pause(&self.process)?;
        let mut database = stage.database.borrow_mut();
        database.commit(id, Changes::of(epoch))?;
        Ok(Committed::Now)
    }
}
