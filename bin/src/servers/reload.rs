//! The idempotency window from the result topic, where that is the ledger.

use std::time::Duration;

use anyhow::{Context, anyhow};
use kilter_engine::{
    AccountId, LegName, Partition, hash::key_hash, loader::Loader, notes::NoteKind,
};
use kilter_io::{
    kafka::{ResultsReader, SeenResult},
    mysql::Started,
};

use super::{keeper::Keeper, settings::kafka_settings, start::FoundLog};
use crate::config::Config;

/// The longest wait for a result while there are more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Loads the ids that are still alive. Returns how many.
///
/// Only what lies below the committed offset of its user's hash range counts: the rest is
/// replayed. What an operator has refused since was never answered.
pub fn ids(
    config: &Config,
    found: &FoundLog,
    keeper: &Keeper,
    started: &Started,
    partitions: &[(Partition, i64)],
    loader: &mut Loader,
) -> anyhow::Result<u64> {
    let clock = |partition: u32| {
        partitions
            .iter()
            .find(|(own, _)| own.get() == partition)
            .map(|(_, clock_ms)| *clock_ms)
    };
    let Some(oldest_ms) = partitions.iter().map(|(_, clock_ms)| *clock_ms).min() else {
        return Ok(0);
    };
    // Results are published behind their records, so none of the window is older than this.
    let from_ms = oldest_ms.saturating_sub(2 * started.window_ms as i64);
    let mut reader = ResultsReader::from_time(&kafka_settings(config), from_ms)?;
    let mut count = 0;
    let mut seen = 0_u64;
    reader.read_all(PATIENCE, |result: SeenResult| {
        seen += 1;
        if seen.is_multiple_of(500_000) {
            keeper.check()?;
            tracing::info!(results = seen, ids = count, "loading ids from the results");
        }
        if !result.is_entry() {
            return Ok(());
        }
        let account = result
            .account_id
            .and_then(AccountId::new)
            .ok_or_else(|| anyhow!("a result without an account: {result:?}"))?;
        let remembered_ms = result.remembered_at.unwrap_or(result.timestamp);
        let leg: Option<LegName> = match &result.leg_name {
            None => None,
            Some(name) => Some(name.parse().with_context(|| format!("{result:?}"))?),
        };
        if result.generation != found.generation.get()
            && let Some(leg) = &leg
        {
            loader.remembered_leg_by_user(
                &result.user_id,
                leg,
                remembered_ms,
                found.identity.partitions,
                |partition| clock(partition.get()),
            )?;
            return Ok(());
        }
        if result.generation != found.generation.get() {
            // Of a log that is over: its users may be in other partitions now.
            loader.remembered_by_user(
                account,
                &result.transaction_id,
                remembered_ms,
                found.identity.partitions,
                |partition| clock(partition.get()),
            )?;
            return Ok(());
        }
        let Some(clock_ms) = clock(result.partition) else {
            return Ok(());
        };
        if is_refused_since(started, &result) || !is_committed(started, &result) {
            return Ok(());
        }
        let partition = Partition::new(result.partition);
        let (user, id) = (&result.user_id, &result.transaction_id);
        let loaded = match &leg {
            Some(leg) => loader.remembered_leg(user, leg, partition, remembered_ms, clock_ms),
            None => loader.remembered_once(account, id, partition, remembered_ms, clock_ms),
        };
        loaded.context("the ids of the results cannot be loaded")?;
        count += 1;
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(count)
}

fn is_committed(started: &Started, result: &SeenResult) -> bool {
    let hash = key_hash(result.user_id.as_bytes());
    started.rows.iter().flatten().any(|row| {
        row.partition.get() == result.partition
            && row.range.contains(hash)
            && result.offset < row.offset.get()
    })
}

fn is_refused_since(started: &Started, result: &SeenResult) -> bool {
    started.notes.iter().any(|note| {
        note.kind == NoteKind::Refuse
            && note.partition.get() == result.partition
            && note.offset.get() == result.offset
    })
}
