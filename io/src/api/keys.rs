//! The secrets that requests are signed with.

use std::{fmt, fs, path::Path, path::PathBuf};

/// The shortest secret, in bytes.
pub const SECRET_MIN_BYTES: usize = 32;

/// How many keys are live at once, so that one can take over from the other.
pub const KEYS_MAX: usize = 2;

/// The longest name of a key, in bytes.
const ID_MAX_BYTES: usize = 64;

/// Secrets that stand in examples, and so in everybody's hands. Compared without regard to case;
/// a secret that is nothing but repetitions of one of them counts as that one.
const KNOWN: &[&str] = &[
    "your-secret-key-here",
    "your-secret-key",
    "your_secret_key",
    "your-hmac-secret",
    "hmac-secret",
    "hmac_secret",
    "secret-key",
    "secret",
    "changeme",
    "change-me",
    "change_me",
    "password",
    "default",
    "example",
    "test",
    "kilter",
    "0123456789",
    "0123456789abcdef",
    "abcdefghijklmnopqrstuvwxyz",
];

/// Why keys are refused. Never tells the secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is none.
    #[error("no key to check signatures with; name one, or ask for unsigned mode on loopback")]
    None,
    /// There are too many.
    #[error("{count} keys, where at most {KEYS_MAX} are live at once")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A name is no name.
    #[error("key id {id:?} is not 1 to {ID_MAX_BYTES} of the bytes A-Z a-z 0-9 . _ -")]
    Id {
        /// The name.
        id: String,
    },
    /// Two keys have one name.
    #[error("key id {id:?} is given twice")]
    Twice {
        /// The name.
        id: String,
    },
    /// Two names have one secret, so that nothing was rotated.
    #[error("keys {first:?} and {second:?} have the same secret")]
    Same {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// There is no secret.
    #[error("the secret of key {id:?} is empty")]
    Missing {
        /// Whose.
        id: String,
    },
    /// Everybody knows it.
    #[error(
        "the secret of key {id:?} is one from an example, or as easy to guess; make your own: openssl rand -hex 32"
    )]
    Known {
        /// Whose.
        id: String,
    },
    /// It is too short.
    #[error(
        "the secret of key {id:?} has {bytes} bytes, where at least {SECRET_MIN_BYTES} are needed: openssl rand -hex 32"
    )]
    Short {
        /// Whose.
        id: String,
        /// Its length, in bytes.
        bytes: usize,
    },
    /// Its file cannot be read.
    #[error("cannot read the secret of key {id:?} from {}", path.display())]
    File {
        /// Whose.
        id: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The secret itself.
    Value(String),
    /// A file with nothing else in it; one line end behind it does not count.
    File(PathBuf),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// A secret and its name.
#[derive(Clone)]
pub struct Key {
    id: String,
    secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// A key.
    ///
    /// # Errors
    ///
    /// When the id is no id, or the secret is empty, short or everybody's.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, KeyError> {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let id = id.to_owned();
        if id.is_empty() || id.len() > ID_MAX_BYTES || !id.bytes().all(is_id) {
            return Err(KeyError::Id { id });
        }
        if secret.is_empty() {
            return Err(KeyError::Missing { id });
        }
        if is_known(secret) {
            return Err(KeyError::Known { id });
        }
        if secret.len() < SECRET_MIN_BYTES {
            let bytes = secret.len();
            return Err(KeyError::Short { id, bytes });
        }
        let secret = secret.to_owned();
        Ok(Self { id, secret })
    }

    /// Reads a key.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and when its file cannot be read.
    pub fn load(id: &str, source: &SecretSource) -> Result<Self, KeyError> {
        match source {
            SecretSource::Value(secret) => Self::new(id, secret.as_bytes()),
            SecretSource::File(path) => Self::new(id, trimmed(&read(id, path)?)),
        }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

fn read(id: &str, path: &Path) -> Result<Vec<u8>, KeyError> {
    fs::read(path).map_err(|source| KeyError::File {
        id: id.to_owned(),
        path: path.to_owned(),
        source,
    })
}

fn trimmed(secret: &[u8]) -> &[u8] {
    let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
    secret.strip_suffix(b"\r").unwrap_or(secret)
}

/// Whether the secret is one of the known ones, perhaps repeated, or one byte over and over.
fn is_known(secret: &[u8]) -> bool {
    let lower = secret.to_ascii_lowercase();
    let repeats = |known: &[u8]| {
        lower.len() >= known.len()
            && lower
                .iter()
                .zip(known.iter().cycle())
                .all(|(ours, theirs)| ours == theirs)
    };
    repeats(&lower[..1]) || KNOWN.iter().any(|known| repeats(known.as_bytes()))
}

/// The live keys: one, or two during a rotation.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// These keys.
    ///
    /// # Errors
    ///
    /// When there is none, more than two, or two are the same.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyError> {
        match keys.as_slice() {
            [] => Err(KeyError::None),
            [_] => Ok(Self(keys)),
            [first, second] if first.id == second.id => Err(KeyError::Twice {
                id: first.id.clone(),
            }),
            [first, second] if first.secret == second.secret => Err(KeyError::Same {
                first: first.id.clone(),
                second: second.id.clone(),
            }),
            [_, _] => Ok(Self(keys)),
            more => Err(KeyError::TooMany { count: more.len() }),
        }
    }

    /// Reads keys, each by its name.
    ///
    /// # Errors
    ///
    /// As [`Key::load`] and [`new`](Self::new).
    pub fn load(sources: &[(String, SecretSource)]) -> Result<Self, KeyError> {
        let keys = sources.iter().map(|(id, source)| Key::load(id, source));
        Self::new(keys.collect::<Result<_, _>>()?)
    }

    /// The key of this name.
    pub fn get(&self, id: &[u8]) -> Option<&Key> {
        self.0.iter().find(|key| key.id.as_bytes() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"f2a9c1d47be0835516aa90cc31fe07bd";

    #[test]
    fn what_is_no_secret_is_refused_and_not_told() {
        let table: &[(&str, &[u8], &str)] = &[
            ("a", b"", "empty"),
            ("a", b"your-secret-key-here", "example"),
            ("a", b"SECRET", "example"),
            ("a", b"changeme", "example"),
            ("a", b"changemechangemechangemechangemechangeme", "example"),
            ("a", b"0000000000000000000000000000000000000000", "example"),
            ("a", b"0123456789abcdef0123456789abcdef", "example"),
            ("a", &GOOD[1..], "31 bytes"),
            ("", GOOD, "key id"),
            ("a b", GOOD, "key id"),
            ("a\n", GOOD, "key id"),
        ];
        for (id, secret, says) in table {
            let error = Key::new(id, secret).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(
                secret.len() < 20 || !error.contains(&*String::from_utf8_lossy(secret)),
                "{error}"
            );
        }
        assert!(Key::new(&"k".repeat(65), GOOD).is_err());
        let key = Key::new("2026-11", GOOD).unwrap();
        assert_eq!(format!("{key:?}"), "Key(2026-11)");
    }

    #[test]
    fn one_or_two_different_keys() {
        let key =
            |id: &str, end: &str| Key::new(id, [GOOD, end.as_bytes()].concat().as_slice()).unwrap();
        assert!(matches!(Keys::new(vec![]), Err(KeyError::None)));
        assert!(matches!(
            Keys::new(vec![key("a", "1"), key("a", "2")]),
            Err(KeyError::Twice { .. })
        ));
        assert!(matches!(
            Keys::new(vec![key("a", "1"), key("b", "1")]),
            Err(KeyError::Same { .. })
        ));
        let three = vec![key("a", "1"), key("b", "2"), key("c", "3")];
        assert!(matches!(
            Keys::new(three),
            Err(KeyError::TooMany { count: 3 })
        ));
        let keys = Keys::new(vec![key("a", "1"), key("b", "2")]).unwrap();
        assert_eq!(keys.get(b"b").unwrap().id(), "b");
        assert!(keys.get(b"B").is_none());
    }

    #[test]
    fn a_file_may_end_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let source = SecretSource::File(path.clone());
        assert!(matches!(
            Key::load("a", &source),
            Err(KeyError::File { .. })
        ));
        for end in ["", "\n", "\r\n"] {
            fs::write(&path, [GOOD, end.as_bytes()].concat()).unwrap();
            assert_eq!(Key::load("a", &source).unwrap().secret(), GOOD);
        }
        let value = SecretSource::Value(String::from_utf8(GOOD.to_vec()).unwrap());
        assert_eq!(Key::load("a", &value).unwrap().secret(), GOOD);
        assert_eq!(format!("{value:?}"), "Value(…)");
    }
}
