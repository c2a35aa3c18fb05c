//! What the front door accepts into the embedded log: keys and records in one transaction.

use kilter_engine::{AccountId, Offset};
use rusqlite::{OptionalExtension, params};

use super::{
    append::{Appending, CommandLog, NewRecord},
    error::EmbeddedError,
    owners::Owners,
    reader::StoreReader,
    schema,
};
use crate::outbox::{
    Admitted, Asked, Named, Outcome, Status,
    event::{
        OPEN_LEG, differing_fields, new_name, open_payload, open_transaction_id, request_hash,
    },
};

/// The setting that holds the next account id of our own.
const SEQUENCE: &str = "account_sequence";

/// Where foreign ids begin to count as strange: the sequence begins behind the last one below.
const STRANGE: i64 = 1_000_000_000_000;

/// How many foreign ids in a row are passed over.
const TRIES: u32 = 1_000_000;

/// One that was accepted before, in this batch or earlier.
struct Known {
    event_id: String,
    hash: Vec<u8>,
    offset: u64,
}

/// A batch that was accepted, and is not durable.
#[derive(Debug)]
pub struct Accepted {
    /// To the requests, in their order.
    pub answers: Vec<Admitted>,
    /// Up to where the log is to be synchronised before they are given.
    pub end: Offset,
}

impl CommandLog {
    /// Accepts a batch of requests: answers in their order. What is accepted is in the log when
    /// this returns, each id once for ever; but it is durable only once the log is
    /// [synchronised](super::LogSync::sync) up to the end told here, and none of the answers may be
    /// given before.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written; then nothing of the batch is in the log.
    pub fn accept<'a>(
        &mut self,
        store: &StoreReader,
        requests: impl IntoIterator<Item = &'a Named>,
        now_ms: i64,
    ) -> Result<Accepted, EmbeddedError> {
        // The log's own time, lest a clock that was set back makes it expire on its way.
        let issued_at_ms = now_ms.max(self.last_ms());
        // Taken back below; lost with a batch that fails, which costs no more than asking again.
        let mut owners = std::mem::take(&mut self.owners);
        let (answers, learned) = self.transact(now_ms, |appending| {
            let mut accepting = Accepting {
                appending,
                store,
                owners: &owners,
                learned: Vec::new(),
                sequence: None,
                issued_at_ms,
            };
            let answers = requests
                .into_iter()
                .map(|request| accepting.decide(request))
                .collect::<Result<Vec<_>, _>>()?;
            accepting.keep_sequence()?;
            Ok((answers, accepting.learned))
        })?;
        for (account_id, user) in learned {
            owners.learn(account_id, user);
        }
        self.owners = owners;
        Ok(Accepted {
            answers,
            end: self.end(),
        })
    }
}

/// A batch while it is decided, within its transaction: each request sees what those before it made.
struct Accepting<'a, 'log> {
    appending: &'a mut Appending<'log>,
    store: &'a StoreReader,
    owners: &'a Owners,
    /// Owners that were read. True only once the transaction is through.
    learned: Vec<(AccountId, Box<[u8]>)>,
    /// The sequence behind the batch, if it took from it.
    sequence: Option<i64>,
    issued_at_ms: i64,
}

impl Accepting<'_, '_> {
    fn decide(&mut self, request: &Named) -> Result<Admitted, EmbeddedError> {
        let Named {
            event,
            event_id,
            hash,
        } = request;
        let user = event.user_id.as_bytes();
        match &event.asked {
            Asked::Command {
                transaction_id,
                account_id,
                payload,
                opens,
            } => {
                match self.is_owner(*account_id, user)? {
                    Some(true) => {}
                    None if *opens && self.account_of(user)?.is_none() => {
                        self.plan_open(&event.user_id, *account_id)?;
                    }
                    _ => return Ok(Admitted::NoAccount),
                }
                let name = (user, transaction_id.as_bytes(), "");
                match self.add(name, event_id, payload, hash)? {
                    true => Ok(Admitted::Accepted {
                        event_id: event_id.clone(),
                        account_id: *account_id,
                    }),
                    false => self.compare(user, transaction_id, *account_id, payload, hash),
                }
            }
            Asked::Open { account_id } => {
                let has = self.account_of(user)?;
                match (has, account_id) {
                    (Some(has), Some(asked)) if has != *asked => {
                        return Ok(Admitted::HasAccount { account_id: has });
                    }
                    (Some(has), _) => return self.opened(user, has),
                    (None, Some(asked)) if self.is_owner(*asked, user)?.is_some() => {
                        return Ok(Admitted::AccountTaken);
                    }
                    (None, _) => {}
                }
                let account_id = match account_id {
                    Some(asked) => *asked,
                    None => self.next_account()?,
                };
                Ok(Admitted::Accepted {
                    event_id: self.plan_open(&event.user_id, account_id)?,
                    account_id,
                })
            }
        }
    }

