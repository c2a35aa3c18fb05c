//! A value as it was written, in a file or as text, before anybody knows what it should be.

use std::{collections::BTreeMap, fmt};

use toml::de::{DeTable, DeValue};

/// What a value in an error message is cut to.
const SHOWN_CHARS: usize = 60;

/// What stands for a secret wherever one would be printed.
pub const MASK: &str = "********";

/// Values by name.
pub type Table = BTreeMap<String, Node>;

/// A value and where in its file it is. Has no `Debug`: it may be a secret.
#[derive(Clone)]
pub struct Node {
    /// The value.
    pub raw: Raw,
    /// The line, from 1; `None` outside files.
    pub line: Option<usize>,
}

/// A value as it was written.
#[derive(Clone)]
pub enum Raw {
    /// Text of the environment, of a flag or of a default; may mean any type.
    Text(String),
    /// A string of a file.
    Str(String),
    /// A whole number of a file.
    Int(i64),
    /// Another number of a file, as written.
    Float(String),
    /// `true` or `false` of a file.
    Bool(bool),
    /// A date or time of a file, which no setting is.
    Date,
    /// A list of a file.
    List(Vec<Node>),
    /// A table of a file.
    Table(Table),
}

impl Node {
    /// Text from outside a file.
    pub fn text(text: &str) -> Self {
        Self {
            raw: Raw::Text(text.to_owned()),
            line: None,
        }
    }

    /// The value as a string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.raw {
            Raw::Text(text) | Raw::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a whole number from 0, if it is one.
    pub fn as_u64(&self) -> Option<u64> {
        match &self.raw {
            // Digits only: parse would take a sign, too.
            Raw::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Raw::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The value as yes or no, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.raw {
            Raw::Text(text) => text.parse().ok(),
            Raw::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

impl fmt::Display for Node {
    /// The value for an error message: strings quoted, long ones cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.raw {
            Raw::Text(text) | Raw::Str(text) => {
                let shown: String = text.chars().take(SHOWN_CHARS).collect();
                let more = if shown.len() < text.len() { "…" } else { "" };
                write!(f, "{shown:?}{more}")
            }
            Raw::Int(number) => write!(f, "{number}"),
            Raw::Float(number) => f.write_str(number),
            Raw::Bool(value) => write!(f, "{value}"),
            Raw::Date => f.write_str("a date"),
            Raw::List(_) => f.write_str("a list"),
            Raw::Table(_) => f.write_str("a table"),
        }
    }
}

/// Why a text is no TOML: what is wrong, and in which line. Never says what the line holds, which
/// may be a secret.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// Reads a whole file.
///
/// # Errors
///
/// Everything that is wrong with its form.
pub fn parse(text: &str) -> Result<Table, Vec<SyntaxError>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table(document.get_ref(), &Lines::of(text)));
    }
    let lines = Lines::of(text);
    let said = errors.iter().map(|error| SyntaxError {
        line: lines.at(error.span().map_or(0, |span| span.start)),
        what: error.message().to_owned(),
    });
    let mut said: Vec<SyntaxError> = said.collect();
    // What comes after the first error of a line is confusion, most often.
    said.dedup_by_key(|error| error.line);
    Err(said)
}

/// Reads a single value in a file's notation, such as `[{host = "a"}]`.
pub fn parse_value(text: &str) -> Option<Node> {
    let document = format!("value = {text}");
    // One line only: what follows a line break would be another key.
    if text.contains('\n') {
        return None;
    }
    let mut value = parse(&document).ok()?.remove("value")?;
    without_lines(&mut value);
    Some(value)
}

fn without_lines(node: &mut Node) {
    node.line = None;
    match &mut node.raw {
        Raw::List(nodes) => nodes.iter_mut().for_each(without_lines),
        Raw::Table(table) => table.values_mut().for_each(without_lines),
        _ => (),
    }
}

/// Where lines begin, to tell a line's number from an offset.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(breaks.map(|(offset, _)| offset).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|line_break| *line_break < offset) + 1
    }
}

fn table(table: &DeTable<'_>, lines: &Lines) -> Table {
    let entries = table.iter().map(|(key, value)| {
        let node = Node {
            raw: raw(value.get_ref(), lines),
            line: Some(lines.at(key.span().start)),
        };
        (key.get_ref().to_string(), node)
    });
    entries.collect()
}

fn raw(value: &DeValue<'_>, lines: &Lines) -> Raw {
    match value {
        DeValue::String(text) => Raw::Str(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Raw::Float(number.to_string()), Raw::Int),
        DeValue::Float(number) => Raw::Float(number.as_str().to_owned()),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Datetime(_) => Raw::Date,
        DeValue::Array(values) => {
            let nodes = values.iter().map(|value| Node {
                raw: raw(value.get_ref(), lines),
                line: Some(lines.at(value.span().start)),
            });
            Raw::List(nodes.collect())
        }
        DeValue::Table(inner) => Raw::Table(table(inner, lines)),
    }
}

/// `text` as a TOML string.
pub fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let Ok(table) = parse("a = 1\n\n[b]\nc = [\n  true,\n  0x10,\n]\nd.e = 1_000\n") else {
            panic!("it is sound");
        };
        assert_eq!(table["a"].line, Some(1));
        let Raw::Table(b) = &table["b"].raw else {
            panic!("a table");
        };
        let Raw::List(c) = &b["c"].raw else {
            panic!("a list");
        };
        assert_eq!((c[0].as_bool(), c[0].line), (Some(true), Some(5)));
        assert_eq!((c[1].as_u64(), c[1].line), (Some(16), Some(6)));
        let Raw::Table(d) = &b["d"].raw else {
            panic!("a table");
        };
        assert_eq!((d["e"].as_u64(), d["e"].line), (Some(1000), Some(8)));
    }

    #[test]
    fn what_is_no_toml_is_told_without_its_text() {
        let Err(errors) = parse("a = 1\npassword = \"hunter2\nb = = 2\n") else {
            panic!("it is not sound");
        };
        assert!(errors.iter().any(|error| error.line == 2), "{errors:?}");
        assert!(errors.iter().any(|error| error.line == 3), "{errors:?}");
        assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
    }

    #[test]
    fn text_means_what_is_asked_for() {
        assert_eq!(Node::text("007").as_u64(), Some(7));
        for text in ["", "+1", "-1", "1.0", "1e3", " 1", "99999999999999999999"] {
            assert_eq!(Node::text(text).as_u64(), None, "{text:?}");
        }
        assert_eq!(Node::text("true").as_bool(), Some(true));
        assert_eq!(Node::text("yes").as_bool(), None);
        assert!(parse_value("1\nb = 2").is_none());
        assert!(parse_value("[{host = \"a\"}]").is_some());
    }
}
