//! The thread that produces what was accepted, and marks what the log acknowledged.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use kilter_engine::{agent::Agent, clock::Clock, key_hash};

use super::{
    OutboxCounters, OutboxError, OutboxSettings,
    acceptor::describe,
    handover::Handover,
    hands::Hands,
    heard::Heard,
    waiting::{Waiting, WaitingLimits},
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

/// So many events may be under way, as multiples of a batch, while the log acknowledges: a look reads
/// them all, so that more of them slow down whatever comes behind. Past it, whoever accepts has to wait.
const UNDER_WAY_BATCHES: usize = 2;

/// When nothing was acknowledged for so long, nobody waits for the log.
const STALL: Duration = Duration::from_millis(250);

/// The most memory of what waits, in bytes.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Foreign rows that a look has room for.
const LOOK_MARGIN: usize = 1000;

/// The first and the longest time between two looks for rows that nothing new came with.
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(5);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(100);

/// How long acknowledgements are waited for at the end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(100);

/// How often the windows in force are read.
const WINDOW_INTERVAL: Duration = Duration::from_secs(60);

/// An event that was handed to the producer and is not marked.
#[derive(Debug)]
struct Own {
    event_id: String,
    issued_at_ms: i64,
}

/// What a look showed of a row that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing: it has been sent.
    Not,
    /// It stays.
    Stays,
    /// It went to the producer.
    Handed,
}

