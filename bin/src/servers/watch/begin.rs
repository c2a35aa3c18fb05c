//! Where a watcher begins.

use kilter_engine::{Partition, Position};
use kilter_io::{
    api::{Problem, ProblemKind},
    kafka::{CommandConsumer, ResultsReader},
    mysql::Db,
};

use super::{Shared, marks};

/// How much earlier than a command its result may seem to be published: clocks of brokers differ.
const CLOCKS_MARGIN_MS: i64 = 60_000;

/// Where a result lies: partition, then generation, offset and posting.
pub type Place = (u32, u32, u64, u16);

/// The first place behind one.
fn behind(position: &Position) -> Place {
    let (partition, generation) = (position.partition.get(), position.generation.get());
    let offset = position.offset.get();
    match position.posting.get().checked_add(1) {
        Some(posting) => (partition, generation, offset, posting),
        None => (partition, generation, offset.saturating_add(1), 0),
    }
}

/// A reader that begins no later than the results that are asked for, and the first place of each
/// partition that is. In partitions not named that is where the log ends.
pub fn open(shared: &Shared, after: &[Position]) -> Result<(ResultsReader, Vec<Place>), Problem> {
    let results = |error| away("the result topic", &error);
    let commands = |error| away("the command topic", &error);
    // First: the result of what lies behind the log's end is published behind this one's.
    let mut reader = ResultsReader::from_end(&shared.kafka).map_err(results)?;
    let consumer = CommandConsumer::new(&shared.kafka).map_err(commands)?;
    let committed = Db::open(&shared.mysql)
        .map_err(anyhow::Error::from)
        .and_then(|mut db| marks::committed(&mut db, &shared.kafka, shared.partitions))
        .map_err(|error| away("the store", &error))?;
    let mut from = Vec::with_capacity(committed.len());
    let mut earliest: Option<i64> = None;
    let mut from_start = None;
    for (partition, (generation, _)) in (0..).zip(&committed) {
        let named = after.iter().find(|at| at.partition.get() == partition);
        let partition = Partition::new(partition);
        let range = consumer.range(partition).map_err(commands)?;
        let Some(named) = named else {
            from.push((partition.get(), *generation, range.end, 0));
            continue;
        };
        from.push(behind(named));
        let offset = named.offset.get();
        if named.generation.get() != *generation {
            // Of an earlier log nothing tells the times any more; 0 is before all logs.
            from_start = from_start.max(Some(named.generation.get()));
        } else if offset < range.first {
            let message = format!(
                "the log has the offsets {} to {} of partition {partition}, not {offset}: begin at \
                 another position",
                range.first, range.end
            );
            return Err(Problem::new(ProblemKind::NotFound, message));
        } else if offset < range.end {
            let (_, record) = consumer.record_at(partition, offset).map_err(commands)?;
            earliest = earliest.into_iter().chain([record.timestamp_ms]).min();
        }
    }
    // A result is published behind its command, so the earliest command's time is early enough.
    let are_all_there = match (from_start, earliest) {
        (Some(generation), _) => {
            reader.begin_at_start();
            // Before all logs means whatever there is.
            generation == 0 || reader.is_whole()
        }
        (None, Some(earliest)) => {
            let begin = earliest.saturating_sub(CLOCKS_MARGIN_MS);
            reader.begin_at_time(begin).map_err(results)?
        }
        (None, None) => true,
    };
    if are_all_there {
        return Ok((reader, from));
    }
    let message = "the result topic has lost results behind that position, by their age: begin at a \
                   later one, or read the ledger";
    Err(Problem::new(ProblemKind::NotFound, message))
}

/// A server that is needed is away.
pub fn away(what: &str, error: &dyn std::fmt::Display) -> Problem {
    tracing::warn!("a watcher of results ends, {what} does not answer: {error:#}");
    Problem::new(
        ProblemKind::Unavailable,
        format!("{what} is unavailable; go on behind the last position"),
    )
}
