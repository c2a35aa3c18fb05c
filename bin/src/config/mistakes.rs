//! What is wrong with a configuration, all of it at once.

use std::fmt;

use super::value::Node;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// A file, and the line in it.
    File {
        /// The file, as it was named.
        name: String,
        /// From 1.
        line: usize,
    },
    /// The environment, by this name.
    Environment(String),
    /// `--set`.
    Flag,
}

impl Origin {
    /// Where `key` was set, for the beginning of a message.
    pub fn place(&self, key: &str) -> String {
        match self {
            Self::Default => format!("default: {key}"),
            Self::File { name, line } => format!("{name}:{line}: {key}"),
            Self::Environment(name) => format!("environment: {name}"),
            Self::Flag => format!("--set {key}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// One thing that is wrong, on one line: where it came from, what it is (secrets masked), and
/// what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake(String);

impl Mistake {
    /// Something that is wrong at `place`. Line breaks become spaces: it is one line.
    pub fn new(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self(format!("{place}: {what}").replace(['\n', '\r'], " "))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong with a configuration. Prints a line for each; never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// `Ok` when nothing is wrong.
    ///
    /// # Errors
    ///
    /// `found`, when there is something in it.
    pub fn none_of(found: Vec<Mistake>) -> Result<(), Self> {
        if found.is_empty() {
            Ok(())
        } else {
            Err(Self(found))
        }
    }

    /// Each mistake.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let what = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration has {count} {what}")?;
        self.0
            .iter()
            .try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

/// Why a value was not accepted. Becomes a [`Mistake`] when its place is known.
pub struct Problem {
    /// Where inside the value, such as `[1].port`; empty for the whole.
    pub at: String,
    /// The line of the part, if it is in a file.
    pub line: Option<usize>,
    /// What it is and what is allowed.
    pub what: String,
}

impl Problem {
    /// `node` is not what is `allowed`.
    pub fn not_allowed(node: &Node, allowed: &str) -> Self {
        Self::said(node, format!("{node} is not {allowed}"))
    }

    /// Something about `node`, in words.
    pub fn said(node: &Node, what: String) -> Self {
        Self {
            at: String::new(),
            line: node.line,
            what,
        }
    }

    /// The same about a part that lies at `at` in the whole.
    pub fn inside(mut self, at: &str) -> Self {
        self.at.insert_str(0, at);
        self
    }
}