/// Produces. It may lose everything it has any time: the relay finds in the store what is left.
pub struct Sender<C> {
    settings: OutboxSettings,
    handover: Handover,
    hands: Hands,
    counters: Arc<OutboxCounters>,
    producer: EventProducer,
    db: Option<Db>,
    window: Option<(Window, Instant)>,
    /// The log generation for which this process produces, once it is read; never another one.
    heard: Option<Heard>,
    /// By their rows.
    own: HashMap<u64, Own>,
    /// What could not be handed over yet: something older stands before it, or there is no room.
    waiting: Waiting,
    acknowledged: Vec<Acknowledged>,
    /// When something was acknowledged last, or nothing was under way.
    moved: Instant,
    /// When what waits is looked for again, and the pause before it.
    look_again: (Instant, Duration),
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
            hands: handover.hands().clone(),
            producer: EventProducer::new(&settings.kafka, settings.in_flight_max)?,
            settings,
            handover,
            counters,
            db: None,
            window: None,
            heard: None,
            own: HashMap::new(),
            waiting: Waiting::default(),
            acknowledged: Vec::new(),
            moved: Instant::now(),
            look_again: (Instant::now(), LOOK_AGAIN_FIRST),
            since: None,
            pause_until: None,
            end: None,
            clock,
            done: false,
        })
    }

    /// What this process brings to the log, for a relay in it.
    pub fn hands(&self) -> Hands {
        self.hands.clone()
    }

    /// Lets answers come in. A producer that failed is replaced, and what it had is the relay's.
    fn hear(&mut self) -> Result<(), OutboxError> {
        self.producer.poll(Duration::ZERO);
        let before = self.acknowledged.len();
        self.producer.acknowledged(&mut self.acknowledged);
        if let Some(heard) = &mut self.heard {
            heard.take(&self.acknowledged[before..])?;
        }
        if self.acknowledged.len() > before || self.own.is_empty() {
            self.moved = Instant::now();
        }
        if before == 0 && !self.acknowledged.is_empty() {
            self.since = Some(Instant::now());
        }
        if let Some((_, why)) = self.producer.failures().first() {
            tracing::warn!("the producer begins anew, its events are left to the relay: {why}");
            let known: HashSet<u64> = self.acknowledged.iter().map(|ack| ack.id).collect();
            let lost = self.own.extract_if(|id, _| !known.contains(id));
            let lost: Vec<Own> = lost.map(|(_, own)| own).collect();
            self.hands
                .leave(lost.iter().map(|own| own.event_id.as_str()));
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

    /// What was accepted since the last time, if anything was: of several batches together.
    fn gather(&mut self) -> Vec<Made> {
        let most = self.settings.batch_max;
        if self.own.len() >= UNDER_WAY_BATCHES * most && self.moved.elapsed() < STALL {
            return Vec::new();
        }
        let Some(mut batch) = self.handover.take() else {
            return Vec::new();
        };
        while let Some(more) = self.handover.take_up_to(most.saturating_sub(batch.len())) {
            batch.extend(more);
        }
        batch
    }

    /// Produces what is new, and now and then what waits, except what older rows of the same user that
    /// are not ours stand before. Returns how many rows went.
    fn send(&mut self, mut new: Vec<Made>) -> Result<usize, OutboxError> {
        let mut handed = 0;
        let (at, pause) = self.look_again;
        let has_room = self.own.len() < self.settings.in_flight_max;
        let looks_again = has_room && !self.waiting.is_empty() && at <= Instant::now();
        if looks_again {
            // They were there before.
            let mut all = self.waiting.take();
            all.append(&mut new);
            new = all;
        }
        if !has_room {
            new.into_iter().for_each(|made| self.waiting.push(made));
        } else if !new.is_empty() {
            handed = self.look(new)?;
        }
        if looks_again {
            let pause = match handed {
                0 => (pause * 2).min(LOOK_AGAIN_MAX),
                _ => LOOK_AGAIN_FIRST,
            };
            self.look_again = (Instant::now() + pause, pause);
        }
        self.give_up();
        Ok(handed)
    }

    /// Produces those of these rows that may be; the others wait.
    fn look(&mut self, rows: Vec<Made>) -> Result<usize, OutboxError> {
        let users = rows.iter().map(|made| made.user.as_bytes());
        let hashes: HashSet<u64> = users.map(key_hash).collect();
        let hashes: Vec<u64> = hashes.into_iter().collect();
        let most = self.own.len() + self.waiting.len() + rows.len() + LOOK_MARGIN;
        let unsent = self.with_store(|this, db| {
            if this.heard.is_none() {
                let kafka = &this.settings.kafka;
                this.heard = Some(Heard::read(db, &kafka.group, &kafka.commands)?);
            }
            look(db, &hashes, most)
        })?;
        let Some(unsent) = unsent else {
            rows.into_iter().for_each(|made| self.waiting.push(made));
            return Ok(0);
        };
        // What a look that was cut short does not show may be there.
        let unseen = match unsent.len() < most {
            true => Seen::Not,
            false => Seen::Stays,
        };
        let seen = self.produce(&rows, &unsent, unseen);
        let mut handed = 0;
        let mut gone = Vec::new();
        for (made, seen) in rows.into_iter().zip(seen) {
            match seen {
                Seen::Stays => self.waiting.push(made),
                Seen::Handed => handed += 1,
                Seen::Not => gone.push(made),
            }
        }
        self.hands
            .leave(gone.iter().map(|made| made.event_id.as_str()));
        self.counters
            .produced
            .fetch_add(handed as u64, Ordering::Relaxed);
        Ok(handed)
    }

    fn produce(&mut self, rows: &[Made], unsent: &[Unsent], unseen: Seen) -> Vec<Seen> {
        let mut seen = vec![unseen; rows.len()];
        let of: HashMap<&str, usize> = rows
            .iter()
            .enumerate()
            .map(|(index, made)| (made.event_id.as_str(), index))
            .collect();
        let mut behind: HashSet<&[u8]> = HashSet::new();
        // By user in the order of ids, so that what stands before a row has been seen.
        for row in unsent {
            if self.own.contains_key(&row.id) {
                continue;
            }
            let index = of.get(row.event_id.as_str()).copied();
            let is_free = !behind.contains(row.user.as_slice());
            let handed = index.is_some_and(|index| is_free && self.hand_over(row, &rows[index]));
            if let Some(index) = index {
                seen[index] = match handed {
                    true => Seen::Handed,
                    false => Seen::Stays,
                };
            }
            if !handed {
                behind.insert(&row.user);
            }
        }
        seen
    }

    fn hand_over(&mut self, row: &Unsent, made: &Made) -> bool {
        let handed = self.producer.produce(&Event {
            id: row.id,
            event_id: &made.event_id,
            key: made.user.as_bytes(),
            transaction_id: made.transaction_id.as_bytes(),
            issued_at_ms: made.issued_at_ms,
            payload: &made.payload,
        });
        if handed.is_ok() {
            let own = Own {
                event_id: made.event_id.clone(),
                issued_at_ms: made.issued_at_ms,
            };
            self.own.insert(row.id, own);
        }
        handed.is_ok()
    }

    /// Leaves to the relay what waited for too long, and the oldest of what is too much. At the end,
    /// everything.
    fn give_up(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let most = match self.handover.is_finished() {
            true => 0,
            false => self.settings.in_flight_max,
        };
        let left = self.waiting.give_up(WaitingLimits {
            rows: most,
            bytes: WAITING_BYTES_MAX,
            issued_ms: self.clock.wall_ms() - self.settings.ack_limit.as_millis() as i64,
        });
        if left.is_empty() {
            return;
        }
        self.hands
            .leave(left.iter().map(|made| made.event_id.as_str()));
        self.counters
            .left_to_relay
            .fetch_add(left.len() as u64, Ordering::Relaxed);
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
                .filter_map(|ack| Some((ack, this.own.get(&ack.id)?.issued_at_ms)))
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
        let marked = self.acknowledged.drain(..count);
        let marked: Vec<Own> = marked.filter_map(|ack| self.own.remove(&ack.id)).collect();
        self.hands
            .leave(marked.iter().map(|own| own.event_id.as_str()));
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
        let new = self.gather();
        let taken = new.len();
        let sent = self.send(new)?;
        let marked = self.mark()?;
        if self.waiting.is_empty() && self.handover.is_finished() {
            let end = *self.end.get_or_insert_with(|| Instant::now() + END_LIMIT);
            self.done = self.own.is_empty() || Instant::now() >= end;
        }
        Ok(taken + sent + marked)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

impl<C> Drop for Sender<C> {
    fn drop(&mut self) {
        // Whatever it had is the relay's.
        self.hands.leave_all();
    }
}
