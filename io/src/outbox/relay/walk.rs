//! One walk over the open rows of the ranges held.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use kilter_engine::{HashRange, clock::Clock};

use super::{InFlight, Relay};
use crate::{
    kafka::{Event, NotHanded},
    mysql::{
        Db,
        outbox::{Cursor, Fate, OpenEvent, Window, fail, issue_anew, land, page, stamp},
    },
    outbox::{OutboxError, acceptor::describe},
};

/// How many rows are read at once.
const PAGE: usize = 500;

/// The longest pause between two walks that move nothing.
const LOOK_MAX: Duration = Duration::from_millis(500);

/// For how long a row is left alone whose fate could not be looked up.
const JUDGE_PAUSE: Duration = Duration::from_secs(30);

/// How far a walk is.
#[derive(Debug)]
pub(super) struct Walk {
    ranges: Vec<HashRange>,
    cursor: Cursor,
    /// The users of the hash at the cursor; more than one only if their hashes collide.
    users: Vec<(Vec<u8>, Pace)>,
    /// How many rows it saw, and of how many it could do anything about.
    seen: usize,
    moved: u64,
}

/// How a walk meets the next row of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// It is his first one.
    First,
    /// One before it goes to the log by this relay, so it goes along.
    Goes,
    /// One before it does not go, so it must not.
    Stays,
}

impl Walk {
    fn over(ranges: Vec<HashRange>) -> Self {
        Self {
            ranges,
            cursor: Cursor::default(),
            users: Vec::new(),
            seen: 0,
            moved: 0,
        }
    }

    /// The pace of an event's user.
    fn pace(&mut self, event: &OpenEvent) -> &mut Pace {
        if self.cursor.hash != event.key_hash {
            self.users.clear();
        }
        self.cursor = Cursor {
            hash: event.key_hash,
            id: event.id,
        };
        let known = self.users.iter().position(|(user, _)| *user == event.user);
        let index = known.unwrap_or_else(|| {
            self.users.push((event.user.clone(), Pace::First));
            self.users.len() - 1
        });
        &mut self.users[index].1
    }
}

impl<C: Clock> Relay<C> {
    /// One page of a walk, or the beginning of one when it is time. Returns how many rows it saw.
    pub(super) fn step(&mut self, db: &mut Db, window: &Window) -> Result<usize, OutboxError> {
        if self.is_full() {
            // The walk goes on where it is as soon as something is acknowledged.
            return Ok(0);
        }
        if self.walk.is_none() && self.look.is_due() {
            self.walk = Some(Walk::over(self.leases.ranges()));
        }
        let Some(mut walk) = self.walk.take() else {
            return Ok(0);
        };
        // Without the lease it is somebody else's work.
        if self.leases.ranges().is_empty() {
            return Ok(0);
        }
        let stepped = self.page_of(db, window, &mut walk);
        match &stepped {
            // Whatever failed is passed over in this walk.
            Err(OutboxError::Mysql(error)) if error.is_passing() => {}
            Err(_) => return stepped,
            Ok(_) if walk.ranges.is_empty() => {
                self.look_again(&walk);
                return stepped;
            }
            Ok(_) => {}
        }
        self.walk = Some(walk);
        stepped
    }

    fn page_of(
        &mut self,
        db: &mut Db,
        window: &Window,
        walk: &mut Walk,
    ) -> Result<usize, OutboxError> {
        let Some(range) = walk.ranges.first().copied() else {
            return Ok(0);
        };
        let mut events = page(db, range, walk.cursor, PAGE)?;
        if !stamp(db, &mut events, self.clock.wall_ms())? {
            return Ok(events.len());
        }
        for event in &events {
            if self.is_full() {
                return Ok(events.len());
            }
            let pace = *walk.pace(event);
            let moved = self.moved;
            let met = self.meet(db, window, event.clone(), pace);
            // One that failed before it was handed over must not be overtaken.
            let on_error = if event.is_sent { pace } else { Pace::Stays };
            *walk.pace(event) = *met.as_ref().unwrap_or(&on_error);
            walk.seen += 1;
            walk.moved += self.moved - moved;
            met?;
        }
        if events.len() < PAGE {
            walk.ranges.remove(0);
            walk.cursor = Cursor::default();
            walk.users.clear();
        }
        Ok(events.len())
    }

    /// When the next walk begins: later and later while many rows are there and none moves.
    fn look_again(&mut self, walk: &Walk) {
        let is_stuck = walk.seen >= PAGE && walk.moved == 0;
        let usual = self.settings.look_interval;
        let pause = match is_stuck {
            true => (self.look.interval * 2).min(LOOK_MAX).max(usual),
            false => usual,
        };
        self.look.interval = pause;
        if is_stuck {
            self.look.after(pause);
        }
    }

    fn is_full(&self) -> bool {
        self.in_flight.len() >= self.settings.in_flight_max
    }

