//! `kilter demo`: made-up commands through the real path, measured and audited.

mod latency;
mod report;
mod traffic;
mod zipf;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use kilter_engine::clock::Clock;
use kilter_io::{
    clock::SystemClock,
    embedded::{CommandLog, DataDir, LegMover, NewRecord},
};

use crate::{
    Answer, audit, cli, embedded_node, engine_setup,
    node::Node,
    outcomes::{CountingSink, Outcomes},
    progress::Progress,
    signals::Interrupt,
};
use latency::Latency;
use report::Report;
pub use traffic::Traffic;

/// How many records are appended in one transaction.
const BATCH: usize = 2048;

/// How many records the log may be ahead of the store: the loop is closed, and this closes it.
const LAG_MAX: u64 = 65_536;

/// What a remembered id takes at most, and the least that a window is given.
const ID_BYTES_MAX: u64 = 40;
const WINDOW_MIN_BYTES: u64 = 64 << 20;

/// How often waiting looks around.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// Runs `kilter demo`.
///
/// # Errors
///
/// When the directory cannot be used, or the node stops.
pub fn run(args: &cli::Demo) -> anyhow::Result<Answer> {
    let mut settings = engine_setup::settings(&args.layout)?;
    if args.layout.window_memory.is_none() && args.data.is_none() {
        settings.window_max_bytes = (ID_BYTES_MAX * args.commands).max(WINDOW_MIN_BYTES);
    }
    let interrupt = Interrupt::listen()?;
    let (path, temporary) = directory(args)?;
    let dir = DataDir::open_exclusive(&path)?;
    let mut log = engine_setup::open_log(&dir, &args.layout)?;
    let base = log.end().get();
    let mut traffic = Traffic::new(args.users, args.zipf, args.seed, base);
    let latency = Arc::new(Latency::new(base, args.users + args.commands, BATCH as u64));
    let outcomes = Outcomes::default();
    let sink = CountingSink::<_>::new(outcomes.clone(), None, latency.watch());
    let mut progress = Progress::new("demo", Some(args.users + args.commands));
    let node = embedded_node::start(&dir, &settings, sink, Arc::clone(&latency), &mut |line| {
        progress.tell(&line);
    })?;
    let start = Instant::now();
    let mut feeder = Feeder {
        node: &node,
        log: &mut log,
        latency: &latency,
        interrupt: &interrupt,
        progress: &mut progress,
        start,
        base,
    };
    let fed = feeder.feed(&mut traffic, args.commands);
    let fed = fed.and_then(|()| feeder.drain(&mut LegMover::open(&dir)?));
    let elapsed = start.elapsed();
    progress.finish();
    if let Err(error) = fed {
        return Err(node.stop().err().unwrap_or(error));
    }
    let report = Report::of(&node, &outcomes, &latency, traffic.written(), elapsed);
    let applied = node.committed().get() - base;
    node.stop()?;
    report.print();
    if interrupt.is_asked() {
        println!("stopped on request after {applied} commands");
    }
    let expected = interrupt.is_asked() || report.is_as_written();
    drop(log);
    let audited = audit::print(&audit::check(&dir)?);
    if temporary.is_some() {
        println!("the data was in a temporary directory; --data DIR keeps it");
    } else {
        println!("the data is in {}", path.display());
    }
    Ok(if expected { audited } else { Answer::No })
}

fn directory(args: &cli::Demo) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match &args.data {
        Some(path) => Ok((path.clone(), None)),
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("kilter-demo-")
                .tempdir()
                .context("cannot make a temporary directory; give one with --data DIR")?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}

/// Appends traffic while the node runs.
struct Feeder<'a> {
    node: &'a Node,
    log: &'a mut CommandLog,
    latency: &'a Latency,
    interrupt: &'a Interrupt,
    progress: &'a mut Progress,
    start: Instant,
    base: u64,
}

impl Feeder<'_> {
    fn feed(&mut self, traffic: &mut Traffic, commands: u64) -> anyhow::Result<()> {
        let clock = SystemClock::new();
        let mut bytes = Vec::with_capacity(BATCH * 256);
        let mut ends = Vec::with_capacity(BATCH);
        let mut left = commands;
        while !self.interrupt.is_asked() {
            bytes.clear();
            ends.clear();
            while ends.len() < BATCH {
                if !traffic.open(&mut bytes) {
                    if left == 0 {
                        break;
                    }
                    left -= 1;
                    traffic.command(&mut bytes);
                }
                ends.push(bytes.len());
            }
            if ends.is_empty() {
                break;
            }
            self.wait_for_room()?;
            let mut from = 0;
            let records: Vec<NewRecord<'_>> = ends
                .iter()
                .map(|&end| NewRecord::new(&bytes[std::mem::replace(&mut from, end)..end]))
                .collect();
            self.latency.appending(self.log.end().get());
            self.log.append(&records, clock.wall_ms())?;
            self.node.wake();
            self.show()?;
        }
        Ok(())
    }

    fn wait_for_room(&mut self) -> anyhow::Result<()> {
        while self.log.end().get() - self.node.committed().get() > LAG_MAX
            && !self.interrupt.is_asked()
        {
            self.node.check()?;
            std::thread::park_timeout(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Waits until the store has everything that the log has, and no leg is left to move: a
    /// directory may have had some before.
    fn drain(&mut self, mover: &mut LegMover) -> anyhow::Result<()> {
        let clock = SystemClock::new();
        while !self.interrupt.is_asked() {
            let is_committed = self.node.committed() >= self.log.end();
            if is_committed && mover.step(self.log, clock.wall_ms())? == 0 {
                break;
            }
            self.node.wake();
            self.show()?;
            std::thread::park_timeout(LOOK_INTERVAL);
        }
        Ok(())
    }

    fn show(&mut self) -> anyhow::Result<()> {
        self.node.check()?;
        let committed = self.node.committed().get();
        let lag = self.log.end().get() - committed;
        let done = committed - self.base;
        let rate = u128::from(done) * 1000 / self.start.elapsed().as_millis().max(1);
        let latency = self.latency;
        self.progress.set(done, || {
            let epoch = latency.last_durable();
            format!(
                "{rate}/s durable, lag {lag}, epoch latency {} ms",
                epoch.as_millis()
            )
        });
        Ok(())
    }
}
