//! JSON read strictly: no key twice, no deep nesting, no number through a float.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Problem, ProblemKind, problem::shown};

/// How many objects and lists may be inside each other.
const DEPTH_MAX: usize = 32;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object, in the order it is written.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Reads a body.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let at = error.valid_up_to();
            invalid(format!("the body is not UTF-8 from byte {at}"))
        })?;
        // The whole of it is checked for being JSON here, so that positions are those of the body.
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| not_json(&error))?;
        read(raw.get(), 0)
    }

    /// The value in words, for messages.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        match self {
            Self::Text(inner) => shown(inner),
            _ if text.len() <= 64 => text,
            Self::List(_) => "a list".into(),
            Self::Object(_) => "an object".into(),
            _ => shown(&text),
        }
    }

    /// Writes it in the one way there is: without spaces, keys sorted, numbers as they came.
    pub(crate) fn write(&self, to: &mut String) {
        match self {
            Self::Null => to.push_str("null"),
            Self::Bool(value) => to.push_str(if *value { "true" } else { "false" }),
            Self::Number(digits) => to.push_str(digits),
            Self::Text(text) => write_text(text, to),
            Self::List(values) => {
                to.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    value.write(to);
                }
                to.push(']');
            }
            Self::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                to.push('{');
                for (index, (name, value)) in fields.into_iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    write_text(name, to);
                    to.push(':');
                    value.write(to);
                }
                to.push('}');
            }
        }
    }
}

/// A string as JSON.
pub(crate) fn write_text(text: &str, to: &mut String) {
    to.push_str(&serde_json::Value::from(text).to_string());
}

fn invalid(message: String) -> Problem {
    Problem::new(ProblemKind::Invalid, message)
}

fn not_json(error: &serde_json::Error) -> Problem {
    invalid(format!(
        "the body is not JSON at line {}, column {}",
        error.line(),
        error.column()
    ))
}

fn read(raw: &str, depth: usize) -> Result<Value, Problem> {
    if depth > DEPTH_MAX {
        return Err(invalid(format!(
            "the body has more than {DEPTH_MAX} objects and lists inside each other"
        )));
    }
    let json = || serde_json::Deserializer::from_str(raw);
    Ok(match raw.as_bytes().first() {
        Some(b'{') => {
            let fields = json().deserialize_map(Fields);
            let fields = fields.map_err(|error| not_json(&error))?;
            let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                let twice = shown(twice[0]);
                return Err(invalid(format!(
                    "the key {twice} appears twice in an object"
                )));
            }
            let read = |(name, raw): (String, &RawValue)| Ok((name, read(raw.get(), depth + 1)?));
            Value::Object(
                fields
                    .into_iter()
                    .map(read)
                    .collect::<Result<_, Problem>>()?,
            )
        }
        Some(b'[') => {
            let values = json().deserialize_seq(Items);
            let values = values.map_err(|error| not_json(&error))?;
            let read = |raw: &RawValue| read(raw.get(), depth + 1);
            Value::List(values.into_iter().map(read).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(
            serde_json::from_str(raw)
                .map_err(|_| invalid(format!("{} has half of a surrogate pair", shown(raw))))?,
        ),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(raw.to_owned()),
    })
}

struct Fields;

impl<'a> Visitor<'a> for Fields {
    type Value = Vec<(String, &'a RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

struct Items;

impl<'a> Visitor<'a> for Items {
    type Value = Vec<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(body: &str) -> Result<String, String> {
        let mut text = String::new();
        Value::read(body.as_bytes())
            .map(|value| value.write(&mut text))
            .map_err(|problem| problem.message)?;
        Ok(text)
    }

    #[test]
    fn one_value_has_one_text() {
        for (body, text) in [
            (
                " { \"b\" : [ 1 , { } , null ] , \"a\" : \"\\u0061\\/\" } ",
                r#"{"a":"a/","b":[1,{},null]}"#,
            ),
            (
                "[1.00000000000000000000001, -1E+400, true]",
                "[1.00000000000000000000001,-1E+400,true]",
            ),
            (r#""é\u0000""#, "\"é\\u0000\""),
        ] {
            assert_eq!(canonical(body).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_not_strict_is_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (body, says) in [
            ("", "line 1, column 0"),
            ("{", "line 1"),
            ("{}\n x", "line 2, column 2"),
            ("{\"a\":01}", "not JSON"),
            ("{\"a\":NaN}", "not JSON"),
            ("{'a':1}", "not JSON"),
            ("{\"a\":1,\"a\":1}", "\"a\" appears twice"),
            ("{\"a\":1,\"\\u0061\":1}", "\"a\" appears twice"),
            ("[{\"x\":{\"y\":1,\"y\":2}}]", "\"y\" appears twice"),
            ("\"\\ud800\"", "surrogate"),
            (&deep, "more than 32"),
        ] {
            let error = canonical(body).unwrap_err();
            assert!(error.contains(says), "{body:.40}: {error}");
        }
        let problem = Value::read(b"{\"a\":\"\xff\"}").unwrap_err();
        assert!(problem.message.contains("UTF-8 from byte 6"), "{problem}");
        let just = format!("{}{}", "[".repeat(33), "]".repeat(33));
        assert!(canonical(&just).is_ok());
    }
}
