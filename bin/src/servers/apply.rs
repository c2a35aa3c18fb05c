//! `kilter apply --config`: a file of commands into the topic, and what became of them.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
};

use anyhow::{Context, bail};

use super::client::{self, Client};
use crate::{Answer, cli, config::Config, progress::Progress, signals::Interrupt};

/// The largest line that is produced; brokers take about this much.
const LINE_MAX: usize = 900_000;

/// How many lines are produced between two looks at the store.
const LOOK_LINES: u64 = 10_000;

/// Runs it.
///
/// # Errors
///
/// When the file or a server cannot be read.
pub fn apply(args: &cli::Apply) -> anyhow::Result<Answer> {
    if args.results.is_some() || args.again {
        bail!(
            "--results and --again are for the embedded mode; with --config the results are in their topic"
        );
    }
    let config = Config::from_args(&args.source)?;
    let interrupt = Interrupt::listen()?;
    let mut input: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(&args.file)
            .with_context(|| format!("cannot read {}", args.file.display()))?;
        Box::new(BufReader::with_capacity(1 << 20, file))
    };
    let mut client = Client::connect(&config, ())?;
    let mut progress = Progress::new("applying", None);
    let mut line = Vec::new();
    while !interrupt.is_asked() && read_line(&mut input, &mut line, client.sent() + 1)? {
        client.send(&line)?;
        if client.sent().is_multiple_of(LOOK_LINES) {
            client.wait_for_room(&interrupt)?;
            progress.set(client.sent(), || "lines produced".into());
        }
    }
    let counts = client.finish(&interrupt, &mut progress)?;
    progress.finish();
    println!("{}", client::table(&counts, client.sent()));
    println!(
        "{} lines produced; the same lines again are answered as DUPLICATE within the window",
        client.sent()
    );
    Ok(Answer::Yes)
}

/// The next line without its end, or none at the end of the input.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>, number: u64) -> anyhow::Result<bool> {
    line.clear();
    let read = input
        .take(LINE_MAX as u64 + 1)
        .read_until(b'\n', line)
        .context("cannot read the input")?;
    if read == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() > LINE_MAX {
        bail!(
            "line {number} has more than {LINE_MAX} bytes, which brokers do not take; the lines before it are produced"
        );
    }
    Ok(true)
}
