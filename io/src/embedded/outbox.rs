//! What the front door accepts into the embedded log: keys and records in one transaction.

use std::collections::HashMap;

use kilter_engine::AccountId;
use rusqlite::{OptionalExtension, params};

use super::{
    append::{CommandLog, NewRecord},
    error::EmbeddedError,
    reader::StoreReader,
    schema,
};
use crate::outbox::{
    Admitted, Asked, NewEvent, Outcome, Status,
    event::{OPEN_LEG, differing_fields, open_payload, open_transaction_id, request_hash},
};

/// The setting that holds the next account id of our own.
const SEQUENCE: &str = "account_sequence";

/// Where foreign ids begin to count as strange: the sequence begins behind the last one below.
const STRANGE: i64 = 1_000_000_000_000;

/// How many foreign ids in a row are passed over.
const TRIES: u32 = 1_000_000;

type Name = (Vec<u8>, Vec<u8>, &'static str);

/// A record and its key.
struct New {
    name: Name,
    event_id: String,
    payload: String,
    hash: [u8; 32],
}

/// One that was accepted before, in this batch or earlier.
struct Known {
    event_id: String,
    hash: Vec<u8>,
    offset: u64,
}

/// A batch while it is decided. The log has one writer, so that what is read stays true until the
/// batch is written.
#[derive(Default)]
struct Batch {
    new: Vec<New>,
    of_name: HashMap<Name, usize>,
    /// Accounts that this batch opens.
    opened: HashMap<u64, Vec<u8>>,
    /// The sequence behind it, if it took from it.
    sequence: Option<i64>,
}

impl Batch {
    fn add(&mut self, name: Name, payload: String) -> String {
        let event_id = uuid::Uuid::now_v7().to_string();
        self.of_name.insert(name.clone(), self.new.len());
        self.new.push(New {
            hash: request_hash(&payload),
            event_id: event_id.clone(),
            name,
            payload,
        });
        event_id
    }
}

impl CommandLog {
    /// Accepts a batch of requests: answers in their order. What is accepted is in the log when
    /// this returns, each id once for ever.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written; then nothing of the batch is in the log.
    pub fn accept<'a>(
        &mut self,
        store: &StoreReader,
        events: impl IntoIterator<Item = &'a NewEvent>,
        now_ms: i64,
    ) -> Result<Vec<Admitted>, EmbeddedError> {
        let mut batch = Batch::default();
        let mut answers = Vec::new();
        for event in events {
            answers.push(self.decide(store, &mut batch, event)?);
        }
        if batch.new.is_empty() {
            return Ok(answers);
        }
        // The log's own time, lest a clock that was set back makes it expire on its way.
        let issued_at_ms = now_ms.max(self.last_ms());
        let records = batch.new.iter().map(|new| NewRecord {
            value: new.payload.as_bytes(),
            issued_at_ms: Some(issued_at_ms),
            full: None,
        });
        let first = self.end().get();
        let (keys, sequence) = (&batch.new, batch.sequence);
        self.transact(records, now_ms, |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO outbox_events (user_id, transaction_id, leg, event_id, \
                 record_offset, request_hash, issued_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for (offset, new) in (first..).zip(keys) {
                let (user, transaction_id, leg) = &new.name;
                insert.execute(params![
                    user,
                    transaction_id,
                    leg,
                    new.event_id,
                    offset as i64,
                    &new.hash[..],
                    issued_at_ms,
                ])?;
            }
            if let Some(next) = sequence {
                transaction.execute(
                    "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)",
                    params![SEQUENCE, next.to_string()],
                )?;
            }
            Ok(())
        })?;
        Ok(answers)
    }

    fn decide(
        &self,
        store: &StoreReader,
        batch: &mut Batch,
        event: &NewEvent,
    ) -> Result<Admitted, EmbeddedError> {
        let user = event.user_id.as_bytes();
        match &event.asked {
            Asked::Command {
                transaction_id,
                account_id,
                payload,
                opens,
            } => {
                match self.user_of(batch, *account_id)? {
                    Some(owner) if owner == user => {}
                    None if *opens && self.account_of(batch, user)?.is_none() => {
                        self.plan_open(batch, user, &event.user_id, *account_id);
                    }
                    _ => return Ok(Admitted::NoAccount),
                }
                let name = (user.to_vec(), transaction_id.clone().into_bytes(), "");
                match self.known(batch, &name)? {
                    Some(known) => {
                        self.compare(store, batch, &known, transaction_id, *account_id, payload)
                    }
                    None => Ok(Admitted::Accepted {
                        event_id: batch.add(name, payload.clone()),
                        account_id: *account_id,
                    }),
                }
            }
            Asked::Open { account_id } => {
                let has = self.account_of(batch, user)?;
                match (has, account_id) {
                    (Some(has), Some(asked)) if has != *asked => {
                        return Ok(Admitted::HasAccount { account_id: has });
                    }
                    (Some(has), _) => return self.opened(store, batch, user, has),
                    (None, Some(asked)) if self.user_of(batch, *asked)?.is_some() => {
                        return Ok(Admitted::AccountTaken);
                    }
                    (None, _) => {}
                }
                let account_id = match account_id {
                    Some(asked) => *asked,
                    None => self.next_account(batch)?,
                };
                Ok(Admitted::Accepted {
                    event_id: self.plan_open(batch, user, &event.user_id, account_id),
                    account_id,
                })
            }
        }
    }

    fn plan_open(
        &self,
        batch: &mut Batch,
        user: &[u8],
        user_id: &str,
        account_id: AccountId,
    ) -> String {
        batch.opened.insert(account_id.get(), user.to_vec());
        let id = open_transaction_id(account_id).into_bytes();
        batch.add(
            (user.to_vec(), id, OPEN_LEG),
            open_payload(user_id, account_id),
        )
    }

    /// The answer to whoever opens the account that he has.
    fn opened(
        &self,
        store: &StoreReader,
        batch: &Batch,
        user: &[u8],
        account_id: AccountId,
    ) -> Result<Admitted, EmbeddedError> {
        let id = open_transaction_id(account_id).into_bytes();
        let known = self.known(batch, &(user.to_vec(), id, OPEN_LEG))?;
        let status = match store.is_active(account_id)? {
            true => Status::Success,
            false => Status::Pending,
        };
        Ok(Admitted::Duplicate {
            event_id: known.map(|known| known.event_id),
            account_id,
            outcome: Some(Outcome::bare(status)),
        })
    }

    fn compare(
        &self,
        store: &StoreReader,
        batch: &Batch,
        known: &Known,
        transaction_id: &str,
        account_id: AccountId,
        payload: &str,
    ) -> Result<Admitted, EmbeddedError> {
        if known.hash != request_hash(payload) {
            let differs = match self.payload_at(batch, known.offset)? {
                Some(first) => differing_fields(payload, &first),
                None => None,
            };
            if differs.as_ref().is_none_or(|differs| !differs.is_empty()) {
                return Ok(Admitted::Conflict {
                    event_id: known.event_id.clone(),
                    differs: differs.unwrap_or_default(),
                });
            }
        }
        Ok(Admitted::Duplicate {
            event_id: Some(known.event_id.clone()),
            account_id,
            outcome: Some(store.outcome_at(known.offset, transaction_id)?),
        })
    }

    fn known(&self, batch: &Batch, name: &Name) -> Result<Option<Known>, EmbeddedError> {
        if let Some(index) = batch.of_name.get(name) {
            let new = &batch.new[*index];
            return Ok(Some(Known {
                event_id: new.event_id.clone(),
                hash: new.hash.to_vec(),
                offset: self.end().get() + *index as u64,
            }));
        }
        let failed = self.db().failed("look for an event");
        let connection = &self.db().connection;
        connection
            .prepare_cached(
                "SELECT event_id, request_hash, record_offset FROM outbox_events \
                 WHERE user_id = ?1 AND transaction_id = ?2 AND leg = ?3",
            )
            .map_err(&failed)?
            .query_row(params![name.0, name.1, name.2], |row| {
                Ok(Known {
                    event_id: row.get(0)?,
                    hash: row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default(),
                    offset: row.get::<_, i64>(2)? as u64,
                })
            })
            .optional()
            .map_err(&failed)
    }

    fn payload_at(&self, batch: &Batch, offset: u64) -> Result<Option<String>, EmbeddedError> {
        if let Some(index) = offset.checked_sub(self.end().get()) {
            let new = batch.new.get(index as usize);
            return Ok(new.map(|new| new.payload.clone()));
        }
        let value: Option<Vec<u8>> = self
            .db()
            .connection
            .query_row(
                "SELECT value FROM records WHERE offset = ?1",
                [offset as i64],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.db().failed("read a record"))?;
        Ok(value.and_then(|value| String::from_utf8(value).ok()))
    }

    fn user_of(
        &self,
        batch: &Batch,
        account_id: AccountId,
    ) -> Result<Option<Vec<u8>>, EmbeddedError> {
        if let Some(user) = batch.opened.get(&account_id.get()) {
            return Ok(Some(user.clone()));
        }
        let failed = self.db().failed("read account claims");
        let connection = &self.db().connection;
        connection
            .prepare_cached("SELECT user_id FROM claims WHERE account_id = ?1")
            .map_err(&failed)?
            .query_row([account_id.get() as i64], |row| row.get(0))
            .optional()
            .map_err(&failed)
    }

    fn account_of(&self, batch: &Batch, user: &[u8]) -> Result<Option<AccountId>, EmbeddedError> {
        let opened = batch.opened.iter().find(|(_, owner)| *owner == user);
        if let Some((account, _)) = opened {
            return Ok(AccountId::new(*account));
        }
        let failed = self.db().failed("read account claims");
        let connection = &self.db().connection;
        let account: Option<i64> = connection
            .prepare_cached("SELECT account_id FROM claims WHERE user_id = ?1")
            .map_err(&failed)?
            .query_row([user], |row| row.get(0))
            .optional()
            .map_err(&failed)?;
        match account {
            None => Ok(None),
            Some(account) => AccountId::new(account as u64)
                .map(Some)
                .ok_or_else(|| self.db().corrupt(format!("a claim on account {account}"))),
        }
    }

    fn next_account(&self, batch: &mut Batch) -> Result<AccountId, EmbeddedError> {
        let stored = match batch.sequence {
            Some(next) => next,
            None => match schema::setting(self.db(), SEQUENCE)? {
                Some(text) => text.parse().map_err(|_| {
                    self.db()
                        .corrupt(format!("the setting {SEQUENCE} is {text:?}"))
                })?,
                None => self.last_usual_account()? + 1,
            },
        };
        for id in (stored..).take(TRIES as usize) {
            let Some(account_id) = AccountId::new(id as u64) else {
                break;
            };
            if self.user_of(batch, account_id)?.is_none() {
                batch.sequence = Some(id + 1);
                return Ok(account_id);
            }
        }
        Err(self
            .db()
            .corrupt(format!("no account id is free behind {stored}")))
    }

    fn last_usual_account(&self) -> Result<i64, EmbeddedError> {
        self.db()
            .connection
            .query_row(
                "SELECT COALESCE(MAX(account_id), 0) FROM claims WHERE account_id <= ?1",
                [STRANGE],
                |row| row.get(0),
            )
            .map_err(self.db().failed("read account claims"))
    }
}
