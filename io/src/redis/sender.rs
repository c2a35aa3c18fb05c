//! Sends balances and hears what became of them.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

use kilter_engine::{clock::Clock, epoch::BalanceImage};
use redis::Value;

use crate::clock::SystemClock;

use super::{error::RedisError, script, script::Calls, servers::Servers, settings::RedisSettings};

/// Calls of the script in one round trip.
const CALLS_A_TRIP: usize = 8;

/// Trips under way at once: while the server works on one, the next is written.
const TRIPS: usize = 2;

/// How often a call is repeated because the server does not know the script.
const LOADS: usize = 3;

/// Writes balances to the servers they belong to.
pub(super) struct Sender {
    servers: Servers,
    calls: Calls,
    clock: SystemClock,
    order: Vec<BalanceImage>,
}

/// What became of some balances.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// How many were written.
    pub(super) written: u64,
    /// How many were left alone, the server having a version as high.
    pub(super) left_alone: u64,
    /// Of which nobody knows whether they were written; they are to be sent again.
    pub(super) failed: Vec<BalanceImage>,
    /// Why, of one of them.
    pub(super) error: Option<RedisError>,
}

/// Calls that are on their way to a server.
struct Trip {
    server: usize,
    /// The balances of each call, in `order`.
    calls: Vec<Range<usize>>,
}

