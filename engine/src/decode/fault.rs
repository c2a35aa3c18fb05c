//! What is wrong with a record.

use super::MAX_ID_BYTES;
use super::fields::Field;
use super::keys::KeyFault;
use crate::{AmountError, Code, CommandKind, CurrencyError, POSTINGS_MAX, leg::LegNameError};
use core::fmt;

/// The first fault of a record. Its text is the message of the refusal: the same for the same
/// record on every node, so nothing in it comes from a library's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault<'a> {
    NotUtf8 {
        at: usize,
    },
    NotObject,
    /// Line and column in bytes, from 1.
    NotJson {
        line: usize,
        column: usize,
    },
    Key(KeyFault<'a>),
    Missing(Field),
    NotText {
        field: Field,
        raw: &'a str,
    },
    NotUnicode {
        field: Field,
        raw: &'a str,
    },
    IdLength {
        field: Field,
        bytes: usize,
        raw: &'a str,
    },
    AccountId {
        field: Field,
        raw: &'a str,
    },
    /// A transfer to oneself.
    Own {
        field: Field,
        raw: &'a str,
    },
    Leg {
        error: LegNameError,
        raw: &'a str,
    },
    /// A leg whose name is of the other kind.
    LegKind {
        kind: CommandKind,
        raw: &'a str,
    },
    /// Not a list, or an entry that is no object.
    NotList {
        raw: &'a str,
    },
    PostingCount {
        count: usize,
    },
    NotPosting {
        raw: &'a str,
    },
    PostingType {
        raw: &'a str,
    },
    /// A field that has no place beside postings.
    BesidePostings {
        field: Field,
        raw: &'a str,
    },
    InPosting {
        index: usize,
        fault: Box<Fault<'a>>,
    },
    Type {
        raw: &'a str,
    },
    Currency {
        error: CurrencyError,
        raw: &'a str,
    },
    AmountForm {
        raw: &'a str,
    },
    Amount {
        error: AmountError,
        raw: &'a str,
    },
}

impl Fault<'_> {
    /// The code that answers the fault.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::IdLength {
                field: Field::TransactionId,
                ..
            } => Code::InvalidTransactionId,
            Self::Type { .. } => Code::UnknownType,
            Self::Currency { .. } => Code::InvalidCurrency,
            Self::Amount { .. } => Code::InvalidAmount,
            Self::InPosting { fault, .. } => fault.code(),
            _ => Code::Malformed,
        }
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 { at } => write!(f, "the record is not UTF-8 from byte {at}"),
            Self::NotObject => write!(f, "the record is not a JSON object"),
            Self::NotJson { line, column } => {
                write!(f, "the record is not JSON at line {line}, column {column}")
            }
            Self::Key(KeyFault::Duplicate(key)) => {
                write!(f, "a key appears twice: {}", Short(key))
            }
            Self::Key(KeyFault::NotUnicode) => {
                write!(f, "a key has half of a surrogate pair in it")
            }
            Self::Missing(field) => write!(f, "{field} is missing"),
            Self::NotText { field, raw } => {
                write!(f, "{field} is not a string: {}", Short(raw))
            }
            Self::NotUnicode { field, raw } => {
                write!(
                    f,
                    "{field} has half of a surrogate pair in it: {}",
                    Short(raw)
                )
            }
            Self::IdLength { field, bytes, raw } => write!(
                f,
                "{field} has {bytes} bytes, not 1 to {MAX_ID_BYTES}: {}",
                Short(raw)
            ),
            Self::AccountId { field, raw } => write!(
                f,
                "{field} is not an integer from 1 to 2^62: {}",
                Short(raw)
            ),
            Self::Own { field, raw } => {
                write!(f, "{field} is the sender's own: {}", Short(raw))
            }
            Self::Leg { error, raw } => write!(f, "leg is {error}: {}", Short(raw)),
            Self::LegKind { kind, raw } => {
                write!(f, "leg is not the name of a {kind}: {}", Short(raw))
            }
            Self::NotList { raw } => write!(f, "postings is not a list: {}", Short(raw)),
            Self::PostingCount { count } => {
                write!(f, "postings has {count} entries, not 1 to {POSTINGS_MAX}")
            }
            Self::NotPosting { raw } => write!(f, " is not an object: {}", Short(raw)),
            Self::PostingType { raw } => {
                write!(f, "type is none that a posting has: {}", Short(raw))
            }
            Self::BesidePostings { field, raw } => {
                write!(f, "{field} has no place beside postings: {}", Short(raw))
            }
            Self::InPosting { index, fault } => match &**fault {
                Self::NotPosting { .. } => write!(f, "postings[{index}]{fault}"),
                _ => write!(f, "postings[{index}].{fault}"),
            },
            Self::Type { raw } => write!(f, "type is not known: {}", Short(raw)),
            Self::Currency { error, raw } => write!(f, "currencyCode: {error}: {}", Short(raw)),
            Self::AmountForm { raw } => {
                write!(f, "amount is neither a string nor a number: {}", Short(raw))
            }
            Self::Amount { error, raw } => write!(f, "amount: {error}: {}", Short(raw)),
        }
    }
}

/// A text from a record, fit for a log line: at most 64 characters, control characters escaped.
struct Short<'a>(&'a str);

impl Short<'_> {
    /// The most characters that are printed.
    const CHARS: usize = 64;

    /// Characters that one of the text's takes: `\u0000` for a control character. The set of
    /// those is fixed in Unicode, unlike the set of printable ones.
    fn width(char: char) -> usize {
        if char.is_control() { 6 } else { 1 }
    }
}

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole: usize = self.0.chars().take(Self::CHARS + 1).map(Self::width).sum();
        let mut room = Self::CHARS;
        if whole > room {
            room -= 1;
        }
        for char in self.0.chars() {
            let Some(rest) = room.checked_sub(Self::width(char)) else {
                return f.write_str("…");
            };
            room = rest;
            if char.is_control() {
                write!(f, "\\u{:04x}", u32::from(char))?;
            } else {
                write!(f, "{char}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let table = [
            (String::new(), String::new()),
            ("é".repeat(64), "é".repeat(64)),
            ("é".repeat(65), "é".repeat(63) + "…"),
            ("a\n\u{7f}\u{85}b".into(), r"a\u000a\u007f\u0085b".into()),
            ("a".repeat(58) + "\n", "a".repeat(58) + r"\u000a"),
            ("a".repeat(59) + "\n", "a".repeat(59) + "…"),
            ("\0".repeat(9), r"\u0000".repeat(10) + "…"),
        ];
        for (text, short) in table.iter().take(6) {
            assert_eq!(Short(text).to_string(), *short, "{text:?}");
        }
        let short = Short(&"\0".repeat(1000)).to_string();
        assert_eq!(short, r"\u0000".repeat(10) + "…");
    }
}
