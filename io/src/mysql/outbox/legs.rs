//! Legs that an operator looks at: which have not landed, and one of them sent again.

use std::time::Duration;

use kilter_engine::LegName;
use mysql::{Row, prelude::Queryable};

use super::{
    fate::{Fate, Judge, Window},
    open::OpenEvent,
    place::Place,
    sent::generation,
    trim::settled_up_to,
};
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};
use crate::outbox::{FlyingLeg, LegProgress, NotResent, OutboxSettings, legs::money_in};

const WHAT: &str = "look for legs";

/// How many ids of the outbox are looked through in one statement.
const IDS_A_STATEMENT: u64 = 10_000;

/// The legs of a store.
#[derive(Debug)]
pub struct Legs {
    judge: Judge,
    window_ms: u64,
    /// Whether the ledger is in the store.
    ledger: bool,
}

/// A leg's row.
struct Found {
    event: OpenEvent,
    place: Option<Place>,
    /// Whether the offsets of its user are past its place.
    is_past: bool,
    is_late: bool,
    message: Option<String>,
}

/// Why a leg is not sent again.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// For what it is.
    #[error(transparent)]
    Not(#[from] NotResent),
    /// The store.
    #[error(transparent)]
    Store(#[from] MysqlError),
}

impl Legs {
    /// The legs of the store of these settings.
    pub fn new(settings: &OutboxSettings) -> Self {
        Self {
            judge: Judge {
                group: settings.kafka.group.clone(),
                topic: settings.kafka.commands.clone(),
                partitions: settings.partitions,
            },
            window_ms: settings.window_ms,
            ledger: settings.ledger,
        }
    }

    /// Every leg that has not landed, in the order of their making. Where the ledger is in the
    /// result topic, only those that are not sent, or came to the log late.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or `each` fails.
    pub fn flying<E: From<MysqlError>>(
        &self,
        db: &mut Db,
        mut each: impl FnMut(FlyingLeg) -> Result<(), E>,
    ) -> Result<(), E> {
        let window = Window::read(db, self.window_ms)?;
        let last: Option<Option<u64>> = db
            .conn
            .query_first("SELECT MAX(id) FROM outbox_events")
            .map_err(failed(WHAT))?;
        let last = last.flatten().unwrap_or(0);
        let mut after = settled_up_to(db)?;
        while after < last {
            let to = after.saturating_add(IDS_A_STATEMENT);
            // Most have landed where they were sent.
            let which = format!(
                "FORCE INDEX (PRIMARY) WHERE e.id > {after} AND e.id <= {to} \
                 AND e.leg NOT IN ('', 'OPEN') AND e.payload IS NOT NULL AND NOT EXISTS \
                 (SELECT 1 FROM balance_transactions AS t WHERE t.generation = e.sent_generation \
                 AND t.`partition` = e.sent_partition AND t.`offset` = e.sent_offset \
                 AND t.leg = e.leg)"
            );
            for found in self.read(db, &which)? {
                if let Some(progress) = self.progress(db, &window, &found)? {
                    each(found.flying(progress))?;
                }
            }
            after = to;
        }
        Ok(())
    }

    /// How far a leg is; `None` if it has landed.
    fn progress(
        &self,
        db: &mut Db,
        window: &Window,
        found: &Found,
    ) -> Result<Option<LegProgress>, MysqlError> {
        let event = &found.event;
        if event.is_given_up {
            return Ok(Some(LegProgress::Unknown));
        }
        if !self.ledger {
            return Ok((!event.is_sent).then_some(LegProgress::OnItsWay));
        }
        // The offset was read before the ledger.
        let fate = self.judge.fate(db, window, event)?;
        Ok(match fate {
            Fate::Landed(_) => None,
            _ if event.is_sent && found.is_past && !found.is_late => Some(LegProgress::Refused),
            _ => Some(LegProgress::OnItsWay),
        })
    }

    /// Issues a leg anew that was refused. As for every event, no two of its copies can take
    /// effect: either none of an older issue can any more, or this one is an issue of the same time
    /// or of one that is remembered together with it. Where the ledger is in the result topic, the
    /// caller says whether it is `known_not_landed`.
    ///
    /// # Errors
    ///
    /// [`NotResent`], or when the store cannot be used.
    pub fn resend(
        &self,
        db: &mut Db,
        name: LegName,
        reason: &str,
        known_not_landed: bool,
        now_ms: i64,
    ) -> Result<(), ResendError> {
        let name = name.to_string();
        let which = format!("FORCE INDEX (event_id) WHERE e.event_id = 'leg:{name}'");
        let Some(found) = self.read(db, &which)?.into_iter().next() else {
            return Err(NotResent::Unknown { name }.into());
        };
        let event = &found.event;
        let waits = |why: &str| NotResent::OnItsWay {
            name: name.clone(),
            why: why.to_owned(),
        };
        if !event.is_sent && !event.is_given_up {
            return Err(waits("the relay sends it").into());
        }
        let window = Window::read(db, self.window_ms)?;
        // Before the ledger is looked at.
        let clock_ms = self.judge.clock_ms(db, &event.user, event.key_hash)?;
        match self.judge.fate(db, &window, event)? {
            Fate::Landed(_) => return Err(NotResent::Landed { name }.into()),
            // Trimmed: that is done with what has landed only.
            Fate::Unreadable if event.payload.is_empty() && event.is_sent => {
                return Err(NotResent::Landed { name }.into());
            }
            Fate::Unreadable => return Err(NotResent::Unreadable { name }.into()),
            Fate::Expired | Fate::Open if !self.ledger && !known_not_landed => {
                return Err(NotResent::Untold { name }.into());
            }
            Fate::Expired | Fate::Open => {}
        }
        if found.is_late {
            return Err(waits("it came to the log late, and the relay looks after it").into());
        }
        if !found.is_past {
            return Err(waits("its record is not applied yet").into());
        }
        let limit_ms = window.expires_ms(event.issued_at_ms);
        let is_safe = clock_ms
            .is_some_and(|clock_ms| clock_ms > limit_ms || window.remembers(clock_ms, now_ms));
        // Else as one more copy of the last issue, which the relay issues anew should it expire.
        let issued_at_ms = if is_safe { now_ms } else { event.issued_at_ms };
        let why: String = format!("resent by an operator: {reason}");
        let why: String = why.chars().take(255).collect();
        db.conn
            .exec_drop(
                "UPDATE outbox_events SET status = 'PENDING', late = 0, issues = issues + 1, \
                 issued_at_ms = ?, retry_count = 0, error_message = ?, sent_at = NULL, \
                 sent_generation = NULL, sent_partition = NULL, sent_offset = NULL \
                 WHERE id = ? AND issues = ? AND issued_at_ms = ? AND status <> 'PENDING'",
                (
                    issued_at_ms,
                    why,
                    event.id,
                    event.issues,
                    event.issued_at_ms,
                ),
            )
            .map_err(failed("issue a leg anew"))?;
        match db.conn.affected_rows() {
            1 => Ok(()),
            _ => Err(waits("somebody else was at it at the same moment").into()),
        }
    }

    fn read(&self, db: &mut Db, which: &str) -> Result<Vec<Found>, MysqlError> {
        let failed = failed(WHAT);
        let newest = generation(db)?;
        let rows: Vec<Row> = db
            .conn
            .exec(
                format!(
                    "SELECT e.id, e.event_id, e.partition_key, e.transaction_id, e.leg, \
                     COALESCE(e.payload, ''), e.issued_at_ms, e.issues, e.key_hash, \
                     CAST(e.status AS CHAR), e.late, e.error_message, e.sent_generation, \
                     e.sent_partition, e.sent_offset, \
                     COALESCE(e.sent_generation < {newest}, 0) OR EXISTS \
                     (SELECT 1 FROM consumer_offsets AS c WHERE c.consumer_group = ? \
                     AND c.topic = ? AND c.`partition` = e.sent_partition \
                     AND c.generation = e.sent_generation \
                     AND e.key_hash BETWEEN c.first_hash AND c.last_hash \
                     AND c.`offset` > e.sent_offset) \
                     FROM outbox_events AS e {which} ORDER BY e.id"
                ),
                (&self.judge.group, &self.judge.topic),
            )
            .map_err(failed)?;
        let corrupt = || MysqlError::Corrupt {
            what: "a row of outbox_events cannot be read".into(),
        };
        rows.into_iter()
            .map(|row| found(row).ok_or_else(corrupt))
            .collect()
    }
}

fn found(mut row: Row) -> Option<Found> {
    let status: String = row.take(9)?;
    let (g, p, o): (Option<u32>, Option<u32>, Option<u64>) =
        (row.take(12)?, row.take(13)?, row.take(14)?);
    let place = g.zip(p).zip(o).map(|((g, p), o)| (g, p, o));
    let event = OpenEvent {
        id: row.take(0)?,
        event_id: row.take(1)?,
        user: row.take(2)?,
        transaction_id: row.take(3)?,
        leg: row.take(4)?,
        payload: row.take(5)?,
        issued_at_ms: row.take(6)?,
        issues: row.take(7)?,
        key_hash: row.take(8)?,
        is_sent: status == "SENT",
        is_failed: status == "FAILED",
        is_given_up: status == "FAILED" && place.is_some(),
        age: Duration::ZERO,
    };
    Some(Found {
        event,
        place,
        is_late: row.take(10)?,
        message: row.take(11)?,
        is_past: row.take(15)?,
    })
}

impl Found {
    fn flying(self, progress: LegProgress) -> FlyingLeg {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (currency_code, amount) = money_in(self.event.payload.as_bytes());
        FlyingLeg {
            name: text(&self.event.leg),
            user_id: text(&self.event.user),
            transaction_id: text(&self.event.transaction_id),
            currency_code,
            amount,
            progress,
            place: self.place,
            message: self.message,
        }
    }
}
