//! Looks after the log while it is read: whether it is still the same, and how far behind we are.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kilter_engine::{Offset, Partition};
use parking_lot::Mutex;
use rdkafka::consumer::Consumer;

use super::{
    client::{CommandConsumer, remind},
    error::KafkaError,
    identity::LogIdentity,
    receipts::Receipts,
    unanswered::REACH_AFTER,
};

/// How long a client may hear of no broker before another one is tried in its place.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// How long a reader may get nothing although the log goes on, and how often that is looked at.
const STALLED_AFTER: Duration = Duration::from_secs(30);
const STALL_INTERVAL: Duration = Duration::from_secs(5);

/// To be asked now and then from a thread of its own: it waits for brokers.
pub struct LogWatch {
    consumer: Arc<CommandConsumer>,
    identity: LogIdentity,
    verdict: Arc<Mutex<Option<KafkaError>>>,
    receipts: Arc<Receipts>,
    /// Since when no broker answers.
    away: Mutex<Option<Instant>>,
    stall: Mutex<Stall>,
}

impl LogWatch {
    /// A watcher over the log of this identity. What it finds wrong it leaves in `verdict`, where
    /// [`KafkaLog`](super::KafkaLog) meets it; what it finds of results, in their `receipts`.
    pub fn new(
        consumer: Arc<CommandConsumer>,
        identity: LogIdentity,
        verdict: Arc<Mutex<Option<KafkaError>>>,
        receipts: Arc<Receipts>,
    ) -> Self {
        Self {
            consumer,
            identity,
            verdict,
            receipts,
            away: Mutex::new(None),
            stall: Mutex::default(),
        }
    }

    /// Asks whether the log is still the same. A broker that does not answer says nothing, for as
    /// long as an outage may last. A client that has lost its brokers for good is of no use sooner:
    /// librdkafka 2.12 does so when the only broker leaves the cluster for a moment.
    pub fn check(&self) {
        self.reach_out();
        self.receipts.look(self.consumer.settings());
        let found = match self.consumer.identity() {
            Ok(found) => found,
            Err(KafkaError::NoTopic { topic }) => {
                *self.verdict.lock() = Some(KafkaError::OtherLog {
                    what: format!("the topic {topic:?} was deleted while it was read"),
                });
                return;
            }
            Err(error) => {
                if let Some(why) = self.is_lost() {
                    *self.verdict.lock() = Some(KafkaError::Client {
                        what: "read the log any more",
                        why: format!("{why}: {error}"),
                    });
                }
                return;
            }
        };
        *self.away.lock() = None;
        if let Some(what) = difference(&self.identity, &found) {
            *self.verdict.lock() = Some(KafkaError::OtherLog { what });
            return;
        }
        let end = |partition| self.consumer.range(partition).ok().map(|range| range.end);
        let stalled = self
            .stall
            .lock()
            .look(Instant::now(), self.consumer.hungry(), end);
        if let Some(why) = stalled {
            *self.verdict.lock() = Some(KafkaError::Client {
                what: "read the log any more",
                why,
            });
        }
    }

    /// Asks whether a broker is there, and tells the consumer of its brokers once more if none answers
    /// soon.
    fn reach_out(&self) {
        let CommandConsumer {
            consumer, topic, ..
        } = &*self.consumer;
        if consumer.fetch_metadata(Some(topic), REACH_AFTER).is_err() {
            remind(consumer.client(), &self.consumer.settings().brokers);
        }
    }

    /// Why this client is of no use any more, if that is so.
    fn is_lost(&self) -> Option<String> {
        let away = self.away.lock().get_or_insert_with(Instant::now).elapsed();
        if away >= self.consumer.outage_limit() {
            return Some(format!("no broker has answered for {} s", away.as_secs()));
        }
        let is_found = away >= LOST_AFTER && self.consumer.is_there_for_another();
        is_found.then(|| "this client has lost its brokers, which answer another one".to_owned())
    }

    /// Tells Kafka how far the group is, for lag tools.
    pub fn commit(&self, offsets: &[(Partition, Offset)]) {
        self.consumer.commit_for_lag(offsets);
    }

    /// Where a partition is that is committed up to `offset`: past what holds no record.
    pub fn effective(&self, partition: Partition, offset: Offset) -> u64 {
        self.consumer.effective(partition, offset)
    }

    /// The log's end, as last heard.
    pub fn end(&self, partition: Partition) -> Option<u64> {
        self.consumer.cached_range(partition).map(|(_, end)| end)
    }
}

