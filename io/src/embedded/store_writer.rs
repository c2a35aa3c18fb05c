//! One writer's connection: an epoch is one transaction.

use kilter_engine::{
    Amount, Leg, Term,
    amount::TEXT_BYTES,
    epoch::{BalanceImage, Epoch, EpochPart, Landed, OffsetRow, RowStep},
    ledger::LedgerEntry,
    record::NOT_ISSUED,
    store::{Committed, Store},
};
use rusqlite::{CachedStatement, ToSql, params, types::ToSqlOutput};

use super::{
    PARTITION,
    connection::{Db, Pages},
    dir::DataDir,
    error::EmbeddedError,
    rows,
    schema::{self, Kind},
};

/// Commits the epochs of one hash range.
#[derive(Debug)]
pub struct StoreWriter {
    db: Db,
    images: Vec<BalanceImage>,
}

impl StoreWriter {
    /// Opens a connection of its own.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(dir: &DataDir) -> Result<Self, EmbeddedError> {
        let db = Db::write(&dir.store_path(), Pages::STORE)?;
        schema::check(&db, Kind::Store)?;
        Ok(Self {
            db,
            images: Vec::new(),
        })
    }

    fn transact(&mut self, epoch: &Epoch<'_>) -> Result<Committed, EmbeddedError> {
        if self.compare_offsets(epoch)? == Committed::Before {
            return Ok(Committed::Before);
        }
        self.write_balances(epoch)?;
        self.write_ledger(epoch)?;
        self.write_legs(epoch)?;
        self.write_accounts(epoch)?;
        self.write_dead_letters(epoch)?;
        for step in epoch.rows {
            if step.before != step.after {
                rows::write(&self.db, &step.after)?;
            }
        }
        self.fence(epoch)?;
        Ok(Committed::Now)
    }

    /// What the offset rows say of this epoch: to be done, or done before.
    fn compare_offsets(&self, epoch: &Epoch<'_>) -> Result<Committed, EmbeddedError> {
        let held = rows::read(&self.db)?;
        let holds = |pick: fn(&RowStep) -> &OffsetRow| {
            epoch.rows.iter().all(|step| held.contains(pick(step)))
        };
        let moves = epoch.rows.iter().any(|step| step.before != step.after);
        if moves && holds(|step| &step.after) {
            return Ok(Committed::Before);
        }
        if holds(|step| &step.before) {
            return Ok(Committed::Now);
        }
        self.fence(epoch)?;
        let what = epoch
            .rows
            .iter()
            .find(|step| !held.contains(&step.before))
            .map(|step| format!("{:?} is not there", step.before));
        Err(EmbeddedError::Offsets {
            epoch: epoch.cut.epoch,
            what: what.unwrap_or_default(),
        })
    }

    fn fence(&self, epoch: &Epoch<'_>) -> Result<(), EmbeddedError> {
        let failed = self.db.failed("read the lease");
        let theirs: i64 = self
            .db
            .connection
            .prepare_cached("SELECT term FROM leader_locks WHERE id = ?1")
            .map_err(&failed)?
            .query_row([PARTITION.get()], |row| row.get(0))
            .map_err(&failed)?;
        let theirs = Term::new(theirs as u64);
        if theirs == epoch.term {
            Ok(())
        } else {
            Err(EmbeddedError::Fenced {
                epoch: epoch.cut.epoch,
                ours: epoch.term,
                theirs,
            })
        }
    }

    fn write_balances(&mut self, epoch: &Epoch<'_>) -> Result<(), EmbeddedError> {
        self.images.clear();
        for part in epoch.parts {
            self.images.extend_from_slice(&part.balances);
        }
        // In the order of the table, so that neighbouring rows share a page while it is hot.
        self.images
            .sort_unstable_by_key(|image| (image.account_id, image.currency));
        let failed = self.db.failed("write balances");
        let mut upsert = self
            .db
            .connection
            .prepare_cached(
                "INSERT INTO account_balances
                 (account_id, currency_code, available, frozen, version, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT (account_id, currency_code) DO UPDATE SET
                   available = excluded.available, frozen = excluded.frozen,
                   version = excluded.version, updated_at = excluded.updated_at
                 WHERE excluded.version > version",
            )
            .map_err(&failed)?;
        let time_ms = clock_ms(epoch);
        for image in &self.images {
            let changed = upsert
                .execute(params![
                    image.account_id.get() as i64,
                    image.currency.as_str(),
                    Text::of(image.available),
                    Text::of(image.frozen),
                    image.version as i64,
                    time_ms,
                ])
                .map_err(&failed)?;
            if changed != 1 {
                return Err(self.db.corrupt(format!(
                    "the {} balance of account {} is at version {} or later already",
                    image.currency, image.account_id, image.version
                )));
            }
        }
        Ok(())
    }

    fn write_ledger(&self, epoch: &Epoch<'_>) -> Result<(), EmbeddedError> {
        let failed = self.db.failed("write the ledger");
        let mut insert = self
            .db
            .connection
            .prepare_cached(
                "INSERT INTO balance_transactions
                 (generation, partition, offset, posting, account_id, currency_code,
                  transaction_id, type, amount, available_before, available_after,
                  frozen_before, frozen_after, version, error_code, created_at, remembered_at,
                  leg, leg_user)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                         ?17, ?18, ?19)",
            )
            .map_err(&failed)?;
        for (entry, landed) in Merged::of(epoch.parts) {
            insert_entry(&mut insert, entry, landed).map_err(&failed)?;
        }
        Ok(())
    }

    fn write_legs(&self, epoch: &Epoch<'_>) -> Result<(), EmbeddedError> {
        let failed = self.db.failed("write the legs of transfers");
        let mut insert = self
            .db
            .connection
            .prepare_cached(
                "INSERT INTO legs (name, user_id, transaction_id, payload, issued_at, status)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'PENDING')",
            )
            .map_err(&failed)?;
        let mut legs: Vec<&Leg> = epoch.parts.iter().flat_map(|part| &part.legs).collect();
        legs.sort_unstable_by_key(|leg| leg.name);
        for leg in legs {
            insert
                .execute(params![
                    leg.name.to_string(),
                    leg.user_id.as_bytes(),
                    leg.transaction_id.as_str(),
                    leg.payload(),
                    leg.issued_at_ms,
                ])
                .map_err(&failed)?;
        }
        Ok(())
    }

    fn write_accounts(&self, epoch: &Epoch<'_>) -> Result<(), EmbeddedError> {
        let failed = self.db.failed("write accounts");
        let mut insert = self
            .db
            .connection
            .prepare_cached(
                "INSERT INTO accounts (id, user_id, shard_id, state, created_at, updated_at)
                 VALUES (?1, ?2, ?3, 'ACTIVE', ?4, ?4)",
            )
            .map_err(&failed)?;
        for account in epoch.parts.iter().flat_map(|part| &part.opened) {
            insert
                .execute(params![
                    account.account_id.get() as i64,
                    account.user_id.as_bytes(),
                    PARTITION.get(),
                    account.time_ms,
                ])
                .map_err(&failed)?;
        }
        Ok(())
    }

    fn write_dead_letters(&self, epoch: &Epoch<'_>) -> Result<(), EmbeddedError> {
        let failed = self.db.failed("write dead letters");
        let mut insert = self
            .db
            .connection
            .prepare_cached(
                "INSERT INTO dead_letters
                 (generation, partition, offset, code, message, failed_at, issued_at, key, value)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )
            .map_err(&failed)?;
        for letter in epoch.parts.iter().flat_map(|part| &part.dead_letters) {
            insert
                .execute(params![
                    letter.generation.get(),
                    letter.partition.get(),
                    letter.offset.get() as i64,
                    letter.code.as_str(),
                    &*letter.message,
                    letter.failed_at_ms,
                    (letter.issued_at_ms != NOT_ISSUED).then_some(letter.issued_at_ms),
                    &*letter.key,
                    &*letter.value,
                ])
                .map_err(&failed)?;
        }
        Ok(())
    }
}

