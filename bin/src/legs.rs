//! `kilter legs`: what has left one account and not come to another, and how it gets there after all.

use std::io::{BufWriter, Write};

use anyhow::Context;
use kilter_engine::clock::Clock;
use kilter_io::{
    clock::SystemClock,
    embedded::{CommandLog, DataDir, StoreReader},
    outbox::FlyingLeg,
};

use crate::{Answer, cli, servers, source::Place};

/// Runs it.
///
/// # Errors
///
/// When the data cannot be used, or the leg named is not one to be sent again.
pub fn run(args: &cli::Legs) -> anyhow::Result<Answer> {
    match &args.command {
        None => list(&args.show),
        Some(cli::LegsCommand::List(show)) => list(show),
        Some(cli::LegsCommand::Resend(resend)) => send_again(resend),
    }
}

fn list(args: &cli::Show) -> anyhow::Result<Answer> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut count = 0;
    let mut each = |leg: FlyingLeg| -> anyhow::Result<()> {
        count += 1;
        let line = match args.json {
            true => json(&leg),
            false => words(&leg),
        };
        writeln!(out, "{line}").context("cannot print")
    };
    match args.source.place()? {
        Place::Directory(path) => {
            let dir = DataDir::open_for_reading(&path)?;
            StoreReader::open(&dir)?.flying_legs(&mut each)?;
        }
        Place::Servers(config) => servers::legs::flying(&config, &mut each)?,
    }
    out.flush().context("cannot print")?;
    if count == 0 && !args.json {
        eprintln!("every leg has landed");
    }
    Ok(Answer::Yes)
}

fn words(leg: &FlyingLeg) -> String {
    let place = leg
        .place
        .map_or_else(String::new, |(_, partition, offset)| {
            format!(", its last record at partition {partition} offset {offset}")
        });
    let message = leg.message.as_ref();
    let message = message.map_or_else(String::new, |message| format!("; {message}"));
    format!(
        "{}: {} {} to {} (transaction id {}): {}{place}{message}",
        leg.name,
        leg.amount,
        leg.currency_code,
        leg.user_id,
        leg.transaction_id,
        leg.progress.as_str()
    )
}

fn json(leg: &FlyingLeg) -> String {
    let place = leg.place.map(|(generation, partition, offset)| {
        serde_json::json!({"generation": generation, "partition": partition, "offset": offset})
    });
    serde_json::json!({
        "leg": leg.name,
        "userId": leg.user_id,
        "transactionId": leg.transaction_id,
        "currencyCode": leg.currency_code,
        "amount": leg.amount,
        "state": leg.progress.as_str(),
        "record": place,
        "message": leg.message,
    })
    .to_string()
}

fn send_again(args: &cli::ResendLeg) -> anyhow::Result<Answer> {
    let path = match args.source.place()? {
        Place::Directory(path) => path,
        Place::Servers(config) => return servers::legs::resend(&config, args),
    };
    drop(DataDir::open_for_reading(&path)?);
    let dir = DataDir::open_exclusive(&path)?;
    let store = StoreReader::open(&dir)?;
    let mut log = CommandLog::open(&dir, store.settings()?.window_ms)?;
    let offset = log.resend_leg(&store, args.name, SystemClock::new().wall_ms())?;
    println!(
        "the leg {} lies in the log again, at offset {offset} ({}): kilter serve or kilter apply \
         applies it",
        args.name, args.reason
    );
    Ok(Answer::Yes)
}
