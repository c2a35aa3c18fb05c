//! Settings that have parts: lists, servers, properties.

use std::fmt::Write;

use super::{Hidden, Kind, Shown, entries, name, or_wrong, port};
use crate::config::{
    mistakes::Problem,
    nearest::nearest,
    types::{Properties, Writer, is_secret},
    value::{MASK, Node, Raw, Table, parse_value, quoted},
};

/// Where Kafka's brokers are: `host:port` with commas between.
pub struct Brokers;

impl Kind for Brokers {
    type Out = String;

    fn allowed(&self) -> String {
        "a list of host:port with commas between".to_owned()
    }

    fn read(&self, node: &Node) -> Result<String, Vec<Problem>> {
        let is_broker = |text: &str| {
            // librdkafka would take another word before :// for a listener's name.
            let parts = text.trim().rsplit_once(':');
            parts.is_some_and(|(host, port)| {
                !host.is_empty()
                    && !host.contains(|c: char| c.is_whitespace() || c == '/' || c.is_control())
                    && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        let text = node.as_str().filter(|text| text.split(',').all(is_broker));
        or_wrong(self, node, text.map(str::to_owned))
    }

    fn show(&self, value: &String) -> Shown {
        Shown::Value(quoted(value))
    }
}

/// Numbers of CPUs, each once.
pub struct Cpus;

impl Kind for Cpus {
    type Out = Vec<usize>;

    fn allowed(&self) -> String {
        "a list of CPU numbers, each once, such as [2, 3] (2,3 outside files)".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Vec<usize>, Vec<Problem>> {
        let Some(entries) = entries(node, ',') else {
            return or_wrong(self, node, None);
        };
        let mut cpus = Vec::new();
        let mut problems = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match entry.as_u64().and_then(|cpu| usize::try_from(cpu).ok()) {
                Some(cpu) if !cpus.contains(&cpu) => cpus.push(cpu),
                Some(cpu) => {
                    let what = format!("CPU {cpu} is there twice; each may be once");
                    problems.push(Problem::said(entry, what).inside(&format!("[{index}]")));
                }
                None => {
                    let problem = Problem::not_allowed(entry, "the number of a CPU");
                    problems.push(problem.inside(&format!("[{index}]")));
                }
            }
        }
        if problems.is_empty() {
            Ok(cpus)
        } else {
            Err(problems)
        }
    }

    fn show(&self, value: &Vec<usize>) -> Shown {
        Shown::Value(format!("{value:?}"))
    }
}

/// Servers of single writers.
pub struct Writers;

impl Writers {
    const KEYS: [&str; 4] = ["host", "port", "user", "password"];

    fn writer(table: &Table, problems: &mut Vec<Problem>) -> Writer {
        for (key, node) in table {
            if !Self::KEYS.contains(&key.as_str()) {
                let meant = nearest(key, Self::KEYS).map_or_else(
                    || format!("there are {}", Self::KEYS.join(", ")),
                    |name| format!("did you mean {name}?"),
                );
                let what = format!("no such key; {meant}");
                problems.push(Problem::said(node, what).inside(&format!(".{key}")));
            }
        }
        Writer {
            host: part(&name(), table, "host", problems),
            port: part(&port(), table, "port", problems),
            user: part(&name(), table, "user", problems),
            password: part(&Hidden, table, "password", problems),
        }
    }
}

/// The value at `key`, if it is there and sound.
fn part<K: Kind>(
    kind: &K,
    table: &Table,
    key: &str,
    problems: &mut Vec<Problem>,
) -> Option<K::Out> {
    match kind.read(table.get(key)?) {
        Ok(value) => Some(value),
        Err(found) => {
            let inside = |problem: Problem| problem.inside(&format!(".{key}"));
            problems.extend(found.into_iter().map(inside));
            None
        }
    }
}

impl Kind for Writers {
    type Out = Vec<Writer>;

    fn allowed(&self) -> String {
        "a list of tables with any of host, port, user, password, such as [{host = \"db2\"}]"
            .to_owned()
    }

    fn read(&self, node: &Node) -> Result<Vec<Writer>, Vec<Problem>> {
        // Nothing of it is shown as a whole: there may be passwords in it.
        let wrong = || {
            vec![Problem::said(
                node,
                format!("this is not {}", self.allowed()),
            )]
        };
        let list = match &node.raw {
            Raw::Text(text) if text.trim().is_empty() => return Ok(Vec::new()),
            Raw::Text(text) => parse_value(text).ok_or_else(wrong)?,
            _ => node.clone(),
        };
        let Raw::List(entries) = &list.raw else {
            return Err(wrong());
        };
        let mut problems = Vec::new();
        let mut writers = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut found = Vec::new();
            match &entry.raw {
                Raw::Table(table) => writers.push(Self::writer(table, &mut found)),
                _ => found.push(Problem::said(entry, "this is not a table".to_owned())),
            }
            let inside = |problem: Problem| problem.inside(&format!("[{index}]"));
            problems.extend(found.into_iter().map(inside));
        }
        if problems.is_empty() {
            Ok(writers)
        } else {
            Err(problems)
        }
    }

    fn show(&self, value: &Vec<Writer>) -> Shown {
        let mut text = String::new();
        for writer in value {
            let lines = [
                writer.host.as_ref().map(|host| ("host", quoted(host))),
                writer.port.map(|port| ("port", port.to_string())),
                writer.user.as_ref().map(|user| ("user", quoted(user))),
                writer
                    .password
                    .as_ref()
                    .map(|password| ("password", quoted(password.masked()))),
            ];
            text.push_str("[[mysql.writers]]\n");
            for (key, value) in lines.into_iter().flatten() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        Shown::Tables(text)
    }
}

/// Properties of librdkafka. A file has a table of them, text `name=value;name=value`; what
/// comes later adds to what came before, so that a secret can come from the environment.
pub struct PropertyMap;

/// Properties that follow from other settings, and from which.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "kafka.brokers"),
    ("metadata.broker.list", "kafka.brokers"),
    ("client.id", "kafka.client_id"),
    ("group.id", "kafka.group"),
    ("partitioner", "kafka.partitioner"),
];

/// Properties on which exactness rests; they are as they must be.
const FIXED: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "isolation.level",
    "request.required.acks",
    "transactional.id",
];

impl PropertyMap {
    fn collect(table: &Table, prefix: &str, found: &mut Properties, problems: &mut Vec<Problem>) {
        for (key, node) in table {
            let name = format!("{prefix}{key}");
            if let Raw::Table(inner) = &node.raw {
                Self::collect(inner, &format!("{name}."), found, problems);
                continue;
            }
            match Self::value(&name, node) {
                Ok(value) => {
                    found.0.insert(name, value);
                }
                Err(what) => {
                    problems.push(Problem::said(node, what).inside(&format!(".{name}")));
                }
            }
        }
    }

