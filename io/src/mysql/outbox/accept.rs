//! One batch of requests, made durable in one transaction.

use std::collections::HashMap;

use kilter_engine::{AccountId, Partition, partitioner::Partitioner};

use super::{
    accounts::{Account, Accounts},
    insert::{Known, NewRow, by_names, insert, name_is},
    lookup::entries_at_all,
    place::Place,
    sequence::Sequence,
};
use crate::mysql::{
    claims::{Claims, Wish},
    connection::Db,
    error::MysqlError,
};
use crate::outbox::{
    Admitted, Asked, Named, NewEvent, Outcome, Status,
    event::{
        OPEN_LEG, differing_fields, new_name, open_payload, open_transaction_id, request_hash,
    },
};
use crate::rows::LedgerRow;

/// A request, with the names that its rows have in every try.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    named: &'a Named,
    /// The name of what opens an account for it.
    open_event_id: String,
    issued_at_ms: i64,
}

impl<'a> Request<'a> {
    /// Gives a request its time.
    pub(crate) fn new(named: &'a Named, now_ms: i64) -> Self {
        let open_event_id = match &named.event.asked {
            Asked::Command { opens: true, .. } => new_name(),
            Asked::Command { opens: false, .. } => String::new(),
            Asked::Open { .. } => named.event_id.clone(),
        };
        Self {
            named,
            open_event_id,
            issued_at_ms: now_ms,
        }
    }

    fn event(&self) -> &'a NewEvent {
        &self.named.event
    }

    fn user(&self) -> &'a [u8] {
        self.named.event.user_id.as_bytes()
    }

    fn open_row(&self, account_id: AccountId) -> NewRow {
        let user = &self.named.event.user_id;
        let payload = open_payload(user, account_id);
        NewRow {
            event_id: self.open_event_id.clone(),
            user: user.clone(),
            transaction_id: open_transaction_id(account_id),
            leg: OPEN_LEG,
            hash: request_hash(&payload),
            payload,
            issued_at_ms: self.issued_at_ms,
        }
    }
}

/// A row that was made, for whoever produces it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) event_id: String,
    pub(crate) user: String,
    pub(crate) transaction_id: String,
    pub(crate) payload: String,
    pub(crate) issued_at_ms: i64,
}

impl Made {
    /// About how much memory it holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [
            &self.event_id,
            &self.user,
            &self.transaction_id,
            &self.payload,
        ];
        size_of::<Self>() + texts.map(String::len).iter().sum::<usize>()
    }
}

/// What is to be done for one request.
enum Plan {
    /// It is answered without a row.
    Answer(Admitted),
    /// A command of an account that is the user's.
    Command(AccountId),
    /// An account that is the user's already.
    Has(Account),
    /// An account that has to be claimed.
    Claim(AccountId),
}

/// Accepts batches. Everything that it remembers is true for ever, so that a batch can be tried
/// again after any failure.
#[derive(Debug)]
pub(crate) struct Accepter {
    topic: String,
    partitions: u32,
    accounts: Accounts,
    sequence: Sequence,
    claims: Claims,
}

impl Accepter {
    /// Accepts for a topic of so many partitions, and remembers so many accounts.
    pub(crate) fn new(topic: String, partitions: u32, accounts_max: usize) -> Self {
        Self {
            topic,
            partitions,
            accounts: Accounts::new(accounts_max),
            sequence: Sequence::default(),
            claims: Claims::default(),
        }
    }

