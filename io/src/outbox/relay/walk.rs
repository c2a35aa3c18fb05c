//! One walk over the open rows of the ranges held.

use std::{sync::atomic::Ordering, time::Instant};

use kilter_engine::{HashRange, clock::Clock};

use super::{InFlight, Relay};
use crate::{
    kafka::{Event, NotHanded},
    mysql::{
        Db,
        outbox::{Cursor, Fate, OpenEvent, Window, issue_anew, land, page},
    },
    outbox::OutboxError,
};

/// How many rows are read at once.
const PAGE: usize = 500;

/// How far a walk is.
#[derive(Debug)]
pub(super) struct Walk {
    ranges: Vec<HashRange>,
    cursor: Cursor,
    /// The users of the hash at the cursor; more than one only if their hashes collide.
    users: Vec<(Vec<u8>, Pace)>,
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
        let Some(range) = walk.ranges.first().copied() else {
            return Ok(0);
        };
        let delay_us = self.settings.relay_delay.as_micros() as u64;
        let events = page(db, range, walk.cursor, delay_us, PAGE)?;
        for event in &events {
            if self.in_flight.len() >= self.settings.in_flight_max {
                // The next walk begins at the front: what is in flight is passed over quickly.
                return Ok(0);
            }
            let pace = *walk.pace(event);
            let pace = self.meet(db, window, event.clone(), pace)?;
            *walk.pace(event) = pace;
        }
        if events.len() < PAGE {
            walk.ranges.remove(0);
            walk.cursor = Cursor::default();
            walk.users.clear();
        }
        if !walk.ranges.is_empty() {
            self.walk = Some(walk);
        }
        Ok(events.len())
    }

    /// Does what is to be done about one row; the pace for the user's next one.
    fn meet(
        &mut self,
        db: &mut Db,
        window: &Window,
        mut event: OpenEvent,
        pace: Pace,
    ) -> Result<Pace, OutboxError> {
        if event.is_sent {
            // It is in the log, whatever comes of it: nobody waits for it.
            self.judge(db, window, &mut event)?;
            return Ok(pace);
        }
        if self.in_flight.contains_key(&event.id) {
            return Ok(Pace::Goes);
        }
        let is_held = self
            .held_back
            .get(&event.id)
            .is_some_and(|(until, _)| Instant::now() < *until);
        if pace == Pace::Stays || (pace == Pace::First && !event.is_due) || is_held {
            return Ok(Pace::Stays);
        }
        if window.is_stale(event.issued_at_ms, self.clock.wall_ms())
            && self.judge(db, window, &mut event)? == Fate::Landed
        {
            return Ok(pace);
        }
        self.produce(db, &event)
    }

    /// Looks the fate of an old event up, now and then, and acts on it.
    fn judge(
        &mut self,
        db: &mut Db,
        window: &Window,
        event: &mut OpenEvent,
    ) -> Result<Fate, OutboxError> {
        let interval = self.settings.judge_interval;
        let was_judged = self.judged.get(&event.id);
        if !self.settings.ledger || was_judged.is_some_and(|at| at.elapsed() < interval) {
            return Ok(Fate::Open);
        }
        let fate = self.judge.fate(db, window, event)?;
        match fate {
            Fate::Landed => land(db, event)?,
            Fate::Open => {
                self.judged.insert(event.id, Instant::now());
            }
            Fate::Expired => {
                let now_ms = self.clock.wall_ms();
                if issue_anew(db, event, now_ms)? {
                    tracing::info!(event = event.event_id, "issued anew: it had expired");
                    self.counters.issued_anew.fetch_add(1, Ordering::Relaxed);
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
                    since: Instant::now(),
                };
                self.in_flight.insert(event.id, issue);
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
