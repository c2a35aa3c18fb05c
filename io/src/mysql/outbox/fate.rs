//! Whether an event that was sent late took effect, or expired for good.

use kilter_engine::partitioner::Partitioner;
use mysql::prelude::Queryable;
use serde::Deserialize;

use super::{
    open::OpenEvent,
    place::{Place, Wanted, find},
};
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
    start::known_log,
};
use crate::outbox::event::OPEN_LEG;

/// How long ids are remembered, in ms of record time. More than one length may be in force while a
/// change comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    shortest_ms: i64,
    longest_ms: i64,
}

impl Window {
    /// What the store says; `asked_ms` while no node has started on it.
    pub(crate) fn read(db: &mut Db, asked_ms: u64) -> Result<Self, MysqlError> {
        let stored: Option<(Option<u64>, Option<u64>)> = db
            .conn
            .query_first(
                "SELECT MIN(window_ms), MAX(window_ms) FROM kilter_windows \
                 WHERE generation = (SELECT MAX(generation) FROM kilter_windows)",
            )
            .map_err(failed("read its windows"))?;
        let (shortest, longest) = stored.unwrap_or_default();
        Ok(Self {
            shortest_ms: shortest.unwrap_or(asked_ms).min(asked_ms) as i64,
            longest_ms: longest.unwrap_or(asked_ms).max(asked_ms) as i64,
        })
    }

    /// Whether an event that the log acknowledged now may have been refused as EXPIRED. A record is
    /// refused when its partition's clock is half a window past its issue; no clock is more than a
    /// quarter of one ahead of a node's own. So what arrives within a quarter is never refused for
    /// its age, by the log's time and by ours.
    pub(crate) fn is_late(&self, issued_at_ms: i64, now_ms: i64, record_ms: Option<i64>) -> bool {
        let quarter = self.shortest_ms / 4;
        let is_near = |ms: i64| (ms - issued_at_ms).abs() <= quarter;
        !is_near(now_ms) || !record_ms.is_none_or(is_near)
    }

    /// Between which times, in ms since 1970, an issue was answered if it was, or what it is a
    /// duplicate of.
    pub(super) fn around(&self, issued_at_ms: i64) -> (i64, i64) {
        let before = self.longest_ms.saturating_mul(2);
        (
            issued_at_ms.saturating_sub(before),
            issued_at_ms.saturating_add(self.longest_ms),
        )
    }

    /// Past which committed clock no copy of an issue can take effect.
    pub(super) fn expires_ms(&self, issued_at_ms: i64) -> i64 {
        issued_at_ms.saturating_add(self.longest_ms / 2)
    }

    /// Whether an issue of now is safe whatever comes of older ones that have not taken effect up to
    /// this committed clock: its id is then still known when the last of its own copies expires.
    pub(crate) fn remembers(&self, clock_ms: i64, now_ms: i64) -> bool {
        clock_ms.saturating_add(self.shortest_ms) >= now_ms.saturating_add(self.longest_ms / 2)
    }

    /// Whether an event that is not sent yet would hardly arrive in time.
    pub(crate) fn is_stale(&self, issued_at_ms: i64, now_ms: i64) -> bool {
        now_ms - issued_at_ms > self.shortest_ms / 2
    }
}

/// What became of an event whose issue is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It took effect; where, unless it opened an account, which has no entry.
    Landed(Option<Place>),
    /// The ledger lacks it, and no copy of this issue can take effect any more.
    Expired,
    /// Neither is certain yet.
    Open,
    /// Its payload is no command any more, so nobody can tell, or send it.
    Unreadable,
}

/// Decides fates by what is committed.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pub(crate) group: String,
    pub(crate) topic: String,
    /// How many partitions the topic has while no node has written that down.
    pub(crate) partitions: u32,
}

/// The account that a command names.
pub(super) fn account_in(payload: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "accountId")]
        account_id: u64,
    }
    let named: Named = serde_json::from_str(payload).ok()?;
    Some(named.account_id)
}

impl Judge {
    /// The fate of an event. The clock is read before the ledger: copies before the committed
    /// offset are in the ledger then, and copies behind it meet a clock that is past the limit.
    pub(crate) fn fate(
        &self,
        db: &mut Db,
        window: &Window,
        event: &OpenEvent,
    ) -> Result<Fate, MysqlError> {
        let Some(account_id) = account_in(&event.payload) else {
            return Ok(Fate::Unreadable);
        };
        let clock_ms = self.clock_ms(db, &event.user, event.key_hash)?;
        if let Some(place) = self.landed(db, window, event, account_id)? {
            return Ok(Fate::Landed(place));
        }
        let limit_ms = window.expires_ms(event.issued_at_ms);
        Ok(match clock_ms {
            Some(clock_ms) if clock_ms > limit_ms => Fate::Expired,
            _ => Fate::Open,
        })
    }

    /// The committed clock of a user's partition.
    pub(crate) fn clock_ms(
        &self,
        db: &mut Db,
        user: &[u8],
        key_hash: u64,
    ) -> Result<Option<i64>, MysqlError> {
        let partitions = known_log(db)?.map_or(self.partitions, |log| log.partitions);
        let partition = Partitioner::Murmur2.partition(user, partitions);
        db.conn
            .exec_first(
                "SELECT clock_ms FROM consumer_offsets WHERE consumer_group = ? AND topic = ? \
                 AND `partition` = ? AND first_hash <= ? AND last_hash >= ?",
                (&self.group, &self.topic, partition, key_hash, key_hash),
            )
            .map_err(failed("read the committed clock"))
    }

    /// Whether an event took effect, and where.
    fn landed(
        &self,
        db: &mut Db,
        window: &Window,
        event: &OpenEvent,
        account_id: u64,
    ) -> Result<Option<Option<Place>>, MysqlError> {
        if event.leg == OPEN_LEG.as_bytes() {
            let active: Option<u32> = db
                .conn
                .exec_first(
                    "SELECT 1 FROM accounts WHERE id = ? AND state = 'ACTIVE'",
                    (account_id,),
                )
                .map_err(failed("read accounts"))?;
            return Ok(active.map(|_| None));
        }
        let wanted = Wanted {
            account_id,
            user: &event.user,
            transaction_id: &event.transaction_id,
            leg: &event.leg,
            issued_at_ms: event.issued_at_ms,
        };
        Ok(find(db, window, Some(self.partitions), &wanted)?.map(Some))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_within_a_quarter_is_in_time() {
        let window = Window {
            shortest_ms: 4000,
            longest_ms: 8000,
        };
        assert!(!window.is_late(10_000, 11_000, Some(11_000)));
        assert!(!window.is_late(10_000, 11_000, None));
        assert!(window.is_late(10_000, 11_001, Some(10_500)));
        assert!(window.is_late(10_000, 10_500, Some(11_001)));
        // A clock of ours that is far ahead.
        assert!(window.is_late(10_000, 10_000, Some(8_999)));
        assert!(!window.is_stale(10_000, 12_000));
        assert!(window.is_stale(10_000, 12_001));
        assert!(!window.remembers(9_999, 10_000));
        assert!(window.remembers(10_000, 10_000));
    }
}
