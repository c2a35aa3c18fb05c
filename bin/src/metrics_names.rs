//! Every figure that is exported: its name, kind, labels and words, each in one place.
//!
//! The names that begin with `balance_` are those of the system before, for which
//! dashboards exist. Units come last in a name (`_ms`, `_bytes`, `_seconds`); a counter ends in
//! `_total`.

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How many samples fell below each of some bounds.
    Histogram,
}

/// What is known of a figure.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The labels that every series of it has.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "what tests hold dashboards against")
    )]
    pub labels: &'static [&'static str],
    /// What it is.
    pub words: &'static str,
}

macro_rules! metrics {
    ($($CONSTANT:ident = $kind:ident $name:literal [$($label:literal),*] $words:literal;)+) => {
        $(
            #[doc = $words]
            pub const $CONSTANT: &str = $name;
        )+

        /// All figures.
        pub const ALL: &[Metric] = &[$(
            Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                words: $words,
            },
        )+];
    };
}

metrics! {
    CONSUMER_MESSAGES = Counter "balance_consumer_messages_total" ["partition"]
        "Records that were read from the log.";
    CONSUMER_BATCHES = Counter "balance_consumer_batches_total" ["partition"]
        "Epochs that were committed.";
    CONSUMER_SUCCESS = Counter "balance_consumer_success_total" ["partition"]
        "Commands that took effect.";
    CONSUMER_FAILED = Counter "balance_consumer_failed_total" ["partition"]
        "Commands that had no effect: failed, duplicate or refused.";
    CONSUMER_BATCH_SIZE = Histogram "balance_consumer_batch_size" ["partition"]
        "Records of an epoch.";
    CONSUMER_BATCH_DURATION_MS = Histogram "balance_consumer_batch_duration_ms" ["partition"]
        "From the first record of an epoch to its commit, in ms.";

    LAG_RECORDS = Gauge "kilter_lag_records" ["partition"]
        "Records of the log that are not committed.";
    LAG_SECONDS = Gauge "kilter_lag_seconds" ["partition"]
        "Age of the oldest record that is not committed, in s.";
    EPOCH_STAGE_MS = Histogram "kilter_epoch_stage_ms" ["stage"]
        "How long an epoch was in a stage, in ms.";
    EPOCHS = Counter "kilter_epochs_total" []
        "Transactions of epochs that were committed.";
    RING_USED = Gauge "kilter_ring_used" ["ring"]
        "Slots of a ring that are in use.";
    RING_SLOTS = Gauge "kilter_ring_slots" ["ring"]
        "Slots that a ring has.";
    POLLER_PAUSES = Counter "kilter_poller_pauses_total" []
        "Times the poller waited because a ring was full.";
    LEASE_STATE = Gauge "kilter_lease_state" ["partition"]
        "1 while the lease is held, 0 while it is not.";
    LEASE_TERM = Gauge "kilter_lease_term" ["partition"]
        "The fencing number of the lease that was held last.";
    LEASE_RENEWALS = Counter "kilter_lease_renewals_total" []
        "Renewals of leases that went well.";
    STORE_RETRIES = Counter "kilter_store_retries_total" []
        "Transactions of the store that were tried again.";
    REDIS_WAITING = Gauge "kilter_redis_waiting" []
        "Balances that wait to be written to Redis.";
    REDIS_WRITTEN = Counter "kilter_redis_written_total" []
        "Balances that Redis acknowledged.";
    REDIS_RETRIES = Counter "kilter_redis_retries_total" []
        "Batches for Redis that were tried again.";
    DEAD_LETTERS = Counter "kilter_dead_letters_total" []
        "Records that were refused.";
    ACCOUNTS = Gauge "kilter_accounts" []
        "Accounts in memory.";
    BALANCES = Gauge "kilter_balances" []
        "Balances in memory.";
    REMEMBERED_IDS = Gauge "kilter_remembered_ids" []
        "Transaction ids that are remembered.";
    WINDOW_BYTES = Gauge "kilter_window_bytes" []
        "Memory that remembered transaction ids take, in bytes.";
    RESIDENT_BYTES = Gauge "kilter_resident_bytes" []
        "Memory of the process that is in RAM, in bytes.";
    OUTBOX_CREATED = Counter "balance_outbox_events_created_total" []
        "Commands that the front door accepted.";
    OUTBOX_DUPLICATES = Counter "kilter_outbox_duplicates_total" []
        "Requests that were the same as an earlier one.";
    OUTBOX_CONFLICTS = Counter "kilter_outbox_conflicts_total" []
        "Requests that used an id for something else.";
    OUTBOX_ACCOUNT_REFUSALS = Counter "kilter_outbox_account_refusals_total" []
        "Requests that were refused for their account.";
    OUTBOX_TURNED_AWAY = Counter "kilter_outbox_turned_away_total" []
        "Requests that were turned away because too many waited.";
    OUTBOX_UNAVAILABLE = Counter "kilter_outbox_unavailable_total" []
        "Requests that the store did not answer in time.";
    OUTBOX_BATCHES = Counter "kilter_outbox_batches_total" []
        "Transactions that accepted commands.";
    OUTBOX_WAITING = Gauge "kilter_outbox_waiting" []
        "Requests that wait to become durable.";
    OUTBOX_LEFT = Counter "kilter_outbox_left_to_relay_total" []
        "Accepted commands that were left to the relay.";
    OUTBOX_RELAYED = Counter "kilter_outbox_relayed_total" []
        "Commands and legs that the relay brought to the log.";
    OUTBOX_RELAY_RETRIES = Counter "kilter_outbox_relay_retries_total" []
        "Tries of the relay that failed.";
    OUTBOX_ISSUED_ANEW = Counter "kilter_outbox_issued_anew_total" []
        "Commands and legs that had expired and were issued anew.";
    OUTBOX_TRIMMED = Counter "kilter_outbox_trimmed_total" []
        "Payloads that were dropped because they are old.";
    OUTBOX_RANGES = Gauge "kilter_outbox_ranges" []
        "Ranges of users, of 8, that this process relays.";
    OUTBOX_UNSENT = Gauge "kilter_outbox_unsent" []
        "Commands and legs in those ranges that have not reached the log.";
    OUTBOX_OLDEST = Gauge "kilter_outbox_oldest_unsent_seconds" []
        "Age of the oldest of them, in s.";
    API_CONNECTIONS = Gauge "kilter_api_connections" ["protocol"]
        "Connections of clients that are open.";
    API_REQUESTS = Counter "kilter_api_requests_total" ["protocol"]
        "Requests of clients.";
    API_REFUSED = Counter "kilter_api_refused_total" ["protocol"]
        "Requests that were refused for their form, before anything looked at what they ask.";
    API_BROKEN = Counter "kilter_api_broken_connections_total" ["protocol"]
        "Connections that ended by a fault of the client's, or by a deadline.";
    API_TURNED_AWAY = Counter "kilter_api_turned_away_total" ["protocol"]
        "Connections that were turned away because there were too many.";
    API_WAITERS = Gauge "kilter_api_waiters" []
        "Requests that wait for the outcome of their command.";
    UP = Gauge "kilter_up" []
        "1 while the node is ready, 0 while it is not.";
}

