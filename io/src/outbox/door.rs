//! The queue between the services' threads and the one that makes requests durable.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use kilter_engine::wait::{DeferredWaker, Waker};
use parking_lot::Mutex;

use super::{Admitted, DoorError, Named, NewEvent, NotTaken, OutboxCounters};

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorLimits {
    /// Requests.
    pub requests: usize,
    /// Memory of those requests, in bytes.
    pub bytes: usize,
    /// A command's payload, in bytes.
    pub payload_bytes: usize,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            requests: 16_384,
            bytes: 64 << 20,
            payload_bytes: 64 << 10,
        }
    }
}

type Answer = Box<dyn FnOnce(Result<Admitted, DoorError>) + Send>;

/// A request that waits. Answered once: dropped unanswered, it answers [`DoorError::Stopped`].
pub struct Submitted {
    /// What is asked.
    pub request: Named,
    /// When it was handed over.
    pub since: Instant,
    answer: Option<Answer>,
}

impl Submitted {
    /// Answers.
    pub fn answer(mut self, result: Result<Admitted, DoorError>) {
        if let Some(answer) = self.answer.take() {
            answer(result);
        }
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(Err(DoorError::Stopped));
        }
    }
}

impl fmt::Debug for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Submitted>,
    bytes: usize,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    limits: DoorLimits,
    waker: DeferredWaker,
    waiting: Mutex<Waiting>,
    counters: Arc<OutboxCounters>,
}

/// Where requests are handed over. Any number of threads may have a copy.
#[derive(Clone, Debug)]
pub struct Door {
    shared: Arc<Shared>,
}

/// The other end: what waits is taken out here. Dropped, the door is closed, and what waits is
/// answered [`DoorError::Stopped`].
#[derive(Debug)]
pub struct Intake {
    shared: Arc<Shared>,
}

/// A door and its other end. `waker` wakes the thread that takes requests out.
pub fn door(limits: DoorLimits, waker: Waker) -> (Door, Intake) {
    let shared = Arc::new(Shared {
        limits,
        waker: DeferredWaker::new(waker),
        waiting: Mutex::default(),
        counters: Arc::default(),
    });
    let intake = Intake {
        shared: Arc::clone(&shared),
    };
    (Door { shared }, intake)
}

impl Door {
    /// Hands a request over; never waits. `answer` is called once, on the outbox's thread, and must
    /// not block it.
    ///
    /// # Errors
    ///
    /// [`NotTaken`]: nothing comes of the request, and `answer` is not called.
    pub fn submit(
        &self,
        event: NewEvent,
        answer: impl FnOnce(Result<Admitted, DoorError>) + Send + 'static,
    ) -> Result<(), NotTaken> {
        self.put(event, answer)?;
        self.settle();
        Ok(())
    }

    /// As [`Door::submit`], one of several: [`Door::settle`] follows.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put(
        &self,
        event: NewEvent,
        answer: impl FnOnce(Result<Admitted, DoorError>) + Send + 'static,
    ) -> Result<(), NotTaken> {
        let limits = &self.shared.limits;
        event.check(limits.payload_bytes)?;
        let bytes = event.bytes();
        let request = Named::from(event);
        let submitted = Box::new(answer);
        {
            let mut waiting = self.shared.waiting.lock();
            if waiting.closed {
                return Err(NotTaken::Closed);
            }
            if waiting.queue.len() >= limits.requests || waiting.bytes + bytes > limits.bytes {
                self.shared
                    .counters
                    .turned_away
                    .fetch_add(1, Ordering::Relaxed);
                return Err(NotTaken::Full {
                    waiting: waiting.queue.len(),
                    bytes: waiting.bytes,
                });
            }
            waiting.bytes += bytes;
            waiting.queue.push_back(Submitted {
                request,
                since: Instant::now(),
                answer: Some(submitted),
            });
            let depth = waiting.queue.len() as u64;
            self.shared.counters.depth.store(depth, Ordering::Relaxed);
        }
        self.shared.waker.defer();
        Ok(())
    }

    /// Wakes whoever takes what was put since the last time.
    pub fn settle(&self) {
        self.shared.waker.flush();
    }

    /// How many requests wait.
    pub fn depth(&self) -> usize {
        self.shared.waiting.lock().queue.len()
    }

    /// Takes nothing more; what waits is still answered.
    pub fn close(&self) {
        self.shared.waiting.lock().closed = true;
        self.shared.waker.wake();
    }

    /// The figures of this outbox.
    pub fn counters(&self) -> &Arc<OutboxCounters> {
        &self.shared.counters
    }
}

