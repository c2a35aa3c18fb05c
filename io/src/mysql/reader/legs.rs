//! Legs as the outbox has them, for the audit.

use kilter_engine::LegName;
use mysql::prelude::Queryable;

use super::MysqlReader;
use crate::mysql::error::{MysqlError, failed};

/// How many names are asked for at once.
const NAMES: usize = 1000;

/// A leg's row in the outbox.
#[derive(Clone, Debug)]
pub(crate) struct OutboxLeg {
    pub(crate) event_id: String,
    /// Whom it pays: the record's key.
    pub(crate) user: Vec<u8>,
    pub(crate) transaction_id: Vec<u8>,
    pub(crate) name: Vec<u8>,
    /// `None` once trimmed.
    pub(crate) payload: Option<String>,
    /// Generation, partition and offset of the last issue's record, if it is sent.
    pub(crate) sent: Option<(u32, u32, u64)>,
}

type Row = (
    String,
    Vec<u8>,
    Vec<u8>,
    Vec<u8>,
    Option<String>,
    Option<u32>,
    Option<u32>,
    Option<u64>,
);

const COLUMNS: &str = "event_id, partition_key, transaction_id, leg, payload, \
                       IF(status = 'SENT', sent_generation, NULL), sent_partition, sent_offset";

fn leg(row: Row) -> OutboxLeg {
    let (event_id, user, transaction_id, name, payload, generation, partition, offset) = row;
    let sent = match (generation, partition, offset) {
        (Some(generation), Some(partition), Some(offset)) => Some((generation, partition, offset)),
        _ => None,
    };
    OutboxLeg {
        event_id,
        user,
        transaction_id,
        name,
        payload,
        sent,
    }
}

impl MysqlReader {
    /// The legs behind this event, by event; at most `count`.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) fn legs_behind(
        &mut self,
        event_id: &str,
        count: usize,
    ) -> Result<Vec<OutboxLeg>, MysqlError> {
        self.db
            .conn
            .exec_map(
                format!(
                    "SELECT {COLUMNS} FROM outbox_events FORCE INDEX (event_id) \
                     WHERE event_id > ? AND event_id LIKE 'leg:%' ORDER BY event_id LIMIT {count}"
                ),
                (event_id,),
                leg,
            )
            .map_err(failed("read the legs in the outbox"))
    }

    /// Those of these legs that the outbox has.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) fn legs_named(&mut self, names: &[LegName]) -> Result<Vec<OutboxLeg>, MysqlError> {
        let mut found = Vec::new();
        for chunk in names.chunks(NAMES) {
            // A name is digits, slashes and a word: nothing in it means anything to SQL.
            let ids: Vec<String> = chunk.iter().map(|name| format!("'leg:{name}'")).collect();
            let rows = self
                .db
                .conn
                .query_map(
                    format!(
                        "SELECT {COLUMNS} FROM outbox_events WHERE event_id IN ({})",
                        ids.join(",")
                    ),
                    leg,
                )
                .map_err(failed("look for legs in the outbox"))?;
            found.extend(rows);
        }
        Ok(found)
    }
}
