//! A decoder that is right by being plain: it takes every object apart into a list of owned
//! entries, level by level, and looks for twins among all of them.

use kilter_engine::{
    AccountId, Amount, Code, Command, CommandKind, Currency, decode, decode_key, may_be_open,
};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashSet;

/// An object's entries in their order.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Gather;
        impl<'de> Visitor<'de> for Gather {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Gather)
    }
}

/// The entries of an object, if no key appears twice in it or in anything inside it.
fn object(json: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    let Entries(entries) = serde_json::from_str(json).ok()?;
    let mut seen = HashSet::new();
    let unique = entries.iter().all(|(key, _)| seen.insert(key.clone()));
    (unique && entries.iter().all(|(_, value)| fine(value.get()))).then_some(entries)
}

fn fine(json: &str) -> bool {
    match json.as_bytes()[0] {
        b'{' => object(json).is_some(),
        b'[' => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(json).expect("valid JSON");
            items.iter().all(|item| fine(item.get()))
        }
        _ => true,
    }
}

/// What is moved, and to whom.
type NaiveChange = (CommandKind, Currency, Amount, Option<(String, AccountId)>);

/// What a record says, or the code it is refused with and the ids that can be read.
#[derive(Debug, PartialEq)]
enum Outcome {
    Command {
        transaction_id: String,
        user_id: String,
        account_id: AccountId,
        kind: CommandKind,
        changes: Vec<NaiveChange>,
        leg: Option<(String, String, AccountId)>,
    },
    Refused(Code, Option<String>, Option<String>),
}

/// An object whose keys were checked.
struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    fn raw(&self, name: &str) -> Result<&str, Code> {
        let entry = self.0.iter().find(|(key, _)| key == name);
        entry.map(|(_, value)| value.get()).ok_or(Code::Malformed)
    }

    fn text(&self, name: &str) -> Result<String, Code> {
        serde_json::from_str::<String>(self.raw(name)?).map_err(|_| Code::Malformed)
    }

    fn id(&self, name: &str, code: Code) -> Result<String, Code> {
        match self.text(name) {
            Ok(id) if id.is_empty() || id.len() > 64 => Err(code),
            other => other,
        }
    }

    fn account(&self, name: &str) -> Result<AccountId, Code> {
        serde_json::from_str(self.raw(name)?)
            .ok()
            .and_then(AccountId::new)
            .ok_or(Code::Malformed)
    }

    fn kind(&self) -> Result<CommandKind, Code> {
        CommandKind::parse(&self.text("type")?).ok_or(Code::UnknownType)
    }

    fn change(
        &self,
        kind: CommandKind,
        user: &str,
        account: AccountId,
    ) -> Result<NaiveChange, Code> {
        let currency = self.text("currencyCode")?;
        let currency = currency.parse().map_err(|_| Code::InvalidCurrency)?;
        let amount = match self.raw("amount")? {
            number if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                number.to_owned()
            }
            _ => self.text("amount")?,
        };
        let amount = Amount::parse_command(amount.as_bytes()).map_err(|_| Code::InvalidAmount)?;
        let mut to = None;
        if kind == CommandKind::Transfer {
            let (other, its) = (
                self.id("toUserId", Code::Malformed)?,
                self.account("toAccountId")?,
            );
            if other == user || its == account {
                return Err(Code::Malformed);
            }
            to = Some((other, its));
        }
        Ok((kind, currency, amount, to))
    }
}

