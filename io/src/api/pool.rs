//! Threads for what has to wait for a server.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

use super::{
    Problem, ProblemKind,
    seams::{Answer, Patience, Transactions},
};
use crate::outbox::{Lookup, TransactionState};

type Work<W> = Box<dyn FnOnce(&mut W) + Send>;

/// A piece of work and what is said if it is not done.
struct Job<W> {
    patience: Patience,
    work: Work<W>,
    give_up: Box<dyn FnOnce(Problem) + Send>,
}

struct Waiting<W> {
    jobs: VecDeque<Job<W>>,
    stopped: bool,
}

struct Shared<W> {
    name: &'static str,
    room: usize,
    waiting: Mutex<Waiting<W>>,
    more: Condvar,
}

/// A few named threads, each with a worker of its own (a connection, say), and a bounded queue.
/// What does not fit is refused at once; what nobody waits for any more is not begun.
pub struct Pool<W> {
    shared: Arc<Shared<W>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Send + 'static> Pool<W> {
    /// Starts a thread for each worker, named `name-0` and so on. At most `room` pieces of work
    /// wait.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started; those that were are ended.
    pub fn start(name: &'static str, workers: Vec<W>, room: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            name,
            room,
            waiting: Mutex::new(Waiting {
                jobs: VecDeque::new(),
                stopped: false,
            }),
            more: Condvar::new(),
        });
        let mut pool = Self {
            shared,
            threads: Vec::new(),
        };
        for (index, worker) in workers.into_iter().enumerate() {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name(format!("{name}-{index}"));
            pool.threads
                .push(thread.spawn(move || run(&shared, worker))?);
        }
        Ok(pool)
    }

    /// Has `work` done by some thread while somebody waits for it. If there is no room, nobody who
    /// waits or no pool any more, `give_up` is called instead, perhaps at once.
    pub fn submit(
        &self,
        patience: Patience,
        work: impl FnOnce(&mut W) + Send + 'static,
        give_up: impl FnOnce(Problem) + Send + 'static,
    ) {
        let shared = &self.shared;
        let mut waiting = shared.waiting.lock();
        if waiting.jobs.len() >= shared.room {
            let count = waiting.jobs.len();
            drop(waiting);
            let message = format!("{count} requests wait for {} already", shared.name);
            return give_up(Problem::new(ProblemKind::Overload, message));
        }
        waiting.jobs.push_back(Job {
            patience,
            work: Box::new(work),
            give_up: Box::new(give_up),
        });
        drop(waiting);
        shared.more.notify_one();
    }
}

impl<W> Drop for Pool<W> {
    /// Ends the threads when they have done what they are at; what waits is given up.
    fn drop(&mut self) {
        let left = {
            let mut waiting = self.shared.waiting.lock();
            waiting.stopped = true;
            std::mem::take(&mut waiting.jobs)
        };
        self.shared.more.notify_all();
        for job in left {
            let message = format!("{} is ending", self.shared.name);
            (job.give_up)(Problem::new(ProblemKind::Unavailable, message));
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so on its own.
            let _ = thread.join();
        }
    }
}

impl<W> fmt::Debug for Pool<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.name)
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

fn run<W>(shared: &Shared<W>, mut worker: W) {
    while let Some(job) = next(shared) {
        let why = if job.patience.gone.is_set() {
            "nobody waited any more"
        } else if Instant::now() >= job.patience.until {
            "no time was left"
        } else {
            (job.work)(&mut worker);
            continue;
        };
        let message = format!("{why} when {} came to it", shared.name);
        (job.give_up)(Problem::new(ProblemKind::Deadline, message));
    }
}

fn next<W>(shared: &Shared<W>) -> Option<Job<W>> {
    let mut waiting = shared.waiting.lock();
    loop {
        if waiting.stopped {
            return None;
        }
        if let Some(job) = waiting.jobs.pop_front() {
            return Some(job);
        }
        shared.more.wait(&mut waiting);
    }
}

impl<L: Lookup + Send + 'static> Transactions for Pool<L> {
    fn transaction(
        &self,
        user_id: &str,
        transaction_id: &str,
        patience: Patience,
        answer: Answer<Result<Option<TransactionState>, Problem>>,
    ) {
        let names = (user_id.to_owned(), transaction_id.to_owned());
        let answer = Arc::new(Mutex::new(Some(answer)));
        let otherwise = Arc::clone(&answer);
        let tell = |answer: &Mutex<Option<Answer<_>>>, result| {
            if let Some(answer) = answer.lock().take() {
                answer(result);
            }
        };
        self.submit(
            patience,
            move |lookup| {
                let found = lookup.transaction(&names.0, &names.1).map_err(|error| {
                    tracing::warn!(%error, "a transaction id could not be looked up");
                    Problem::new(ProblemKind::Unavailable, "the store is unavailable")
                });
                tell(&answer, found);
            },
            move |problem| tell(&otherwise, Err(problem)),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn work_is_bounded_refused_early_and_given_up_late() {
        let pool = Pool::start("reads", vec![7_u32], 3).unwrap();
        let (begin, begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let later = Patience::until(Instant::now() + LONG);
        pool.submit(
            later.clone(),
            move |worker| {
                begin
                    .send((*worker, thread::current().name().map(str::to_owned)))
                    .unwrap();
                released.recv_timeout(LONG).unwrap();
            },
            |problem| panic!("{problem}"),
        );
        let (worker, name) = begun.recv_timeout(LONG).unwrap();
        assert_eq!((worker, name.as_deref()), (7, Some("reads-0")));
        // The thread is busy: three wait, two of them in vain, and the fourth is refused at once.
        let job = |patience: &Patience, number: u32| {
            let (done, given_up) = (tell.clone(), tell.clone());
            pool.submit(
                patience.clone(),
                move |_| done.send((number, None)).unwrap(),
                move |problem| given_up.send((number, Some(problem.kind))).unwrap(),
            );
        };
        let goes = Patience::until(later.until);
        job(&Patience::until(Instant::now()), 0);
        job(&goes, 1);
        job(&later, 2);
        job(&later, 3);
        assert_eq!(told.try_recv(), Ok((3, Some(ProblemKind::Overload))));
        goes.gone.set();
        release.send(()).unwrap();
        let mut rest = [0; 3].map(|_| told.recv_timeout(LONG).unwrap());
        rest.sort_unstable_by_key(|(number, _)| *number);
        let late = Some(ProblemKind::Deadline);
        assert_eq!(rest, [(0, late), (1, late), (2, None)]);
    }

    #[test]
    fn what_waits_when_it_ends_is_given_up() {
        let pool = Pool::<()>::start("reads", vec![], 4).unwrap();
        let (tell, told) = mpsc::channel();
        pool.submit(
            Patience::until(Instant::now() + LONG),
            |()| unreachable!("there is no thread"),
            move |problem| tell.send(problem.kind).unwrap(),
        );
        drop(pool);
        assert_eq!(told.try_recv(), Ok(ProblemKind::Unavailable));
    }
}