impl Store for StoreWriter {
    type Error = EmbeddedError;

    fn commit(&mut self, epoch: &Epoch<'_>) -> Result<Committed, EmbeddedError> {
        self.db.batch("begin an epoch", "BEGIN IMMEDIATE")?;
        let done = match self.transact(epoch) {
            Ok(Committed::Now) => self
                .db
                .batch("commit an epoch", "COMMIT")
                .map(|()| Committed::Now),
            other => other,
        };
        if !matches!(done, Ok(Committed::Now)) {
            // Some errors have rolled back already; the first error is the one to tell.
            drop(self.db.batch("roll back", "ROLLBACK"));
        }
        done
    }
}

fn clock_ms(epoch: &Epoch<'_>) -> i64 {
    epoch
        .cut
        .partitions
        .iter()
        .find(|end| end.partition == PARTITION)
        .map_or(0, |end| end.clock_ms)
}

fn insert_entry(
    insert: &mut CachedStatement<'_>,
    entry: &LedgerEntry,
    landed: Option<&Landed>,
) -> rusqlite::Result<usize> {
    insert.execute(params![
        entry.position.generation.get(),
        entry.position.partition.get(),
        entry.position.offset.get() as i64,
        entry.position.posting.get(),
        entry.account_id.get() as i64,
        entry.currency.as_str(),
        entry.transaction_id.as_str(),
        entry.kind.as_str(),
        Text::of(entry.amount),
        Text::of(entry.before.available),
        Text::of(entry.after.available),
        Text::of(entry.before.frozen),
        Text::of(entry.after.frozen),
        entry.after.version as i64,
        entry.failure.map(|code| code.as_str()),
        entry.time_ms,
        (entry.remembered_ms != entry.time_ms).then_some(entry.remembered_ms),
        landed.map(|landed| landed.name.to_string()),
        landed.map(|landed| landed.user_id.as_bytes()),
    ])
}

/// An amount's text on the stack.
struct Text {
    bytes: [u8; TEXT_BYTES],
    len: usize,
}

impl Text {
    fn of(amount: Amount) -> Self {
        let mut buffer = [0; TEXT_BYTES];
        let text = amount.write_to(&mut buffer).as_bytes();
        let mut bytes = [0; TEXT_BYTES];
        bytes[..text.len()].copy_from_slice(text);
        Self {
            bytes,
            len: text.len(),
        }
    }
}

impl ToSql for Text {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(rusqlite::types::ValueRef::Text(
            &self.bytes[..self.len],
        )))
    }
}

/// The parts' entries by position: each part is in order, so a merge of them is, and the ledger
/// is appended to at its end only.
struct Merged<'a> {
    parts: &'a [Box<EpochPart>],
    /// The next entry of each.
    next: Vec<usize>,
}

impl<'a> Merged<'a> {
    fn of(parts: &'a [Box<EpochPart>]) -> Self {
        Self {
            parts,
            next: vec![0; parts.len()],
        }
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = (&'a LedgerEntry, Option<&'a Landed>);

    fn next(&mut self) -> Option<Self::Item> {
        let heads = self.parts.iter().zip(&self.next).enumerate();
        let heads = heads.filter_map(|(part, (held, next))| {
            let entry = held.ledger.get(*next)?;
            Some((entry.position, part))
        });
        let (_, part) = heads.min()?;
        let (held, at) = (&self.parts[part], self.next[part]);
        self.next[part] += 1;
        Some((&held.ledger[at], held.landed(at)))
    }
}
