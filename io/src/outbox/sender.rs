//! The thread that produces what was accepted, and marks what the log acknowledged.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use kilter_engine::{agent::Agent, clock::Clock, key_hash};

use super::{
    OutboxCounters, OutboxError, OutboxSettings, acceptor::describe, handover::Handover,
    heard::Heard,
};
use crate::{
    kafka::{Acknowledged, Event, EventProducer},
    mysql::{
        Db, MysqlError,
        outbox::{Made, Sent, Unsent, Window, look, mark},
    },
};

/// Marking waits for so many acknowledgements, or so long: nobody waits for it, and a row costs far less
/// than a statement.
const MARK_ROWS: usize = 500;
const MARK_DELAY: Duration = Duration::from_millis(20);
/// The most rows in one statement.
const MARK_MAX: usize = 1000;

/// At least so long after one look at the store comes the next one, for everything that was accepted
/// meanwhile. Who comes alone does not wait.
const SEND_INTERVAL: Duration = Duration::from_millis(1);

/// Foreign rows that a look has room for.
const LOOK_MARGIN: usize = 1000;

/// How long acknowledgements are waited for at the end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(100);

/// How often the windows in force are read.
const WINDOW_INTERVAL: Duration = Duration::from_secs(60);

/// Produces. It may lose everything it has any time: the relay finds in the store what is left.
pub struct Sender<C> {
    settings: OutboxSettings,
    handover: Handover,
    counters: Arc<OutboxCounters>,
    producer: EventProducer,
    db: Option<Db>,
    window: Option<(Window, Instant)>,
    /// The log generation for which this process produces, once it is read; never another one.
    heard: Option<Heard>,
    /// Rows that were handed to the producer and are not marked, with their issue's time.
    own: HashMap<u64, i64>,
    acknowledged: Vec<Acknowledged>,
    /// When the last look began.
    looked: Option<Instant>,
    /// Since when acknowledgements wait to be marked.
    since: Option<Instant>,
    /// The store failed; nothing is marked before.
    pause_until: Option<Instant>,
    end: Option<Instant>,
    clock: C,
    done: bool,
}

impl<C: Clock> Sender<C> {
    pub(super) fn new(
        settings: OutboxSettings,
        handover: Handover,
        counters: Arc<OutboxCounters>,
        clock: C,
    ) -> Result<Self, OutboxError> {
        Ok(Self {
            producer: EventProducer::new(&settings.kafka, settings.in_flight_max)?,
            settings,
            handover,
            counters,
            db: None,
            window: None,
            heard: None,
            own: HashMap::new(),
            acknowledged: Vec::new(),
            looked: None,
            since: None,
            pause_until: None,
            end: None,
            clock,
            done: false,
        })
    }

    /// Lets answers come in. A producer that failed is replaced, and what it had is the relay's.
    fn hear(&mut self) -> Result<(), OutboxError> {
        self.producer.poll(Duration::ZERO);
        let before = self.acknowledged.len();
        self.producer.acknowledged(&mut self.acknowledged);
        if let Some(heard) = &mut self.heard {
            heard.take(&self.acknowledged[before..])?;
        }
        if before == 0 && !self.acknowledged.is_empty() {
            self.since = Some(Instant::now());
        }
        if let Some((_, why)) = self.producer.failures().first() {
            tracing::warn!("the producer begins anew, its events are left to the relay: {why}");
            let known: HashSet<u64> = self.acknowledged.iter().map(|ack| ack.id).collect();
            self.own.retain(|id, _| known.contains(id));
            self.producer = EventProducer::new(&self.settings.kafka, self.settings.in_flight_max)?;
        }
        Ok(())
    }

