//! Rows into `outbox_events`: many in one statement, and who was first.

use std::fmt::Write;

use kilter_engine::key_hash;
use mysql::{Row, prelude::Queryable};

use super::place::Place;
use crate::hex::{hex, push_hex};
use crate::mysql::{
    connection::Db,
    error::{MysqlError, failed},
};

/// How many names are looked up in one statement.
const NAMES_A_STATEMENT: usize = 200;

/// A row to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    /// Its name for ever: no other row has it, so who finds it in the table knows that it is in.
    pub(crate) event_id: String,
    pub(crate) user: String,
    pub(crate) transaction_id: String,
    pub(crate) leg: &'static str,
    /// By what a retry is known.
    pub(crate) hash: [u8; 32],
    pub(crate) payload: String,
    pub(crate) issued_at_ms: i64,
}

/// A row that was there before.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) event_id: String,
    pub(crate) request_hash: Option<Vec<u8>>,
    pub(crate) payload: Option<String>,
    pub(crate) is_sent: bool,
    /// Where the log acknowledged the last issue, or where it was found to have landed.
    pub(crate) sent: Option<Place>,
}

/// Makes rows, in their order. For each, the one that was there before under its name; `None` if it
/// is the new one, by this call or by an earlier one of unknown fate.
///
/// Not by INSERT IGNORE, which cuts and clamps in silence: what is wrong with a row is an error.
/// A row of a transaction that is under way is waited for.
pub(super) fn insert(
    db: &mut Db,
    topic: &str,
    rows: &[NewRow],
) -> Result<Vec<Option<Known>>, MysqlError> {
    let mut sql = String::with_capacity(rows.len() * 512);
    sql.push_str(
        "INSERT INTO outbox_events (event_id, topic, partition_key, transaction_id, leg, payload, \
         request_hash, status, created_at, issued_at_ms, key_hash) VALUES ",
    );
    let topic = hex(topic.as_bytes());
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            sql.push(',');
        }
        for piece in ["('", &row.event_id, "',x'", &topic, "',x'"] {
            sql.push_str(piece);
        }
        push_hex(row.user.as_bytes(), &mut sql);
        sql.push_str("',x'");
        push_hex(row.transaction_id.as_bytes(), &mut sql);
        for piece in ["','", row.leg, "','"] {
            sql.push_str(piece);
        }
        escape(&row.payload, &mut sql);
        sql.push_str("',x'");
        push_hex(&row.hash, &mut sql);
        sql.push_str("','PENDING',UTC_TIMESTAMP(3),");
        let hash = key_hash(row.user.as_bytes());
        // Cannot fail.
        let _ = write!(sql, "{},{hash})", row.issued_at_ms);
    }
    sql.push_str(" ON DUPLICATE KEY UPDATE id = outbox_events.id");
    db.conn.query_drop(sql).map_err(failed("accept commands"))?;
    if db.conn.affected_rows() == rows.len() as u64 {
        return Ok(vec![None; rows.len()]);
    }
    let mut known = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(NAMES_A_STATEMENT) {
        known.extend(who_was_first(db, chunk)?);
    }
    Ok(known)
}

fn who_was_first(db: &mut Db, rows: &[NewRow]) -> Result<Vec<Option<Known>>, MysqlError> {
    let names: Vec<String> = rows
        .iter()
        .map(|row| name_is(row.user.as_bytes(), row.transaction_id.as_bytes(), row.leg))
        .collect();
    let found = by_names(db, &names)?;
    rows.iter()
        .map(|row| {
            let same = found.iter().find(|(user, transaction_id, leg, _)| {
                user.as_slice() == row.user.as_bytes()
                    && transaction_id.as_slice() == row.transaction_id.as_bytes()
                    && leg.as_slice() == row.leg.as_bytes()
            });
            match same {
                Some((.., known)) if known.event_id == row.event_id => Ok(None),
                Some((.., known)) => Ok(Some(known.clone())),
                None => Err(MysqlError::Corrupt {
                    what: format!(
                        "the event {} was not taken, and none is there under its name",
                        row.event_id
                    ),
                }),
            }
        })
        .collect()
}

/// The condition for one row by its name.
pub(super) fn name_is(user: &[u8], transaction_id: &[u8], leg: &str) -> String {
    format!(
        "(partition_key = x'{}' AND transaction_id = x'{}' AND leg = x'{}')",
        hex(user),
        hex(transaction_id),
        hex(leg.as_bytes())
    )
}

type Named = (Vec<u8>, Vec<u8>, Vec<u8>, Known);

/// Rows by their names.
pub(super) fn by_names(db: &mut Db, names: &[String]) -> Result<Vec<Named>, MysqlError> {
    let failed = failed("look for events");
    let rows: Vec<Row> = db
        .conn
        .query(format!(
            "SELECT partition_key, transaction_id, leg, event_id, request_hash, payload, \
             sent_generation, sent_partition, sent_offset, status = 'SENT' \
             FROM outbox_events FORCE INDEX (name) WHERE {}",
            names.join(" OR ")
        ))
        .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            type Cells = (
                Vec<u8>,
                Vec<u8>,
                Vec<u8>,
                String,
                Option<Vec<u8>>,
                Option<String>,
                Option<u32>,
                Option<u32>,
                Option<u64>,
                bool,
            );
            let (user, transaction_id, leg, event_id, request_hash, payload, g, p, o, is_sent): Cells =
                mysql::from_row_opt(row)
                    .map_err(mysql::Error::from)
                    .map_err(failed)?;
            let known = Known {
                event_id,
                request_hash,
                payload,
                is_sent,
                sent: g.zip(p).zip(o).map(|((g, p), o)| (g, p, o)),
            };
            Ok((user, transaction_id, leg, known))
        })
        .collect()
}

/// Text inside of a quoted literal.
fn escape(text: &str, to: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '\\', '\0']) {
        let (plain, special) = rest.split_at(at);
        to.push_str(plain);
        let (special, behind) = special.split_at(1);
        to.push('\\');
        to.push_str(if special == "\0" { "0" } else { special });
        rest = behind;
    }
    to.push_str(rest);
}
