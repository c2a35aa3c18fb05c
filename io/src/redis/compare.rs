//! Whether Redis has what the store has.

use std::collections::BTreeMap;

use kilter_engine::Amount;
use redis::Value;
use serde::Deserialize;

use super::{
    error::RedisError,
    servers::Servers,
    settings::RedisSettings,
    source::{OpenSource, Reader, SourceRow},
};

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Balances of the source.
    pub rows: u64,
    /// Of them, those that Redis does not have.
    pub missing: u64,
    /// Those of which Redis has a lower version.
    pub behind: u64,
    /// Those of which Redis has a higher version.
    pub ahead: u64,
    /// Those that Redis has in the same version with other amounts, or not in our form.
    pub different: u64,
}

impl Compared {
    /// Whether Redis has every balance as the source has it.
    pub fn is_equal(&self) -> bool {
        self.missing + self.behind + self.ahead + self.different == 0
    }
}

/// How Redis' balance is not the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// There is none.
    Missing,
    /// Its version is lower: it is on its way, or was lost.
    Behind,
    /// Its version is higher: the source was read before, or has lost something.
    Ahead,
    /// The same version with other amounts, or something that this program does not write.
    Different,
}

/// A balance that Redis does not have as the source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How it is not.
    pub kind: DifferenceKind,
    /// The key in Redis.
    pub key: String,
    /// What the source has.
    pub expected: SourceRow,
    /// What Redis has, as text; nothing if it has none.
    pub found: Option<String>,
}

/// What stands in the field `value`.
#[derive(Deserialize)]
struct Text<'a> {
    available: &'a str,
    frozen: &'a str,
    version: u64,
}

/// Reads all balances of a source and of Redis, and tells each that is not the same. Keys in Redis
/// that the source has no balance for are not looked for.
///
/// While a node is writing, a balance that is behind or ahead is no fault; one that is different is.
///
/// # Errors
///
/// When either side cannot be read.
pub fn compare(
    settings: &RedisSettings,
    source: OpenSource,
    on_difference: &mut dyn FnMut(&Difference),
) -> Result<Compared, RedisError> {
    let mut servers = Servers::new(settings);
    servers.refresh()?;
    let mut reader = Reader::new(source);
    let mut compared = Compared::default();
    loop {
        let rows = reader.page(settings.page.max(1))?;
        if rows.is_empty() {
            return Ok(compared);
        }
        let mut places: BTreeMap<usize, Vec<&SourceRow>> = BTreeMap::new();
        for row in &rows {
            places.entry(servers.index_of(row)?).or_default().push(row);
        }
        for (server, rows) in places {
            for rows in rows.chunks(settings.batch.max(1)) {
                read(&mut servers, server, rows, &mut |row, key, answer| {
                    compared.rows += 1;
                    let Some((kind, found)) = judge(row, answer) else {
                        return;
                    };
                    *match kind {
                        DifferenceKind::Missing => &mut compared.missing,
                        DifferenceKind::Behind => &mut compared.behind,
                        DifferenceKind::Ahead => &mut compared.ahead,
                        DifferenceKind::Different => &mut compared.different,
                    } += 1;
                    on_difference(&Difference {
                        kind,
                        key,
                        expected: *row,
                        found,
                    });
                })?;
            }
        }
        reader.done(&rows);
    }
}

/// The fields of a hash, or that it is none.
type Fields = Result<(Option<String>, Option<String>), String>;

/// Reads some balances of one server in one round trip.
fn read(
    servers: &mut Servers,
    server: usize,
    rows: &[&SourceRow],
    each: &mut dyn FnMut(&SourceRow, String, Fields),
) -> Result<(), RedisError> {
    const WHAT: &str = "read balances";
    let mut commands = redis::pipe();
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let mut key = Vec::new();
        servers.keys().balance(row, &mut key);
        commands.cmd("HMGET").arg(&key).arg("value").arg("version");
        keys.push(String::from_utf8_lossy(&key).into_owned());
    }
    let link = servers.open(server)?;
    let answers = link.pipeline(WHAT, &commands)?;
    for ((row, key), answer) in rows.iter().zip(keys).zip(answers) {
        let fields = match answer {
            Value::ServerError(error) if error.code() == "WRONGTYPE" => {
                Err("a key of another type".to_owned())
            }
            Value::ServerError(error) => return Err(link.refused(WHAT, error.into())),
            answer => match redis::from_redis_value::<(Option<Vec<u8>>, Option<Vec<u8>>)>(answer) {
                Ok((value, version)) => Ok((value.map(text), version.map(text))),
                Err(error) => return Err(link.refused(WHAT, error.into())),
            },
        };
        each(row, key, fields);
    }
    Ok(())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a balance differs, and what was found.
fn judge(row: &SourceRow, fields: Fields) -> Option<(DifferenceKind, Option<String>)> {
    let (value, version) = match fields {
        Ok((None, None)) => return Some((DifferenceKind::Missing, None)),
        Ok(fields) => fields,
        Err(other) => return Some((DifferenceKind::Different, Some(other))),
    };
    let found = Some(format!(
        "value {} version {}",
        value.as_deref().unwrap_or("-"),
        version.as_deref().unwrap_or("-")
    ));
    let parsed = value
        .as_deref()
        .and_then(|value| serde_json::from_str::<Text<'_>>(value).ok());
    let number = version.and_then(|version| version.parse::<u64>().ok());
    let (Some(parsed), Some(number)) = (parsed, number) else {
        return Some((DifferenceKind::Different, found));
    };
    let is = |text: &str, amount: Amount| text.parse() == Ok(amount);
    let kind = match number.cmp(&row.version) {
        _ if parsed.version != number => DifferenceKind::Different,
        std::cmp::Ordering::Less => DifferenceKind::Behind,
        std::cmp::Ordering::Greater => DifferenceKind::Ahead,
        _ if is(parsed.available, row.available) && is(parsed.frozen, row.frozen) => return None,
        _ => DifferenceKind::Different,
    };
    Some((kind, found))
}
