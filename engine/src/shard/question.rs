//! Questions to a running shard: what a user has, read beside the command path.
//!
//! Questions come by a bounded channel, not by the ring: a shard looks whether there are any once
//! a duty cycle (two loads), answers a few between two batches, and never waits for whoever asked.
//! What it answers is applied and perhaps not committed yet; outcomes are deterministic, so it is
//! what will be committed.

use core::fmt;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::Shard;
use crate::{
    AccountId, Currency, Partition,
    hash::key_hash,
    ledger::BalanceState,
    wait::{DeferredWaker, Waker},
};

/// How many questions a shard answers before it looks at its commands again.
const ANSWERS_MAX: usize = 64;

/// What a shard says of a user's balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The user has an account here.
    Account {
        /// Which.
        account_id: AccountId,
        /// What it has of the currency; `None` before the first command that succeeded.
        balance: Option<BalanceState>,
        /// The clock of the partition that was named: up to when this is known, in ms since 1970.
        clock_ms: i64,
    },
    /// No account of that user is open here.
    NoAccount,
    /// The shard ended before it came to the question.
    Gone,
}

/// Who hears the answer, on the shard's thread: short, and never waiting.
pub type Answer = Box<dyn FnOnce(Seen) + Send>;

/// What a shard gives several answers within, so that whoever hears many is told once. It must call
/// what it is given.
pub type Together = fn(&mut dyn FnMut());

/// What a user has of a currency. Answered once, with [`Seen::Gone`] if it is dropped.
pub struct Question {
    key_hash: u64,
    user_id: Box<str>,
    currency: Currency,
    partition: Partition,
    answer: Option<Answer>,
}

impl Question {
    /// A question about a user whose records come by `partition`.
    pub fn new(user_id: &str, currency: Currency, partition: Partition, answer: Answer) -> Self {
        Self {
            key_hash: key_hash(user_id.as_bytes()),
            user_id: user_id.into(),
            currency,
            partition,
            answer: Some(answer),
        }
    }

    fn answer(mut self, seen: Seen) {
        if let Some(answer) = self.answer.take() {
            answer(seen);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(Seen::Gone);
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("user_id", &self.user_id)
            .field("currency", &self.currency)
            .finish_non_exhaustive()
    }
}

/// The way to one shard: a bounded channel of `slots` questions.
pub fn questions(slots: usize) -> (Sender<Question>, Receiver<Question>) {
    bounded(slots)
}

/// The way to all shards of a node. Any number of threads may have a copy.
#[derive(Clone, Debug)]
pub struct Asker {
    shards: Arc<[Way]>,
}

#[derive(Debug)]
struct Way {
    questions: Sender<Question>,
    waker: DeferredWaker,
}

/// A shard has more questions waiting than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Asker {
    /// Asks by each shard's channel, and wakes it by its waker; in the order of the shards.
    ///
    /// # Panics
    ///
    /// Without shards.
    pub fn new(shards: Vec<(Sender<Question>, Waker)>) -> Self {
        assert!(!shards.is_empty(), "nobody to ask");
        let ways = shards.into_iter().map(|(questions, waker)| Way {
            questions,
            waker: DeferredWaker::new(waker),
        });
        Self {
            shards: ways.collect(),
        }
    }

