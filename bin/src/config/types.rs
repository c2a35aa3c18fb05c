//! What settings are, once they are known to be sound.

use std::{collections::BTreeMap, fmt};

use kilter_engine::{partitioner::Partitioner, wait::WaitStrategy};

use super::value::MASK;

/// Text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What may be printed: whether there is one.
    pub fn masked(&self) -> &'static str {
        if self.is_empty() { "" } else { MASK }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.masked())
    }
}

/// Settings that are one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// The words and what they mean.
    fn choices() -> Vec<(&'static str, Self)>;
}

/// Whether the connection to MySQL is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// No.
    Off,
    /// Yes, whoever the server is.
    Require,
    /// Yes, and the server must have a certificate for its name.
    Verify,
}

impl Choice for Tls {
    fn choices() -> Vec<(&'static str, Self)> {
        vec![
            ("off", Self::Off),
            ("require", Self::Require),
            ("verify", Self::Verify),
        ]
    }
}

/// Where the ledger is kept, from which the window is loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// In `balance_transactions`.
    Mysql,
    /// In the topic of results, whose retention must cover the window.
    Topic,
}

impl Choice for Ledger {
    fn choices() -> Vec<(&'static str, Self)> {
        vec![("mysql", Self::Mysql), ("topic", Self::Topic)]
    }
}

/// Which requests of clients must be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// Those that change something.
    Changes,
    /// All of them.
    All,
    /// None.
    Off,
}

impl Choice for Signatures {
    fn choices() -> Vec<(&'static str, Self)> {
        vec![
            ("changes", Self::Changes),
            ("all", Self::All),
            ("off", Self::Off),
        ]
    }
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line, for machines.
    Json,
}

impl Choice for LogFormat {
    fn choices() -> Vec<(&'static str, Self)> {
        vec![("text", Self::Text), ("json", Self::Json)]
    }
}

impl Choice for Partitioner {
    fn choices() -> Vec<(&'static str, Self)> {
        vec![("murmur2", Self::Murmur2)]
    }
}

impl Choice for WaitStrategy {
    fn choices() -> Vec<(&'static str, Self)> {
        Self::ALL.map(|strategy| (strategy.name(), strategy)).into()
    }
}

/// Properties of librdkafka, by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(pub(super) BTreeMap<String, String>);

impl Properties {
    /// Each name and value, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Each name with what may be printed of its value.
    pub fn masked(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter()
            .map(|(name, value)| (name, if is_secret(name) { MASK } else { value }))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

/// Whether the value of a property of librdkafka is a secret: passwords, private keys, and
/// configurations that hold some. Rather one too many: nothing is lost by not printing it.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    [
        "password", "secret", "private", "token", ".key.", ".pem", "jaas",
    ]
    .iter()
    .any(|word| name.contains(word))
        || name.starts_with("sasl.") && name.contains("config")
        || name.starts_with("sasl.") && name.contains("assertion")
        || name.contains("kinit")
}

/// What one writer's server has that differs from the rest of `[mysql]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// Instead of `mysql.host`.
    pub host: Option<String>,
    /// Instead of `mysql.port`.
    pub port: Option<u16>,
    /// Instead of `mysql.user`.
    pub user: Option<String>,
    /// Instead of `mysql.password`.
    pub password: Option<Secret>,
}

/// How a server of MySQL is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Who we are.
    pub user: String,
    /// What we prove it by.
    pub password: Secret,
}

impl super::Mysql {
    /// The server that writer number `index`, from 0, commits to.
    pub fn server_of_writer(&self, index: usize) -> Server {
        let own = self.writers.get(index).cloned().unwrap_or_default();
        Server {
            host: own.host.unwrap_or_else(|| self.host.clone()),
            port: own.port.unwrap_or(self.port),
            user: own.user.unwrap_or_else(|| self.user.clone()),
            password: own.password.unwrap_or_else(|| self.password.clone()),
        }
    }
}
