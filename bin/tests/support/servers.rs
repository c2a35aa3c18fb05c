//! The real program on real servers, with a database, topics and keys of each test's own.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use mysql::{Conn, OptsBuilder, prelude::Queryable};

use super::{
    DEADLINE, command, open,
    process::Node,
    topics::{Client, Record, delete_topics, read_topic},
};

/// Servers named by the environment, and what this test calls its own on them.
pub struct Servers {
    pub name: String,
    pub host: String,
    pub port: u16,
    user: String,
    password: String,
    pub brokers: String,
    pub redis: Option<(String, u16)>,
    dir: tempfile::TempDir,
    nodes: AtomicU32,
}

impl Servers {
    /// `None` after saying so when the environment names no servers.
    pub fn new(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let var = |name: &str| std::env::var(name).ok();
        let (Some(host), Some(brokers)) = (var("MYSQL_HOST"), var("KAFKA_BROKERS")) else {
            println!("SKIPPED {test}: MYSQL_HOST or KAFKA_BROKERS is not set (bin/stack env)");
            return None;
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let redis = var("REDIS_HOST").map(|host| {
            let port = var("REDIS_PORT").map_or(6379, |port| port.parse().unwrap());
            (host, port)
        });
        Some(Self {
            name: format!("kt{}_{number}", std::process::id()),
            host,
            port: var("MYSQL_PORT").map_or(3306, |port| port.parse().unwrap()),
            user: var("MYSQL_USER").unwrap_or_else(|| "root".into()),
            password: var("MYSQL_PASSWORD").unwrap_or_default(),
            brokers,
            redis,
            dir: tempfile::tempdir().unwrap(),
            nodes: AtomicU32::new(0),
        })
    }

    /// The same beside another store, on loopback, whose root has no password.
    pub fn with_store_at(mut self, port: u16) -> Self {
        self.host = "127.0.0.1".into();
        self.port = port;
        self.user = "root".into();
        self.password = String::new();
        self
    }

    pub fn topic(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with the environment of this test.
    pub fn kilter(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kilter"));
        command
            .args(args)
            .env("KILTER_CONFIG", "/dev/null")
            .env("MYSQL_HOST", &self.host)
            .env("MYSQL_PORT", self.port.to_string())
            .env("MYSQL_USER", &self.user)
            .env("MYSQL_PASSWORD", &self.password)
            .env("MYSQL_DATABASE", &self.name)
            .env("KAFKA_BROKERS", &self.brokers)
            .env("KAFKA_CONSUMER_GROUP", self.topic("group"))
            .env("KAFKA_TOPIC_BALANCE_CHANGES", self.topic("commands"))
            .env("KAFKA_TOPIC_BALANCE_RESULTS", self.topic("results"))
            .env("CONSUMER_DLQ_TOPIC", self.topic("dlq"))
            .env("REDIS_KEY_PREFIX", format!("{}:", self.name))
            .env("PROMETHEUS_PORT", "0")
            .env("GRPC_PORT", "0")
            .env("PORT", "0")
            .env("HMAC_SECRET", super::rest::SECRET)
            // A killed leader's partitions are free soon.
            .env("LEADER_LOCK_TTL", "2000")
            .env("LEADER_RENEW_INTERVAL", "500")
            .stdin(Stdio::null());
        match &self.redis {
            Some((host, port)) => {
                command
                    .env("REDIS_HOST", host)
                    .env("REDIS_PORT", port.to_string());
            }
            None => {
                command.env("KILTER_REDIS_ENABLED", "false");
            }
        }
        command
    }

    /// Runs it and expects that all is well; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.kilter(args).output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            super::text(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Audits beside whatever runs, and expects that all is well; what it printed. Not Redis: nobody
    /// may write there, and what a killed node did not write the next one writes when it has begun.
    pub fn audit(&self) -> String {
        let mut command = self.kilter(&["audit"]);
        let output = command
            .env("KILTER_REDIS_ENABLED", "false")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", super::text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Tables and topics.
    pub fn init(&self) {
        self.ok(&["init"]);
    }

    /// Starts a node.
    pub fn serve(&self, env: &[(&str, &str)]) -> Node {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("node-{number}.log"));
        let child = self
            .kilter(&["serve"])
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Node {
            child,
            log,
            stopped: false,
        }
    }

    /// Starts a node and waits until it works.
    pub fn serve_ready(&self, env: &[(&str, &str)]) -> Node {
        let node = self.serve(env);
        node.wait_ready();
        node
    }

    pub fn conn(&self) -> Conn {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.connect(Some(&self.name)) {
                Ok(conn) => return conn,
                Err(error) if Instant::now() >= end => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    pub fn connect(&self, database: Option<&str>) -> mysql::Result<Conn> {
        Conn::new(
            OptsBuilder::new()
                .ip_or_hostname(Some(self.host.as_str()))
                .tcp_port(self.port)
                .user(Some(self.user.as_str()))
                .pass(Some(self.password.as_str()))
                .db_name(database)
                .tcp_connect_timeout(Some(Duration::from_secs(3)))
                .prefer_socket(false),
        )
    }

    pub fn producer(&self) -> Client {
        Client::new(&self.brokers, &self.topic("commands"))
    }

    /// Produces opens of accounts 1 to `count`, then these commands, and waits for the brokers.
    pub fn produce(&self, lines: impl IntoIterator<Item = String>) -> u64 {
        let mut client = self.producer();
        let mut count = 0;
        for line in lines {
            client.send_json(&line);
            count += 1;
        }
        client.finish();
        count
    }

    /// How many records are committed: the lowest offset of each partition, added up.
    pub fn committed(&self, conn: &mut Conn) -> u64 {
        let rows: Result<Vec<u64>, _> =
            conn.query("SELECT min(`offset`) FROM consumer_offsets GROUP BY `partition`");
        rows.map_or(0, |rows| rows.into_iter().sum())
    }

    /// Waits until so many records are committed.
    pub fn wait_committed(&self, records: u64) {
        let mut conn = self.conn();
        let start = Instant::now();
        loop {
            let committed = self.committed(&mut conn);
            if committed >= records {
                assert_eq!(committed, records, "more is committed than was produced");
                return;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{committed} of {records} records were committed"
            );
            std::thread::sleep(Duration::from_millis(20));
            // After an outage the connection may be gone.
            if conn.ping().is_err() {
                conn = self.conn();
            }
        }
    }

    /// The balances: (account, currency) → available, frozen, version, as plain text.
    pub fn balances(&self) -> BTreeMap<(u64, String), (String, String, u64)> {
        let rows: Vec<(u64, String, String, String, u64)> = self
            .conn()
            .query(
                "SELECT account_id, currency_code, CAST(available AS CHAR), \
                 CAST(frozen AS CHAR), version FROM account_balances",
            )
            .unwrap();
        rows.into_iter()
            .map(|(account, currency, available, frozen, version)| {
                (
                    (account, currency),
                    (plain(&available), plain(&frozen), version),
                )
            })
            .collect()
    }

    pub fn available(&self, account: u64, currency: &str) -> Option<String> {
        let key = (account, currency.to_owned());
        self.balances()
            .remove(&key)
            .map(|(available, ..)| available)
    }

    /// The ledger: place in the log → account, id, kind, status or error.
    pub fn ledger(&self) -> BTreeMap<(u32, u64), (u64, String, String, String)> {
        let rows: Vec<(u32, u64, u64, String, String, Option<String>)> = self
            .conn()
            .query(
                "SELECT `partition`, `offset`, account_id, CAST(transaction_id AS CHAR), type, \
                 error_message FROM balance_transactions",
            )
            .unwrap();
        rows.into_iter()
            .map(|(partition, offset, account, id, kind, error)| {
                let status = error.unwrap_or_else(|| "SUCCESS".into());
                ((partition, offset), (account, id, kind, status))
            })
            .collect()
    }

    /// Every record of a topic, in order within its partition.
    pub fn read(&self, what: &str) -> Vec<Record> {
        read_topic(&self.brokers, &self.topic(what))
    }

    /// The results by their command's place, each checked to be the same whenever it comes again.
    pub fn results(&self) -> BTreeMap<(u64, u64), serde_json::Value> {
        let mut by_place = BTreeMap::new();
        for record in self.read("results") {
            let mut result: serde_json::Value =
                serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap();
            assert_eq!(
                record.key.as_deref(),
                result["userId"].as_str().map(str::as_bytes)
            );
            result.as_object_mut().unwrap().remove("term");
            let place = (
                result["partition"].as_u64().unwrap(),
                result["offset"].as_u64().unwrap(),
            );
            if let Some(old) = by_place.insert(place, result.clone()) {
                assert_eq!(old, result, "another answer than before");
            }
        }
        by_place
    }

    /// The values of the dead-letter topic, without what comes again after a crash.
    pub fn dead_letters(&self) -> BTreeMap<(u64, u64), serde_json::Value> {
        let mut by_place = BTreeMap::new();
        for record in self.read("dlq") {
            let letter: serde_json::Value =
                serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap();
            let place = (
                letter["originalPartition"].as_u64().unwrap(),
                letter["originalOffset"].as_u64().unwrap(),
            );
            if let Some(old) = by_place.insert(place, letter.clone()) {
                assert_eq!(old, letter, "another dead letter than before");
            }
        }
        by_place
    }

    /// The codes of the dead letters, sorted.
    pub fn dead_codes(&self) -> Vec<String> {
        let mut codes: Vec<String> = self
            .dead_letters()
            .values()
            .map(|letter| letter["error"]["name"].as_str().unwrap().to_owned())
            .collect();
        codes.sort();
        codes
    }

    /// Ledger, offsets and results agree, whatever happened before.
    pub fn check_consistent(&self) {
        let mut conn = self.conn();
        let bad: Vec<(u64, String)> = conn
            .query(
                "SELECT b.account_id, CAST(b.available AS CHAR) FROM account_balances AS b JOIN \
                 (SELECT account_id, currency_code, sum(available_after - available_before) AS a, \
                 sum(frozen_after - frozen_before) AS f, sum(status = 'SUCCESS') AS n \
                 FROM balance_transactions GROUP BY account_id, currency_code) AS t \
                 USING (account_id, currency_code) \
                 WHERE b.available <> t.a OR b.frozen <> t.f OR b.version <> t.n",
            )
            .unwrap();
        assert!(
            bad.is_empty(),
            "balances are not what the ledger adds up to: {bad:?}"
        );
        let orphans: Option<u64> = conn
            .query_first(
                "SELECT count(*) FROM account_balances AS b LEFT JOIN balance_transactions AS t \
                 ON t.account_id = b.account_id AND t.currency_code = b.currency_code \
                 AND t.status = 'SUCCESS' WHERE t.account_id IS NULL",
            )
            .unwrap();
        assert_eq!(orphans, Some(0));
        let results = self.results();
        for ((partition, offset), (_, id, _, status)) in self.ledger() {
            let result = results
                .get(&(u64::from(partition), offset))
                .unwrap_or_else(|| panic!("no result of {partition}/{offset} {id}"));
            assert_eq!(result["transactionId"], id.as_str());
            let code = result["errorCode"].as_str().unwrap_or("SUCCESS");
            assert_eq!(code, status, "{partition}/{offset}");
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the nodes said, for whoever looks.
            for number in 0..self.nodes.load(Ordering::Relaxed) {
                let log = self.path(&format!("node-{number}.log"));
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(30).collect();
                println!("== node {number}");
                for line in tail.into_iter().rev() {
                    println!("{line}");
                }
            }
        }
        if let Ok(mut conn) = self.connect(None) {
            let _ = conn.query_drop("SET lock_wait_timeout = 5");
            let _ = conn.query_drop(format!("DROP DATABASE IF EXISTS {}", self.name));
        }
        let topics = ["commands", "results", "dlq"].map(|what| self.topic(what));
        delete_topics(&self.brokers, &topics);
    }
}

/// Digits without the zeros that a column adds.
fn plain(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// Opens of so many accounts, then so many commands of every kind, some of them hostile.
pub fn mixture(accounts: u64, commands: u64) -> impl Iterator<Item = String> + Clone {
    let kinds = [
        "DEPOSIT", "WITHDRAW", "FREEZE", "UNFREEZE", "DEPOSIT", "SETTLE",
    ];
    let commands = (0..commands).map(move |n| {
        let account = n * 7919 % (accounts + 3) + 1;
        let kind = kinds[(n * 31 % 97 % 6) as usize];
        // Now and then an id comes again, or no amount is one.
        let id = if n % 53 == 0 { n / 2 } else { n };
        let amount = if n % 101 == 0 {
            "x".into()
        } else {
            format!("{}.{:03}", n % 50 + 1, n % 997)
        };
        command(&format!("t-{id}"), account, kind, &amount)
    });
    (1..=accounts).map(open).chain(commands)
}