    /// Hands a question to the shard that owns its user; the answer comes on that shard's thread,
    /// or on this one when the shard has ended. One of several: [`Asker::wake`] follows, or the
    /// shard may sleep over it for as long as an idle thread parks.
    ///
    /// # Errors
    ///
    /// When too many wait: the question is answered with [`Seen::Gone`], and whoever asks should
    /// look elsewhere.
    pub fn ask(&self, question: Question) -> Result<(), Busy> {
        let index = crate::shard_of(question.key_hash, self.shards.len() as u32);
        let way = &self.shards[index as usize];
        match way.questions.try_send(question) {
            Ok(()) => {
                way.waker.defer();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(Busy),
            // Dropping it says that the shard is gone.
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Wakes the shards that were asked something since the last time.
    pub fn wake(&self) {
        for way in self.shards.iter() {
            way.waker.flush();
        }
    }
}

impl Shard {
    /// Answers a few of the questions that wait, and says how many.
    pub(super) fn answer_questions(
        &self,
        questions: &Receiver<Question>,
        together: Together,
    ) -> usize {
        if questions.is_empty() {
            return 0;
        }
        let mut answered = 0;
        together(&mut || {
            for question in questions.try_iter().take(ANSWERS_MAX) {
                let seen = self.see(&question);
                question.answer(seen);
                answered += 1;
            }
        });
        answered
    }

    fn see(&self, question: &Question) -> Seen {
        let user = question.user_id.as_bytes();
        let Some(account) = self.book.account(question.key_hash, user) else {
            return Seen::NoAccount;
        };
        let slot = self
            .book
            .find_of(account.handle, question.key_hash, question.currency);
        let mut clocks = self.partitions.iter();
        let clock = clocks.find(|state| state.partition == question.partition);
        Seen::Account {
            account_id: account.id,
            balance: slot.map(|slot| self.book.slot(slot).state()),
            clock_ms: clock.map_or(0, |state| state.clock_ms()),
        }
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        Generation, HashRange, Term,
        partitioner::Partitioner,
        shard::{DeadLetters, Entries, ShardSettings},
        wait::{WaitStrategy, waiter},
    };

    fn shard() -> Shard {
        let mut shard = Shard::new(ShardSettings {
            range: HashRange::ALL,
            term: Term::new(1),
            partitions: vec![(Partition::new(3), Generation::new(1))],
            partition_count: 4,
            partitioner: Partitioner::Murmur2,
            window_ms: 1000,
            window_bytes: 1 << 20,
            dead_letters: DeadLetters::WithEpoch,
            entries: Entries::WithEpoch,
        });
        let handle = shard.load_account(key_hash(b"ann"), "ann", AccountId::new(7).unwrap());
        let balance = BalanceState {
            available: "12.5".parse().unwrap(),
            frozen: "1".parse().unwrap(),
            version: 4,
        };
        shard.load_balance(key_hash(b"ann"), handle, usdt(), balance);
        shard
    }

    fn usdt() -> Currency {
        Currency::parse(b"USDT").unwrap()
    }

    fn question(user: &str, currency: &str, heard: &Arc<Mutex<Vec<Seen>>>) -> Question {
        let heard = Arc::clone(heard);
        Question::new(
            user,
            Currency::parse(currency.as_bytes()).unwrap(),
            Partition::new(3),
            Box::new(move |seen| heard.lock().unwrap().push(seen)),
        )
    }

    #[test]
    fn says_what_a_user_has() {
        let shard = shard();
        let heard = Arc::default();
        let (sender, receiver) = questions(8);
        for (user, currency) in [("ann", "USDT"), ("ann", "BTC"), ("bob", "USDT")] {
            sender.send(question(user, currency, &heard)).unwrap();
        }
        assert_eq!(shard.answer_questions(&receiver, |answer| answer()), 3);
        assert_eq!(shard.answer_questions(&receiver, |answer| answer()), 0);
        let heard = heard.lock().unwrap();
        let account_id = AccountId::new(7).unwrap();
        let Seen::Account {
            account_id: found,
            balance: Some(balance),
            clock_ms: 0,
        } = heard[0]
        else {
            panic!("{:?}", heard[0]);
        };
        assert_eq!(found, account_id);
        assert_eq!(balance.available.to_string(), "12.5");
        assert_eq!(balance.version, 4);
        assert_eq!(
            heard[1],
            Seen::Account {
                account_id,
                balance: None,
                clock_ms: 0
            }
        );
        assert_eq!(heard[2], Seen::NoAccount);
    }

    #[test]
    fn a_flood_does_not_hold_the_shard_up() {
        let shard = shard();
        let heard = Arc::default();
        let (sender, receiver) = questions(4 * ANSWERS_MAX);
        for _ in 0..2 * ANSWERS_MAX {
            sender.send(question("ann", "USDT", &heard)).unwrap();
        }
        assert_eq!(
            shard.answer_questions(&receiver, |answer| answer()),
            ANSWERS_MAX
        );
    }

    #[test]
    fn questions_that_wait_are_answered_together() {
        static TOGETHER: Mutex<u32> = Mutex::new(0);
        let shard = shard();
        let heard = Arc::default();
        let (sender, receiver) = questions(8);
        for _ in 0..3 {
            sender.send(question("ann", "USDT", &heard)).unwrap();
        }
        let answered = shard.answer_questions(&receiver, |answers| {
            *TOGETHER.lock().unwrap() += 1;
            answers();
        });
        assert_eq!((answered, *TOGETHER.lock().unwrap()), (3, 1));
        assert_eq!(heard.lock().unwrap().len(), 3);
    }

    #[test]
    fn every_question_is_answered_once() {
        let heard = Arc::default();
        let (sender, receiver) = questions(1);
        let (_, waker) = waiter(WaitStrategy::BusySpin);
        let asker = Asker::new(vec![(sender, waker)]);
        assert_eq!(asker.ask(question("ann", "USDT", &heard)), Ok(()));
        assert_eq!(asker.ask(question("ann", "USDT", &heard)), Err(Busy));
        assert_eq!(*heard.lock().unwrap(), [Seen::Gone], "the one too many");
        drop(receiver);
        assert_eq!(asker.ask(question("ann", "USDT", &heard)), Ok(()));
        drop(asker);
        assert_eq!(*heard.lock().unwrap(), [Seen::Gone; 3]);
    }
}
