//! Threads: one for each agent, named by its role, pinned if asked, ended together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, anyhow};
use core_affinity::CoreId;
use crossbeam::channel::{Receiver, Sender, bounded};
use kilter_engine::{
    agent::Agent,
    wait::{Idle, Waker},
};

/// How many failures are kept; the first is what is told.
const FAILURES_MAX: usize = 16;

/// All threads of a node. When one fails, all end: what is not committed is replayed by the next
/// start, which is as safe as a crash.
pub struct Threads {
    abort: Arc<AtomicBool>,
    failed: Sender<anyhow::Error>,
    failures: Receiver<anyhow::Error>,
    handles: Vec<JoinHandle<()>>,
    wakers: Vec<Waker>,
}

impl Threads {
    /// No threads yet.
    pub fn new() -> Self {
        let (failed, failures) = bounded(FAILURES_MAX);
        Self {
            abort: Arc::new(AtomicBool::new(false)),
            failed,
            failures,
            handles: Vec::new(),
            wakers: Vec::new(),
        }
    }

    /// Starts a thread that runs `agent` until it is done, fails, or another one fails.
    ///
    /// # Errors
    ///
    /// When the system gives no thread, or does not pin it.
    pub fn spawn<A>(
        &mut self,
        mut agent: A,
        (mut idle, waker): (Idle, Waker),
        core: Option<CoreId>,
    ) -> anyhow::Result<()>
    where
        A: Agent + Send + 'static,
        A::Error: std::error::Error + Send + Sync + 'static,
    {
        let role = agent.role().to_owned();
        let abort = Arc::clone(&self.abort);
        let failed = self.failed.clone();
        let wakers = self.wakers.clone();
        self.wakers.push(waker);
        let (pinned, is_pinned) = crossbeam::channel::bounded(1);
        let name = role.clone();
        let body = move || {
            // A broken invariant panics: the others must not go on without this thread.
            let guard = AbortOnPanic {
                abort: &abort,
                failed: &failed,
                role: &role,
            };
            let done = pinned.send(core.is_none_or(core_affinity::set_for_current));
            debug_assert!(done.is_ok(), "the spawner waits for it");
            if let Err(error) = run(&mut agent, &mut idle, &abort) {
                abort.store(true, Ordering::Release);
                let error = anyhow::Error::new(error).context(format!("{role} stopped"));
                // The first few say what there is to say.
                let _ = failed.try_send(error);
            }
            drop(guard);
            wakers.iter().for_each(Waker::wake);
        };
        let handle = std::thread::Builder::new()
            .name(name.clone())
            .spawn(body)
            .with_context(|| format!("no thread for {name}"))?;
        self.handles.push(handle);
        if is_pinned.recv() != Ok(true) {
            self.abort();
            let core = core.map_or(0, |core| core.id);
            return Err(anyhow!("{name} cannot be pinned to CPU {core} (--pin)"));
        }
        Ok(())
    }

    /// The first failure, if there was one. Does not wait.
    pub fn failure(&self) -> Option<anyhow::Error> {
        self.failures.try_recv().ok()
    }

    /// Whether every thread ended.
    pub fn are_done(&self) -> bool {
        self.handles.iter().all(JoinHandle::is_finished)
    }

    /// Makes every thread end after its current piece of work, wherever it is.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::Release);
        self.wakers.iter().for_each(Waker::wake);
    }

    /// Waits for all threads.
    ///
    /// # Errors
    ///
    /// The first failure of any of them.
    pub fn join(&mut self) -> anyhow::Result<()> {
        for handle in self.handles.drain(..) {
            // A panic has told of itself through its guard.
            let _ = handle.join();
        }
        self.failure().map_or(Ok(()), Err)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.abort();
        let _ = self.join();
    }
}

/// As [`kilter_engine::agent::run`], with a way out from outside.
fn run<A: Agent>(agent: &mut A, idle: &mut Idle, abort: &AtomicBool) -> Result<(), A::Error> {
    loop {
        // Relaxed would do for the flag alone; Acquire shows what went before it, too.
        if abort.load(Ordering::Acquire) {
            return Ok(());
        }
        let work = agent.do_work()?;
        if agent.is_done() {
            return Ok(());
        }
        idle.idle(work);
    }
}

struct AbortOnPanic<'a> {
    abort: &'a AtomicBool,
    failed: &'a Sender<anyhow::Error>,
    role: &'a str,
}

impl Drop for AbortOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort.store(true, Ordering::Release);
            let error = anyhow!(
                "{} found a broken invariant and stopped before the next commit (see above); the \
                 store is at its last epoch, and kilter audit checks it",
                self.role
            );
            let _ = self.failed.try_send(error);
        }
    }
}
