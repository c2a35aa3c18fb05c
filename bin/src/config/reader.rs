//! Reads settings from their sources, the later over the earlier, and keeps what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    environment::Environment,
    kinds::{Kind, Shown},
    mistakes::{Mistake, Origin, Problem},
    value::{Node, Raw, Table},
};

/// What is known of a setting before it is read.
#[derive(Clone)]
pub struct Key {
    /// Its section.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// What it is.
    pub doc: String,
    /// Its value when nobody gives one, as text.
    pub default: &'static str,
    /// Its name in the environment of the system before.
    pub alias: Option<&'static str>,
    /// What it may be.
    pub allowed: String,
}

impl Key {
    /// `section.name`.
    pub fn full(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Its own name in the environment, which wins over the alias.
    pub fn variable(&self) -> String {
        format!("KILTER_{}_{}", self.section, self.name).to_uppercase()
    }
}

/// A section and what it is.
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub doc: String,
    /// Its keys, in order.
    pub keys: Vec<Key>,
}

/// A setting that was read: how it is printed, and where it came from.
pub struct Printed {
    /// Which.
    pub key: Key,
    /// Its value, secrets masked.
    pub shown: Shown,
    /// Whose value it is; several for a setting that adds.
    pub origins: Vec<Origin>,
}

/// A file of settings.
pub struct File {
    /// As it was named.
    pub name: String,
    /// What is in it.
    pub root: Table,
}

/// All sources, and what was found in them so far.
pub struct Reader<'a> {
    /// The file, if there is one.
    pub file: Option<File>,
    /// The environment.
    pub env: &'a Environment,
    /// `--set`: values by full name.
    pub set: BTreeMap<String, String>,
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
    /// What was read.
    pub printed: Vec<Printed>,
    /// Full names of settings that are wrong, and have their default instead.
    pub wrong: BTreeSet<String>,
}

impl Reader<'_> {
    /// The setting `key`: from the last source that has it; its default where it is wrong.
    ///
    /// # Panics
    ///
    /// When the default is not allowed, which a test excludes.
    pub fn get<K: Kind>(&mut self, key: Key, kind: &K) -> K::Out {
        let given = self.given(&key, K::ADDS);
        let last = given.len();
        let mut value = None;
        let mut origins = Vec::new();
        for (index, (origin, node)) in given.into_iter().enumerate() {
            let is_last = index + 1 == last;
            // A wrong value in the file is told even where it does not count at present. Not so in
            // the environment: Kubernetes writes MYSQL_PORT=tcp://… for a service called mysql,
            // and KILTER_MYSQL_PORT is the way around it.
            let counts = is_last || K::ADDS;
            if !counts && !matches!(origin, Origin::File { .. }) {
                continue;
            }
            match kind.read(&node) {
                Ok(read) if counts => {
                    if !K::ADDS {
                        origins.clear();
                    }
                    origins.push(origin);
                    value = Some(match value {
                        Some(earlier) => kind.add(earlier, read),
                        None => read,
                    });
                }
                Ok(_) => (),
                Err(problems) => self.note(&key, &origin, problems),
            }
        }
        let value = value.unwrap_or_else(|| {
            origins = vec![Origin::Default];
            kind.read(&Node::text(key.default))
                .ok()
                .expect("a default is allowed")
        });
        self.printed.push(Printed {
            shown: kind.show(&value),
            key,
            origins,
        });
        value
    }

    /// Every value that was given for `key`, the one that wins last.
    fn given(&mut self, key: &Key, adds: bool) -> Vec<(Origin, Node)> {
        let mut given = Vec::new();
        let full = key.full();
        if let Some(file) = &self.file
            && let Some(Raw::Table(section)) = file.root.get(key.section).map(|node| &node.raw)
            && let Some(node) = section.get(key.name)
        {
            let origin = Origin::File {
                name: file.name.clone(),
                line: node.line.unwrap_or(0),
            };
            given.push((origin, node.clone()));
        }
        let names = key.alias.map(str::to_owned).into_iter();
        for name in names.chain([key.variable()]) {
            match self.env.get(&name) {
                None => (),
                Some(Ok(text)) => given.push((Origin::Environment(name), Node::text(text))),
                Some(Err(_)) => {
                    let mistake = Mistake::new(format!("environment: {name}"), "it is not UTF-8");
                    self.mistakes.push(mistake);
                    self.wrong.insert(full.clone());
                }
            }
        }
        if let Some(text) = self.set.get(&full) {
            given.push((Origin::Flag, Node::text(text)));
        }
        if adds {
            let prefix = format!("{full}.");
            let parts = self.set.iter().filter_map(|(name, text)| {
                let name = name.strip_prefix(&prefix)?;
                Some((name.to_owned(), Node::text(text)))
            });
            let parts: Table = parts.collect();
            if !parts.is_empty() {
                let node = Node {
                    raw: Raw::Table(parts),
                    line: None,
                };
                given.push((Origin::Flag, node));
            }
        }
        given
    }

    fn note(&mut self, key: &Key, origin: &Origin, problems: Vec<Problem>) {
        self.wrong.insert(key.full());
        for problem in problems {
            let mut origin = origin.clone();
            if let (Origin::File { line, .. }, Some(part)) = (&mut origin, problem.line) {
                *line = part;
            }
            let place = match &origin {
                Origin::Environment(_) => format!("{}{}", origin.place(""), problem.at),
                _ => origin.place(&format!("{}{}", key.full(), problem.at)),
            };
            self.mistakes.push(Mistake::new(place, problem.what));
        }
    }

    /// Where the setting `full`, which was read, came from.
    pub fn origin(&self, full: &str) -> String {
        let printed = self
            .printed
            .iter()
            .find(|printed| printed.key.full() == full);
        let origins = printed.map(|printed| origins(&printed.origins));
        origins.unwrap_or_default()
    }
}