/// Gives every figure its words, which `/metrics` shows. Before the first sample, once.
pub fn describe_all() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.words),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.words),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for (index, metric) in ALL.iter().enumerate() {
            let name = metric.name;
            assert!(
                ALL[..index].iter().all(|other| other.name != name),
                "{name} twice"
            );
            assert!(name.starts_with("kilter_") || name.starts_with("balance_"));
            let is_total = name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{name}");
            // Those are what Prometheus appends by itself.
            for taken in ["_count", "_sum", "_bucket"] {
                assert!(!name.ends_with(taken), "{name}");
            }
            assert!(metric.words.ends_with('.'), "{name}");
        }
    }

    /// Every word of `text` that looks like one of our figures, without what a histogram's series
    /// have at their ends.
    fn figures(text: &str) -> Vec<String> {
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.split(|c| !is_of_word(c))
            .filter(|word| word.starts_with("kilter_") || word.starts_with("balance_"))
            .map(|word| {
                let is_histogram = |stem: &&str| {
                    ALL.iter()
                        .any(|metric| metric.name == *stem && metric.kind == Kind::Histogram)
                };
                let stems = ["_bucket", "_sum", "_count"];
                let stem = stems.iter().find_map(|end| word.strip_suffix(end));
                stem.filter(is_histogram).unwrap_or(word).to_owned()
            })
            .collect()
    }

    fn tuning(file: &str) -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning");
        std::fs::read_to_string(path.join(file)).unwrap()
    }

    #[test]
    fn alerts_and_dashboard_ask_for_what_there_is() {
        let alerts = figures(&tuning("prometheus/alerts.yml"));
        let dashboard = figures(&tuning("grafana/dashboards/kilter.json"));
        assert!(!alerts.is_empty());
        for name in alerts.iter().chain(&dashboard) {
            let is_there = ALL.iter().any(|metric| metric.name == name);
            assert!(is_there, "{name} is no figure of ours");
        }
        for metric in ALL {
            let is_shown = dashboard.iter().any(|name| name == metric.name);
            assert!(is_shown, "{} is on no panel", metric.name);
        }
    }

    #[test]
    fn a_histogram_is_asked_for_by_its_series() {
        for file in ["prometheus/alerts.yml", "grafana/dashboards/kilter.json"] {
            let text = tuning(file);
            // Words for people name the figure itself.
            let expressions = text.lines().filter(|line| !line.contains("description"));
            let text: String = expressions.collect();
            for metric in ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
                for part in text.split(metric.name).skip(1) {
                    let ends = ["_bucket", "_sum", "_count"];
                    let is_series = ends.iter().any(|end| part.starts_with(end));
                    assert!(is_series, "{file}: {} by itself", metric.name);
                }
            }
        }
    }

    #[test]
    fn the_dashboard_is_sound() {
        let text = tuning("grafana/dashboards/kilter.json");
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let mut ids: Vec<u64> = panels
            .iter()
            .map(|panel| panel["id"].as_u64().unwrap())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), panels.len());
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                let braces = |brace| expression.matches(brace).count();
                assert_eq!(braces('('), braces(')'), "{expression}");
                assert_eq!(braces('{'), braces('}'), "{expression}");
                assert!(!figures(expression).is_empty(), "{expression}");
            }
        }
    }
}