    /// Appends a record under its name, unless that was taken already.
    fn add(
        &mut self,
        (user, transaction_id, leg): (&[u8], &[u8], &str),
        event_id: &str,
        payload: &str,
        hash: &[u8; 32],
    ) -> Result<bool, EmbeddedError> {
        let db = self.appending.db();
        let offset = self.appending.next() as i64;
        let row = params![
            user,
            transaction_id,
            leg,
            event_id,
            offset,
            &hash[..],
            self.issued_at_ms
        ];
        let added = db
            .connection
            .prepare_cached(
                "INSERT INTO outbox_events (user_id, transaction_id, leg, event_id, \
                 record_offset, request_hash, issued_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (user_id, transaction_id, leg) DO NOTHING",
            )
            .and_then(|mut insert| insert.execute(row))
            .map_err(|error| db.failed("append an event")(error))?;
        if added == 0 {
            return Ok(false);
        }
        self.appending.append(&NewRecord {
            value: payload.as_bytes(),
            issued_at_ms: Some(self.issued_at_ms),
            full: None,
        })?;
        Ok(true)
    }

    /// Appends an OPEN, which claims the account.
    fn plan_open(&mut self, user: &str, account_id: AccountId) -> Result<String, EmbeddedError> {
        let id = open_transaction_id(account_id);
        let payload = open_payload(user, account_id);
        let name = (user.as_bytes(), id.as_bytes(), OPEN_LEG);
        let event_id = new_name();
        match self.add(name, &event_id, &payload, &request_hash(&payload))? {
            true => Ok(event_id),
            false => {
                let what =
                    format!("an event that opens account {account_id}, which nobody claimed");
                Err(self.appending.db().corrupt(what))
            }
        }
    }

    /// The answer to whoever opens the account that he has.
    fn opened(&self, user: &[u8], account_id: AccountId) -> Result<Admitted, EmbeddedError> {
        let id = open_transaction_id(account_id);
        let known = self.known(user, id.as_bytes(), OPEN_LEG)?;
        let status = match self.store.is_active(account_id)? {
            true => Status::Success,
            false => Status::Pending,
        };
        Ok(Admitted::Duplicate {
            event_id: known.map(|known| known.event_id),
            account_id,
            outcome: Some(Outcome::bare(status)),
        })
    }

    /// A retry, or something else under a used id.
    fn compare(
        &self,
        user: &[u8],
        transaction_id: &str,
        account_id: AccountId,
        payload: &str,
        hash: &[u8; 32],
    ) -> Result<Admitted, EmbeddedError> {
        let known = self.known(user, transaction_id.as_bytes(), "")?;
        let known = known.ok_or_else(|| {
            let what = format!("no event of the id {transaction_id:?}, which is taken");
            self.appending.db().corrupt(what)
        })?;
        if known.hash != hash {
            let differs = match self.payload_at(known.offset)? {
                Some(first) => differing_fields(payload, &first),
                None => None,
            };
            if differs.as_ref().is_none_or(|differs| !differs.is_empty()) {
                return Ok(Admitted::Conflict {
                    event_id: known.event_id,
                    differs: differs.unwrap_or_default(),
                });
            }
        }
        Ok(Admitted::Duplicate {
            event_id: Some(known.event_id),
            account_id,
            outcome: Some(self.store.outcome_at(known.offset, transaction_id)?),
        })
    }

