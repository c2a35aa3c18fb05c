//! The relay, as whoever writes the log plays it: legs become records, late, twice, and anew.

use kilter_engine::{partitioner::Partitioner, record::Mark};

use super::{
    rng::Rng,
    traffic::{Entry, Meaning, Shape},
    twin::{Flight, Twin},
};

/// Every leg that ever left, and how far the log was judged.
#[derive(Default)]
pub struct Flights {
    legs: Vec<Flight>,
    judged: usize,
}

impl Flights {
    /// Lets the twin judge what is new in the log, and takes over the legs that leave.
    pub fn judge(&mut self, entries: &[Entry], twin: &mut Twin) {
        for entry in &entries[self.judged..] {
            self.legs.extend(twin.judge(entry).legs);
        }
        self.judged = entries.len();
    }

    /// A copy of some leg, whether it was sent before or not. It is issued anew only when the clock
    /// where it goes is more than half a window past the last issue, and no copy was answered.
    pub fn send(
        &mut self,
        shape: &Shape,
        rng: &mut Rng,
        twin: &Twin,
        clocks: &mut [i64],
        offsets: &mut [u64],
    ) -> Option<Entry> {
        if self.legs.is_empty() {
            return None;
        }
        // Mostly a new one, else any.
        let recent = self.legs.len().saturating_sub(4) as u64;
        let first = if rng.one_in(4) { 0 } else { recent };
        let index = (first + rng.below(self.legs.len() as u64 - first)) as usize;
        let leg = &mut self.legs[index];
        let key = leg.to.user.clone().into_bytes();
        let partition = Partitioner::Murmur2.partition(&key, shape.partitions);
        let clock = &mut clocks[partition as usize];
        let window = shape.window_ms as i64;
        let timestamp_ms = match rng.below(if shape.wild_time { 30 } else { 4 }) {
            0 => *clock,
            5 => *clock + rng.below(window as u64 / 2) as i64,
            6 => *clock + window,
            _ => *clock + rng.below(1 + window as u64 / 200) as i64,
        };
        // Clocks of partitions differ: a leg may come from ahead, and has to wait until it is not
        // more than a quarter of a window.
        if leg.issued_at_ms > timestamp_ms + window / 4 && !rng.one_in(20) {
            return None;
        }
        let is_past = *clock > leg.issued_at_ms + window / 2;
        if shape.anew && is_past && !twin.has_landed(&leg.name) && rng.one_in(2) {
            leg.issued_at_ms = *clock;
        }
        *clock = (*clock).max(timestamp_ms);
        let offset = offsets[partition as usize];
        offsets[partition as usize] += 1;
        let value = format!(
            r#"{{"transactionId":"{}","userId":"{}","accountId":{},"type":"{}","currencyCode":"{}","amount":"{}","leg":"{}","fromUserId":"{}","fromAccountId":{}}}"#,
            leg.to.transaction_id,
            leg.to.user,
            leg.to.account,
            leg.kind,
            leg.currency,
            leg.amount,
            leg.name,
            leg.from.0,
            leg.from.1
        );
        Some(Entry {
            partition,
            offset,
            timestamp_ms,
            // A dead letter that somebody feeds in by hand has lost its header.
            issued_at_ms: (!rng.one_in(40)).then_some(leg.issued_at_ms),
            mark: if rng.one_in(60) {
                Mark::OperatorRefused
            } else {
                Mark::None
            },
            key,
            value: value.into_bytes(),
            meaning: Meaning::Leg(leg.clone()),
        })
    }
}
