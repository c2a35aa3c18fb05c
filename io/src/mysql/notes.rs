//! Operators' notes: written under the lock of the offset rows, and only ahead of them.

use kilter_engine::{
    Generation, HashRange, Offset, Partition,
    notes::{Note, NoteKind},
};
use mysql::prelude::Queryable;

use super::{
    connection::Db,
    error::{MysqlError, failed},
    rows,
};

fn name(kind: NoteKind) -> &'static str {
    match kind {
        NoteKind::Refuse => "REFUSE",
        NoteKind::IgnoreTime => "IGNORE_TIME",
    }
}

/// The notes of a log generation.
///
/// # Errors
///
/// When they cannot be read.
pub fn notes(db: &mut Db, generation: Generation) -> Result<Vec<Note>, MysqlError> {
    let rows: Vec<(u32, u64, String)> = db
        .conn
        .exec(
            "SELECT `partition`, `offset`, CAST(kind AS CHAR) FROM kilter_notes \
             WHERE generation = ? ORDER BY `partition`, `offset`, kind",
            (generation.get(),),
        )
        .map_err(failed("read the operators' notes"))?;
    rows.into_iter()
        .map(|(partition, offset, text)| {
            let kind = [NoteKind::Refuse, NoteKind::IgnoreTime]
                .into_iter()
                .find(|kind| name(*kind) == text)
                .ok_or_else(|| MysqlError::Corrupt {
                    what: format!("a note of the kind {text:?}"),
                })?;
            Ok(Note {
                generation,
                partition: Partition::new(partition),
                offset: Offset::new(offset),
                kind,
            })
        })
        .collect()
}

/// Writes a note about a record that no hash range has passed, and that no node may be past in its
/// memory: nobody has the lease, and whoever had it and wakes up later is fenced off.
///
/// # Errors
///
/// [`MysqlError::Note`] if one has or may be, or when it cannot be written.
pub fn add_note(
    db: &mut Db,
    group: &str,
    topic: &str,
    note: &Note,
    reason: &str,
) -> Result<(), MysqlError> {
    db.run("begin a note", "START TRANSACTION")?;
    let added = add_inside(db, group, topic, note, reason);
    match added {
        Ok(()) => db.run("commit the note", "COMMIT"),
        Err(error) => {
            db.roll_back();
            Err(error)
        }
    }
}

fn add_inside(
    db: &mut Db,
    group: &str,
    topic: &str,
    note: &Note,
    reason: &str,
) -> Result<(), MysqlError> {
    let rows = rows::read(db, group, topic, &[note.partition], HashRange::ALL, true)?;
    if let Some(row) = rows.iter().find(|row| row.generation != note.generation) {
        return Err(MysqlError::Note {
            why: format!(
                "partition {} is at log generation {}, the note is about generation {}",
                note.partition, row.generation, note.generation
            ),
        });
    }
    let furthest = rows.iter().map(|row| row.offset).max().unwrap_or_default();
    if note.offset < furthest {
        return Err(MysqlError::Note {
            why: format!(
                "partition {} offset {} is committed already (up to {furthest}); a note can only \
                 be about a record ahead",
                note.partition, note.offset
            ),
        });
    }
    end_lease(db, note.partition)?;
    db.conn
        .exec_drop(
            "REPLACE INTO kilter_notes \
             (generation, `partition`, `offset`, kind, reason, created_at) \
             VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(3))",
            (
                note.generation.get(),
                note.partition.get(),
                note.offset.get(),
                name(note.kind),
                reason,
            ),
        )
        .map_err(failed("write the note"))
}

/// A node may have applied the record and not committed it yet, so the lease must be free; the term
/// rises, so that one who was stopped and wakes up commits nothing that it decided without the note.
fn end_lease(db: &mut Db, partition: Partition) -> Result<(), MysqlError> {
    let failed = failed("end the lease");
    let locked: Option<u32> = db
        .conn
        .exec_first(
            "SELECT id FROM leader_locks FORCE INDEX (PRIMARY) WHERE id = ? FOR UPDATE",
            (partition.get(),),
        )
        .map_err(failed)?;
    if locked.is_none() {
        return Ok(());
    }
    db.conn
        .exec_drop(
            "UPDATE leader_locks FORCE INDEX (PRIMARY) SET consumer_id = NULL, \
             expires_at = NULL, term = term + 1 \
             WHERE id = ? AND (consumer_id IS NULL OR expires_at < UTC_TIMESTAMP(6))",
            (partition.get(),),
        )
        .map_err(failed)?;
    if db.conn.affected_rows() == 1 {
        return Ok(());
    }
    Err(MysqlError::Note {
        why: format!(
            "a node leads partition {partition}, and may be past the record in its memory: stop \
             it, or wait until its lease has expired, and try again"
        ),
    })
}