/// What `kind` allows; names the type so that the compiler knows which number it is.
pub fn allowed<T, K: Kind<Out = T>>(kind: &K) -> String {
    kind.allowed()
}

/// All of `origins` in words.
pub fn origins(origins: &[Origin]) -> String {
    let words: Vec<String> = origins.iter().map(Origin::to_string).collect();
    words.join(" + ")
}

/// Declares sections and keys: for each section a struct, for each key its field, and how it is
/// read; `Config` with all sections; and what is known of all of them before anything is read.
macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {$(
            $(#[doc = $doc:literal])+
            $field:ident $(as $name:literal)?: $Type:ty = $kind:expr, $default:literal
                $(, env $alias:literal)?;
        )+}
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {$(
                $(#[doc = $doc])+
                pub $field: $Type,
            )+}
        )+

        /// Every setting of a node, sound by itself and together with the others.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {$(
            $(#[doc = $section_doc])+
            pub $section: $Section,
        )+}

        impl Config {
            /// Reads every setting; what is wrong stays in `reader`.
            pub(super) fn read(reader: &mut crate::config::reader::Reader<'_>) -> Self {
                Self {$(
                    $section: $Section {$(
                        $field: reader.get(
                            crate::config::reader::settings!(@key
                                [$($doc)+] $section $field [$($name)?] $Type, $kind, $default, [$($alias)?]
                            ),
                            &$kind,
                        ),
                    )+},
                )+}
            }
        }

        /// Every section with its keys.
        pub(super) fn sections() -> Vec<crate::config::reader::Section> {
            vec![$(
                crate::config::reader::Section {
                    name: stringify!($section),
                    doc: concat!($($section_doc),+).trim().to_owned(),
                    keys: vec![$(
                        crate::config::reader::settings!(@key
                            [$($doc)+] $section $field [$($name)?] $Type, $kind, $default, [$($alias)?]
                        ),
                    )+],
                },
            )+]
        }
    };
    (@key [$($doc:literal)+] $section:ident $field:ident [$($name:literal)?] $Type:ty,
        $kind:expr, $default:literal, [$($alias:literal)?]) => {
        crate::config::reader::Key {
            section: stringify!($section),
            name: crate::config::reader::settings!(@first $($name,)? stringify!($field)),
            doc: concat!($($doc),+).trim().to_owned(),
            default: $default,
            alias: crate::config::reader::settings!(@first $(Some($alias),)? None),
            allowed: crate::config::reader::allowed::<$Type, _>(&$kind),
        }
    };
    (@first $first:expr $(, $other:expr)?) => { $first };
}
pub(super) use settings;
