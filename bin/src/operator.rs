//! What an operator decides: the window, and single records of the log.

use anyhow::{Context, bail};
use kilter_engine::{
    Offset, Partition,
    notes::{Note, NoteKind},
};
use kilter_io::embedded::{DataDir, EmbeddedStore, GENERATION, PARTITION, StoreReader};

use crate::{Answer, cli, servers, source::Place};

/// Runs `kilter window`.
///
/// # Errors
///
/// When the directory cannot be used, or something of the log is left to apply.
pub fn window(args: &cli::Window) -> anyhow::Result<Answer> {
    let path = match &args.source.place()? {
        Place::Directory(path) => path.clone(),
        Place::Servers(config) => return servers::operator::window(config, args.length),
    };
    let path = &path;
    let Some(length) = args.length else {
        let dir = DataDir::open_for_reading(path)?;
        let window_ms = StoreReader::open(&dir)?.settings()?.window_ms;
        println!("transaction ids are remembered for {}", words(window_ms));
        return Ok(Answer::Yes);
    };
    // Reading first: a mistyped directory must not be made.
    drop(DataDir::open_for_reading(path)?);
    let dir = DataDir::open_exclusive(path)?;
    let window_ms = length.as_millis() as u64;
    EmbeddedStore::open(&dir)?
        .set_window(&dir, window_ms)
        .context("the window stays as it is (kilter apply /dev/null applies what is left)")?;
    println!(
        "from the end of the log on, transaction ids are remembered for {}; at 1000 commands a \
         second that takes {} MiB",
        words(window_ms),
        kilter_engine::window::bytes_needed(1000, window_ms) >> 20
    );
    Ok(Answer::Yes)
}

/// Runs `kilter log …`.
///
/// # Errors
///
/// When the directory cannot be used, or the record is applied already.
pub fn log(args: &cli::Log) -> anyhow::Result<Answer> {
    let (note, kind) = match args {
        cli::Log::Refuse(note) => (note, NoteKind::Refuse),
        cli::Log::IgnoreTime(note) => (note, NoteKind::IgnoreTime),
        cli::Log::Adopt(adopt) => return servers::adopt(adopt),
    };
    let path = match note.source.place()? {
        Place::Directory(path) => path,
        Place::Servers(config) => return servers::operator::note(&config, note, kind),
    };
    if note.partition != PARTITION.get() {
        bail!(
            "--partition {}: the log in a directory has partition 0 only",
            note.partition
        );
    }
    drop(DataDir::open_for_reading(&path)?);
    let dir = DataDir::open_exclusive(&path)?;
    let decided = Note {
        generation: GENERATION,
        partition: Partition::new(note.partition),
        offset: Offset::new(note.offset),
        kind,
    };
    EmbeddedStore::open(&dir)?.add_note(&dir, &decided, &note.reason)?;
    println!("noted for offset {}: it is {}", note.offset, meaning(kind));
    Ok(Answer::Yes)
}

/// What a note makes of its record.
pub fn meaning(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::Refuse => "refused when it is applied",
        NoteKind::IgnoreTime => "applied without its timestamp moving the clock",
    }
}

/// A length of time for people.
pub fn words(ms: u64) -> String {
    match ms {
        ms if ms.is_multiple_of(3_600_000) => format!("{} h", ms / 3_600_000),
        ms if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}
