//! Kinds of settings: how one is read, what it may be, and how it is printed.

use std::{marker::PhantomData, net::IpAddr, path::PathBuf, time::Duration};

use super::{
    mistakes::Problem,
    types::{Choice, Secret},
    value::{MASK, Node, Raw, quoted},
};
use crate::units;

mod composite;
pub use composite::{Brokers, Cpus, PropertyMap, Writers};

/// How a value is printed.
pub enum Shown {
    /// As `key = …`.
    Value(String),
    /// As lines of their own with their own `[headings]`, which must come last in a section.
    Tables(String),
}

/// A kind of setting.
pub trait Kind {
    /// What the rest of the program sees.
    type Out;

    /// Whether values add to what came before instead of replacing it.
    const ADDS: bool = false;

    /// What is allowed, to follow "is not": `a port from 1 to 65535`.
    fn allowed(&self) -> String;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    fn read(&self, node: &Node) -> Result<Self::Out, Vec<Problem>>;

    /// The value as a file would have it, secrets masked.
    fn show(&self, value: &Self::Out) -> Shown;

    /// `later` on top of `earlier`; only for kinds that add.
    fn add(&self, earlier: Self::Out, later: Self::Out) -> Self::Out {
        drop(earlier);
        later
    }
}

/// `value`, or that `node` is not what `kind` allows.
fn or_wrong<K: Kind>(kind: &K, node: &Node, value: Option<K::Out>) -> Result<K::Out, Vec<Problem>> {
    value.ok_or_else(|| vec![Problem::not_allowed(node, &kind.allowed())])
}

/// A string.
pub struct Text {
    /// What it is, in words.
    what: &'static str,
    check: fn(&str) -> bool,
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A string that may be empty, without control characters.
pub const fn text() -> Text {
    Text {
        what: "a string without control characters",
        check: is_printable,
    }
}

/// A string that is not empty, without control characters or blanks around it.
pub const fn name() -> Text {
    Text {
        what: "a string of 1 to 255 bytes without blanks or control characters",
        check: |text| {
            (1..=255).contains(&text.len())
                && is_printable(text)
                && !text.contains(char::is_whitespace)
        },
    }
}

/// A database's name, which is quoted with back-ticks where it is used.
pub const fn database() -> Text {
    Text {
        what: "a name of 1 to 64 letters, digits, _, - or $",
        check: |text| {
            (1..=64).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-$".contains(&byte))
        },
    }
}

/// A topic's name, as Kafka allows it.
pub const fn topic() -> Text {
    Text {
        what: "a topic's name: 1 to 249 letters, digits, ., _ or -",
        check: |text| {
            (1..=249).contains(&text.len())
                && text != "."
                && text != ".."
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        },
    }
}

/// What to log: a level, or levels by module.
pub const fn log_filter() -> Text {
    Text {
        what: "error, warn, info, debug, trace, off, or such levels by module, as in info,kilter=debug",
        check: crate::logging::is_filter,
    }
}

impl Kind for Text {
    type Out = String;

    fn allowed(&self) -> String {
        self.what.to_owned()
    }

    fn read(&self, node: &Node) -> Result<String, Vec<Problem>> {
        let text = node.as_str().filter(|text| (self.check)(text));
        or_wrong(self, node, text.map(str::to_owned))
    }

    fn show(&self, value: &String) -> Shown {
        Shown::Value(quoted(value))
    }
}

/// A string that is never printed.
pub struct Hidden;

impl Kind for Hidden {
    type Out = Secret;

    fn allowed(&self) -> String {
        "a string without line breaks".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Secret, Vec<Problem>> {
        let said = |what| Err(vec![Problem::said(node, what)]);
        match node.as_str() {
            // What `config print` wrote, and nobody's password.
            Some(MASK) => said(format!("{MASK} stands for a secret and is none")),
            Some(text) if !text.contains(['\n', '\r', '\0']) => Ok(Secret::new(text.to_owned())),
            _ => said(format!("{MASK} is not {}", self.allowed())),
        }
    }

    fn show(&self, value: &Secret) -> Shown {
        Shown::Value(quoted(value.masked()))
    }
}

/// A file, or none.
pub struct OptionalFile;

impl Kind for OptionalFile {
    type Out = Option<PathBuf>;

    fn allowed(&self) -> String {
        "the path of a file, or empty for none".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Self::Out, Vec<Problem>> {
        let text = node.as_str().filter(|text| is_printable(text));
        let path = text.map(|text| (!text.is_empty()).then(|| PathBuf::from(text)));
        or_wrong(self, node, path)
    }

    fn show(&self, value: &Self::Out) -> Shown {
        let path = value.as_ref().map(|path| path.display().to_string());
        Shown::Value(quoted(&path.unwrap_or_default()))
    }
}

/// A whole number.
pub struct Number<T> {
    what: &'static str,
    min: u64,
    max: u64,
    power_of_two: bool,
    out: PhantomData<T>,
}

/// A whole number from `min` to `max`.
pub const fn number<T>(min: u64, max: u64) -> Number<T> {
    Number {
        what: "a whole number",
        min,
        max,
        power_of_two: false,
        out: PhantomData,
    }
}

/// A port that one can connect to.
pub const fn port() -> Number<u16> {
    let mut port = number(1, 65_535);
    port.what = "a port";
    port
}

/// A power of two from `min` to `max`.
pub const fn power_of_two<T>(min: u64, max: u64) -> Number<T> {
    let mut power = number(min, max);
    power.what = "a power of two";
    power.power_of_two = true;
    power
}

impl<T: TryFrom<u64> + std::fmt::Display> Kind for Number<T> {
    type Out = T;