    /// Makes a batch durable. The answers, in the order of the requests, and the rows that were
    /// made, in the order of their ids.
    ///
    /// # Errors
    ///
    /// When the store cannot be used. The batch may be in or not, whole; trying it again tells.
    pub(crate) fn accept(
        &mut self,
        db: &mut Db,
        requests: &[Request<'_>],
    ) -> Result<(Vec<Admitted>, Vec<Made>), MysqlError> {
        let mut plans = self.plan(db, requests)?;
        let claims_any = plans.iter().any(|plan| matches!(plan, Plan::Claim(_)));
        if !claims_any {
            return self.write(db, requests, &plans);
        }
        const WHAT: &str = "accept commands";
        db.run(WHAT, "START TRANSACTION")?;
        let written = self
            .claim(db, requests, &mut plans)
            .and_then(|()| self.write(db, requests, &plans));
        match written {
            Ok(written) => {
                db.run(WHAT, "COMMIT")?;
                Ok(written)
            }
            Err(error) => {
                db.roll_back();
                Err(error)
            }
        }
    }

    fn plan(&mut self, db: &mut Db, requests: &[Request<'_>]) -> Result<Vec<Plan>, MysqlError> {
        // Each may bring an account by its id, and one by its user.
        self.accounts.make_room(2 * requests.len());
        let mut ids = Vec::new();
        let mut users: Vec<&[u8]> = Vec::new();
        for request in requests {
            match &request.event().asked {
                Asked::Command {
                    account_id, opens, ..
                } => {
                    if self.accounts.user_of(account_id.get()).is_none() {
                        ids.push(account_id.get());
                        if *opens {
                            users.push(request.user());
                        }
                    }
                }
                Asked::Open { account_id } => {
                    ids.extend(account_id.map(AccountId::get));
                    users.push(request.user());
                }
            }
        }
        let read = self.accounts.read(db, &ids, &users)?;
        let by_user: HashMap<&[u8], &Account> = read
            .iter()
            .map(|account| (account.user.as_slice(), account))
            .collect();
        let mut plans = Vec::with_capacity(requests.len());
        for request in requests {
            let of_user = by_user.get(request.user()).copied();
            plans.push(match &request.event().asked {
                Asked::Command {
                    account_id, opens, ..
                } => match self.accounts.user_of(account_id.get()) {
                    Some(user) if user == request.user() => Plan::Command(*account_id),
                    None if *opens && of_user.is_none() => Plan::Claim(*account_id),
                    _ => Plan::Answer(Admitted::NoAccount),
                },
                Asked::Open { account_id } => {
                    match settled(*account_id, of_user, |id| self.accounts.user_of(id)) {
                        Some(plan) => plan,
                        None => Plan::Claim(match account_id {
                            Some(id) => *id,
                            None => self.sequence.next(db)?,
                        }),
                    }
                }
            });
        }
        Ok(plans)
    }

    /// Claims what has to be, within the transaction. What cannot be is answered.
    fn claim(
        &mut self,
        db: &mut Db,
        requests: &[Request<'_>],
        plans: &mut [Plan],
    ) -> Result<(), MysqlError> {
        let (indices, wishes) = self.wishes(requests, plans);
        let verdicts = self.claims.settle(db, &wishes)?;
        let lost: Vec<usize> = indices
            .iter()
            .zip(&verdicts)
            .filter(|(_, won)| !**won)
            .map(|(index, _)| *index)
            .collect();
        let ids: Vec<u64> = wishes.iter().map(|wish| wish.account_id.get()).collect();
        let users: Vec<&[u8]> = lost.iter().map(|index| requests[*index].user()).collect();
        // Not to be remembered: this transaction's own claims are not durable.
        let mut seen = Accounts::new(ids.len() + users.len());
        let read = match lost.is_empty() {
            true => Vec::new(),
            false => seen.read(db, &ids, &users)?,
        };
        for index in lost {
            let request = &requests[index];
            let of_user = read.iter().find(|account| account.user == request.user());
            plans[index] = match &request.event().asked {
                Asked::Command { .. } => Plan::Answer(Admitted::NoAccount),
                // An id of our choice went to somebody else: the whole batch with another one.
                Asked::Open { account_id } => {
                    settled(*account_id, of_user, |id| seen.user_of(id)).ok_or_else(lost_choice)?
                }
            };
        }
        Ok(())
    }

    fn wishes(&self, requests: &[Request<'_>], plans: &[Plan]) -> (Vec<usize>, Vec<Wish>) {
        let of = |(index, plan): (usize, &Plan)| match plan {
            Plan::Claim(account_id) => {
                let user = requests[index].user();
                let partition = Partitioner::Murmur2.partition(user, self.partitions);
                let wish = Wish {
                    account_id: *account_id,
                    user: user.to_vec(),
                    partition: Partition::new(partition),
                };
                Some((index, wish))
            }
            _ => None,
        };
        plans.iter().enumerate().filter_map(of).unzip()
    }

    /// Writes the rows of what is planned.
    fn write(
        &mut self,
        db: &mut Db,
        requests: &[Request<'_>],
        plans: &[Plan],
    ) -> Result<(Vec<Admitted>, Vec<Made>), MysqlError> {
        // Of which request each row is. By user, so that two processes wait for each other in one
        // direction; a user's own in the order in which they were asked.
        let mut rows: Vec<(usize, NewRow)> = Vec::with_capacity(requests.len());
        for (index, (request, plan)) in requests.iter().zip(plans).enumerate() {
            let opens = match plan {
                Plan::Claim(account_id) => Some(*account_id),
                Plan::Has(account) if !account.is_active => AccountId::new(account.id),
                _ => None,
            };
            rows.extend(opens.map(|account_id| (index, request.open_row(account_id))));
            if let Asked::Command {
                transaction_id,
                payload,
                ..
            } = &request.event().asked
                && matches!(plan, Plan::Claim(_) | Plan::Command(_))
            {
                let row = NewRow {
                    event_id: request.named.event_id.clone(),
                    user: request.event().user_id.clone(),
                    transaction_id: transaction_id.clone(),
                    leg: "",
                    hash: request.named.hash,
                    payload: payload.clone(),
                    issued_at_ms: request.issued_at_ms,
                };
                rows.push((index, row));
            }
        }
        rows.sort_by(|(_, a), (_, b)| a.user.cmp(&b.user));
        let (of, rows): (Vec<usize>, Vec<NewRow>) = rows.into_iter().unzip();
        let known = match rows.is_empty() {
            true => Vec::new(),
            false => insert(db, &self.topic, &rows)?,
        };
        let places: Vec<Place> = known.iter().flatten().filter_map(|it| it.sent).collect();
        let entries = entries_at_all(db, &places)?;
        // The last row of a request is the one that it is about.
        let mut row_of = vec![None; requests.len()];
        for (row, of) in of.iter().enumerate() {
            row_of[*of] = Some(row);
        }
        let mut verdicts = Vec::with_capacity(requests.len());
        for ((request, plan), row) in requests.iter().zip(plans).zip(row_of) {
            let found = row.and_then(|row| known[row].as_ref());
            verdicts.push(verdict(db, request, plan, row.is_some(), found, &entries)?);
        }
        let made = rows
            .into_iter()
            .zip(known)
            .filter(|(_, known)| known.is_none());
        let made = made.map(|(row, _)| Made {
            event_id: row.event_id,
            user: row.user,
            transaction_id: row.transaction_id,
            payload: row.payload,
            issued_at_ms: row.issued_at_ms,
        });
        Ok((verdicts, made.collect()))
    }
}

/// The answer to one request, from its row, or the one that was there before.
fn verdict(
    db: &mut Db,
    request: &Request<'_>,
    plan: &Plan,
    has_row: bool,
    known: Option<&Known>,
    entries: &[LedgerRow],
) -> Result<Admitted, MysqlError> {
    let account_id = match (plan, &request.event().asked) {
        (Plan::Answer(answer), _) => return Ok(answer.clone()),
        (Plan::Command(account_id) | Plan::Claim(account_id), _) => *account_id,
        (Plan::Has(account), _) => {
            AccountId::new(account.id).ok_or_else(|| MysqlError::Corrupt {
                what: format!("accounts holds the id {}", account.id),
            })?
        }
    };
    match (&request.event().asked, known) {
        (Asked::Command { payload, .. }, Some(known)) => {
            Ok(compare(request, account_id, payload, known, entries))
        }
        (Asked::Command { .. }, None) => Ok(Admitted::Accepted {
            event_id: request.named.event_id.clone(),
            account_id,
        }),
        (Asked::Open { .. }, Some(known)) => Ok(Admitted::Duplicate {
            event_id: Some(known.event_id.clone()),
            account_id,
            outcome: Some(Outcome::bare(Status::Pending)),
        }),
        (Asked::Open { .. }, None) if has_row => Ok(Admitted::Accepted {
            event_id: request.open_event_id.clone(),
            account_id,
        }),
        // Active: opened by us or by another producer.
        (Asked::Open { .. }, None) => {
            let id = open_transaction_id(account_id);
            let name = name_is(request.user(), id.as_bytes(), OPEN_LEG);
            let opened = by_names(db, &[name])?.into_iter().next();
            Ok(Admitted::Duplicate {
                event_id: opened.map(|(.., known)| known.event_id),
                account_id,
                outcome: Some(Outcome::bare(Status::Success)),
            })
        }
    }
}

/// What an OPEN comes to by the accounts that are there; `None` if it has to be claimed.
fn settled<'a>(
    asked: Option<AccountId>,
    of_user: Option<&Account>,
    user_of: impl Fn(u64) -> Option<&'a [u8]>,
) -> Option<Plan> {
    match (asked, of_user) {
        (None, Some(account)) => Some(Plan::Has(account.clone())),
        (Some(asked), Some(account)) if asked.get() == account.id => {
            Some(Plan::Has(account.clone()))
        }
        (Some(_), Some(account)) => Some(Plan::Answer(match AccountId::new(account.id) {
            Some(account_id) => Admitted::HasAccount { account_id },
            None => Admitted::AccountTaken,
        })),
        (Some(asked), None) if user_of(asked.get()).is_some() => {
            Some(Plan::Answer(Admitted::AccountTaken))
        }
        (_, None) => None,
    }
}

/// A retry, or something else under a used id.
fn compare(
    request: &Request<'_>,
    account_id: AccountId,
    payload: &str,
    known: &Known,
    entries: &[LedgerRow],
) -> Admitted {
    let same_bytes = known.request_hash.as_deref() == Some(&request.named.hash[..]);
    let differs = match &known.payload {
        _ if same_bytes => Some(Vec::new()),
        Some(first) => differing_fields(payload, first),
        None => None,
    };
    if differs.as_ref().is_none_or(|differs| !differs.is_empty()) {
        return Admitted::Conflict {
            event_id: known.event_id.clone(),
            differs: differs.unwrap_or_default(),
        };
    }
    let transaction_id = match &request.event().asked {
        Asked::Command { transaction_id, .. } => transaction_id.as_str(),
        Asked::Open { .. } => "",
    };
    let outcome = match known.sent {
        Some(place) => {
            let own = entries.iter().filter(|entry| {
                (entry.generation, entry.partition, entry.offset) == place
                    && entry.transaction_id == transaction_id
            });
            Some(Outcome::of(own.cloned().collect()))
                .filter(|outcome| outcome.status != Status::Pending)
        }
        None if known.is_sent => None,
        None => Some(Outcome::bare(Status::Pending)),
    };
    Admitted::Duplicate {
        event_id: Some(known.event_id.clone()),
        account_id,
        outcome,
    }
}

/// Somebody else claims ids of our choice at the same moment; passes by itself.
fn lost_choice() -> MysqlError {
    MysqlError::Statement {
        what: "claim an account of our choice",
        source: Box::new(mysql::Error::MySqlError(mysql::MySqlError {
            state: "40001".into(),
            message: "it was claimed by another producer meanwhile".into(),
            code: 1213,
        })),
    }
}