fn naive(record: &[u8]) -> Outcome {
    let unread = Outcome::Refused(Code::Malformed, None, None);
    let Ok(json) = std::str::from_utf8(record) else {
        return unread;
    };
    let Some(entries) = object(json) else {
        return unread;
    };
    let top = Object(entries);
    let judged = || {
        let transaction_id = top.id("transactionId", Code::InvalidTransactionId)?;
        let user_id = top.id("userId", Code::Malformed)?;
        let account_id = top.account("accountId")?;
        let mut leg = None;
        let (kind, changes) = if let Ok(postings) = top.raw("postings") {
            if top.raw("type").is_ok() && top.kind()? != CommandKind::Batch {
                return Err(Code::Malformed);
            }
            let beside = ["currencyCode", "amount", "toUserId", "toAccountId"];
            if beside.iter().any(|name| top.raw(name).is_ok()) {
                return Err(Code::Malformed);
            }
            let list: Vec<Box<RawValue>> =
                serde_json::from_str(postings).map_err(|_| Code::Malformed)?;
            if list.is_empty() || list.len() > 16 {
                return Err(Code::Malformed);
            }
            let mut changes = Vec::new();
            for posting in list {
                let posting = Object(object(posting.get()).ok_or(Code::Malformed)?);
                let kind = posting.kind()?;
                if matches!(
                    kind,
                    CommandKind::Open
                        | CommandKind::Batch
                        | CommandKind::Credit
                        | CommandKind::Refund
                ) {
                    return Err(Code::Malformed);
                }
                changes.push(posting.change(kind, &user_id, account_id)?);
            }
            (CommandKind::Batch, changes)
        } else {
            let kind = top.kind()?;
            match kind {
                CommandKind::Open => (kind, Vec::new()),
                CommandKind::Batch => return Err(Code::Malformed),
                _ => {
                    let change = top.change(kind, &user_id, account_id)?;
                    if matches!(kind, CommandKind::Credit | CommandKind::Refund) {
                        let name = top.text("leg")?;
                        let parts: Vec<&str> = name.split('/').collect();
                        let [g, p, o, n, which] = parts[..] else {
                            return Err(Code::Malformed);
                        };
                        let plain = g.parse::<u32>().is_ok_and(|it| it.to_string() == g)
                            && p.parse::<u32>().is_ok_and(|it| it.to_string() == p)
                            && o.parse::<u64>().is_ok_and(|it| it.to_string() == o)
                            && n.parse::<u16>().is_ok_and(|it| it.to_string() == n);
                        if !plain || which != kind.as_str() {
                            return Err(Code::Malformed);
                        }
                        let from = top.id("fromUserId", Code::Malformed)?;
                        leg = Some((name, from, top.account("fromAccountId")?));
                    }
                    (kind, vec![change])
                }
            }
        };
        Ok(Outcome::Command {
            transaction_id,
            user_id,
            account_id,
            kind,
            changes,
            leg,
        })
    };
    judged().unwrap_or_else(|code| {
        Outcome::Refused(
            code,
            top.text("transactionId").ok(),
            top.text("userId").ok(),
        )
    })
}

/// Asserts that both decoders say the same, and that the key is the user id. Says whether the
/// record was a command.
pub fn assert_agrees(record: &[u8]) -> bool {
    let decoded = decode(record);
    let key = decode_key(record);
    let valid = decoded.is_ok();
    let outcome = match decoded {
        Ok(command) => {
            assert_eq!(key.as_ref(), Some(&command.user_id));
            of(command)
        }
        Err(refusal) => {
            assert!(refusal.user_id.is_none() || refusal.user_id == key);
            assert!(!refusal.message.is_empty());
            assert!(!refusal.message.contains(char::is_control));
            Outcome::Refused(
                refusal.code,
                refusal.transaction_id.map(Into::into),
                refusal.user_id.map(Into::into),
            )
        }
    };
    assert_eq!(
        outcome,
        naive(record),
        "{}",
        String::from_utf8_lossy(record)
    );
    if let Outcome::Command { kind, .. } = outcome
        && kind == CommandKind::Open
    {
        assert!(may_be_open(record) || record.contains(&b'\\'));
    }
    valid
}

fn of(command: Command<'_>) -> Outcome {
    use kilter_engine::Body;
    let kind = command.kind();
    let mut leg = None;
    let changes = match &command.body {
        Body::Open => Vec::new(),
        Body::Move {
            currency, amount, ..
        } => vec![(kind, *currency, *amount, None)],
        Body::Leg(body) => {
            let from = body.from.user_id.clone().into_owned();
            leg = Some((body.name.to_string(), from, body.from.account_id));
            vec![(kind, body.currency, body.amount, None)]
        }
        Body::Transfer(_) | Body::Batch(_) => command
            .changes()
            .iter()
            .map(|change| {
                let to = change.to.as_ref();
                let to = to.map(|to| (to.user_id.clone().into_owned(), to.account_id));
                (change.kind.into(), change.currency, change.amount, to)
            })
            .collect(),
    };
    Outcome::Command {
        kind,
        changes,
        leg,
        transaction_id: command.transaction_id.into(),
        user_id: command.user_id.into(),
        account_id: command.account_id,
    }
}
