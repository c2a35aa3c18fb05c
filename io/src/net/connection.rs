//! The thread of one connection.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    bell::Bell,
    h1::Http1,
    h2::{Http2, PREFACE},
    machine::{Context, Machine},
    reply::Mailbox,
    wire::{Got, Wire},
};

/// How many bytes are read at once.
const READ_BYTES: usize = 64 << 10;

/// How long, and how many bytes, to wait for a client to hear its last answer. A socket that is
/// closed with something unread resets the connection, and the answer may be lost with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// Tells a connection from outside that it is to end.
#[derive(Debug)]
pub(super) struct Leash {
    pub(super) bell: Bell,
    pub(super) stop: AtomicBool,
    /// Whatever is still being worked on.
    pub(super) at_once: AtomicBool,
}

/// Serves a connection to its end.
pub(super) fn serve(mut wire: Wire, mut context: Context, leash: &Leash) -> Result<(), String> {
    let mut buffer = vec![0; READ_BYTES];
    let mailbox = Closing(Arc::clone(&context.mailbox));
    let Some((mut machine, first)) = begin(&mut wire, &mut context, leash, &mut buffer)? else {
        return Ok(());
    };
    let served = Serving {
        wire: &mut wire,
        machine: machine.as_mut(),
        context: &context,
        leash,
        out: Vec::new(),
        sent: 0,
        progress: Instant::now(),
        has_ended: false,
    }
    .run(&first, &mut buffer);
    drop(mailbox);
    // Whoever still works on an answer hears that nobody wants it.
    drop(machine);
    if served.is_ok() {
        wire.finish();
        linger(&mut wire, leash, &mut buffer);
    }
    served
}

/// Closes a mailbox whatever happens to its reader: it would fill for ever.
struct Closing(Arc<Mailbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A protocol, and what of it was read already.
type Begun = Option<(Box<dyn Machine>, Vec<u8>)>;

/// The handshake, and the first bytes: by them the protocol is known.
fn begin(
    wire: &mut Wire,
    context: &mut Context,
    leash: &Leash,
    buffer: &mut [u8],
) -> Result<Begun, String> {
    let until = Instant::now() + context.limits.handshake;
    let mut first = Vec::new();
    loop {
        let now = Instant::now();
        if leash.stop.load(Ordering::Acquire) {
            return Ok(None);
        }
        if wire.is_open() {
            context.certificate = wire.certificate();
            let is_http2 = match wire.speaks_http2() {
                Some(true) => Some(true),
                _ => tell(&first),
            };
            if let Some(is_http2) = is_http2 {
                if !is_http2 && !context.limits.http1 {
                    return Err("it does not speak HTTP/2".to_owned());
                }
                let machine: Box<dyn Machine> = match is_http2 {
                    true => Box::new(Http2::new(context.clone(), now)?),
                    false => Box::new(Http1::new(context.clone(), now)),
                };
                return Ok(Some((machine, first)));
            }
        }
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            // Somebody who opened a connection and said nothing is no fault.
            return match first.is_empty() && wire.is_open() {
                true => Ok(None),
                false => Err("the handshake took too long".to_owned()),
            };
        }
        let failed = |error: io::Error| format!("the handshake failed: {error}");
        if wire.wants_write() {
            wire.write(&[]).map_err(failed)?;
        }
        leash
            .bell
            .wait(wire, true, wire.wants_write(), left)
            .map_err(failed)?;
        match wire.read(buffer).map_err(failed)? {
            Got::Bytes(count) => first.extend_from_slice(&buffer[..count]),
            Got::Nothing => {}
            Got::End => return Ok(None),
        }
    }
}

/// Whether it is HTTP/2, as soon as that can be told.
fn tell(first: &[u8]) -> Option<bool> {
    let length = first.len().min(PREFACE.len());
    if first[..length] != PREFACE[..length] {
        Some(false)
    } else if length == PREFACE.len() {
        Some(true)
    } else {
        None
    }
}

