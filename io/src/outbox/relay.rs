//! The thread that looks after what is left: events that nobody sent, legs of transfers, and events
//! that expired.
//!
//! It walks over the open rows of its ranges by user and id, and holds no lock while it produces.
//! Of each user it begins at the first row, if that is due, and goes on in order; a row that cannot
//! be sent stops its user. A crash at any step leaves rows open, and the next relay sends copies,
//! which have no effect.

mod walk;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kilter_engine::{agent::Agent, clock::Clock};

use super::{Hands, OutboxCounters, OutboxError, OutboxSettings, acceptor::describe, heard::Heard};
use crate::{
    kafka::{Acknowledged, EventProducer},
    mysql::{
        Db, MysqlError,
        outbox::{Judge, Leases, Sent, Trimmer, Window, figures, mark, note_failure},
        owner_name,
    },
};
use walk::Walk;

/// The first and the longest pause after a failure.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The most rows in one statement.
const MARK_MAX: usize = 1000;

/// How often figures are read.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// How often the windows in force are read.
const WINDOW_INTERVAL: Duration = Duration::from_secs(60);

/// An event that was handed to the producer.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    issues: u32,
    issued_at_ms: i64,
    is_leg: bool,
    /// Since when it is waited for, or since the last note that it failed.
    since: Instant,
}

/// Something that is done now and then.
#[derive(Debug)]
struct Every {
    interval: Duration,
    next: Instant,
}

impl Every {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: Instant::now(),
        }
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.interval;
        }
        due
    }

    fn at_once(&mut self) {
        self.after(Duration::ZERO);
    }

    fn after(&mut self, pause: Duration) {
        self.next = Instant::now() + pause;
    }
}

/// Resends. One a process; the leases share the ranges among processes.
pub struct Relay<C> {
    settings: OutboxSettings,
    hands: Hands,
    counters: Arc<OutboxCounters>,
    stop: Arc<AtomicBool>,
    producer: EventProducer,
    db: Option<Db>,
    leases: Leases,
    judge: Judge,
    trimmer: Trimmer,
    window: Option<Window>,
    in_flight: HashMap<u64, InFlight>,
    acknowledged: Vec<Acknowledged>,
    /// Rows that the log did not take, and until when they are left alone.
    held_back: HashMap<u64, (Instant, Duration)>,
    /// Until when the fate of a row is not looked up again.
    judged: HashMap<u64, Instant>,
    walk: Option<Walk>,
    /// How often a row was handed over or settled.
    moved: u64,
    /// The log generation for which this process produces, once it is read; never another one.
    heard: Option<Heard>,
    keep: Every,
    look: Every,
    tell: Every,
    trim: Every,
    windows: Every,
    pause: Duration,
    pause_until: Instant,
    clock: C,
    done: bool,
}

impl<C: Clock> Relay<C> {
    /// A relay under a name of its own. It ends when `stop` is set, and leaves alone what the door of
    /// its process has in `hands`.
    ///
    /// # Errors
    ///
    /// When a property of the log's client is refused.
    pub fn new(
        settings: OutboxSettings,
        hands: Hands,
        counters: Arc<OutboxCounters>,
        stop: Arc<AtomicBool>,
        clock: C,
    ) -> Result<Self, OutboxError> {
        let window = Duration::from_millis(settings.window_ms);
        Ok(Self {
            producer: EventProducer::new(&settings.kafka, settings.in_flight_max)?,
            db: None,
            leases: Leases::new(owner_name(), settings.lease_ttl, settings.ranges_max),
            judge: Judge {
                group: settings.kafka.group.clone(),
                topic: settings.kafka.commands.clone(),
                partitions: settings.partitions,
            },
            trimmer: Trimmer::new(
                settings.trim_age.max(window),
                settings.trim_bite,
                settings.ledger,
                settings.trim_round,
            ),
            window: None,
            in_flight: HashMap::new(),
            acknowledged: Vec::new(),
            held_back: HashMap::new(),
            judged: HashMap::new(),
            walk: None,
            moved: 0,
            heard: None,
            keep: Every::new(settings.lease_ttl / 3),
            look: Every::new(settings.look_interval),
            tell: Every::new(FIGURES_INTERVAL),
            trim: Every::new(settings.trim_interval),
            windows: Every::new(WINDOW_INTERVAL),
            pause: PAUSE_FIRST,
            pause_until: Instant::now(),
            settings,
            hands,
            counters,
            stop,
            clock,
            done: false,
        })
    }

    fn turn(&mut self, db: &mut Db) -> Result<usize, OutboxError> {
        if self.keep.is_due() {
            self.leases.keep(db)?;
            self.counters
                .ranges_held
                .store(self.leases.count(), Ordering::Relaxed);
        }
        let window = self.window(db)?;
        if self.heard.is_none() {
            self.heard = Some(Heard::read(db, &self.judge.group, &self.judge.topic)?);
        }
        let heard = self.hear(db, &window)?;
        let walked = self.step(db, &window)?;
        if self.tell.is_due() {
            self.note_overdue(db)?;
            let since = Instant::now();
            let figures = figures(db, &self.leases.ranges());
            // Counting a long backlog takes a small part of the time, however long it is, and even if
            // it fails.
            let pause = FIGURES_INTERVAL.max(since.elapsed() * 20);
            self.tell.after(pause);
            let figures = figures?;
            self.counters
                .unsent
                .store(figures.unsent, Ordering::Relaxed);
            self.counters
                .oldest_unsent_ms
                .store(figures.oldest_ms, Ordering::Relaxed);
            let now = Instant::now();
            self.judged.retain(|_, until| now < *until);
            self.held_back
                .retain(|_, (until, pause)| until.elapsed() < *pause * 4);
        }
        if self.leases.has_first() && self.trim.is_due() {
            let (looked_at, trimmed) = self.trimmer.bite(db, &self.judge, &window)?;
            self.counters.trimmed.fetch_add(trimmed, Ordering::Relaxed);
            if looked_at == u64::from(self.settings.trim_bite) {
                self.trim.at_once();
            }
        }
        Ok(heard + walked)
    }

