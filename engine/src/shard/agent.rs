//! The thread of a shard: out of the command ring, through the shard, into results and epochs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use arrayvec::ArrayVec;
use crossbeam::channel::{self, Receiver};

use super::{
    BATCH_MAX, Item, Results, Shard, ShardError,
    question::{Question, Together},
};
use crate::{
    POSTINGS_MAX,
    agent::Agent,
    epoch::{Cut, EpochPart},
    result::{ResultRecord, ResultSlot},
    ring::{Consumer, Producer},
    slot::CommandSlot,
    wait::Waker,
};

/// What a shard holds, as of its last barrier. Relaxed: numbers to show.
#[derive(Debug, Default)]
pub struct ShardGauges {
    accounts: AtomicU64,
    balances: AtomicU64,
    book_bytes: AtomicU64,
    ids: AtomicU64,
    window_bytes: AtomicU64,
}

impl ShardGauges {
    /// How many accounts.
    pub fn accounts(&self) -> u64 {
        self.accounts.load(Ordering::Relaxed)
    }

    /// How many balances.
    pub fn balances(&self) -> u64 {
        self.balances.load(Ordering::Relaxed)
    }

    /// How many bytes accounts and balances take.
    pub fn book_bytes(&self) -> u64 {
        self.book_bytes.load(Ordering::Relaxed)
    }

    /// How many transaction ids are remembered.
    pub fn ids(&self) -> u64 {
        self.ids.load(Ordering::Relaxed)
    }

    /// How many bytes those take.
    pub fn window_bytes(&self) -> u64 {
        self.window_bytes.load(Ordering::Relaxed)
    }

    fn set(&self, shard: &Shard) {
        let (book_bytes, window_bytes) = shard.bytes();
        let balances = shard.book().len();
        let accounts = shard.book().accounts_len();
        self.accounts.store(accounts, Ordering::Relaxed);
        self.balances.store(balances, Ordering::Relaxed);
        self.book_bytes.store(book_bytes, Ordering::Relaxed);
        self.ids.store(shard.remembered(), Ordering::Relaxed);
        self.window_bytes.store(window_bytes, Ordering::Relaxed);
    }
}

/// The ends of all rings a shard holds.
pub struct ShardPorts {
    /// Records and barriers from the poller.
    pub commands: Consumer<CommandSlot>,
    /// Results to the publisher.
    pub results: Producer<ResultSlot>,
    /// Epoch parts to the writer.
    pub full: Producer<Option<Box<EpochPart>>>,
    /// Emptied epoch parts from the writer.
    pub empty: Consumer<Option<Box<EpochPart>>>,
    /// How many bytes of records too large for a slot are on the heap for this shard.
    pub spilled_bytes: Arc<AtomicUsize>,
    /// Where it tells what it holds.
    pub gauges: Arc<ShardGauges>,
    /// Wakes the poller, when there is room again.
    pub poller: Waker,
    /// Wakes the publisher.
    pub publisher: Waker,
    /// Wakes the writer.
    pub writer: Waker,
}

/// Writes results straight into the ring's slots.
struct RingResults<'a> {
    ring: &'a mut Producer<ResultSlot>,
}

impl Results for RingResults<'_> {
    fn next(&mut self) -> &mut ResultRecord {
        match self.ring.try_claim() {
            Some(slot) => {
                assert!(slot.end.is_none(), "a result slot that was not taken");
                &mut slot.result
            }
            None => unreachable!("a batch is no larger than the room for its results"),
        }
    }
}

/// Moves records through a [`Shard`] without ever blocking.
///
/// When results or epoch parts cannot leave, it stops draining its ring; the ring fills, and the
/// poller pauses. Nothing is dropped.
pub struct ShardAgent {
    role: String,
    shard: Shard,
    ports: ShardPorts,
    questions: Receiver<Question>,
    together: Together,
    part: Box<EpochPart>,
    done: bool,
}

