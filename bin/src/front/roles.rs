//! What a process does of all that a node can do.

use std::fmt;

use clap::ValueEnum;

use crate::config::{Config, Ledger, NO_LOOK_UPS};

/// One of the things that a process can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// gRPC and REST for clients.
    Api,
    /// Lead: apply commands from the log.
    Engine,
    /// Bring accepted commands to the log that were left behind.
    Relay,
    /// Write balances to Redis.
    Cache,
}

/// What this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// gRPC and REST for clients.
    pub api: bool,
    /// Lead, or stand by to.
    pub engine: bool,
    /// Bring accepted commands to the log that were left behind.
    pub relay: bool,
    /// Write balances to Redis.
    pub cache: bool,
}

impl Roles {
    /// Those that the command line names, else those that the settings do not turn off.
    pub fn of(named: &[Role], config: &Config) -> Self {
        let is_on = |role, enabled: bool| match named {
            [] => enabled,
            // A Redis that is not there cannot be written, whoever says so.
            named => named.contains(&role) && (role != Role::Cache || config.redis.enabled),
        };
        Self {
            api: is_on(Role::Api, config.api.enabled),
            engine: is_on(Role::Engine, config.engine.enabled),
            relay: is_on(Role::Relay, config.relay.enabled),
            cache: is_on(Role::Cache, config.redis.enabled),
        }
    }

    /// Refuses what the settings do not let this process do.
    ///
    /// # Errors
    ///
    /// When there is to be a front door and the ledger is not in the store. Settings that turn it on
    /// are refused for that by themselves; the command line may turn it on, too.
    pub fn check(self, config: &Config) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.api || config.engine.ledger != Ledger::Topic,
            "--role api and engine.ledger = topic: {NO_LOOK_UPS}"
        );
        Ok(())
    }

    /// Whether there is nothing to do.
    pub fn are_none(self) -> bool {
        !(self.api || self.engine || self.relay || self.cache)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.api, "api"),
            (self.engine, "engine"),
            (self.relay, "relay"),
            (self.cache, "cache"),
        ];
        let on: Vec<&str> = names
            .into_iter()
            .filter_map(|(is_on, name)| is_on.then_some(name))
            .collect();
        f.write_str(&on.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn the_command_line_wins_over_the_settings() {
        let of = |named: &[Role], set: &[&str]| {
            let set: Vec<String> = set.iter().map(|&one| one.to_owned()).collect();
            let config = Config::load(None, &Environment::default(), &set).unwrap();
            Roles::of(named, &config).to_string()
        };
        assert_eq!(of(&[], &[]), "api, engine, relay, cache");
        assert_eq!(
            of(&[], &["api.enabled=false", "redis.enabled=false"]),
            "engine, relay"
        );
        assert_eq!(of(&[Role::Api], &["api.enabled=false"]), "api");
        assert_eq!(of(&[Role::Cache], &["redis.enabled=false"]), "");
    }

    #[test]
    fn no_front_door_without_a_ledger_in_the_store() {
        let check = |named: &[Role]| {
            let set = ["api.enabled=false", "engine.ledger=topic"].map(str::to_owned);
            let config = Config::load(None, &Environment::default(), &set).unwrap();
            Roles::of(named, &config).check(&config)
        };
        assert!(check(&[]).is_ok());
        let error = check(&[Role::Engine, Role::Api]).unwrap_err().to_string();
        assert!(error.contains("engine.ledger = topic"), "{error}");
    }
}