    fn value(name: &str, node: &Node) -> Result<String, String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err("this is not a property's name: letters, digits, ., _ or -".to_owned());
        }
        if let Some((_, setting)) = OURS.iter().find(|(ours, _)| *ours == name) {
            return Err(format!("not allowed here: {setting} sets it"));
        }
        if FIXED.contains(&name) {
            return Err("not allowed: no command may be lost or doubled by it".to_owned());
        }
        let value = match &node.raw {
            Raw::Text(text) | Raw::Str(text) => Some(text.clone()),
            Raw::Int(number) => Some(number.to_string()),
            Raw::Float(number) => Some(number.clone()),
            Raw::Bool(value) => Some(value.to_string()),
            Raw::Date | Raw::List(_) | Raw::Table(_) => None,
        };
        match value {
            Some(value) if is_secret(name) && value == MASK => {
                Err(format!("{MASK} stands for a secret and is none"))
            }
            Some(value) => Ok(value),
            None => Err("this is not a string, a number, true or false".to_owned()),
        }
    }
}

impl Kind for PropertyMap {
    type Out = Properties;

    const ADDS: bool = true;

    fn allowed(&self) -> String {
        "a table of librdkafka's properties (name=value;name=value outside files)".to_owned()
    }

    fn read(&self, node: &Node) -> Result<Properties, Vec<Problem>> {
        // Nothing of it is shown as a whole: there may be passwords in it.
        let wrong = |what| vec![Problem::said(node, what)];
        let mut found = Properties::default();
        let mut problems = Vec::new();
        match &node.raw {
            Raw::Table(table) => Self::collect(table, "", &mut found, &mut problems),
            Raw::Text(text) => {
                let mut table = Table::new();
                for (index, pair) in text.split(';').enumerate() {
                    if pair.trim().is_empty() {
                        continue;
                    }
                    let Some((name, value)) = pair.split_once('=') else {
                        let nth = index + 1;
                        let what = format!("part {nth} has no =; it should be name=value");
                        problems.extend(wrong(what));
                        continue;
                    };
                    table.insert(name.trim().to_owned(), Node::text(value.trim()));
                }
                Self::collect(&table, "", &mut found, &mut problems);
            }
            _ => problems.extend(wrong(format!("this is not {}", self.allowed()))),
        }
        if problems.is_empty() {
            Ok(found)
        } else {
            Err(problems)
        }
    }

    fn show(&self, value: &Properties) -> Shown {
        let mut text = "[kafka.properties]\n".to_owned();
        for (name, value) in value.masked() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} = {}", quoted(name), quoted(value));
        }
        Shown::Tables(text)
    }

    fn add(&self, mut earlier: Properties, later: Properties) -> Properties {
        earlier.0.extend(later.0);
        earlier
    }
}