impl ShardAgent {
    /// The agent of shard number `index`, which fills `part` first.
    ///
    /// # Panics
    ///
    /// If the ring of results cannot hold those of one command.
    pub fn new(index: usize, shard: Shard, ports: ShardPorts, part: Box<EpochPart>) -> Self {
        let room = ports.results.capacity();
        assert!(
            room >= POSTINGS_MAX,
            "a ring of {room} results for commands of {POSTINGS_MAX} postings"
        );
        Self {
            role: format!("shard-{index}"),
            shard,
            ports,
            questions: channel::never(),
            together: |answers| answers(),
            part,
            done: false,
        }
    }

    /// The same agent, which also answers questions: those that wait at the same time within one
    /// call of `together`.
    #[must_use]
    pub fn answering(self, questions: Receiver<Question>, together: Together) -> Self {
        Self {
            questions,
            together,
            ..self
        }
    }

    /// The shard's state.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Applies what lies before the next barrier, at most a batch and as many as there is room
    /// for results. Returns how many.
    fn apply_batch(&mut self) -> Result<usize, ShardError> {
        let room = self.ports.results.free();
        let (head, tail) = self.ports.commands.peek_mut(room.min(BATCH_MAX));
        let mut answers = 0;
        let mut items: ArrayVec<Item<'_>, BATCH_MAX> = ArrayVec::new();
        let mut spilled = 0;
        for slot in head.iter().chain(tail.iter()) {
            if slot.barrier().is_some() {
                break;
            }
            let item = Item::of(slot);
            answers += item.results_max();
            if answers > room {
                break;
            }
            spilled += slot.spilled_bytes();
            items.push(item);
        }
        let count = items.len();
        if count == 0 {
            return Ok(0);
        }
        let mut results = RingResults {
            ring: &mut self.ports.results,
        };
        self.shard.apply(&items, &mut self.part, &mut results)?;
        self.ports.results.publish();
        self.ports.publisher.wake();
        drop(items);
        if spilled > 0 {
            let (head, tail) = self.ports.commands.peek_mut(count);
            head.iter_mut()
                .chain(tail.iter_mut())
                .for_each(CommandSlot::clear);
            // Relaxed: a bound on memory, nothing is ordered by it.
            self.ports
                .spilled_bytes
                .fetch_sub(spilled, Ordering::Relaxed);
        }
        self.ports.commands.release(count);
        self.ports.poller.wake();
        Ok(count)
    }

    /// At a barrier: hands the epoch over, if there is an empty part to go on with.
    fn hand_over(&mut self) -> usize {
        let Some(cut) = self.next_barrier() else {
            return 0;
        };
        if self.ports.results.free() == 0 || self.ports.full.free() == 0 {
            return 0;
        }
        let Some(empty) = self.ports.empty.pop() else {
            return 0;
        };
        let empty = if cut.last { None } else { Some(empty) };
        assert!(
            empty.as_ref().is_none_or(|part| part.cut.is_none()),
            "a recycled part that is not empty"
        );
        self.shard.end_epoch();
        self.ports.gauges.set(&self.shard);
        self.part.cut = Some(cut.clone());
        self.done = cut.last;
        let full = std::mem::replace(&mut self.part, empty.unwrap_or_default());
        if self.ports.full.push(full).is_err() {
            unreachable!("there was room for an epoch part just now");
        }
        if let Some(slot) = self.ports.results.try_claim() {
            slot.end = Some(cut);
        }
        self.ports.results.publish();
        let (head, tail) = self.ports.commands.peek_mut(1);
        head.iter_mut()
            .chain(tail.iter_mut())
            .for_each(CommandSlot::clear);
        self.ports.commands.release(1);
        self.ports.publisher.wake();
        self.ports.writer.wake();
        self.ports.poller.wake();
        1
    }

    fn next_barrier(&mut self) -> Option<Arc<Cut>> {
        let (head, _) = self.ports.commands.peek_mut(1);
        head.first().and_then(|slot| slot.barrier().cloned())
    }
}

impl Agent for ShardAgent {
    type Error = ShardError;

    fn role(&self) -> &str {
        &self.role
    }

    fn do_work(&mut self) -> Result<usize, ShardError> {
        if self.done {
            return Ok(0);
        }
        let answered = self.shard.answer_questions(&self.questions, self.together);
        let applied = self.apply_batch()?;
        if applied > 0 {
            return Ok(applied + answered);
        }
        Ok(self.hand_over() + answered)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
