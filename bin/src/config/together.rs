//! Settings that are sound each by itself and contradict each other.

use super::{
    Config,
    mistakes::Mistake,
    reader::Reader,
    types::{Ledger, Signatures, Tls},
};

/// Why there is no front door without a ledger in the store.
pub const NO_LOOK_UPS: &str = "the front door finds transactions and entries in the store, and the \
     ledger is in the topic of results only; START_API=false does without a front door";

/// Notes every contradiction in `config`, which was read by `reader`.
pub fn note_contradictions(config: &Config, reader: &mut Reader<'_>) {
    let Config {
        mysql,
        kafka,
        redis,
        api,
        relay,
        lease,
        engine,
        ..
    } = config;
    let mut check = Check {
        reader,
        found: Vec::new(),
    };
    check.hold(
        lease.renew_interval * 2 < lease.ttl,
        &["lease.renew_interval_ms", "lease.ttl_ms"],
        || {
            format!(
                "{} ms is not less than half of {} ms; a lease is lost when one renewal fails",
                lease.renew_interval.as_millis(),
                lease.ttl.as_millis()
            )
        },
    );
    check.hold(
        engine.writers <= engine.shards,
        &["engine.writers", "engine.shards"],
        || {
            format!(
                "{} writers are more than {} shards; a writer serves at least one shard",
                engine.writers, engine.shards
            )
        },
    );
    check.hold(
        mysql.writers.len() <= usize::from(engine.writers),
        &["mysql.writers", "engine.writers"],
        || {
            format!(
                "{} servers for writers are more than {} writers; there may be one for each",
                mysql.writers.len(),
                engine.writers
            )
        },
    );
    check.hold(
        mysql.lock_timeout <= mysql.statement_timeout,
        &["mysql.lock_timeout_ms", "mysql.statement_timeout_ms"],
        || {
            format!(
                "{} ms is more than {} ms; a statement would end before its wait for a lock",
                mysql.lock_timeout.as_millis(),
                mysql.statement_timeout.as_millis()
            )
        },
    );
    check.hold(
        mysql.tls != Tls::Off || mysql.tls_ca.is_none(),
        &["mysql.tls", "mysql.tls_ca"],
        || "authorities are given and encryption is off; require or verify turns it on".to_owned(),
    );
    check.hold(
        !redis.cluster || redis.db == 0,
        &["redis.cluster", "redis.db"],
        || format!("a Redis Cluster has database 0 only, not {}", redis.db),
    );
    let opened = redis.key_prefix.split_once('{');
    check.hold(
        !redis.cluster || opened.is_none_or(|(_, behind)| behind.contains('}')),
        &["redis.cluster", "redis.key_prefix"],
        || {
            format!(
                "a cluster would read {:?} as the beginning of a hash tag; close its brace or leave \
                 it out",
                redis.key_prefix
            )
        },
    );
    check.hold(
        relay.keep_payloads >= engine.window,
        &["relay.keep_payloads", "engine.window"],
        || "payloads would be gone while their commands may still be issued anew".to_owned(),
    );
    check.hold(
        !api.enabled || engine.ledger != Ledger::Topic,
        &["api.enabled", "engine.ledger"],
        || NO_LOOK_UPS.to_owned(),
    );
    check.hold(
        api.tls_cert.is_some() == api.tls_key.is_some(),
        &["api.tls_cert", "api.tls_key"],
        || "one is given without the other".to_owned(),
    );
    check.hold(
        api.tls_client_ca.is_none() || api.tls_cert.is_some(),
        &["api.tls_client_ca", "api.tls_cert"],
        || "clients are to show certificates, and there is none of our own".to_owned(),
    );
    check.hold(
        api.signatures != Signatures::Off || api.bind.is_loopback(),
        &["api.signatures", "api.bind"],
        || {
            format!(
                "unsigned requests are taken on a loopback address only, not on {}",
                api.bind
            )
        },
    );
    check.hold(
        api.rest_port == 0 || api.rest_port != api.grpc_port,
        &["api.rest_port", "api.grpc_port"],
        || format!("both are {}", api.rest_port),
    );
    check.hold(
        api.second_secret.is_empty() && api.second_secret_file.is_none()
            || api.second_key_id != api.key_id,
        &["api.second_key_id", "api.key_id"],
        || format!("both are {:?}; a key is known by its name", api.key_id),
    );
    for (secret, file, names) in [
        (
            &api.secret,
            &api.secret_file,
            ["api.secret", "api.secret_file"],
        ),
        (
            &api.second_secret,
            &api.second_secret_file,
            ["api.second_secret", "api.second_secret_file"],
        ),
    ] {
        check.hold(secret.is_empty() || file.is_none(), &names, || {
            "both are given; one must go".to_owned()
        });
    }
    for (one, other, topic) in [
        ("commands", "results", (&kafka.commands, &kafka.results)),
        (
            "commands",
            "dead_letters",
            (&kafka.commands, &kafka.dead_letters),
        ),
        (
            "results",
            "dead_letters",
            (&kafka.results, &kafka.dead_letters),
        ),
    ] {
        check.hold(
            topic.0 != topic.1,
            &[&format!("kafka.{one}"), &format!("kafka.{other}")],
            || format!("both are {:?}; each must be a topic of its own", topic.0),
        );
    }
    let found = check.found;
    reader.mistakes.extend(found);
}

struct Check<'a, 'b> {
    reader: &'a Reader<'b>,
    found: Vec<Mistake>,
}

impl Check<'_, '_> {
    /// Notes `what` about the settings `keys` unless it `holds`; not when one of them is wrong by
    /// itself, which is said already.
    fn hold(&mut self, holds: bool, keys: &[&str], what: impl FnOnce() -> String) {
        if holds || keys.iter().any(|key| self.reader.wrong.contains(*key)) {
            return;
        }
        let places: Vec<String> = keys
            .iter()
            .map(|key| format!("{key} ({})", self.reader.origin(key)))
            .collect();
        let mistake = Mistake::new(places.join(" and "), what());
        self.found.push(mistake);
    }
}
