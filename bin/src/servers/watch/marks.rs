//! Marks: how far the store was committed at a moment, and where the result topic ended after it.
//!
//! An epoch commits only when the log has acknowledged its results. So whoever has read the result
//! topic up to the ends of a mark has seen every result below what was committed, whatever the order
//! in which they lie there; nothing else tells that none is still to come.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kilter_engine::Partition;
use kilter_io::{
    kafka::{KafkaSettings, TopicEnds},
    mysql::{Db, MysqlSettings, offsets},
};
use parking_lot::Mutex;

use super::LOOK_INTERVAL;

/// How often the servers are asked while nobody watches: what is marked then helps those who come
/// back to take a long way in steps.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// How many marks are kept. When there are more, every other one goes, so that old ones lie further
/// apart than young ones.
const KEPT_MAX: usize = 1024;

/// How far each partition of the command topic is committed: generation and offset.
pub type Committed = Vec<(u32, u64)>;

/// A mark.
#[derive(Debug, PartialEq, Eq)]
pub struct Mark {
    /// How far the store was.
    pub committed: Committed,
    /// Where the partitions of the result topic ended afterwards.
    pub ends: Vec<(i32, i64)>,
}

/// The marks of this process, by number.
#[derive(Debug, Default)]
struct Kept {
    marks: VecDeque<(u64, Arc<Mark>)>,
    next: u64,
}

impl Kept {
    /// Adds one, unless nothing was committed since the last one.
    fn add(&mut self, mark: Mark) {
        let last = self.marks.back().map(|(_, last)| last);
        if last.is_some_and(|last| last.committed == mark.committed) {
            return;
        }
        if self.marks.len() >= KEPT_MAX {
            let mut keeps = false;
            self.marks.retain(|_| {
                keeps = !keeps;
                keeps
            });
        }
        self.marks.push_back((self.next, Arc::new(mark)));
        self.next += 1;
    }

    /// The first one from this number on that is of use.
    fn find(&self, from: u64, is_useful: impl Fn(&Mark) -> bool) -> Option<(u64, Arc<Mark>)> {
        let begin = self.marks.partition_point(|(number, _)| *number < from);
        let found = self.marks.range(begin..).find(|(_, mark)| is_useful(mark));
        found.map(|(number, mark)| (*number, Arc::clone(mark)))
    }
}

/// Marks that a thread of their own adds to.
pub struct Marks {
    kafka: KafkaSettings,
    mysql: MysqlSettings,
    partitions: u32,
    kept: Mutex<Kept>,
    /// Since when the servers do not answer.
    away: Mutex<Option<Instant>>,
    watchers: Arc<AtomicUsize>,
    stop: AtomicBool,
}

impl Marks {
    /// Begins to mark, more often while there are watchers.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(
        kafka: KafkaSettings,
        mysql: MysqlSettings,
        partitions: u32,
        watchers: Arc<AtomicUsize>,
    ) -> std::io::Result<Arc<Self>> {
        let marks = Arc::new(Self {
            kafka,
            mysql,
            partitions,
            kept: Mutex::default(),
            away: Mutex::default(),
            watchers,
            stop: AtomicBool::new(false),
        });
        let own = Arc::clone(&marks);
        std::thread::Builder::new()
            .name("watch-marks".into())
            .spawn(move || own.run())?;
        Ok(marks)
    }

    /// Ends the marking within a look.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The first mark from this number on that is of use.
    pub fn find(&self, from: u64, is_useful: impl Fn(&Mark) -> bool) -> Option<(u64, Arc<Mark>)> {
        self.kept.lock().find(from, is_useful)
    }

    /// For how long the servers have not answered.
    pub fn away(&self) -> Duration {
        self.away.lock().map_or(Duration::ZERO, |at| at.elapsed())
    }

    fn run(&self) {
        let mut servers = None;
        let mut looked: Option<Instant> = None;
        while !self.stop.load(Ordering::Acquire) {
            let is_idle = self.watchers.load(Ordering::Acquire) == 0;
            let interval = if is_idle {
                IDLE_INTERVAL
            } else {
                LOOK_INTERVAL
            };
            if looked.is_some_and(|looked| looked.elapsed() < interval) {
                std::thread::park_timeout(LOOK_INTERVAL);
                continue;
            }
            looked = Some(Instant::now());
            match self.look(&mut servers) {
                Ok(mark) => {
                    self.kept.lock().add(mark);
                    *self.away.lock() = None;
                }
                Err(error) => {
                    servers = None;
                    let mut away = self.away.lock();
                    if away.is_none() {
                        tracing::warn!("nothing is released to watchers for now: {error:#}");
                    }
                    away.get_or_insert_with(Instant::now);
                }
            }
        }
    }

    fn look(&self, servers: &mut Option<(Db, TopicEnds)>) -> anyhow::Result<Mark> {
        let (db, ends) = match servers {
            Some(servers) => servers,
            None => servers.insert((Db::open(&self.mysql)?, TopicEnds::of_results(&self.kafka)?)),
        };
        // In this order, which is all that matters here.
        let committed = committed(db, &self.kafka, self.partitions)?;
        let ends = ends.look()?;
        Ok(Mark { committed, ends })
    }
}

/// How far each partition is committed; (0, 0) where nothing ever was.
pub fn committed(db: &mut Db, kafka: &KafkaSettings, partitions: u32) -> anyhow::Result<Committed> {
    let all: Vec<Partition> = (0..partitions).map(Partition::new).collect();
    let rows = offsets(db, &kafka.group, &kafka.commands, &all)?;
    let lowest = all.iter().map(|partition| {
        let own = rows.iter().filter(|row| row.partition == *partition);
        let places = own.map(|row| (row.generation.get(), row.offset.get()));
        places.min().unwrap_or((0, 0))
    });
    Ok(lowest.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(offset: u64) -> Mark {
        Mark {
            committed: vec![(1, offset)],
            ends: vec![(0, offset as i64)],
        }
    }

    #[test]
    fn a_mark_is_found_from_a_number_on() {
        let mut kept = Kept::default();
        for offset in [3, 3, 7, 9] {
            kept.add(mark(offset));
        }
        let beyond = |from, offset| {
            kept.find(from, |mark| mark.committed[0].1 > offset)
                .map(|(number, mark)| (number, mark.committed[0].1))
        };
        assert_eq!(beyond(0, 0), Some((0, 3)), "nothing new is no mark");
        assert_eq!(beyond(0, 3), Some((1, 7)));
        assert_eq!(beyond(2, 3), Some((2, 9)));
        assert_eq!(beyond(0, 9), None);
    }

    #[test]
    fn old_marks_become_fewer_and_the_last_ones_stay() {
        let mut kept = Kept::default();
        let count = 10 * KEPT_MAX as u64;
        for offset in 1..=count {
            kept.add(mark(offset));
            assert!(kept.marks.len() <= KEPT_MAX);
        }
        assert_eq!(kept.marks[0].1.committed[0].1, 1);
        let last = kept.find(0, |mark| mark.committed[0].1 >= count);
        assert_eq!(last.unwrap().1.committed[0].1, count);
        let numbers: Vec<u64> = kept.marks.iter().map(|(number, _)| *number).collect();
        assert!(numbers.is_sorted());
    }
}
