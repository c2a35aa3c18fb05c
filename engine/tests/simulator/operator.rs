//! The operator: durable notes about single records, written while nobody has the partition.

use kilter_engine::{
    Offset, Partition, Term,
    notes::{Note, NoteKind},
};

use super::{
    database::Database,
    locks::Locked,
    sights::{Sight, saw},
};
use crate::support::disk::GENERATION;

impl Database {
    /// Writes a note, if nobody has the lease and nothing from the record on is committed.
    ///
    /// The term rises with it: an old owner that wakes up had read the notes without this one.
    pub fn write_note(
        &mut self,
        partition: u32,
        offset: u64,
        kind: NoteKind,
    ) -> Result<bool, Locked> {
        if !self.free().contains(&partition) {
            return Ok(false);
        }
        self.clear_shares(&[partition])?;
        if offset < self.locked_offset(Partition::new(partition))? {
            saw(Sight::NoteTooLate);
            return Ok(false);
        }
        let note = Note {
            generation: GENERATION,
            partition: Partition::new(partition),
            offset: Offset::new(offset),
            kind,
        };
        if self.notes.contains(&note) {
            return Ok(false);
        }
        let lease = &mut self.leases[partition as usize];
        lease.owner = 0;
        lease.term = Term::new(lease.term.get() + 1);
        self.notes.push(note);
        saw(match kind {
            NoteKind::Refuse => Sight::NoteRefuse,
            NoteKind::IgnoreTime => Sight::NoteIgnoreTime,
        });
        Ok(true)
    }
}
