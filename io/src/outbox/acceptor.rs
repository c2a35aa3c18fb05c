//! The thread that makes requests durable in MySQL: what waits goes in one transaction.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use kilter_engine::{agent::Agent, clock::Clock};

use super::{
    Admitted, DoorError, Intake, OutboxCounters, OutboxError, OutboxSettings, Submitted,
    handover::Handover,
};
use crate::mysql::{
    Db, MysqlError,
    outbox::{Accepter, Made, Request},
};
use crate::net;

/// The first and the longest pause between two tries.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// The server's shortest patience with a silent connection.
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// Accepts. Answers only what is durable; what is answered reaches the log without it.
pub struct Acceptor<C> {
    settings: OutboxSettings,
    intake: Intake,
    handover: Handover,
    accepter: Accepter,
    counters: Arc<OutboxCounters>,
    db: Option<Db>,
    /// When the connection was used last.
    used: Instant,
    clock: C,
    done: bool,
}

/// What a batch came to so far, in the order of its requests.
#[derive(Default)]
struct Settled {
    answers: Vec<Result<Admitted, DoorError>>,
    made: Vec<Made>,
}

impl<C: Clock> Acceptor<C> {
    pub(super) fn new(
        settings: OutboxSettings,
        intake: Intake,
        handover: Handover,
        clock: C,
    ) -> Self {
        Self {
            accepter: Accepter::new(
                settings.kafka.commands.clone(),
                settings.partitions,
                settings.accounts_max,
            ),
            counters: Arc::clone(intake.counters()),
            settings,
            intake,
            handover,
            db: None,
            used: Instant::now(),
            clock,
            done: false,
        }
    }

    fn serve(&mut self, batch: Vec<Submitted>) -> Result<(), OutboxError> {
        let limit = self.settings.answer_limit;
        let now = Instant::now();
        let now_ms = self.clock.wall_ms();
        let (overdue, batch): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|submitted| now.duration_since(submitted.since) >= limit);
        for submitted in overdue {
            self.counters.unavailable.fetch_add(1, Ordering::Relaxed);
            submitted.answer(Err(DoorError::Unavailable {
                why: format!("it waited for {} ms", limit.as_millis()),
            }));
        }
        let Some(deadline) = batch.iter().map(|submitted| submitted.since + limit).min() else {
            return Ok(());
        };
        let requests: Vec<Request<'_>> = batch
            .iter()
            .map(|submitted| Request::new(&submitted.request, now_ms))
            .collect();
        let mut settled = Settled::default();
        let ended = self.settle(&requests, deadline, &mut settled);
        // Not answered so far only if something ended this thread.
        for (_, answer) in batch.iter().zip(&settled.answers) {
            self.count(answer);
        }
        answer_all(batch.into_iter().zip(settled.answers));
        if !settled.made.is_empty() {
            let made = settled.made.len() as u64;
            self.counters.created.fetch_add(made, Ordering::Relaxed);
            self.counters.batches.fetch_add(1, Ordering::Relaxed);
            self.counters.last_batch.store(made, Ordering::Relaxed);
            self.handover.put(settled.made);
        }
        ended
    }

    /// Settles requests together, or in halves where the store does not take one of them.
    fn settle(
        &mut self,
        requests: &[Request<'_>],
        deadline: Instant,
        settled: &mut Settled,
    ) -> Result<(), OutboxError> {
        match self.try_until(requests, deadline) {
            Ok((answers, made)) => {
                settled.answers.extend(answers.into_iter().map(Ok));
                settled.made.extend(made);
                Ok(())
            }
            Err(error) if error.is_passing() => {
                let why = describe(&error);
                tracing::warn!("the front door answers that the store is unavailable: {why}");
                settled.unavailable(requests.len(), &why);
                Ok(())
            }
            Err(error) if error.is_about_rows() && requests.len() > 1 => {
                let (first, second) = requests.split_at(requests.len() / 2);
                self.settle(first, deadline, settled)?;
                self.settle(second, deadline, settled)
            }
            Err(error) if error.is_about_rows() => {
                let why = describe(&error);
                tracing::warn!("the store does not take a command: {why}");
                settled.answers.push(Err(DoorError::Refused { why }));
                Ok(())
            }
            Err(error) => {
                settled.unavailable(requests.len(), &describe(&error));
                Err(error.into())
            }
        }
    }

    /// Tries until it is done, refused, or too late; the names of the rows stay the same, so that
    /// a transaction of unknown fate is found out by the next try.
    fn try_until(
        &mut self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Result<(Vec<Admitted>, Vec<Made>), MysqlError> {
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.try_once(requests) {
                Ok(done) => return Ok(done),
                Err(error) if !error.is_passing() => return Err(error),
                Err(error) => error,
            };
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!("accepting again: {}", describe(&error));
            self.counters.store_retries.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn try_once(
        &mut self,
        requests: &[Request<'_>],
    ) -> Result<(Vec<Admitted>, Vec<Made>), MysqlError> {
        let silence = self.settings.answer_limit;
        let rested = self.used.elapsed() >= SILENCE_MIN.max(silence) / 2;
        let held = self.db.take();
        let mut db = match held.and_then(|mut db| (!rested || db.is_alive()).then_some(db)) {
            Some(db) => db,
            None => Db::open_brief(&self.settings.impatient(), silence)?,
        };
        self.used = Instant::now();
        let done = self.accepter.accept(&mut db, requests);
        if !done.as_ref().is_err_and(MysqlError::is_lost) {
            self.db = Some(db);
        }
        done
    }

    fn count(&self, answer: &Result<Admitted, DoorError>) {
        let counter = match answer {
            Ok(Admitted::Accepted { .. }) => return,
            Ok(Admitted::Duplicate { .. }) => &self.counters.duplicates,
            Ok(Admitted::Conflict { .. }) => &self.counters.conflicts,
            Ok(_) => &self.counters.account_refusals,
            Err(_) => &self.counters.unavailable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many answers connections hear at a time: enough to be worth it, and few enough that they are on
/// their way while the others are given.
const TOGETHER: usize = 128;

/// Answers, a good many at a time.
pub(super) fn answer_all(answers: impl Iterator<Item = (Submitted, Result<Admitted, DoorError>)>) {
    let mut answers = answers.peekable();
    while answers.peek().is_some() {
        net::together(|| {
            for (submitted, answer) in answers.by_ref().take(TOGETHER) {
                submitted.answer(answer);
            }
        });
    }
}

impl Settled {
    fn unavailable(&mut self, count: usize, why: &str) {
        let error = DoorError::Unavailable { why: why.into() };
        self.answers
            .extend(std::iter::repeat_n(error, count).map(Err));
    }
}

/// An error with its causes, for people.
pub(super) fn describe(error: &MysqlError) -> String {
    crate::mysql::chain(error)
}

impl<C: Clock> Agent for Acceptor<C> {
    type Error = OutboxError;

    fn role(&self) -> &str {
        "outbox-accept"
    }

    fn do_work(&mut self) -> Result<usize, OutboxError> {
        if self.handover.is_full() {
            return Ok(0);
        }
        let batch = self
            .intake
            .take(self.settings.batch_max, self.settings.batch_bytes);
        let count = batch.len();
        if count > 0 {
            self.serve(batch)?;
        } else if self.intake.is_finished() {
            self.done = true;
        }
        Ok(count)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

impl<C> Drop for Acceptor<C> {
    fn drop(&mut self) {
        self.handover.close();
    }
}
