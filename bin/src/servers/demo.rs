//! `kilter demo --config`: made-up traffic through the real topic.

use std::time::Instant;

use super::client::{self, Client};
use crate::{Answer, cli, config::Config, demo::Traffic, progress::Progress, signals::Interrupt};

/// How many commands are produced between two looks at the store.
const LOOK_COMMANDS: u64 = 10_000;

/// Runs it.
///
/// # Errors
///
/// When a server cannot be reached or a command is not taken.
pub fn demo(args: &cli::Demo) -> anyhow::Result<Answer> {
    let config = Config::from_args(&args.source)?;
    let interrupt = Interrupt::listen()?;
    let mut client = Client::connect(&config, ())?;
    let run = run_number();
    let mut traffic = Traffic::new(args.users, args.zipf, args.seed, run);
    let mut progress = Progress::new("demo", Some(args.users + args.commands));
    let began = Instant::now();
    let mut line = Vec::new();
    let mut left = args.commands;
    while !interrupt.is_asked() {
        line.clear();
        if !traffic.open(&mut line) {
            if left == 0 {
                break;
            }
            left -= 1;
            traffic.command(&mut line);
        }
        client.send(&line)?;
        if client.sent().is_multiple_of(LOOK_COMMANDS) {
            client.wait_for_room(&interrupt)?;
            let done = client.done()?;
            let rate = u128::from(done) * 1000 / began.elapsed().as_millis().max(1);
            let lag = client.sent() - done.min(client.sent());
            progress.set(done, || format!("{rate}/s durable, lag {lag}"));
        }
    }
    let counts = client.finish(&interrupt, &mut progress)?;
    let elapsed = began.elapsed();
    progress.finish();
    println!("{}", client::table(&counts, client.sent()));
    println!(
        "{} commands produced, applied and durable in {:.1} s: {} commands/s",
        client.sent(),
        elapsed.as_secs_f64(),
        u128::from(client.sent()) * 1000 / elapsed.as_millis().max(1)
    );
    println!("kilter audit --config checks the store");
    Ok(Answer::Yes)
}

/// What tells the ids of this run from those of others.
pub fn run_number() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}