    /// Does what is to be done about one row; the pace for the user's next one.
    fn meet(
        &mut self,
        db: &mut Db,
        window: &Window,
        mut event: OpenEvent,
        pace: Pace,
    ) -> Result<Pace, OutboxError> {
        if event.is_given_up {
            return Ok(pace);
        }
        if event.is_sent {
            // It is in the log, whatever comes of it: nobody waits for it.
            self.judge(db, window, &mut event)?;
            return Ok(pace);
        }
        if self.in_flight.contains_key(&event.id) {
            return Ok(Pace::Goes);
        }
        if event.payload.is_empty() {
            self.give_up(db, &event)?;
            return Ok(pace);
        }
        let is_held = self
            .held_back
            .get(&event.id)
            .is_some_and(|(until, _)| Instant::now() < *until);
        if is_held || !self.is_due(&event, pace) {
            return Ok(Pace::Stays);
        }
        if window.is_stale(event.issued_at_ms, self.clock.wall_ms())
            && let Fate::Landed(_) | Fate::Unreadable = self.judge(db, window, &mut event)?
        {
            return Ok(pace);
        }
        self.produce(db, &event)
    }

    /// Whether it is the relay's to send. A leg always is. A command is left to whoever accepted it for
    /// a while; behind another one that the relay has under way for a while more, because whoever
    /// accepted it waits for that one as well, and would never come to send anything if the relay took
    /// each of a user's commands up as soon as the one before it.
    fn is_due(&self, event: &OpenEvent, pace: Pace) -> bool {
        let delay = self.settings.relay_delay;
        let is_old = |delay| event.age >= delay;
        let is_in_hands = || !is_old(self.settings.ack_limit) && self.hands.hold(&event.event_id);
        match pace {
            Pace::Stays => false,
            _ if event.is_leg() => true,
            Pace::First => is_old(delay) && !is_in_hands(),
            Pace::Goes => is_old(delay * 2) && !is_in_hands(),
        }
    }

    /// What nobody can send as it is does not stand in its user's way.
    fn give_up(&mut self, db: &mut Db, event: &OpenEvent) -> Result<(), OutboxError> {
        if !event.is_failed {
            let name = &event.event_id;
            tracing::error!(event = name, "its payload is no command: it is never sent");
            fail(db, event, "its payload is no command, so it cannot be sent")?;
            self.moved += 1;
        }
        Ok(())
    }

    /// Looks the fate of an old event up, now and then, and acts on it.
    fn judge(
        &mut self,
        db: &mut Db,
        window: &Window,
        event: &mut OpenEvent,
    ) -> Result<Fate, OutboxError> {
        let now = Instant::now();
        let is_early = self.judged.get(&event.id).is_some_and(|until| now < *until);
        if !self.settings.ledger || is_early {
            return Ok(Fate::Open);
        }
        let fate = match self.judge.fate(db, window, event) {
            Ok(fate) => fate,
            Err(error) if error.is_passing() => {
                let why = describe(&error);
                tracing::warn!(event = event.event_id, "its fate is looked up later: {why}");
                self.judged.insert(event.id, now + JUDGE_PAUSE);
                self.counters.store_retries.fetch_add(1, Ordering::Relaxed);
                return match error.is_lost() {
                    true => Err(error.into()),
                    false => Ok(Fate::Open),
                };
            }
            Err(error) => return Err(error.into()),
        };
        match fate {
            Fate::Landed(place) => {
                land(db, event, place)?;
                self.moved += 1;
            }
            Fate::Open => {
                let until = Instant::now() + self.settings.judge_interval;
                self.judged.insert(event.id, until);
            }
            Fate::Unreadable => self.give_up(db, event)?,
            Fate::Expired => {
                let now_ms = self.clock.wall_ms();
                if issue_anew(db, event, now_ms)? {
                    tracing::info!(event = event.event_id, "issued anew: it had expired");
                    self.counters.issued_anew.fetch_add(1, Ordering::Relaxed);
                    self.moved += 1;
                    event.issues += 1;
                    event.issued_at_ms = now_ms;
                }
            }
        }
        Ok(fate)
    }

    fn produce(&mut self, db: &mut Db, event: &OpenEvent) -> Result<Pace, OutboxError> {
        let handed = self.producer.produce(&Event {
            id: event.id,
            event_id: &event.event_id,
            key: &event.user,
            transaction_id: &event.transaction_id,
            issued_at_ms: event.issued_at_ms,
            payload: &event.payload,
        });
        Ok(match handed {
            Ok(()) => {
                let issue = InFlight {
                    issues: event.issues,
                    issued_at_ms: event.issued_at_ms,
                    is_leg: event.is_leg(),
                    since: Instant::now(),
                };
                self.in_flight.insert(event.id, issue);
                self.moved += 1;
                self.counters.relayed.fetch_add(1, Ordering::Relaxed);
                Pace::Goes
            }
            Err(NotHanded::Full) => Pace::Stays,
            Err(NotHanded::Refused(why)) => {
                self.refused(db, event.id, &why)?;
                Pace::Stays
            }
        })
    }
}