struct Serving<'a> {
    wire: &'a mut Wire,
    machine: &'a mut dyn Machine,
    context: &'a Context,
    leash: &'a Leash,
    out: Vec<u8>,
    /// How much of `out` is sent.
    sent: usize,
    /// When something was sent last.
    progress: Instant,
    has_ended: bool,
}

impl Serving<'_> {
    fn run(mut self, first: &[u8], buffer: &mut [u8]) -> Result<(), String> {
        let mut news = Vec::new();
        let mut is_stopping = false;
        let mut fault = self.machine.receive(first, Instant::now()).err();
        loop {
            let now = Instant::now();
            if self.leash.at_once.load(Ordering::Acquire) {
                return Ok(());
            }
            if self.leash.stop.load(Ordering::Acquire) && !is_stopping {
                is_stopping = true;
                self.machine.stop(now);
            }
            self.context.mailbox.take(&mut news);
            for (stream, news) in news.drain(..) {
                self.machine.deliver(stream, news, now)?;
            }
            let quiet = self.machine.tick(now)?;
            // Requests came with what was read, or waited behind one that was answered just now.
            self.context.service.settle();
            self.send(now)?;
            if let Some(fault) = fault {
                return Err(fault);
            }
            if self.is_flushed() && self.machine.is_finished() {
                return Ok(());
            }
            let stalled = self.progress + self.context.limits.stalled;
            let quiet = match self.is_flushed() {
                true => quiet,
                false => quiet.min(stalled.saturating_duration_since(now)),
            };
            let woken = self
                .leash
                .bell
                .wait(self.wire, !self.has_ended, !self.is_flushed(), quiet)
                .map_err(|error| error.to_string())?;
            if woken.readable && !self.has_ended {
                fault = self.receive(buffer)?;
            } else if woken.broken {
                // Nothing is left to read, so reading does not tell, and waiting would not wait.
                return Err("the client has gone".to_owned());
            }
        }
    }

    /// Reads until there is nothing more, or a good deal was read; a fault of the protocol's is
    /// told after what is to be said about it.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<String>, String> {
        match self
            .wire
            .read(buffer)
            .map_err(|error| format!("it cannot be read: {error}"))?
        {
            Got::Bytes(count) => Ok(self.machine.receive(&buffer[..count], Instant::now()).err()),
            Got::Nothing => Ok(None),
            Got::End => {
                self.has_ended = true;
                self.machine.end_of_input(Instant::now());
                Ok(None)
            }
        }
    }

    fn send(&mut self, now: Instant) -> Result<(), String> {
        loop {
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
                self.machine
                    .fill(&mut self.out, self.context.limits.out_max_bytes)?;
                if self.out.is_empty() && !self.wire.wants_write() {
                    self.progress = now;
                    return Ok(());
                }
            }
            let count = self
                .wire
                .write(&self.out[self.sent..])
                .map_err(|error| format!("it cannot be written: {error}"))?;
            self.sent += count;
            if count > 0 {
                self.progress = now;
            }
            if self.sent < self.out.len() || self.wire.wants_write() {
                if now.saturating_duration_since(self.progress) >= self.context.limits.stalled {
                    return Err("the client does not take its answers".to_owned());
                }
                return Ok(());
            }
        }
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.out.len() && !self.wire.wants_write()
    }
}

fn linger(wire: &mut Wire, leash: &Leash, buffer: &mut [u8]) {
    let until = Instant::now() + LINGER;
    let mut read = 0;
    while read < LINGER_BYTES && !leash.at_once.load(Ordering::Acquire) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || leash.bell.wait(wire, true, false, left).is_err() {
            return;
        }
        match wire.read(buffer) {
            Ok(Got::Bytes(count)) => read += count,
            Ok(Got::Nothing) => {}
            Ok(Got::End) | Err(_) => return,
        }
    }
}

impl Leash {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bell: Bell::new()?,
            stop: AtomicBool::new(false),
            at_once: AtomicBool::new(false),
        }))
    }

    pub(super) fn pull(&self, at_once: bool) {
        self.stop.store(true, Ordering::Release);
        if at_once {
            self.at_once.store(true, Ordering::Release);
        }
        self.bell.ring();
    }
}
