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

/// Writes a note about a record that no hash range has passed, of a partition that nobody leads:
/// a leader reads the notes when it starts, and would pass by a later one.
///
/// # Errors
///
/// [`MysqlError::Note`] if that is not so, or when it cannot be written.
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
    end_old_lease(db, note.partition)?;
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

/// Refuses while the partition is led, and takes the name of a leader whose lease has run out off
/// it: it knows no later notes, and could still go on.
fn end_old_lease(db: &mut Db, partition: Partition) -> Result<(), MysqlError> {
    let failed = failed("see who leads");
    // As an epoch does: offset rows first, then the lease.
    let term: Option<u64> = db
        .conn
        .exec_first(
            "SELECT term FROM leader_locks FORCE INDEX (PRIMARY) WHERE id = ? FOR UPDATE",
            (partition.get(),),
        )
        .map_err(failed)?;
    if term.is_none() {
        return Ok(());
    }
    // A statement of its own: time stands still within a statement that waited for a lock.
    let leader: Option<Vec<u8>> = db
        .conn
        .exec_first(
            "SELECT consumer_id FROM leader_locks FORCE INDEX (PRIMARY) WHERE id = ? \
             AND consumer_id IS NOT NULL AND expires_at >= UTC_TIMESTAMP(6)",
            (partition.get(),),
        )
        .map_err(failed)?;
    if let Some(leader) = leader {
        return Err(MysqlError::Note {
            why: format!(
                "partition {partition} is led by {}, which read the notes when it started; stop \
                 it, write the note, and start it again",
                String::from_utf8_lossy(&leader)
            ),
        });
    }
    db.conn
        .exec_drop(
            "UPDATE leader_locks FORCE INDEX (PRIMARY) \
             SET consumer_id = NULL, expires_at = NULL WHERE id = ?",
            (partition.get(),),
        )
        .map_err(failed)
}