impl Sender {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        Self {
            servers: Servers::new(settings),
            calls: Calls::default(),
            clock: SystemClock::new(),
            order: Vec::new(),
        }
    }

    /// How many balances fill the trips.
    pub(super) fn appetite(settings: &RedisSettings) -> usize {
        settings.batch.max(1) * CALLS_A_TRIP * TRIPS * 2
    }

    pub(super) fn servers(&mut self) -> &mut Servers {
        &mut self.servers
    }

    /// Writes balances; those that did not get through come back.
    pub(super) fn send(&mut self, images: &[BalanceImage]) -> Sent {
        let mut sent = Sent::default();
        if let Err(error) = self.servers.refresh() {
            sent.failed.extend_from_slice(images);
            sent.error = Some(error);
            return sent;
        }
        self.order.clear();
        self.order.extend_from_slice(images);
        if self.servers.settings().cluster {
            // The keys of a call have one tag, the calls of a trip one server.
            let servers = &self.servers;
            self.order
                .sort_by_cached_key(|image| (servers.index_of(image).ok(), image.partition));
        }
        for load in 0..=LOADS {
            if load > 0 {
                self.teach(&mut sent);
            }
            let mut unknown = Vec::new();
            self.travel(load, &mut sent, &mut unknown);
            self.order.clear();
            self.order.append(&mut unknown);
            if self.order.is_empty() {
                break;
            }
        }
        if !sent.failed.is_empty() {
            self.servers.doubt();
        }
        sent
    }

    /// Sends all of `order`. What a server did not know the script for goes to `unknown`, while
    /// there is hope that it learns it.
    fn travel(&mut self, load: usize, sent: &mut Sent, unknown: &mut Vec<BalanceImage>) {
        let mut under_way = VecDeque::with_capacity(TRIPS);
        // Servers that are not asked again this time.
        let mut closed: Vec<usize> = Vec::new();
        let mut next = 0;
        while let Some(trip) = self.trip(&mut next, sent) {
            if under_way.len() == TRIPS
                && let Some(first) = under_way.pop_front()
            {
                self.arrive(first, load, sent, unknown, &mut closed);
            }
            match self.depart(&trip, &mut closed) {
                Ok(()) => under_way.push_back(trip),
                Err(error) => self.lose(&trip, error, sent),
            }
        }
        for trip in under_way {
            self.arrive(trip, load, sent, unknown, &mut closed);
        }
        // Not before: answers may have been on their way.
        for server in closed {
            self.servers.link(server).close();
        }
    }

    /// Loads the script where the rest of `order` goes.
    fn teach(&mut self, sent: &mut Sent) {
        let places = self.order.iter().map(|image| self.servers.index_of(image));
        let servers: BTreeSet<usize> = places.flatten().collect();
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(script::SCRIPT);
        for server in servers {
            let link = self.servers.open(server);
            let loaded = link.and_then(|link| link.query::<String>("load the script", &command));
            if let Err(error) = loaded {
                sent.error.get_or_insert(error);
            }
        }
    }

    /// The next calls that go to one server together.
    fn trip(&self, next: &mut usize, sent: &mut Sent) -> Option<Trip> {
        let settings = self.servers.settings();
        let mut trip: Option<Trip> = None;
        while let Some(first) = self.order.get(*next) {
            let rest = &self.order[*next..];
            let end = rest
                .iter()
                .take(settings.batch.max(1))
                .position(|image| settings.cluster && image.partition != first.partition);
            let call = *next..*next + end.unwrap_or(rest.len().min(settings.batch.max(1)));
            let server = match self.servers.index_of(first) {
                Ok(server) => server,
                Err(error) => {
                    sent.failed.extend_from_slice(&self.order[call.clone()]);
                    sent.error.get_or_insert(error);
                    *next = call.end;
                    continue;
                }
            };
            let trip = trip.get_or_insert(Trip {
                server,
                calls: Vec::with_capacity(CALLS_A_TRIP),
            });
            if trip.server != server || trip.calls.len() == CALLS_A_TRIP {
                break;
            }
            *next = call.end;
            trip.calls.push(call);
        }
        trip
    }

    fn depart(&mut self, trip: &Trip, closed: &mut Vec<usize>) -> Result<(), Option<RedisError>> {
        if closed.contains(&trip.server) {
            return Err(None);
        }
        self.calls.clear();
        let time_ms = self.clock.wall_ms();
        for call in &trip.calls {
            let images = &self.order[call.clone()];
            self.calls.write(self.servers.keys(), images, time_ms);
        }
        let link = self.servers.open(trip.server);
        let departed = link.and_then(|link| link.send(self.calls.bytes()));
        departed.map_err(|error| {
            closed.push(trip.server);
            Some(error)
        })
    }

    fn arrive(
        &mut self,
        trip: Trip,
        load: usize,
        sent: &mut Sent,
        unknown: &mut Vec<BalanceImage>,
        closed: &mut Vec<usize>,
    ) {
        for (index, call) in trip.calls.iter().enumerate() {
            let link = self.servers.link(trip.server);
            let answer = match link.receive() {
                Ok(answer) => answer,
                Err(error) => {
                    // What was on its way behind it fails too: its connection is closed.
                    closed.push(trip.server);
                    let rest = Trip {
                        server: trip.server,
                        calls: trip.calls[index..].to_vec(),
                    };
                    self.lose(&rest, Some(error), sent);
                    return;
                }
            };
            let images = &self.order[call.clone()];
            match answer {
                Value::Int(written) if (0..=images.len() as i64).contains(&written) => {
                    sent.written += written as u64;
                    sent.left_alone += images.len() as u64 - written as u64;
                }
                Value::ServerError(error) if error.code() == "NOSCRIPT" && load < LOADS => {
                    unknown.extend_from_slice(images);
                }
                answer => {
                    sent.failed.extend_from_slice(images);
                    let error = self.misunderstood(trip.server, answer);
                    if !error.keeps_connection() {
                        closed.push(trip.server);
                    }
                    sent.error.get_or_insert(error);
                }
            }
        }
    }

    fn misunderstood(&mut self, server: usize, answer: Value) -> RedisError {
        const WHAT: &str = "write balances";
        let address = self.servers.link(server).address();
        match answer {
            Value::ServerError(error) => RedisError::Server {
                address,
                what: WHAT,
                source: Box::new(error.into()),
            },
            answer => RedisError::Answer {
                address,
                what: WHAT,
                answer: format!("{answer:?}"),
            },
        }
    }

    fn lose(&self, trip: &Trip, error: Option<RedisError>, sent: &mut Sent) {
        for call in &trip.calls {
            sent.failed.extend_from_slice(&self.order[call.clone()]);
        }
        if let Some(error) = error {
            sent.error.get_or_insert(error);
        }
    }
}