    fn allowed(&self) -> String {
        format!("{} from {} to {}", self.what, self.min, self.max)
    }

    fn read(&self, node: &Node) -> Result<T, Vec<Problem>> {
        let number = node.as_u64().filter(|number| {
            (self.min..=self.max).contains(number)
                && (!self.power_of_two || number.is_power_of_two())
        });
        or_wrong(self, node, number.and_then(|number| number.try_into().ok()))
    }

    fn show(&self, value: &T) -> Shown {
        Shown::Value(value.to_string())
    }
}

/// A length of time as a number of ms; the key's name ends in `_ms`.
pub struct Millis {
    min: u64,
    max: u64,
}

/// From `min` to `max` ms.
pub const fn millis(min: u64, max: u64) -> Millis {
    Millis { min, max }
}

impl Kind for Millis {
    type Out = Duration;

    fn allowed(&self) -> String {
        format!("a whole number of ms from {} to {}", self.min, self.max)
    }

    fn read(&self, node: &Node) -> Result<Duration, Vec<Problem>> {
        let ms = node.as_u64();
        let ms = ms.filter(|ms| (self.min..=self.max).contains(ms));
        or_wrong(self, node, ms.map(Duration::from_millis))
    }

    fn show(&self, value: &Duration) -> Shown {
        Shown::Value(value.as_millis().to_string())
    }
}

/// Yes or no.
pub struct Switch;

impl Kind for Switch {
    type Out = bool;

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, node: &Node) -> Result<bool, Vec<Problem>> {
        or_wrong(self, node, node.as_bool())
    }

    fn show(&self, value: &bool) -> Shown {
        Shown::Value(value.to_string())
    }
}

/// One of a few words.
pub struct OneOf<T>(PhantomData<T>);

/// One of the words of `T`.
pub const fn one_of<T: Choice>() -> OneOf<T> {
    OneOf(PhantomData)
}

impl<T: Choice> Kind for OneOf<T> {
    type Out = T;

    fn allowed(&self) -> String {
        let words: Vec<String> = T::choices()
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect();
        words.join(" or ")
    }

    fn read(&self, node: &Node) -> Result<T, Vec<Problem>> {
        let choices = T::choices();
        let chosen = choices
            .iter()
            .find(|(word, _)| node.as_str() == Some(word))
            .map(|(_, value)| *value);
        or_wrong(self, node, chosen)
    }

    fn show(&self, value: &T) -> Shown {
        let choices = T::choices();
        let word = choices.iter().find(|(_, choice)| choice == value);
        Shown::Value(quoted(word.map_or("", |(word, _)| word)))
    }
}

/// A length of time with its unit.
pub struct Length;

impl Kind for Length {
    type Out = Duration;

    fn allowed(&self) -> String {
        "a time from 40ms to 366d with a unit (ms, s, m, h, d), such as 24h".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Duration, Vec<Problem>> {
        let length = node.as_str().and_then(|text| units::duration(text).ok());
        or_wrong(self, node, length)
    }

    fn show(&self, value: &Duration) -> Shown {
        Shown::Value(quoted(&units::show_duration(*value)))
    }
}

/// An amount of memory with its unit, or none.
pub struct OptionalSize;

impl Kind for OptionalSize {
    type Out = Option<u64>;

    fn allowed(&self) -> String {
        "a size from 1MiB with a unit (KiB, MiB, GiB), such as 4GiB, or empty".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Option<u64>, Vec<Problem>> {
        let size = match node.as_str() {
            Some("") => Some(None),
            Some(text) => units::size(text).ok().map(Some),
            None => None,
        };
        or_wrong(self, node, size)
    }

    fn show(&self, value: &Option<u64>) -> Shown {
        Shown::Value(quoted(&value.map(units::show_size).unwrap_or_default()))
    }
}

/// An address to listen on.
pub struct Address;

impl Kind for Address {
    type Out = IpAddr;

    fn allowed(&self) -> String {
        "an IP address of this machine, such as 127.0.0.1, ::1, or 0.0.0.0 for all".to_owned()
    }

    fn read(&self, node: &Node) -> Result<IpAddr, Vec<Problem>> {
        let address = node.as_str().and_then(|text| text.parse().ok());
        or_wrong(self, node, address)
    }

    fn show(&self, value: &IpAddr) -> Shown {
        Shown::Value(quoted(&value.to_string()))
    }
}

/// The entries of a list, whether it is a file's or text with `separator`s.
fn entries(node: &Node, separator: char) -> Option<Vec<Node>> {
    match &node.raw {
        Raw::List(nodes) => Some(nodes.clone()),
        Raw::Text(text) if text.trim().is_empty() => Some(Vec::new()),
        Raw::Text(text) => Some(
            text.split(separator)
                .map(|part| Node::text(part.trim()))
                .collect(),
        ),
        _ => None,
    }
}
