//! The front door of a process: its two servers, and what stands behind them.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
use kilter_io::{
    api::{Api, ApiSettings, Health, Keys, Parts, Verifier},
    net::{Limits, Server, Service, TlsSettings},
    outbox::{Door, DoorLimits, OutboxCounters},
};
use metrics::{counter, gauge};

use super::{Awaited, Expiry, keys};
use crate::{config, metrics_names as names, threads::Threads};

/// How long a stop waits for requests that are being worked on.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How much connections give way to what they wait for: leases, writers and the outbox come first
/// where clients ask for more than the machine has.
const NICENESS: i32 = 5;

/// How many requests may wait for a thread that reads.
pub const READS_MAX: usize = 4096;

/// What stands behind the servers.
pub struct Behind {
    /// Where changes go.
    pub door: Door,
    /// What makes them durable, and sends them.
    pub threads: Threads,
    /// Who waits for outcomes.
    pub awaited: Awaited,
    /// Ends those who watch results.
    pub end_watching: Box<dyn Fn() + Send + Sync>,
}

/// A running front door.
pub struct FrontDoor {
    grpc: Server,
    rest: Server,
    verifier: Option<Arc<Verifier>>,
    health: Health,
    behind: Behind,
    _expiry: Expiry,
}

impl FrontDoor {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// When an address cannot be had, a certificate cannot be used, or the system gives no thread.
    pub fn open(
        settings: &config::Api,
        keys: Option<Keys>,
        parts: Parts,
        behind: Behind,
    ) -> anyhow::Result<Self> {
        let (signing, verifier) = keys::signing(settings, keys);
        let health = parts.health.clone();
        let api = Arc::new(Api::new(
            parts,
            ApiSettings {
                opens_on_deposit: settings.open_on_deposit,
                request_timeout: settings.request_timeout,
                ..ApiSettings::new(signing)
            },
        ));
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (Some(certificates), Some(key)) => Some(TlsSettings {
                certificates: certificates.clone(),
                key: key.clone(),
                client_authorities: settings.tls_client_ca.clone(),
            }),
            _ => None,
        };
        let limits = |http1| Limits {
            http1,
            connections_max: settings.connections_max as usize,
            connections_per_peer_max: settings.connections_per_peer_max as usize,
            niceness: NICENESS,
            ..Limits::default()
        };
        let start = |name, port: u16, key, http1, service: Arc<dyn Service>| {
            let address = SocketAddr::new(settings.bind, port);
            Server::start(name, address, tls.clone(), limits(http1), service)
                .with_context(|| format!("no front door on {address} (api.bind, {key})"))
        };
        let address = |port| SocketAddr::new(settings.bind, port);
        let expiry = Expiry::start(&behind.awaited)?;
        let grpc = start(
            "grpc",
            settings.grpc_port,
            "api.grpc_port",
            false,
            api.grpc(address(settings.grpc_port))?,
        )?;
        let rest = start(
            "rest",
            settings.rest_port,
            "api.rest_port",
            true,
            api.rest_service(address(settings.rest_port))?,
        )?;
        tracing::info!(
            grpc = %grpc.address(),
            rest = %rest.address(),
            "the front door is open"
        );
        if verifier.is_none() {
            tracing::warn!("requests are not signed: whoever reaches these ports may do all");
        }
        Ok(Self {
            grpc,
            rest,
            verifier,
            health,
            behind,
            _expiry: expiry,
        })
    }

    /// Refuses to go on when something behind it ended.
    ///
    /// # Errors
    ///
    /// The first failure of a thread.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.behind.threads.failure() {
            Some(error) => Err(error.context("the front door cannot go on")),
            None => Ok(()),
        }
    }

    /// The figures of its outbox.
    pub fn counters(&self) -> &Arc<OutboxCounters> {
        self.behind.door.counters()
    }

    /// Takes keys and certificates as they are now. What cannot be used is told and left.
    pub fn reload(&self, settings: &config::Api) {
        let replaced = keys::keys(settings).and_then(|keys| match (keys, &self.verifier) {
            (Some(keys), Some(verifier)) => {
                verifier.replace(keys);
                Ok(())
            }
            (None, None) => Ok(()),
            _ => anyhow::bail!("whether requests must be signed changes with a restart only"),
        });
        match replaced {
            Ok(()) => tracing::info!("the keys for signatures are read again"),
            Err(error) => tracing::error!("the keys for signatures stay as they were: {error:#}"),
        }
        for server in [&self.grpc, &self.rest] {
            if let Err(error) = server.reload_tls() {
                tracing::error!("the certificates stay as they were: {error}");
            }
        }
    }

    /// Tells how it goes.
    pub fn tell_figures(&self) {
        for (protocol, server) in [("grpc", &self.grpc), ("rest", &self.rest)] {
            let seen = server.counters();
            gauge!(names::API_CONNECTIONS, "protocol" => protocol).set(seen.open() as f64);
            counter!(names::API_REQUESTS, "protocol" => protocol).absolute(seen.requests());
            counter!(names::API_REFUSED, "protocol" => protocol).absolute(seen.refused());
            counter!(names::API_BROKEN, "protocol" => protocol).absolute(seen.broken());
            counter!(names::API_TURNED_AWAY, "protocol" => protocol).absolute(seen.turned_away());
        }
        gauge!(names::API_WAITERS).set(self.behind.awaited.count() as f64);
    }

    /// Takes nothing more, answers what is there, and ends. What is accepted and not yet sent is
    /// left to the relay.
    pub fn close(mut self) {
        // Streams first: nobody else ends them.
        self.health.close("STOPPING");
        (self.behind.end_watching)();
        let until = Instant::now() + STOP_LIMIT;
        let mut all = true;
        // Both at once: neither takes anything while the other one ends.
        std::thread::scope(|scope| {
            let rest = &mut self.rest;
            let ended = scope.spawn(|| rest.stop(STOP_LIMIT));
            all &= self.grpc.stop(STOP_LIMIT);
            all &= ended.join().unwrap_or(false);
        });
        if !all {
            tracing::warn!("some requests were not done by the end and were cut off");
        }
        self.behind.door.close();
        while !self.behind.threads.are_done() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// How much may wait at the door.
pub fn door_limits(settings: &config::Api) -> DoorLimits {
    DoorLimits {
        requests: settings.queue_max as usize,
        ..DoorLimits::default()
    }
}

/// Tells what the outbox of this process did and sees.
pub fn tell_outbox(counters: &OutboxCounters) {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    for (name, value) in [
        (names::OUTBOX_CREATED, &counters.created),
        (names::OUTBOX_DUPLICATES, &counters.duplicates),
        (names::OUTBOX_CONFLICTS, &counters.conflicts),
        (names::OUTBOX_ACCOUNT_REFUSALS, &counters.account_refusals),
        (names::OUTBOX_TURNED_AWAY, &counters.turned_away),
        (names::OUTBOX_UNAVAILABLE, &counters.unavailable),
        (names::OUTBOX_BATCHES, &counters.batches),
        (names::OUTBOX_LEFT, &counters.left_to_relay),
        (names::OUTBOX_RELAYED, &counters.relayed),
        (names::OUTBOX_RELAY_RETRIES, &counters.relay_retries),
        (names::OUTBOX_ISSUED_ANEW, &counters.issued_anew),
        (names::OUTBOX_TRIMMED, &counters.trimmed),
    ] {
        counter!(name).absolute(of(value));
    }
    gauge!(names::OUTBOX_WAITING).set(of(&counters.depth) as f64);
    gauge!(names::OUTBOX_RANGES).set(of(&counters.ranges_held) as f64);
    gauge!(names::OUTBOX_UNSENT).set(of(&counters.unsent) as f64);
    let oldest = Duration::from_millis(of(&counters.oldest_unsent_ms));
    gauge!(names::OUTBOX_OLDEST).set(oldest.as_secs_f64());
}
