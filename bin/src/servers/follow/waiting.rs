//! Balances that are published and perhaps not committed yet, for Redis.
//!
//! What the highest term says of a record counts, and only once the store has committed the record
//! and everything that had been published of it by then is read: an operator's note may have changed
//! an answer until then, and what it refused changes no balance.

use std::collections::{BTreeMap, HashMap};

use kilter_engine::{
    AccountId, Amount, Currency, Partition,
    epoch::{BalanceImage, OffsetRow},
    hash::key_hash,
};
use kilter_io::kafka::SeenResult;

/// How many results may wait for the store.
const WAITING_MAX: usize = 1 << 20;

/// Where a result lies: partition, then generation, offset and posting.
type Place = (u32, u32, u64, u16);

/// What became of a record.
struct Published {
    term: u64,
    key_hash: u64,
    /// The balance behind it, if it changed one.
    image: Option<BalanceImage>,
}

/// What was published of records and is not offered yet.
pub struct Waiting {
    /// The first record of each partition that is looked at: generation and offset.
    from: BTreeMap<u32, (u32, u64)>,
    /// How far the store was when something was released last, partition by partition.
    released: BTreeMap<u32, Vec<OffsetRow>>,
    results: BTreeMap<Place, Published>,
}

impl Waiting {
    /// Looks at nothing below these ends of the log's present life, which `rows` tell.
    pub fn from(ends: &[(Partition, u64)], rows: &[OffsetRow]) -> Self {
        let generation = |partition: Partition| {
            let own = rows.iter().filter(|row| row.partition == partition);
            own.map(|row| row.generation.get()).min().unwrap_or(0)
        };
        let from = ends
            .iter()
            .map(|(partition, end)| (partition.get(), (generation(*partition), *end)));
        Self {
            from: from.collect(),
            released: BTreeMap::new(),
            results: BTreeMap::new(),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// Takes what was published; whether there was room.
    pub fn take(&mut self, result: &SeenResult) -> bool {
        let at = (result.generation, result.offset);
        let key_hash = key_hash(result.user_id.as_bytes());
        let is_early = self
            .from
            .get(&result.partition)
            .is_some_and(|from| at < *from);
        // It may come again after a crash, from who is no leader any more even with another answer.
        let is_late = self
            .released
            .get(&result.partition)
            .is_some_and(|rows| rows.iter().any(|row| has(row, key_hash, at)));
        if is_early || is_late {
            return true;
        }
        let published = Published {
            term: result.term,
            key_hash,
            image: image(result),
        };
        let place = (result.partition, at.0, at.1, result.posting);
        match self.results.get(&place) {
            Some(known) if known.term > published.term => {}
            _ => {
                self.results.insert(place, published);
            }
        }
        self.results.len() <= WAITING_MAX
    }

    /// Releases the records that these rows have committed, the newest image of each balance.
    /// Everything that was published before the rows were read must have been taken.
    pub fn release(&mut self, rows: Vec<OffsetRow>) -> Vec<BalanceImage> {
        self.released.clear();
        for row in rows {
            let own = self.released.entry(row.partition.get()).or_default();
            own.push(row);
        }
        let mut newest: HashMap<(AccountId, Currency), BalanceImage> = HashMap::new();
        let released = &self.released;
        // In the order of the log, in which a user's balances change.
        self.results
            .retain(|(partition, generation, offset, _), published| {
                let at = (*generation, *offset);
                let is_committed = released
                    .get(partition)
                    .is_some_and(|rows| rows.iter().any(|row| has(row, published.key_hash, at)));
                if is_committed && let Some(image) = published.image {
                    newest.insert((image.account_id, image.currency), image);
                }
                !is_committed
            });
        newest.into_values().collect()
    }
}

/// Whether a row of the record's partition says that it is committed.
fn has(row: &OffsetRow, key_hash: u64, at: (u32, u64)) -> bool {
    row.range.contains(key_hash) && at < (row.generation.get(), row.offset.get())
}

/// The balance behind a command that changed one.
fn image(result: &SeenResult) -> Option<BalanceImage> {
    let amount = |text: &Option<String>| -> Option<Amount> { text.as_deref()?.parse().ok() };
    result.success.then_some(())?;
    Some(BalanceImage {
        account_id: AccountId::new(result.account_id?)?,
        currency: Currency::parse(result.currency_code.as_deref()?.as_bytes()).ok()?,
        available: amount(&result.available_after)?,
        frozen: amount(&result.frozen_after)?,
        version: result.version?,
        partition: Partition::new(result.partition),
    })
}

#[cfg(test)]
mod tests {
    use kilter_engine::{Generation, Offset};
    use serde_json::json;

    use super::*;

    fn row(offset: u64) -> OffsetRow {
        OffsetRow {
            offset: Offset::new(offset),
            ..OffsetRow::first(Partition::new(0), Generation::new(1))
        }
    }

    /// The result of a deposit at an offset, by a leader of a term: the version it led to, if it did.
    fn result(offset: u64, term: u64, version: Option<u64>) -> SeenResult {
        let balance = version.map(|version| version.to_string());
        serde_json::from_value(json!({
            "transactionId": format!("t-{offset}"), "accountId": 1, "userId": "u-1",
            "currencyCode": "USDT", "type": "DEPOSIT", "amount": "1", "success": version.is_some(),
            "availableAfter": balance, "frozenAfter": balance.as_ref().map(|_| "0"),
            "version": version,
            "errorCode": version.is_none().then_some("OPERATOR_REFUSED"),
            "timestamp": 1, "generation": 1, "partition": 0, "offset": offset, "posting": 0,
            "term": term,
        }))
        .unwrap()
    }

    fn waiting() -> Waiting {
        Waiting::from(&[(Partition::new(0), 0)], &[row(0)])
    }

    fn versions(images: &[BalanceImage]) -> Vec<u64> {
        images.iter().map(|image| image.version).collect()
    }

    #[test]
    fn the_newest_committed_image_is_released_once() {
        let mut waiting = waiting();
        for (offset, version) in [(0, 1), (1, 2), (3, 3)] {
            assert!(waiting.take(&result(offset, 1, Some(version))));
        }
        assert_eq!(versions(&waiting.release(vec![row(3)])), [2]);
        assert_eq!(versions(&waiting.release(vec![row(3)])), [0_u64; 0]);
        assert_eq!(versions(&waiting.release(vec![row(4)])), [3]);
        assert!(waiting.is_empty());
        // Again after a crash: committed already.
        assert!(waiting.take(&result(3, 2, Some(3))));
        assert!(waiting.is_empty());
    }

    #[test]
    fn what_a_note_refused_is_not_released() {
        // The first leader's answers were not committed; the note refused the record at 5, and what
        // came behind it led to lower versions.
        let first = [(4, Some(4)), (5, Some(5)), (6, Some(6))];
        let second = [(4, Some(4)), (5, None), (6, Some(5))];
        let of = |term, results: [(u64, Option<u64>); 3]| {
            results.map(|(offset, version)| result(offset, term, version))
        };
        let (first, second) = (of(1, first), of(2, second));
        // Who is no leader any more may publish late.
        for order in [[&first, &second], [&second, &first]] {
            let mut waiting = waiting();
            for result in order.into_iter().flatten() {
                assert!(waiting.take(result));
            }
            assert_eq!(versions(&waiting.release(vec![row(6)])), [4]);
            assert_eq!(versions(&waiting.release(vec![row(7)])), [5]);
        }
    }

    #[test]
    fn nothing_below_the_beginning_is_looked_at() {
        let mut waiting = Waiting::from(&[(Partition::new(0), 3)], &[row(1)]);
        assert!(waiting.take(&result(2, 1, Some(9))));
        assert!(waiting.take(&result(3, 1, Some(1))));
        assert_eq!(versions(&waiting.release(vec![row(9)])), [1]);
    }
}
