//! One way through all balances, and the proof that Redis lost nothing on it.

use std::{collections::BTreeMap, hash::BuildHasher, time::SystemTime};

use super::{error::RedisError, servers::Servers};

/// How long the key of a pass lives unless it is renewed, in s: so those of crashed nodes go.
const PASS_LIFE_S: u64 = 3_600;

/// Sets the marker if there is none and the pass's key lives, and answers with the marker; with
/// nothing if that key is gone.
const FINISH: &str = "\
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return false
end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('DEL', KEYS[2])
return redis.call('GET', KEYS[1])
";

/// By what a server is known again: if either has changed, it may have lost data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// A new one for each start of a server.
    run_id: String,
    /// Gone after FLUSHALL.
    marker: Option<String>,
}

/// All servers that have balances, by address.
pub(super) type Sights = BTreeMap<String, Sight>;

/// What the servers look like now.
pub(super) fn look(servers: &mut Servers) -> Result<Sights, RedisError> {
    let mut sights = Sights::new();
    for (index, tag) in servers.all() {
        let run_id = run_id(servers, index)?;
        let marker = servers.keys().marker(tag);
        let link = servers.open(index)?;
        let mut get = redis::cmd("GET");
        get.arg(marker);
        let marker = link.query("read the marker", &get)?;
        sights.insert(link.address(), Sight { run_id, marker });
    }
    Ok(sights)
}

/// One way through all balances.
///
/// A key that is set on each server before the first balance is written must still be there after
/// the last, and the server must not have been started meanwhile: then every balance written in
/// between is there. Only then is the marker set. Nodes share it: one that is there stays, so that
/// several nodes do not drive one another round and round.
#[derive(Debug)]
pub(super) struct Pass {
    token: String,
    run_ids: BTreeMap<String, String>,
}

impl Pass {
    /// Begins one.
    pub(super) fn begin(servers: &mut Servers) -> Result<Self, RedisError> {
        let token = token();
        let mut run_ids = BTreeMap::new();
        for (index, tag) in servers.all() {
            let run_id = run_id(servers, index)?;
            let key = servers.keys().pass(tag, &token);
            let link = servers.open(index)?;
            let mut set = redis::cmd("SET");
            set.arg(key).arg(&token).arg("EX").arg(PASS_LIFE_S);
            link.query::<()>("begin to offer every balance", &set)?;
            run_ids.insert(link.address(), run_id);
        }
        Ok(Self { token, run_ids })
    }

    /// Whether all that was written since the beginning is still there.
    pub(super) fn holds(&self, servers: &mut Servers) -> Result<bool, RedisError> {
        let all = servers.all();
        let mut holds = all.len() == self.run_ids.len();
        for (index, tag) in all {
            let key = servers.keys().pass(tag, &self.token);
            let link = servers.open(index)?;
            let mut renew = redis::cmd("EXPIRE");
            renew.arg(key).arg(PASS_LIFE_S);
            holds &= link.query::<bool>("see whether its data is still there", &renew)?;
            holds &= self.is_same(servers, index)?;
        }
        Ok(holds)
    }

    /// Sets the marker. Nothing if the servers lost data since the beginning.
    pub(super) fn finish(&self, servers: &mut Servers) -> Result<Option<Sights>, RedisError> {
        let all = servers.all();
        if all.len() != self.run_ids.len() {
            return Ok(None);
        }
        let mut sights = Sights::new();
        for (index, tag) in all {
            let marker = servers.keys().marker(tag);
            let pass = servers.keys().pass(tag, &self.token);
            let link = servers.open(index)?;
            let mut eval = redis::cmd("EVAL");
            eval.arg(FINISH)
                .arg(2)
                .arg(marker)
                .arg(pass)
                .arg(&self.token);
            let marker: Option<String> = link.query("set the marker", &eval)?;
            let address = link.address();
            // Asked last: a server that was started before this has another one.
            if marker.is_none() || !self.is_same(servers, index)? {
                return Ok(None);
            }
            let run_id = self.run_ids[&address].clone();
            sights.insert(address, Sight { run_id, marker });
        }
        Ok(Some(sights))
    }

    fn is_same(&self, servers: &mut Servers, index: usize) -> Result<bool, RedisError> {
        let now = run_id(servers, index)?;
        let address = servers.link(index).address();
        Ok(self.run_ids.get(&address) == Some(&now))
    }
}

/// The number of a server's start; nothing where we may not ask.
fn run_id(servers: &mut Servers, index: usize) -> Result<String, RedisError> {
    let link = servers.open(index)?;
    let mut info = redis::cmd("INFO");
    info.arg("server");
    let text: String = match link.query("ask for its run_id", &info) {
        Ok(text) => text,
        // Then the marker alone must do.
        Err(error) if error.code() == Some("NOPERM") => String::new(),
        Err(error) => return Err(error),
    };
    let line = text.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(line.unwrap_or_default().trim().to_owned())
}

/// A text that no other process has.
fn token() -> String {
    let random = || {
        let now = SystemTime::now();
        // Its keys are from the operating system's random numbers.
        std::collections::hash_map::RandomState::new().hash_one((now, std::process::id()))
    };
    format!("{:016x}{:016x}", random(), random())
}
