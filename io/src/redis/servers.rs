//! The server, or the nodes of a cluster and what each of them keeps.

use kilter_engine::epoch::BalanceImage;
use redis::Value;

use super::{
    error::RedisError,
    key::{Keys, SLOTS},
    link::Link,
    settings::RedisSettings,
};

/// No node serves the slot.
const NOBODY: u16 = u16::MAX;

/// All servers that balances are spread over.
pub(super) struct Servers {
    settings: RedisSettings,
    keys: Keys,
    links: Vec<Link>,
    /// Which link each slot is behind; empty if there is only one server.
    slots: Vec<u16>,
    is_known: bool,
}

impl Servers {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        Self {
            keys: Keys::new(&settings.key_prefix, settings.cluster),
            links: vec![Link::new(settings.host.clone(), settings.port)],
            slots: Vec::new(),
            is_known: !settings.cluster,
            settings: settings.clone(),
        }
    }

    pub(super) fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn link(&mut self, index: usize) -> &mut Link {
        &mut self.links[index]
    }

    /// A server, connected.
    pub(super) fn open(&mut self, index: usize) -> Result<&mut Link, RedisError> {
        let link = &mut self.links[index];
        link.open(&self.settings)?;
        Ok(link)
    }

    /// Which server keeps a balance.
    pub(super) fn index_of(&self, image: &BalanceImage) -> Result<usize, RedisError> {
        if self.slots.is_empty() {
            return Ok(0);
        }
        self.index_of_slot(self.keys.slot(image.partition))
    }

    fn index_of_slot(&self, slot: u16) -> Result<usize, RedisError> {
        match self.slots.get(usize::from(slot)) {
            Some(&index) if index != NOBODY => Ok(usize::from(index)),
            _ => Err(RedisError::NoNode {
                address: self.settings.address(),
                slot,
            }),
        }
    }

    /// Servers that keep balances, each with the tag that brings a key of ours there. A node without
    /// slots has none and is left out.
    pub(super) fn all(&self) -> Vec<(usize, Option<u32>)> {
        if !self.settings.cluster {
            return vec![(0, None)];
        }
        let tag_of = |index: usize| {
            // About as many tries as there are nodes find one.
            let tags = if self.keys.are_together() {
                1
            } else {
                u32::from(SLOTS) * 16
            };
            (0..tags).find(|&tag| {
                let slot = self.keys.slot_of_tag(tag);
                self.slots.get(usize::from(slot)).copied() == Some(index as u16)
            })
        };
        (0..self.links.len())
            .filter_map(|index| Some((index, Some(tag_of(index)?))))
            .collect()
    }

    /// The cluster is asked anew who keeps what before the next use.
    pub(super) fn doubt(&mut self) {
        self.is_known = !self.settings.cluster;
    }

    /// Learns who keeps what, if that is in doubt.
    ///
    /// # Errors
    ///
    /// When no node that was known, nor the configured one, answers; the last reason.
    pub(super) fn refresh(&mut self) -> Result<(), RedisError> {
        if self.is_known {
            return Ok(());
        }
        let (host, port) = (self.settings.host.clone(), self.settings.port);
        if !self.links.iter().any(|link| link.is_of(&host, port)) {
            self.links.push(Link::new(host, port));
        }
        let mut last = None;
        for index in 0..self.links.len() {
            match self.ask(index) {
                Ok(ranges) => {
                    self.arrange(&ranges);
                    self.is_known = true;
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| RedisError::NoNode {
            address: self.settings.address(),
            slot: 0,
        }))
    }

    fn ask(&mut self, index: usize) -> Result<Vec<Range>, RedisError> {
        const WHAT: &str = "learn which node of the cluster keeps what";
        let link = self.open(index)?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let answer: Vec<Value> = link.query(WHAT, &command)?;
        let ranges = answer
            .iter()
            .map(|range| range_of(range, link.host()).ok_or(range))
            .collect::<Result<Vec<_>, _>>();
        ranges.map_err(|answer| RedisError::Answer {
            address: link.address(),
            what: WHAT,
            answer: format!("{answer:?}"),
        })
    }

    /// Keeps the connections that are still of use.
    fn arrange(&mut self, ranges: &[Range]) {
        let mut old = std::mem::take(&mut self.links);
        self.slots = vec![NOBODY; usize::from(SLOTS)];
        for range in ranges {
            let is_it = |link: &Link| link.is_of(&range.host, range.port);
            let index = self.links.iter().position(is_it).unwrap_or_else(|| {
                self.links.push(match old.iter().position(is_it) {
                    Some(at) => old.swap_remove(at),
                    None => Link::new(range.host.clone(), range.port),
                });
                self.links.len() - 1
            });
            for slot in range.first..=range.last.min(SLOTS - 1) {
                self.slots[usize::from(slot)] = index as u16;
            }
        }
        if self.links.is_empty() {
            // A cluster that was not told its slots yet; it is asked again.
            self.links = old;
        }
    }
}

/// Slots and the master that serves them.
struct Range {
    first: u16,
    last: u16,
    host: String,
    port: u16,
}

/// A range of CLUSTER SLOTS; a node that does not know its own name is who was `asked`.
fn range_of(value: &Value, asked: &str) -> Option<Range> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [first, last, master, ..] = &parts[..] else {
        return None;
    };
    let Value::Array(master) = master else {
        return None;
    };
    let [host, port, ..] = &master[..] else {
        return None;
    };
    let host: Option<String> = redis::from_redis_value_ref(host).ok()?;
    Some(Range {
        first: redis::from_redis_value_ref(first).ok()?,
        last: redis::from_redis_value_ref(last).ok()?,
        host: host
            .filter(|host| !host.is_empty() && host != "?")
            .unwrap_or_else(|| asked.to_owned()),
        port: redis::from_redis_value_ref(port).ok()?,
    })
}