    fn known(
        &self,
        user: &[u8],
        transaction_id: &[u8],
        leg: &str,
    ) -> Result<Option<Known>, EmbeddedError> {
        let db = self.appending.db();
        let failed = db.failed("look for an event");
        db.connection
            .prepare_cached(
                "SELECT event_id, request_hash, record_offset FROM outbox_events \
                 WHERE user_id = ?1 AND transaction_id = ?2 AND leg = ?3",
            )
            .map_err(&failed)?
            .query_row(params![user, transaction_id, leg], |row| {
                Ok(Known {
                    event_id: row.get(0)?,
                    hash: row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default(),
                    offset: row.get::<_, i64>(2)? as u64,
                })
            })
            .optional()
            .map_err(&failed)
    }

    fn payload_at(&self, offset: u64) -> Result<Option<String>, EmbeddedError> {
        let db = self.appending.db();
        let value: Option<Vec<u8>> = db
            .connection
            .query_row(
                "SELECT value FROM records WHERE offset = ?1",
                [offset as i64],
                |row| row.get(0),
            )
            .optional()
            .map_err(db.failed("read a record"))?;
        Ok(value.and_then(|value| String::from_utf8(value).ok()))
    }

    /// Whether an account is a user's; `None` if it is nobody's.
    fn is_owner(
        &mut self,
        account_id: AccountId,
        user: &[u8],
    ) -> Result<Option<bool>, EmbeddedError> {
        if let Some(owner) = self.owners.of(account_id) {
            return Ok(Some(owner == user));
        }
        let db = self.appending.db();
        let owner: Option<Vec<u8>> = db
            .connection
            .prepare_cached("SELECT user_id FROM claims WHERE account_id = ?1")
            .and_then(|mut select| {
                select
                    .query_row([account_id.get() as i64], |row| row.get(0))
                    .optional()
            })
            .map_err(|error| db.failed("read account claims")(error))?;
        Ok(owner.map(|owner| {
            let is_theirs = owner == user;
            self.learned.push((account_id, owner.into()));
            is_theirs
        }))
    }

    fn account_of(&self, user: &[u8]) -> Result<Option<AccountId>, EmbeddedError> {
        let db = self.appending.db();
        let failed = db.failed("read account claims");
        let account: Option<i64> = db
            .connection
            .prepare_cached("SELECT account_id FROM claims WHERE user_id = ?1")
            .map_err(&failed)?
            .query_row([user], |row| row.get(0))
            .optional()
            .map_err(&failed)?;
        match account {
            None => Ok(None),
            Some(account) => AccountId::new(account as u64)
                .map(Some)
                .ok_or_else(|| db.corrupt(format!("a claim on account {account}"))),
        }
    }

    fn next_account(&mut self) -> Result<AccountId, EmbeddedError> {
        let stored = match self.sequence {
            Some(next) => next,
            None => match schema::setting(self.appending.db(), SEQUENCE)? {
                Some(text) => text.parse().map_err(|_| {
                    let what = format!("the setting {SEQUENCE} is {text:?}");
                    self.appending.db().corrupt(what)
                })?,
                None => self.last_usual_account()? + 1,
            },
        };
        for id in (stored..).take(TRIES as usize) {
            let Some(account_id) = AccountId::new(id as u64) else {
                break;
            };
            if self.is_owner(account_id, &[])?.is_none() {
                self.sequence = Some(id + 1);
                return Ok(account_id);
            }
        }
        let what = format!("no account id is free behind {stored}");
        Err(self.appending.db().corrupt(what))
    }

    fn last_usual_account(&self) -> Result<i64, EmbeddedError> {
        let db = self.appending.db();
        db.connection
            .query_row(
                "SELECT COALESCE(MAX(account_id), 0) FROM claims WHERE account_id <= ?1",
                [STRANGE],
                |row| row.get(0),
            )
            .map_err(db.failed("read account claims"))
    }

    fn keep_sequence(&self) -> Result<(), EmbeddedError> {
        let Some(next) = self.sequence else {
            return Ok(());
        };
        let db = self.appending.db();
        db.connection
            .execute(
                "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)",
                params![SEQUENCE, next.to_string()],
            )
            .map(|_| ())
            .map_err(db.failed("keep the next account id"))
    }
}
