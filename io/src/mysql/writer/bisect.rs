//! Which record's rows the store does not take, found by halving in transactions that are rolled
//! back.

use kilter_engine::{
    epoch::{BalanceImage, Epoch, EpochPart, Landed},
    ledger::{LedgerEntry, Position},
};

use super::{MysqlWriter, entry_at};
use crate::mysql::{
    error::{MysqlError, chain},
    text::Rows,
    writer::session::Session,
};

impl MysqlWriter {
    /// The refusal with the record at fault; the refusal as it is if no single one can be named.
    pub(super) fn name_the_record(&mut self, epoch: &Epoch<'_>, refusal: MysqlError) -> MysqlError {
        let session = match &mut self.session {
            Some(session) => session,
            None => match Session::open(&self.settings) {
                Ok(session) => self.session.insert(session),
                Err(_) => return refusal,
            },
        };
        let order = self.batch.order.iter();
        let entries: Vec<Entry<'_>> = order.map(|at| entry_at(epoch.parts, *at)).collect();
        let images = self.batch.images.clone();
        let mut trial = Trial {
            session,
            rows: Rows::new(self.batch.staged.spelling()),
            time_ms: self.batch.time_ms,
            why: chain(&refusal),
        };
        // A balance is named by the last record that changed it.
        let found = trial
            .find(&entries, &mut Trial::takes_entries)
            .map(|(entry, _)| entry.position)
            .or_else(|| {
                let image = trial.find(&images, &mut Trial::takes_images)?;
                changed_by(epoch, &image)
            });
        match found {
            Some(position) => MysqlError::Row {
                partition: position.partition,
                offset: position.offset.get(),
                why: trial.why,
            },
            None => refusal,
        }
    }
}

fn changed_by(epoch: &Epoch<'_>, image: &BalanceImage) -> Option<Position> {
    let by = |part: &EpochPart| {
        let mut images = part.balances.iter();
        let index = images.position(|other| {
            (other.account_id, other.currency) == (image.account_id, image.currency)
        })?;
        part.changed_by.get(index).copied()
    };
    epoch.parts.iter().find_map(|part| by(part))
}

/// A ledger entry, and what it has besides.
type Entry<'e> = (&'e LedgerEntry, Option<&'e Landed>);

struct Trial<'a> {
    session: &'a mut Session,
    rows: Rows,
    time_ms: i64,
    why: String,
}

type Takes<'a, T> = dyn FnMut(&mut Trial<'a>, &[T]) -> Result<(), MysqlError>;

impl<'a> Trial<'a> {
    /// The first item that is refused by itself, or the last of the fewest that are refused only
    /// together.
    fn find<T: Copy>(&mut self, items: &[T], takes: &mut Takes<'a, T>) -> Option<T> {
        let mut suspects = items;
        if suspects.is_empty() || self.accepts(suspects, takes) {
            return None;
        }
        while suspects.len() > 1 {
            let (left, right) = suspects.split_at(suspects.len() / 2);
            suspects = if !self.accepts(left, takes) {
                left
            } else if !self.accepts(right, takes) {
                right
            } else {
                break;
            };
        }
        suspects.last().copied()
    }

    /// Whether the store takes these. What only passes says nothing about them: then yes.
    fn accepts<T>(&mut self, items: &[T], takes: &mut Takes<'a, T>) -> bool {
        let tried = self
            .session
            .db
            .run("begin a trial", "START TRANSACTION")
            .and_then(|()| takes(self, items));
        self.session.db.roll_back();
        match tried {
            Err(error) if error.is_about_rows() => {
                self.why = chain(&error);
                false
            }
            _ => true,
        }
    }

    fn takes_entries(&mut self, entries: &[Entry<'_>]) -> Result<(), MysqlError> {
        self.rows.clear();
        for (entry, landed) in entries {
            self.rows.entry(entry, *landed);
        }
        self.session.ledger(&mut self.rows)
    }

    fn takes_images(&mut self, images: &[BalanceImage]) -> Result<(), MysqlError> {
        self.rows.clear();
        for image in images {
            self.rows.image(image, self.time_ms);
        }
        let new = images.iter().filter(|image| image.version == 1).count() as u64;
        match self.session.balances(&mut self.rows, new) {
            // How many are new is not known of a part of an epoch; only warnings speak.
            Err(MysqlError::Counts {
                warnings: 0, found, ..
            }) if found >= images.len() as u64 => Ok(()),
            other => other,
        }
    }
}
