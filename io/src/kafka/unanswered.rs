//! Producers that hear no more of brokers that are there. librdkafka (2.12) can lose its last broker
//! when that one leaves its cluster for a moment: it forgets the broker, and that it was told of it.
//! Being told again helps; where it does not, nothing but another client will.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::{client::another, settings::KafkaSettings};

/// How long nothing may be answered before a client is told of its brokers again, and how often.
pub(super) const REACH_AFTER: Duration = Duration::from_secs(2);
const REACH_INTERVAL: Duration = Duration::from_secs(5);

/// How long nothing may be answered before brokers are asked by another client.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// How often they are asked, and how long whoever asks waits for a broker's answer.
const ASK_INTERVAL: Duration = Duration::from_secs(10);
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long they have to be there for others: more than a client needs to find them again.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// How long there was no answer to what was handed over.
#[derive(Debug, Default)]
struct Silence {
    /// What was answered when something was heard last, and when that was.
    heard: Option<(u64, Instant)>,
}

impl Silence {
    /// Zero if it was broken, or there is nothing to be answered.
    fn lasts(&mut self, now: Instant, handed: u64, answered: u64) -> Duration {
        match self.heard {
            Some((known, since)) if known == answered && answered < handed => {
                now.saturating_duration_since(since)
            }
            _ => {
                self.heard = Some((answered, now));
                Duration::ZERO
            }
        }
    }
}

/// When a producer is told of its brokers again.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    silence: Silence,
    told: Option<Instant>,
}

impl Reminder {
    /// Whether to do so now, after so many records were handed over and so many of them answered.
    pub(super) fn is_due(&mut self, now: Instant, handed: u64, answered: u64) -> bool {
        let lasts = self.silence.lasts(now, handed, answered);
        let is_recent = |told: Instant| now.saturating_duration_since(told) < REACH_INTERVAL;
        if lasts < REACH_AFTER || self.told.is_some_and(is_recent) {
            return false;
        }
        self.told = Some(now);
        true
    }
}

/// Whether a producer is of any use still.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    silence: Silence,
    asked: Option<Instant>,
    /// Since when brokers take records of others.
    there: Option<Instant>,
}

impl Unanswered {
    /// Why it is of no use any more, if that is so. `are_there` asks brokers by another client, and
    /// may wait.
    pub(super) fn look(
        &mut self,
        now: Instant,
        handed: u64,
        answered: u64,
        are_there: impl FnOnce() -> bool,
    ) -> Option<String> {
        let lasts = self.silence.lasts(now, handed, answered);
        if lasts < SILENT_AFTER {
            self.there = None;
            return None;
        }
        let is_recent = |then: Instant| now.saturating_duration_since(then) < ASK_INTERVAL;
        if self.asked.is_some_and(is_recent) {
            return None;
        }
        self.asked = Some(now);
        if !are_there() {
            self.there = None;
            return None;
        }
        let there = *self.there.get_or_insert(now);
        (now.saturating_duration_since(there) >= LOST_AFTER).then(|| {
            format!(
                "{} records have waited for {} s, and the brokers answer another client",
                handed - answered,
                lasts.as_secs()
            )
        })
    }
}

/// Whether brokers tell a new client of leaders for all of these topics, with every replica in sync:
/// then nothing but the client keeps a record from being taken.
pub(super) fn are_led(settings: &KafkaSettings, topics: &[&str]) -> bool {
    let Ok(client) = another(settings) else {
        return false;
    };
    topics.iter().all(|topic| {
        let found = client.fetch_metadata(Some(topic), ASK_TIMEOUT);
        found.is_ok_and(|found| {
            let partitions = found.topics().iter().flat_map(|topic| topic.partitions());
            let mut are_whole = partitions.map(|it| {
                it.error().is_none() && it.leader() >= 0 && it.isr().len() == it.replicas().len()
            });
            let first = are_whole.next();
            first == Some(true) && are_whole.all(|it| it)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first second in which it is told to be lost, looking every 5 s.
    fn lost(
        seconds: u64,
        answered: impl Fn(u64) -> u64,
        are_there: impl Fn(u64) -> bool,
    ) -> Option<(u64, String)> {
        let begin = Instant::now();
        let mut unanswered = Unanswered::default();
        (0..seconds).step_by(5).find_map(|second| {
            let now = begin + Duration::from_secs(second);
            let why = unanswered.look(now, 100, answered(second), || are_there(second));
            why.map(|why| (second, why))
        })
    }

    #[test]
    fn one_that_hears_nothing_beside_brokers_is_lost_in_time() {
        let (second, why) = lost(1000, |_| 7, |_| true).unwrap();
        assert_eq!(second, 40);
        assert!(why.starts_with("93 records have waited for 40 s"), "{why}");
        // They came back after a quarter of an hour: it has as long to find them.
        let (second, _) = lost(1000, |_| 7, |second| second >= 900).unwrap();
        assert_eq!(second, 930);
    }

    #[test]
    fn one_that_gets_on_waits_for_nothing_or_shares_an_outage_is_not() {
        assert_eq!(lost(1000, |second| second / 20, |_| true), None);
        assert_eq!(lost(1000, |_| 100, |_| true), None);
        assert_eq!(lost(1000, |_| 7, |_| false), None);
        // They come and go.
        assert_eq!(lost(1000, |_| 7, |second| second % 30 != 0), None);
    }

    #[test]
    fn one_that_hears_nothing_is_told_of_its_brokers_now_and_then() {
        let begin = Instant::now();
        let mut reminder = Reminder::default();
        let mut due = |second: u64, answered| {
            reminder.is_due(begin + Duration::from_secs(second), 9, answered)
        };
        let told: Vec<u64> = (0..14).filter(|second| due(*second, 3)).collect();
        assert_eq!(told, [2, 7, 12]);
        // It gets on, and then falls silent again.
        let told: Vec<u64> = (14..30).filter(|second| due(*second, 4)).collect();
        assert_eq!(told, [17, 22, 27]);
        assert!(!(30..60).any(|second| due(second, 9)), "it has all");
    }

    #[test]
    fn what_is_answered_is_not_asked_about() {
        let begin = Instant::now();
        let mut unanswered = Unanswered::default();
        for second in 0..100 {
            let now = begin + Duration::from_secs(second);
            let ask = || panic!("brokers were asked");
            assert_eq!(unanswered.look(now, second + 2, second + 1, ask), None);
        }
    }
}
