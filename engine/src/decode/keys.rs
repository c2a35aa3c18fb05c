//! Keys that appear twice.

use memchr::{memchr2, memchr3};
use std::borrow::Cow;

/// Objects with more keys than this are sorted rather than compared pair by pair, so that a
/// million keys take no quadratic time.
const FEW: usize = 16;

/// What is wrong with the keys of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyFault<'a> {
    /// This key appears twice.
    Duplicate(Cow<'a, str>),
    /// A key has half of a surrogate pair in it, so that it cannot be compared as text.
    NotUnicode,
}

/// The keys of the objects that are open, outermost first. The first [`FEW`] entries take no
/// allocation.
pub(super) struct Keys<'a> {
    few: [Entry<'a>; FEW],
    used: usize,
    /// All entries, once they were more than a few.
    many: Vec<Entry<'a>>,
}

/// A key, or `None` where an object starts.
type Entry<'a> = Option<Cow<'a, str>>;

impl<'a> Keys<'a> {
    pub(super) fn new() -> Self {
        Self {
            few: [const { None }; FEW],
            used: 0,
            many: Vec::new(),
        }
    }

    /// Adds a key of the innermost object.
    pub(super) fn key(&mut self, key: Cow<'a, str>) {
        self.push(Some(key));
    }

    /// Checks the innermost object and forgets it.
    pub(super) fn close(&mut self) -> Result<(), KeyFault<'a>> {
        let entries = if self.many.is_empty() {
            &mut self.few[..self.used]
        } else {
            &mut self.many[..]
        };
        let start = entries.iter().rposition(Option::is_none);
        let keys = &mut entries[start.map_or(0, |at| at + 1)..];
        if let Some(at) = duplicate(keys) {
            return Err(KeyFault::Duplicate(keys[at].take().unwrap_or_default()));
        }
        self.used = self.used.min(start.unwrap_or(0));
        self.many.truncate(start.unwrap_or(0));
        Ok(())
    }

    fn open(&mut self) {
        self.push(None);
    }

    fn push(&mut self, entry: Entry<'a>) {
        if self.many.is_empty() {
            if self.used < FEW {
                self.few[self.used] = entry;
                self.used += 1;
                return;
            }
            self.many.extend(self.few.iter_mut().map(Option::take));
            self.used = 0;
        }
        self.many.push(entry);
    }
}

/// Where a key stands that another one equals.
fn duplicate(keys: &mut [Entry<'_>]) -> Option<usize> {
    if keys.len() <= FEW {
        return (1..keys.len()).find(|&at| keys[..at].contains(&keys[at]));
    }
    keys.sort_unstable();
    (1..keys.len()).find(|&at| keys[at - 1] == keys[at])
}

/// Checks every object in a text that is known to be valid JSON.
///
/// Only quotes and braces need a look: in valid JSON a string is a key exactly if a colon follows.
/// Brackets cost nothing, and no nesting costs stack.
pub(super) fn check(json: &str) -> Result<(), KeyFault<'_>> {
    let bytes = json.as_bytes();
    let mut keys = Keys::new();
    let mut at = 0;
    while let Some(skipped) = memchr3(b'"', b'{', b'}', &bytes[at..]) {
        at += skipped;
        match bytes[at] {
            b'{' => keys.open(),
            b'}' => keys.close()?,
            _ => {
                let (end, escaped) = string_end(bytes, at + 1);
                if is_key(&bytes[end + 1..]) {
                    let quoted = &json[at..=end];
                    keys.key(if escaped {
                        Cow::Owned(serde_json::from_str(quoted).map_err(|_| KeyFault::NotUnicode)?)
                    } else {
                        Cow::Borrowed(&quoted[1..quoted.len() - 1])
                    });
                }
                at = end;
            }
        }
        at += 1;
    }
    Ok(())
}

/// Where the closing quote of a string is, and whether there is an escape before it.
fn string_end(bytes: &[u8], from: usize) -> (usize, bool) {
    let mut at = from;
    let mut escaped = false;
    while let Some(skipped) = memchr2(b'"', b'\\', &bytes[at..]) {
        at += skipped;
        if bytes[at] == b'"' {
            return (at, escaped);
        }
        escaped = true;
        at += 2;
    }
    unreachable!("every string of valid JSON ends")
}

fn is_key(after: &[u8]) -> bool {
    let next = after
        .iter()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    next == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicate_in(json: &str) -> Option<String> {
        match check(json) {
            Ok(()) => None,
            Err(KeyFault::Duplicate(key)) => Some(key.into_owned()),
            Err(fault) => panic!("{fault:?}"),
        }
    }

    #[test]
    fn finds_what_appears_twice_in_one_object() {
        let table = [
            (r#"{"a":1,"a":2}"#, Some("a")),
            (r#"{"a":1,"b":{"c":1,"c":1}}"#, Some("c")),
            (r#"[1,[{"x":[]},{"x":{},"y":1,"x":"x"}]]"#, Some("x")),
            (r#"{"a":1,"\u0061":2}"#, Some("a")),
            (r#"{"":1,"":2}"#, Some("")),
            (r#"{"a\\":1,"a\\" : 2}"#, Some("a\\")),
            (r#"{"é":1,"\u00e9":2}"#, Some("é")),
            (r#"{"a":{"b":1},"c":2,"a":3}"#, Some("a")),
            (r#"{"a":{"a":{"a":"a"}},"b":"a"}"#, None),
            (r#"{"a":"b\":{","b":"}","c":["a","a",{"a":1}]}"#, None),
            (r#"{"a":1,"A":2,"a ":3}"#, None),
            (r#"[{"a":1},{"a":1}]"#, None),
            ("[]", None),
            ("{}", None),
        ];
        for (json, key) in table {
            assert_eq!(duplicate_in(json).as_deref(), key, "{json}");
        }
    }

    #[test]
    fn white_space_may_stand_before_the_colon() {
        assert_eq!(duplicate_in("{\"a\" \n\t\r:1,\"a\":2}"), Some("a".into()));
    }

    #[test]
    fn half_a_surrogate_pair_is_no_key() {
        assert_eq!(check(r#"{"\ud800":1}"#), Err(KeyFault::NotUnicode));
        assert_eq!(check(r#"{"a":"\ud800"}"#), Ok(()));
    }

    #[test]
    fn finds_duplicates_around_the_size_where_the_method_changes() {
        for count in 1..60 {
            for twin in 0..count {
                let mut keys: Vec<_> = (0..count).map(|n| format!("\"k{n}\":{{}}")).collect();
                let inner = keys.join(",");
                assert_eq!(
                    duplicate_in(&format!("{{\"o\":{{{inner}}},{inner}}}")),
                    None
                );
                keys.push(format!("\"k{twin}\":0"));
                let json = format!("{{\"x\":{{{inner}}},\"y\":{{{}}}}}", keys.join(","));
                assert_eq!(duplicate_in(&json), Some(format!("k{twin}")));
            }
        }
    }

    #[test]
    fn outer_keys_survive_the_inner_ones() {
        let many: Vec<_> = (0..40).map(|n| format!("\"k{n}\":1")).collect();
        let json = format!("{{\"a\":1,\"b\":{{{}}},\"a\":2}}", many.join(","));
        assert_eq!(duplicate_in(&json), Some("a".into()));
    }
}