    fn window(&mut self, db: &mut Db) -> Result<Window, MysqlError> {
        match self.window {
            Some(window) if !self.windows.is_due() => Ok(window),
            _ => {
                let window = Window::read(db, self.settings.window_ms)?;
                self.window = Some(window);
                Ok(window)
            }
        }
    }

    /// Marks what was acknowledged, and begins anew with a producer that failed.
    fn hear(&mut self, db: &mut Db, window: &Window) -> Result<usize, OutboxError> {
        self.producer.poll(Duration::ZERO);
        let before = self.acknowledged.len();
        self.producer.acknowledged(&mut self.acknowledged);
        let Some(heard) = &mut self.heard else {
            return Ok(0);
        };
        heard.take(&self.acknowledged[before..])?;
        let generation = heard.generation();
        let now_ms = self.clock.wall_ms();
        let count = self.acknowledged.len().min(MARK_MAX);
        let of = |ack: &Acknowledged| {
            let issue = self.in_flight.get(&ack.id)?;
            let late = window.is_late(issue.issued_at_ms, now_ms, ack.timestamp_ms);
            Some(Sent {
                id: ack.id,
                issues: issue.issues,
                generation,
                partition: ack.partition.get(),
                offset: ack.offset.get(),
                late: late && self.settings.ledger,
                given_up: late && !self.settings.ledger && issue.is_leg,
            })
        };
        let mut sent: Vec<Sent> = self.acknowledged[..count].iter().filter_map(of).collect();
        let marked = mark(db, &mut sent, 1)?;
        self.counters
            .marked_sent
            .fetch_add(marked, Ordering::Relaxed);
        for ack in self.acknowledged.drain(..count) {
            self.in_flight.remove(&ack.id);
            self.held_back.remove(&ack.id);
        }
        let failures = self.producer.failures();
        if let Some((_, why)) = failures.first() {
            tracing::warn!("the relay's producer begins anew: {why}");
            self.begin_anew(db, &failures)?;
        }
        Ok(count)
    }

    /// What failed is noted and left alone for a while; everything in flight is sent again.
    fn begin_anew(&mut self, db: &mut Db, failures: &[(u64, String)]) -> Result<(), OutboxError> {
        self.producer = EventProducer::new(&self.settings.kafka, self.settings.in_flight_max)?;
        self.in_flight.clear();
        self.acknowledged.clear();
        self.walk = None;
        self.pause_until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        // Behind the first one, events fail because that one did.
        if let Some((id, why)) = failures.first() {
            self.refused(db, *id, why)?;
        }
        Ok(())
    }

    /// An event that the log does not take: its user waits, the others go on.
    fn refused(&mut self, db: &mut Db, id: u64, why: &str) -> Result<(), MysqlError> {
        let pause = match self.held_back.get(&id) {
            Some((_, pause)) => (*pause * 2).min(PAUSE_MAX),
            None => PAUSE_FIRST,
        };
        self.held_back.insert(id, (Instant::now() + pause, pause));
        self.counters.relay_retries.fetch_add(1, Ordering::Relaxed);
        note_failure(db, &[id], why, self.settings.tries)
    }

    /// What is not acknowledged for so long counts as a failed try. It is not handed over again:
    /// the producer never gives up.
    fn note_overdue(&mut self, db: &mut Db) -> Result<(), MysqlError> {
        let limit = self.settings.ack_limit;
        let overdue: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, issue)| issue.since.elapsed() >= limit)
            .map(|(id, _)| *id)
            .take(MARK_MAX)
            .collect();
        let why = format!("not acknowledged within {} ms", limit.as_millis());
        note_failure(db, &overdue, &why, self.settings.tries)?;
        let count = overdue.len() as u64;
        self.counters
            .relay_retries
            .fetch_add(count, Ordering::Relaxed);
        for id in overdue {
            if let Some(issue) = self.in_flight.get_mut(&id) {
                issue.since = Instant::now();
            }
        }
        Ok(())
    }
}

impl<C: Clock> Agent for Relay<C> {
    type Error = OutboxError;

    fn role(&self) -> &str {
        "outbox-relay"
    }

    fn do_work(&mut self) -> Result<usize, OutboxError> {
        let stops = self.stop.load(Ordering::Acquire);
        if Instant::now() < self.pause_until && !stops {
            self.producer.poll(Duration::ZERO);
            return Ok(0);
        }
        let db = match self.db.take() {
            Some(db) => Ok(db),
            None if stops => {
                self.done = true;
                return Ok(0);
            }
            None => Db::open(&self.settings.mysql),
        };
        let turned = db.map_err(OutboxError::from).and_then(|mut db| {
            let turned = if stops {
                self.done = true;
                self.leases.release(&mut db).map_err(Into::into).map(|()| 0)
            } else {
                self.turn(&mut db)
            };
            let lost = matches!(&turned, Err(OutboxError::Mysql(error)) if error.is_lost());
            if !lost {
                self.db = Some(db);
            }
            turned
        });
        match turned {
            Ok(count) => {
                if count > 0 {
                    self.pause = PAUSE_FIRST;
                }
                Ok(count)
            }
            Err(OutboxError::Mysql(error)) if error.is_passing() => {
                tracing::debug!("the relay tries again: {}", describe(&error));
                self.counters.store_retries.fetch_add(1, Ordering::Relaxed);
                self.pause_until = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
