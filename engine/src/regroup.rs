//! Offset rows when the number of shards or writers changes between two runs.

use crate::{HashRange, epoch::OffsetRow, range::shard_of};

/// Which shards each writer serves: neighbours, so that they are one hash range.
///
/// # Panics
///
/// If there are no writers, or more than shards.
pub fn writer_shards(shards: usize, writers: usize) -> Vec<std::ops::Range<usize>> {
    assert!(
        writers > 0 && writers <= shards,
        "{writers} writers for {shards} shards"
    );
    (0..writers)
        .map(|writer| writer * shards / writers..(writer + 1) * shards / writers)
        .collect()
}

/// The hash range of each writer.
pub fn writer_ranges(shards: usize, writers: usize) -> Vec<HashRange> {
    writer_shards(shards, writers)
        .into_iter()
        .map(|group| {
            let first = HashRange::of_shard(group.start as u32, shards as u32);
            let last = HashRange::of_shard(group.end as u32 - 1, shards as u32);
            match HashRange::new(first.first(), last.last()) {
                Some(range) => range,
                None => unreachable!("a group's first shard is not behind its last"),
            }
        })
        .collect()
}

/// The rows of one partition cut at the borders of `ranges`, each piece keeping its own offset;
/// neighbours within one range that are equally far become one row.
///
/// Returned in the order of `ranges`, and by hash within each.
///
/// # Panics
///
/// If the rows do not cover every hash exactly once, or speak of several partitions.
pub fn regroup(rows: &[OffsetRow], ranges: &[HashRange]) -> Vec<Vec<OffsetRow>> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.range.first());
    assert!(
        rows.iter().all(|row| row.partition == rows[0].partition),
        "offset rows of several partitions"
    );
    assert_covers(rows.iter().map(|row| row.range));
    assert_covers(ranges.iter().copied());
    ranges
        .iter()
        .map(|range| {
            let mut group: Vec<OffsetRow> = Vec::new();
            for row in &rows {
                let Some(piece) = row.range.intersect(*range) else {
                    continue;
                };
                match group.last_mut() {
                    Some(last) if last.offset == row.offset => {
                        // The rows cover everything, so neighbours in order always adjoin.
                        last.range = match last.range.merge(piece) {
                            Some(both) => both,
                            None => unreachable!("offset rows with a gap"),
                        };
                    }
                    _ => group.push(OffsetRow {
                        range: piece,
                        ..*row
                    }),
                }
            }
            group
        })
        .collect()
}

fn assert_covers(ranges: impl Iterator<Item = HashRange>) {
    let mut next = Some(0);
    for range in ranges {
        assert_eq!(
            Some(range.first()),
            next,
            "hash ranges with a gap or an overlap"
        );
        next = range.last().checked_add(1);
    }
    assert_eq!(next, None, "hash ranges that do not reach the end");
}

/// Which writer a shard's range belongs to.
pub fn writer_of(hash: u64, shards: usize, writers: usize) -> usize {
    let shard = shard_of(hash, shards as u32) as usize;
    match writer_shards(shards, writers)
        .iter()
        .position(|group| group.contains(&shard))
    {
        Some(writer) => writer,
        None => unreachable!("every shard has a writer"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{EpochNumber, Generation, Offset, Partition, Term, epoch::LastRecord};

    fn row(range: HashRange, offset: u64) -> OffsetRow {
        OffsetRow {
            partition: Partition::new(0),
            range,
            generation: Generation::new(1),
            offset: Offset::new(offset),
            clock_ms: offset as i64,
            last: LastRecord::default(),
            term: Term::new(1),
            epoch: EpochNumber::new(1),
        }
    }

    proptest! {
        /// Every hash keeps its own offset, whatever the groupings were.
        #[test]
        fn a_hash_keeps_its_offset(
            groupings in prop::collection::vec((1_usize..9, 1_usize..9), 1..5),
            offsets in prop::collection::vec(0_u64..4, 64),
            hashes in prop::collection::vec(any::<u64>(), 50),
        ) {
            let mut rows = vec![row(HashRange::ALL, 7)];
            let mut next = offsets.iter();
            for (shards, writers) in groupings {
                let ranges = writer_ranges(shards, writers.min(shards));
                let groups = regroup(&rows, &ranges);
                prop_assert_eq!(groups.len(), ranges.len());
                let flat: Vec<OffsetRow> = groups.concat();
                for hash in hashes.iter().copied().chain([0, u64::MAX]) {
                    let of = |rows: &[OffsetRow]| {
                        let found: Vec<u64> = rows
                            .iter()
                            .filter(|row| row.range.contains(hash))
                            .map(|row| row.offset.get())
                            .collect();
                        found
                    };
                    prop_assert_eq!(of(&rows), of(&flat));
                    prop_assert_eq!(of(&flat).len(), 1);
                    let writer = writer_of(hash, shards, writers.min(shards));
                    prop_assert!(ranges[writer].contains(hash));
                }
                // Some rows go on, others do not: the next grouping starts from there.
                rows = flat;
                for row in &mut rows {
                    row.offset = Offset::new(row.offset.get() + next.next().copied().unwrap_or(0));
                }
            }
        }
    }
}
