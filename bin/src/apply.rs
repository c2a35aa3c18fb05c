//! `kilter apply`: a file of commands through log, engine and store.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use kilter_engine::clock::Clock;
use kilter_io::{
    clock::SystemClock,
    embedded::{CommandLog, DataDir, Input, KnownPrefix, LegMover, LineBatch},
    results::JsonLines,
};

use crate::{
    Answer, cli, embedded_node, engine_setup,
    node::Node,
    outcomes::{CountingSink, Outcomes},
    progress::Progress,
    signals::Interrupt,
};

/// How many lines, and about how many bytes, are appended in one transaction.
const BATCH_LINES: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

/// How many records the log may be ahead of the store.
const LAG_MAX: u64 = 65_536;

/// How often waiting looks around.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Runs `kilter apply`.
///
/// # Errors
///
/// When the input, the directory or the results cannot be used, or the node stops.
pub fn run(args: &cli::Apply) -> anyhow::Result<Answer> {
    let settings = engine_setup::settings(&args.layout)?;
    let to_stdout = args.results.as_deref().is_some_and(is_dash);
    if !is_dash(&args.file) {
        // Before anything is made: a mistyped name must not leave a directory behind.
        std::fs::metadata(&args.file)
            .with_context(|| format!("cannot read {}", args.file.display()))?;
    }
    let results = match &args.results {
        None => None,
        Some(path) if is_dash(path) => Some(JsonLines::stdout()),
        Some(path) => Some(JsonLines::append(path)?),
    };
    let interrupt = Interrupt::listen()?;
    let dir = DataDir::open_exclusive(&args.data.data)?;
    let mut log = engine_setup::open_log(&dir, &args.layout)?;
    let (mut input, known) = if is_dash(&args.file) {
        Input::pipe("standard input".into(), std::io::stdin(), &log, args.again)?
    } else {
        Input::file(&args.file, &log, args.again)?
    };
    let mut progress = Progress::new("applying", None);
    let outcomes = Outcomes::default();
    let sink = CountingSink::new(outcomes.clone(), results, ());
    let node = embedded_node::start(&dir, &settings, sink, Arc::new(()), &mut |line| {
        progress.tell(&line);
    })?;
    let mut mover = LegMover::open(&dir)?;
    let mut feed = Feed {
        node: &node,
        log: &mut log,
        mover: &mut mover,
        clock: SystemClock::new(),
        interrupt: &interrupt,
        progress: &mut progress,
    };
    let finished = match feed.input(&mut input) {
        Ok(fed) => feed.drain().map(|()| fed),
        Err(error) => Err(error),
    };
    progress.finish();
    let fed = match finished {
        Ok(fed) => {
            node.stop()?;
            fed
        }
        // What stopped the node is the cause; without one it is what stopped us.
        Err(error) => return Err(node.stop().err().unwrap_or(error)),
    };
    let summary = summary(&args.file, known, fed, interrupt.is_asked());
    if to_stdout {
        eprintln!("{}\n{summary}", outcomes.table());
    } else if outcomes.total() > 0 {
        println!("{}\n{summary}", outcomes.table());
    } else {
        println!("{summary}");
    }
    Ok(Answer::Yes)
}

/// What feeds the node.
struct Feed<'a> {
    node: &'a Node,
    log: &'a mut CommandLog,
    mover: &'a mut LegMover,
    clock: SystemClock,
    interrupt: &'a Interrupt,
    progress: &'a mut Progress,
}

impl Feed<'_> {
    /// Appends the input, as fast as the node takes it. Returns how many lines.
    fn input(&mut self, input: &mut Input) -> anyhow::Result<u64> {
        let mut batch = LineBatch::default();
        let mut fed = 0;
        loop {
            while self.log.end().get() - self.node.committed().get() > LAG_MAX
                && !self.interrupt.is_asked()
            {
                self.node.check()?;
                std::thread::park_timeout(LOOK_INTERVAL);
            }
            if self.interrupt.is_asked() {
                return Ok(fed);
            }
            input.read(&mut batch, BATCH_LINES, BATCH_BYTES)?;
            if batch.is_empty() {
                return Ok(fed);
            }
            self.log
                .append_input(input, &batch.lines(), self.clock.wall_ms())?;
            self.move_legs()?;
            self.node.wake();
            self.node.check()?;
            fed += batch.len() as u64;
            let lag = self.log.end().get() - self.node.committed().get();
            self.progress
                .set(fed, || format!("lines appended, {lag} to be committed"));
        }
    }

    /// Waits until the store has everything that the log has, and no leg is left to move.
    fn drain(&mut self) -> anyhow::Result<()> {
        while !self.interrupt.is_asked() {
            self.node.check()?;
            let end = self.log.end();
            let is_committed = self.node.committed() >= end;
            // What is committed has left its legs: looked at in this order, none is overlooked.
            if self.move_legs()? > 0 {
                self.node.wake();
            } else if is_committed {
                break;
            } else {
                let committed = self.node.committed().get();
                self.progress
                    .set(committed, || format!("of {end} records committed"));
                std::thread::park_timeout(LOOK_INTERVAL);
            }
        }
        Ok(())
    }

    fn move_legs(&mut self) -> anyhow::Result<usize> {
        Ok(self.mover.step(self.log, self.clock.wall_ms())?)
    }
}

fn summary(file: &Path, known: KnownPrefix, fed: u64, interrupted: bool) -> String {
    let mut text = match known.lines {
        0 => format!("{fed} lines of {} appended", file.display()),
        lines => format!(
            "the first {lines} lines of {} were in the log already, {fed} appended",
            file.display()
        ),
    };
    if interrupted {
        text.push_str("; stopped on request, the same command again goes on from there");
    } else {
        text.push_str("; all of it is applied and durable");
    }
    text
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}