impl Intake {
    /// Takes out what waits, in order: at most `most` requests of at most `bytes`, or one.
    pub fn take(&self, most: usize, bytes: usize) -> Vec<Submitted> {
        let mut waiting = self.shared.waiting.lock();
        let mut taken = Vec::new();
        let mut held = 0;
        while let Some(first) = waiting.queue.front() {
            let more = first.request.event.bytes();
            if taken.len() >= most || (held + more > bytes && !taken.is_empty()) {
                break;
            }
            held += more;
            waiting.bytes -= more;
            taken.extend(waiting.queue.pop_front());
        }
        let depth = waiting.queue.len() as u64;
        self.shared.counters.depth.store(depth, Ordering::Relaxed);
        taken
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.shared.waiting.lock().queue.is_empty()
    }

    /// Whether the door is closed and nothing waits.
    pub fn is_finished(&self) -> bool {
        let waiting = self.shared.waiting.lock();
        waiting.closed && waiting.queue.is_empty()
    }

    /// The figures of this outbox.
    pub fn counters(&self) -> &Arc<OutboxCounters> {
        &self.shared.counters
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock();
        waiting.closed = true;
        waiting.bytes = 0;
        let left = std::mem::take(&mut waiting.queue);
        drop(waiting);
        // Outside of the lock: answers are other people's code.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use kilter_engine::wait::{WaitStrategy, waiter};

    use super::*;
    use crate::outbox::Asked;

    fn event(user: &str) -> NewEvent {
        NewEvent {
            user_id: user.into(),
            asked: Asked::Open { account_id: None },
        }
    }

    #[test]
    fn a_full_door_refuses_and_what_waits_is_answered_when_it_ends() {
        let (_idle, waker) = waiter(WaitStrategy::Park);
        let limits = DoorLimits {
            requests: 2,
            ..DoorLimits::default()
        };
        let (door, intake) = door(limits, waker);
        let (sender, answers) = mpsc::channel();
        let submit = |user: &str| {
            let sender = sender.clone();
            door.submit(event(user), move |answer| sender.send(answer).unwrap())
        };
        assert_eq!(submit("a"), Ok(()));
        assert_eq!(submit("b"), Ok(()));
        assert!(matches!(
            submit("c"),
            Err(NotTaken::Full { waiting: 2, .. })
        ));
        assert_eq!(door.depth(), 2);
        let taken = intake.take(1, 0);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].request.event.user_id, "a");
        for taken in taken {
            taken.answer(Ok(Admitted::NoAccount));
        }
        assert_eq!(answers.try_recv(), Ok(Ok(Admitted::NoAccount)));
        assert_eq!(submit("d"), Ok(()));
        drop(intake);
        assert_eq!(submit("e"), Err(NotTaken::Closed));
        assert_eq!(answers.try_recv(), Ok(Err(DoorError::Stopped)));
        assert_eq!(answers.try_recv(), Ok(Err(DoorError::Stopped)));
        assert!(answers.try_recv().is_err());
    }

    #[test]
    fn memory_is_bounded_too() {
        let (_idle, waker) = waiter(WaitStrategy::Park);
        let limits = DoorLimits {
            bytes: 2 * event("a").bytes(),
            ..DoorLimits::default()
        };
        let (door, intake) = door(limits, waker);
        assert_eq!(door.submit(event("a"), |_| ()), Ok(()));
        assert_eq!(door.submit(event("b"), |_| ()), Ok(()));
        assert!(door.submit(event("c"), |_| ()).is_err());
        door.close();
        assert!(!intake.is_finished());
        assert_eq!(intake.take(10, usize::MAX).len(), 2);
        assert!(intake.is_finished());
    }
}
