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

/// What a record says, or the code it is refused with and the ids that can be read.
#[derive(Debug, PartialEq)]
enum Outcome {
    Command {
        transaction_id: String,
        user_id: String,
        account_id: AccountId,
        kind: CommandKind,
        money: Option<(Currency, Amount)>,
    },
    Refused(Code, Option<String>, Option<String>),
}

fn naive(record: &[u8]) -> Outcome {
    let unread = Outcome::Refused(Code::Malformed, None, None);
    let Ok(json) = std::str::from_utf8(record) else {
        return unread;
    };
    let Some(entries) = object(json) else {
        return unread;
    };
    let raw = |name: &str| {
        let entry = entries.iter().find(|(key, _)| key == name);
        entry.map(|(_, value)| value.get()).ok_or(Code::Malformed)
    };
    let text = |name: &str| {
        raw(name).and_then(|json| serde_json::from_str::<String>(json).map_err(|_| Code::Malformed))
    };
    let id = |name: &str, code: Code| match text(name) {
        Ok(id) if id.is_empty() || id.len() > 64 => Err(code),
        other => other,
    };
    let judged = || {
        let transaction_id = id("transactionId", Code::InvalidTransactionId)?;
        let user_id = id("userId", Code::Malformed)?;
        let account_id = serde_json::from_str(raw("accountId")?)
            .ok()
            .and_then(AccountId::new)
            .ok_or(Code::Malformed)?;
        let kind = CommandKind::parse(&text("type")?).ok_or(Code::UnknownType)?;
        let money = if kind == CommandKind::Open {
            None
        } else {
            let currency = text("currencyCode")?;
            let currency = currency.parse().map_err(|_| Code::InvalidCurrency)?;
            let amount = match raw("amount")? {
                number if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                    number.to_owned()
                }
                _ => text("amount")?,
            };
            let amount = Amount::parse_command(amount.as_bytes());
            Some((currency, amount.map_err(|_| Code::InvalidAmount)?))
        };
        Ok(Outcome::Command {
            transaction_id,
            user_id,
            account_id,
            kind,
            money,
        })
    };
    judged().unwrap_or_else(|code| {
        Outcome::Refused(code, text("transactionId").ok(), text("userId").ok())
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
    Outcome::Command {
        kind: command.kind(),
        money: match command.body {
            Body::Open => None,
            Body::Move {
                currency, amount, ..
            } => Some((currency, amount)),
        },
        transaction_id: command.transaction_id.into(),
        user_id: command.user_id.into(),
        account_id: command.account_id,
    }
}