/// A reader that gets nothing although there is something. librdkafka (2.12) sometimes forgets to
/// fetch from a broker that left its cluster and came back; nothing but another client helps.
#[derive(Debug, Default)]
struct Stall {
    looked: Option<Instant>,
    /// Where the reader stands although the log goes on, and since when.
    behind: Option<(Partition, u64, Instant)>,
}

impl Stall {
    /// Why the reader is of no use any more, if that is so. `hungry` is where each partition is read
    /// up to, while whoever reads asks and gets nothing; `end` asks a broker.
    fn look(
        &mut self,
        now: Instant,
        hungry: Option<Vec<(Partition, u64)>>,
        end: impl Fn(Partition) -> Option<u64>,
    ) -> Option<String> {
        let Some(hungry) = hungry else {
            self.behind = None;
            return None;
        };
        if self
            .looked
            .is_some_and(|looked| now.duration_since(looked) < STALL_INTERVAL)
        {
            return None;
        }
        self.looked = Some(now);
        let goes_on =
            |(partition, at): &(Partition, u64)| end(*partition).is_some_and(|end| end > *at);
        let Some((partition, at)) = hungry.into_iter().find(goes_on) else {
            self.behind = None;
            return None;
        };
        match self.behind {
            Some((known, place, since)) if (known, place) == (partition, at) => {
                let waited = now.duration_since(since);
                (waited >= STALLED_AFTER).then(|| {
                    format!(
                        "partition {partition} goes on behind offset {at}, and nothing has come for \
                         {} s",
                        waited.as_secs()
                    )
                })
            }
            _ => {
                self.behind = Some((partition, at, now));
                None
            }
        }
    }
}

/// What tells one log from another, in words.
pub(super) fn difference(known: &LogIdentity, found: &LogIdentity) -> Option<String> {
    if known.cluster_id != found.cluster_id {
        return Some(format!(
            "it is in the cluster {:?}, the offsets count in {:?}",
            found.cluster_id, known.cluster_id
        ));
    }
    if known.topic_id != found.topic_id {
        return Some(format!(
            "the topic was deleted and made again: its id is {:?}, it was {:?}",
            found.topic_id, known.topic_id
        ));
    }
    if known.partitions != found.partitions {
        return Some(format!(
            "the topic has {} partitions, it had {}: users would move to other partitions",
            found.partitions, known.partitions
        ));
    }
    None
}

impl LogIdentity {
    /// Refuses another log than this one.
    ///
    /// # Errors
    ///
    /// [`KafkaError::OtherLog`].
    pub fn expect(&self, found: &Self) -> Result<(), KafkaError> {
        match difference(self, found) {
            Some(what) => Err(KafkaError::OtherLog { what }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod stall_tests {
    use super::*;

    const P: Partition = Partition::new(3);

    #[test]
    fn a_reader_that_starves_beside_records_is_told_in_time() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        let hungry = |offset| Some(vec![(P, offset)]);
        for second in (0..100).step_by(5) {
            // Nothing is missing, or nobody answers.
            assert_eq!(stall.look(at(second), hungry(7), |_| Some(7)), None);
        }
        assert_eq!(stall.look(at(100), hungry(7), |_| Some(9)), None);
        assert_eq!(stall.look(at(125), hungry(7), |_| Some(9)), None);
        let told = stall.look(at(130), hungry(7), |_| Some(9)).unwrap();
        assert!(
            told.contains("partition 3 goes on behind offset 7"),
            "{told}"
        );
    }

    #[test]
    fn one_that_gets_on_or_does_not_ask_does_not_starve() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        for second in (0..200).step_by(5) {
            let hungry = Some(vec![(P, second)]);
            assert_eq!(stall.look(at(second), hungry, |_| Some(1000)), None);
        }
        stall.look(at(200), Some(vec![(P, 1)]), |_| Some(9));
        // Held back meanwhile: it counts from then on.
        assert_eq!(stall.look(at(220), None, |_| Some(9)), None);
        assert_eq!(stall.look(at(235), Some(vec![(P, 1)]), |_| Some(9)), None);
        assert_eq!(stall.look(at(260), Some(vec![(P, 1)]), |_| Some(9)), None);
        assert!(
            stall
                .look(at(265), Some(vec![(P, 1)]), |_| Some(9))
                .is_some()
        );
    }
}
