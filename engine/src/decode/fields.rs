//! The fields of a record, as text.

use super::fault::Fault;
use super::keys::{self, KeyFault, Keys};
use core::fmt;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A field that commands have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    TransactionId,
    UserId,
    AccountId,
    Type,
    CurrencyCode,
    Amount,
    ToUserId,
    ToAccountId,
    Postings,
    Leg,
    FromUserId,
    FromAccountId,
}

impl Field {
    const COUNT: usize = 12;

    fn named(key: &str) -> Option<Self> {
        match key {
            "transactionId" => Some(Self::TransactionId),
            "userId" => Some(Self::UserId),
            "accountId" => Some(Self::AccountId),
            "type" => Some(Self::Type),
            "currencyCode" => Some(Self::CurrencyCode),
            "amount" => Some(Self::Amount),
            "toUserId" => Some(Self::ToUserId),
            "toAccountId" => Some(Self::ToAccountId),
            "postings" => Some(Self::Postings),
            "leg" => Some(Self::Leg),
            "fromUserId" => Some(Self::FromUserId),
            "fromAccountId" => Some(Self::FromAccountId),
            _ => None,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TransactionId => "transactionId",
            Self::UserId => "userId",
            Self::AccountId => "accountId",
            Self::Type => "type",
            Self::CurrencyCode => "currencyCode",
            Self::Amount => "amount",
            Self::ToUserId => "toUserId",
            Self::ToAccountId => "toAccountId",
            Self::Postings => "postings",
            Self::Leg => "leg",
            Self::FromUserId => "fromUserId",
            Self::FromAccountId => "fromAccountId",
        })
    }
}

/// The JSON text of each field that a record has, unjudged, without white space around it.
#[derive(Default)]
pub(super) struct Fields<'a>([Option<&'a str>; Field::COUNT]);

impl<'a> Fields<'a> {
    /// Takes a record apart: valid JSON, an object, no key twice anywhere.
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Fault<'a>> {
        let json = core::str::from_utf8(payload).map_err(|error| Fault::NotUtf8 {
            at: error.valid_up_to(),
        })?;
        let mut collector = Collector {
            fields: Self::default(),
            others: Keys::new(),
            fault: None,
        };
        if let Err(error) = object(json, &mut collector) {
            // Said here rather than by serde_json's own text, which may change with its version.
            return Err(if json.trim_ascii_start().starts_with('{') {
                Fault::NotJson {
                    line: error.line(),
                    column: error.column(),
                }
            } else {
                Fault::NotObject
            });
        }
        match collector.fault {
            Some(fault) => Err(Fault::Key(fault)),
            None => Ok(collector.fields),
        }
    }

    /// Takes an object apart that lies in a record read before: valid JSON, no key twice.
    pub(super) fn read_inner(json: &'a str) -> Option<Self> {
        let mut collector = Collector {
            fields: Self::default(),
            others: Keys::new(),
            fault: None,
        };
        object(json, &mut collector).ok()?;
        Some(collector.fields)
    }

    /// Whether a field is there.
    #[inline]
    pub(super) fn has(&self, field: Field) -> bool {
        self.0[field as usize].is_some()
    }

    /// The JSON text of a field that must be there.
    #[inline]
    pub(super) fn get(&self, field: Field) -> Result<&'a str, Fault<'a>> {
        self.0[field as usize].ok_or(Fault::Missing(field))
    }
}

/// The JSON text of the user id, if the record is a JSON object that has just one.
pub(super) fn user_id(payload: &[u8]) -> Option<&str> {
    let json = core::str::from_utf8(payload).ok()?;
    let mut finder = UserId {
        raw: None,
        twice: false,
    };
    object(json, &mut finder).ok()?;
    finder.raw.filter(|_| !finder.twice)
}

/// Reads one JSON object and nothing after it.
#[inline]
fn object<'a, V: Visitor<'a>>(json: &'a str, visitor: V) -> serde_json::Result<V::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = deserializer.deserialize_map(visitor)?;
    deserializer.end()?;
    Ok(value)
}

/// Gathers [`Fields`] and watches the keys.
///
/// A fault does not end the reading: whether the rest is JSON decides first.
struct Collector<'a> {
    fields: Fields<'a>,
    others: Keys<'a>,
    fault: Option<KeyFault<'a>>,
}

impl<'a> Visitor<'a> for &mut Collector<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            let raw = map.next_value::<&RawValue>()?.get();
            if raw.starts_with(['{', '[']) {
                self.note(keys::check(raw));
            }
            match Field::named(&key) {
                None => self.others.key(key),
                Some(field) => {
                    if self.fields.0[field as usize].replace(raw).is_some() {
                        self.note(Err(KeyFault::Duplicate(key)));
                    }
                }
            }
        }
        let others = self.others.close();
        self.note(others);
        Ok(())
    }
}

impl<'a> Collector<'a> {
    /// Keeps the first fault.
    fn note(&mut self, checked: Result<(), KeyFault<'a>>) {
        if let (None, Err(fault)) = (&self.fault, checked) {
            self.fault = Some(fault);
        }
    }
}

/// Finds the user id and ignores everything else.
struct UserId<'a> {
    raw: Option<&'a str>,
    twice: bool,
}

impl<'a> Visitor<'a> for &mut UserId<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            if Field::named(&key) == Some(Field::UserId) {
                let raw = map.next_value::<&RawValue>()?.get();
                self.twice |= self.raw.replace(raw).is_some();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A key, borrowed if it is spelled without escapes (which `Cow`'s own implementation never does).
struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    #[inline]
    fn visit_borrowed_str<E>(self, key: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
