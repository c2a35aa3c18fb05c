//! One balance out of Redis, for whoever asks now.

use kilter_engine::{AccountId, Amount, Currency, Partition, epoch::BalanceImage};
use serde::Deserialize;

use super::{error::RedisError, servers::Servers, settings::RedisSettings};

/// A balance as Redis has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedBalance {
    /// What may be spent.
    pub available: Amount,
    /// What is held.
    pub frozen: Amount,
    /// How many commands changed it.
    pub version: u64,
    /// When it was written, in ms since 1970.
    pub written_at_ms: i64,
}

/// What stands in the field `value`.
#[derive(Deserialize)]
struct Text<'a> {
    available: &'a str,
    frozen: &'a str,
    version: u64,
}

/// Reads single balances. Connects when it is asked; every wait has the deadline of its settings.
pub struct RedisLookup {
    servers: Servers,
}

impl RedisLookup {
    /// A reader of this server or cluster; nothing is asked of it yet.
    pub fn new(settings: &RedisSettings) -> Self {
        Self {
            servers: Servers::new(settings),
        }
    }

    /// The balance of an account whose records come by `partition`; `None` if Redis has none, or
    /// something there that this program does not write.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked. Whoever asks next connects anew.
    pub fn balance(
        &mut self,
        account_id: AccountId,
        currency: Currency,
        partition: Partition,
    ) -> Result<Option<CachedBalance>, RedisError> {
        let image = BalanceImage {
            account_id,
            currency,
            available: Amount::ZERO,
            frozen: Amount::ZERO,
            version: 0,
            partition,
        };
        let answer = self.ask(&image);
        if answer.is_err() {
            // A key that has moved, or a node that is gone: the cluster is asked anew.
            self.servers.doubt();
        }
        answer.map(|fields| parse(&fields))
    }

    fn ask(&mut self, image: &BalanceImage) -> Result<Fields, RedisError> {
        self.servers.refresh()?;
        let server = self.servers.index_of(image)?;
        let mut key = Vec::new();
        self.servers.keys().balance(image, &mut key);
        let mut command = redis::cmd("HMGET");
        command.arg(&key).arg(&["value", "version", "timestamp"]);
        self.servers.open(server)?.query("read a balance", &command)
    }
}

/// The fields `value`, `version` and `timestamp`.
type Fields = (Option<String>, Option<String>, Option<String>);

fn parse((value, version, timestamp): &Fields) -> Option<CachedBalance> {
    let value: Text<'_> = serde_json::from_str(value.as_deref()?).ok()?;
    let version = version.as_deref()?.parse().ok()?;
    (value.version == version).then_some(())?;
    Some(CachedBalance {
        available: value.available.parse().ok()?,
        frozen: value.frozen.parse().ok()?,
        version,
        written_at_ms: timestamp.as_deref()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_program_writes_is_read() {
        let fields = |value: &str, version: &str| {
            (
                Some(value.to_owned()),
                Some(version.to_owned()),
                Some("17".to_owned()),
            )
        };
        let good = r#"{"available":"1.5","frozen":"0","version":3}"#;
        let balance = parse(&fields(good, "3")).unwrap();
        assert_eq!(balance.available.to_string(), "1.5");
        assert_eq!((balance.version, balance.written_at_ms), (3, 17));
        assert_eq!(parse(&fields(good, "4")), None, "two versions");
        for bad in ["", "{}", r#"{"available":1.5,"frozen":"0","version":3}"#] {
            assert_eq!(parse(&fields(bad, "3")), None, "{bad}");
        }
        assert_eq!(parse(&(None, None, None)), None);
    }
}
