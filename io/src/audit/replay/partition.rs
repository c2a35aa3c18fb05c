//! A shard that applies one partition, through all the windows that ever held there.

use std::collections::{HashMap, VecDeque};

use kilter_engine::{
    HashRange, IdHash,
    decode::decode,
    epoch::{EpochPart, Landed},
    hash::key_hash,
    ledger::LedgerEntry,
    record::Record,
    shard::{DeadLetters, Entries, Item, Shard, ShardSettings},
};

use serde_json::Value;

use super::PartitionReplay;
use crate::{json::LedgerJson, mysql::WindowRow, rows::LedgerRow};

/// The length that counts when no window is known; the audit tells of that.
const UNKNOWN_WINDOW_MS: u64 = 86_400_000;

/// What the log made of a partition so far.
pub(super) struct Replayed {
    settings: ShardSettings,
    shard: Shard,
    part: EpochPart,
    clock_ms: i64,
    /// Windows that hold from later offsets on.
    later: VecDeque<WindowRow>,
    /// What a later window may still remember; nothing when there is no later one.
    ids: VecDeque<(IdHash, i64)>,
    /// The first offset whose entries are not compared.
    compared: u64,
}

impl Replayed {
    pub(super) fn new(of: &PartitionReplay<'_>, windows: Vec<WindowRow>) -> Self {
        let mut later = VecDeque::from(windows);
        let first = later.pop_front().map(|row| row.window_ms);
        let settings = ShardSettings {
            range: HashRange::ALL,
            term: Default::default(),
            partitions: vec![(of.partition, of.generation)],
            partition_count: of.partition_count,
            partitioner: of.asked.partitioner,
            window_ms: first.unwrap_or(UNKNOWN_WINDOW_MS),
            window_bytes: of.asked.window_bytes,
            dead_letters: DeadLetters::WithEpoch,
            entries: Entries::WithEpoch,
        };
        Self {
            shard: Shard::new(settings.clone()),
            settings,
            part: EpochPart::default(),
            clock_ms: 0,
            later,
            ids: VecDeque::new(),
            compared: 0,
        }
    }

    pub(super) fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    pub(super) fn compared_to(&mut self, offset: u64) {
        self.compared = offset;
    }

    /// Moves clock and window to a record.
    pub(super) fn advance(&mut self, record: &Record<'_>, counts: bool) -> Result<(), String> {
        while let Some(row) = self.later.pop_front_if(|row| row.from <= record.offset) {
            self.change_window(row)?;
        }
        if counts {
            self.clock_ms = self.clock_ms.max(record.timestamp_ms);
        }
        Ok(())
    }

    /// Applies a record.
    pub(super) fn apply(&mut self, record: &Record<'_>, hash: u64) -> Result<(), String> {
        let item = Item {
            generation: record.generation,
            partition: record.partition,
            offset: record.offset,
            clock_ms: self.clock_ms,
            issued_at_ms: record.issued_at_ms,
            key_hash: hash,
            mark: record.mark,
            key: record.key,
            value: record.value,
            headers: record.headers,
            decoded: decode(record.value),
        };
        let entries = self.part.ledger.len();
        self.shard
            .apply(&[item], &mut self.part, &mut Vec::new())
            .map_err(|error| error.to_string())?;
        self.part.dead_letters.clear();
        if !self.later.is_empty() {
            for (index, entry) in self.part.ledger.iter().enumerate().skip(entries) {
                let id = match self.part.landed(index) {
                    Some(landed) => IdHash::of_leg(&landed.name),
                    None => IdHash::of(record.key, entry.transaction_id.as_bytes()),
                };
                self.ids.push_back((id, entry.remembered_ms));
            }
        }
        Ok(())
    }

    /// What was made since the last time.
    pub(super) fn take(&mut self) -> EpochPart {
        self.shard.end_epoch();
        std::mem::take(&mut self.part)
    }

    /// A shard with another window and all that this one knows, as a start makes it.
    fn change_window(&mut self, row: WindowRow) -> Result<(), String> {
        self.settings.window_ms = row.window_ms;
        let mut shard = Shard::new(self.settings.clone());
        let book = self.shard.book();
        let mut places = HashMap::new();
        for account in book.accounts() {
            let user = String::from_utf8_lossy(account.user);
            let hash = key_hash(account.user);
            let handle = shard.load_account(hash, &user, account.id);
            places.insert(account.id, (hash, handle));
        }
        for (_, balance) in book.balances() {
            let (hash, handle) = places[&book.account_id(balance.account())];
            shard.load_balance(hash, handle, balance.currency(), balance.state());
        }
        let oldest_ms = self.clock_ms - 2 * row.window_ms as i64;
        for (id, remembered_ms) in &self.ids {
            if *remembered_ms >= oldest_ms {
                shard
                    .load_id(row.partition, id, *remembered_ms, self.clock_ms)
                    .map_err(|error| error.to_string())?;
            }
        }
        if self.later.is_empty() {
            self.ids = VecDeque::new();
        }
        self.shard = shard;
        Ok(())
    }
}

/// An entry as it must be in the store, without its user.
pub(super) fn as_row(entry: &LedgerEntry, landed: Option<&Landed>) -> LedgerRow {
    LedgerRow {
        generation: entry.position.generation.get(),
        partition: entry.position.partition.get(),
        offset: entry.position.offset.get(),
        posting: entry.position.posting.get(),
        account_id: entry.account_id.get(),
        user_id: String::new(),
        currency_code: entry.currency.to_string(),
        transaction_id: entry.transaction_id.as_str().to_owned(),
        kind: entry.kind.as_str().to_owned(),
        amount: entry.amount.to_string(),
        available_before: entry.before.available.to_string(),
        available_after: entry.after.available.to_string(),
        frozen_before: entry.before.frozen.to_string(),
        frozen_after: entry.after.frozen.to_string(),
        version: entry.after.version,
        error_code: entry.failure.map(|code| code.as_str().to_owned()),
        created_at_ms: entry.time_ms,
        remembered_at_ms: (entry.remembered_ms != entry.time_ms).then_some(entry.remembered_ms),
        leg: landed.map(|landed| landed.name.to_string()),
    }
}

/// What is different in an entry, in words.
pub(super) fn difference(held: &LedgerRow, right: &LedgerRow) -> String {
    let json = |row: &LedgerRow| serde_json::to_value(LedgerJson(row)).unwrap_or_default();
    let (held, right) = (json(held), json(right));
    let names = held.as_object().into_iter().chain(right.as_object());
    let differs = names
        .flat_map(|object| object.keys())
        .find(|name| held.get(name.as_str()) != right.get(name.as_str()));
    let shown = |of: &Value, name: &str| of.get(name).map_or("absent".into(), Value::to_string);
    match differs {
        Some(name) => format!(
            "{name} is {}, the log makes it {}",
            shown(&held, name),
            shown(&right, name)
        ),
        None => "it is spelled otherwise".into(),
    }
}