    /// Runs statements; what passes by itself costs a pause, and the connection if it is lost.
    fn with_store<T>(
        &mut self,
        what: impl FnOnce(&mut Self, &mut Db) -> Result<T, MysqlError>,
    ) -> Result<Option<T>, OutboxError> {
        if self.pause_until.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        let db = match self.db.take() {
            Some(db) => Ok(db),
            None => Db::open(&self.settings.impatient()),
        };
        let done = db.and_then(|mut db| {
            let done = what(self, &mut db);
            if !done.as_ref().is_err_and(MysqlError::is_lost) {
                self.db = Some(db);
            }
            done
        });
        match done {
            Ok(done) => {
                self.pause_until = None;
                Ok(Some(done))
            }
            Err(error) if error.is_passing() => {
                tracing::debug!("the outbox tries again: {}", describe(&error));
                self.counters.store_retries.fetch_add(1, Ordering::Relaxed);
                self.pause_until = Some(Instant::now() + STORE_PAUSE);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What was accepted, if anything was: of several batches together, when they come one close upon
    /// the other.
    fn gather(&mut self) -> Vec<Made> {
        let Some(mut batch) = self.handover.take() else {
            return Vec::new();
        };
        if let Some(looked) = self.looked {
            // Acknowledgements wait as well: no longer than this.
            std::thread::sleep(SEND_INTERVAL.saturating_sub(looked.elapsed()));
        }
        let most = self.settings.batch_max;
        while let Some(more) = self.handover.take_up_to(most.saturating_sub(batch.len())) {
            batch.extend(more);
        }
        self.looked = Some(Instant::now());
        batch
    }

    /// Produces a batch, except what older rows of the same user that are not ours stand before.
    fn send(&mut self, batch: &[Made]) -> Result<(), OutboxError> {
        let hashes: HashSet<u64> = batch
            .iter()
            .map(|made| key_hash(made.user.as_bytes()))
            .collect();
        let hashes: Vec<u64> = hashes.into_iter().collect();
        let most = self.own.len() + batch.len() + LOOK_MARGIN;
        let unsent = self.with_store(|this, db| {
            if this.heard.is_none() {
                let kafka = &this.settings.kafka;
                this.heard = Some(Heard::read(db, &kafka.group, &kafka.commands)?);
            }
            look(db, &hashes, most)
        })?;
        let produced = match &unsent {
            Some(unsent) => self.produce(batch, unsent),
            None => 0,
        };
        let left = batch.len() as u64 - produced;
        self.counters
            .produced
            .fetch_add(produced, Ordering::Relaxed);
        self.counters
            .left_to_relay
            .fetch_add(left, Ordering::Relaxed);
        Ok(())
    }

    fn produce(&mut self, batch: &[Made], unsent: &[Unsent]) -> u64 {
        let of: HashMap<&str, &Made> = batch
            .iter()
            .map(|made| (made.event_id.as_str(), made))
            .collect();
        let mut behind: HashSet<&[u8]> = HashSet::new();
        let mut produced = 0;
        // By user in the order of ids, so that what stands before a row has been seen.
        for row in unsent {
            if behind.contains(row.user.as_slice()) || self.own.contains_key(&row.id) {
                continue;
            }
            let handed = of.get(row.event_id.as_str()).is_some_and(|made| {
                let event = Event {
                    id: row.id,
                    event_id: &made.event_id,
                    key: made.user.as_bytes(),
                    transaction_id: made.transaction_id.as_bytes(),
                    issued_at_ms: made.issued_at_ms,
                    payload: &made.payload,
                };
                let handed = self.producer.produce(&event).is_ok();
                if handed {
                    self.own.insert(row.id, made.issued_at_ms);
                }
                handed
            });
            if handed {
                produced += 1;
            } else {
                behind.insert(&row.user);
            }
        }
        produced
    }

    /// Marks what is acknowledged.
    fn mark(&mut self) -> Result<usize, OutboxError> {
        let is_due = self.acknowledged.len() >= MARK_ROWS
            || self
                .since
                .is_some_and(|since| since.elapsed() >= MARK_DELAY);
        if !is_due {
            return Ok(0);
        }
        let count = self.acknowledged.len().min(MARK_MAX);
        let Some(generation) = self.heard.as_ref().map(Heard::generation) else {
            return Ok(0);
        };
        let marked = self.with_store(|this, db| {
            let window = this.window(db)?;
            let now_ms = this.clock.wall_ms();
            let mut sent: Vec<Sent> = this.acknowledged[..count]
                .iter()
                .filter_map(|ack| Some((ack, *this.own.get(&ack.id)?)))
                .map(|(ack, issued_at_ms)| Sent {
                    id: ack.id,
                    issues: 1,
                    generation,
                    partition: ack.partition.get(),
                    offset: ack.offset.get(),
                    late: this.settings.ledger
                        && window.is_late(issued_at_ms, now_ms, ack.timestamp_ms),
                    given_up: false,
                })
                .collect();
            mark(db, &mut sent, 0)
        })?;
        let Some(marked) = marked else {
            return Ok(0);
        };
        self.counters
            .marked_sent
            .fetch_add(marked, Ordering::Relaxed);
        for ack in self.acknowledged.drain(..count) {
            self.own.remove(&ack.id);
        }
        self.since = (!self.acknowledged.is_empty()).then(Instant::now);
        Ok(count)
    }

    fn window(&mut self, db: &mut Db) -> Result<Window, MysqlError> {
        match self.window {
            Some((window, read)) if read.elapsed() < WINDOW_INTERVAL => Ok(window),
            _ => {
                let window = Window::read(db, self.settings.window_ms)?;
                self.window = Some((window, Instant::now()));
                Ok(window)
            }
        }
    }
}

impl<C: Clock> Agent for Sender<C> {
    type Error = OutboxError;

    fn role(&self) -> &str {
        "outbox-send"
    }

    fn do_work(&mut self) -> Result<usize, OutboxError> {
        self.hear()?;
        let batch = self.gather();
        if !batch.is_empty() {
            self.send(&batch)?;
        }
        let marked = self.mark()?;
        if batch.is_empty() && self.handover.is_finished() {
            let end = *self.end.get_or_insert_with(|| Instant::now() + END_LIMIT);
            self.done = self.own.is_empty() || Instant::now() >= end;
        }
        Ok(batch.len() + marked)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
