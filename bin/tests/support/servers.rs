//! The real program on real servers, with a database, topics and keys of each test's own.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    unsafe_code,
    reason = "signals to own children and to the stack's servers"
)]

use std::{
    collections::BTreeMap,
    fs::File,
    future::Future,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql::{Conn, OptsBuilder, prelude::Queryable};
use rdkafka::{
    ClientConfig, ClientContext, Message, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{DeliveryResult, Header, Headers, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use super::{DEADLINE, command, open};

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

/// A running `kilter serve`.
pub struct Node {
    child: Child,
    log: PathBuf,
    stopped: bool,
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
    }
}

/// Digits without the zeros that a column adds.
fn plain(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

impl Node {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where figures and health are told, once that is known.
    fn http(&self) -> Option<String> {
        let log = self.log();
        let at = log.find("address=127.0.0.1:")?;
        let rest = &log[at + "address=".len()..];
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '"')
            .unwrap_or(rest.len());
        // Escape sequences may follow on a terminal; there is none here.
        Some(rest[..end].to_owned())
    }

    /// GET of a path: status line and body.
    pub fn get(&self, path: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(self.http()?).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_owned(), body.to_owned()))
    }

    pub fn state(&self) -> String {
        self.get("/readyz")
            .map(|(_, body)| body)
            .unwrap_or_default()
    }

    pub fn is_ready(&self) -> bool {
        self.get("/readyz")
            .is_some_and(|(status, _)| status.contains(" 200 "))
    }

    pub fn wait_ready(&self) {
        self.wait_for("ready", |node| node.is_ready());
    }

    pub fn wait_for(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(
                start.elapsed() < DEADLINE,
                "waited too long for {what}; the node says {} and {}",
                self.state(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that was not waited for, so its number is still its own.
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0);
    }

    pub fn freeze(&mut self) {
        self.signal(libc::SIGSTOP);
        self.stopped = true;
    }

    pub fn thaw(&mut self) {
        self.signal(libc::SIGCONT);
        self.stopped = false;
    }

    /// As a power cut does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As an operator does.
    pub fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "it does not end: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Acknowledged(AtomicU64);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("not delivered: {error}");
        }
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client of the log that is not ours.
pub struct Client {
    producer: Arc<BaseProducer<Acknowledged>>,
    topic: String,
    sent: u64,
}

impl Client {
    pub fn new(brokers: &str, topic: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            // As the Java client and kafkajs.
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", "10000000")
            .set("queue.buffering.max.messages", "1000000")
            .create_with_context(Acknowledged::default())
            .unwrap();
        Self {
            producer: Arc::new(producer),
            topic: topic.to_owned(),
            sent: 0,
        }
    }

    pub fn send_json(&mut self, line: &str) {
        let json: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let key = json["userId"].as_str().unwrap_or_default().to_owned();
        self.send(Some(key.as_bytes()), Some(line.as_bytes()), &[]);
    }

    pub fn send(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) {
        let mut own = OwnedHeaders::new();
        for (key, value) in headers {
            own = own.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
        record.key = key;
        record.payload = value;
        if !headers.is_empty() {
            record = record.headers(own);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((error, same)) => {
                    let code = error.rdkafka_error_code();
                    assert_eq!(
                        code,
                        Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                        "{error}"
                    );
                    record = same;
                    self.producer.poll(Duration::from_millis(10));
                }
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(256) {
            self.producer.poll(Duration::ZERO);
        }
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn finish(&self) {
        let start = Instant::now();
        while self.producer.context().0.load(Ordering::Relaxed) < self.sent {
            self.producer.poll(Duration::from_millis(20));
            assert!(start.elapsed() < DEADLINE, "brokers do not acknowledge");
        }
    }
}

/// A record as a consumer sees it.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

pub fn read_topic(brokers: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-test-reader"))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.message.max.bytes", "20000000")
        .create()
        .unwrap();
    let timeout = Duration::from_secs(20);
    let metadata = consumer.fetch_metadata(Some(topic), timeout).unwrap();
    let partitions: Vec<i32> = metadata.topics()[0]
        .partitions()
        .iter()
        .map(|p| p.id())
        .collect();
    let mut list = TopicPartitionList::new();
    let mut left = BTreeMap::new();
    for partition in partitions {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, timeout)
            .unwrap();
        if high > low {
            list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(low))
                .unwrap();
            left.insert(partition, high);
        }
    }
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    let start = Instant::now();
    while !left.is_empty() {
        assert!(
            start.elapsed() < DEADLINE,
            "{topic} cannot be read to its end"
        );
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| {
                    (
                        header.key.to_owned(),
                        header.value.unwrap_or_default().to_vec(),
                    )
                })
                .collect()
        });
        records.push(Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        });
        if left
            .get(&message.partition())
            .is_some_and(|end| message.offset() + 1 >= *end)
        {
            left.remove(&message.partition());
        }
    }
    records
}

/// Waits for a future on this thread; the admin client's own thread completes it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut future = std::pin::pin!(future);
    let start = Instant::now();
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(start.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The servers of `bin/stack`, for tests that kill them: one such test at a time.
pub struct Stack {
    dir: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Stack {
    /// `None` after saying so when the servers are somebody else's.
    pub fn alone(test: &str) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let Ok(dir) = std::env::var("KILTER_STACK_DIR") else {
            println!("SKIPPED {test}: only servers of bin/stack may be killed");
            return None;
        };
        Some(Self {
            dir: dir.into(),
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn pid(&self, server: &str) -> i32 {
        let text = std::fs::read_to_string(self.dir.join(server).join("pid")).unwrap();
        text.trim().parse().unwrap()
    }

    pub fn signal(&self, server: &str, signal: i32) {
        // SAFETY: a signal to the process that bin/stack started and wrote down.
        unsafe { libc::kill(self.pid(server), signal) };
    }

    /// Kills a server, as a power cut does.
    pub fn kill(&self, server: &str) {
        let pid = self.pid(server);
        self.signal(server, libc::SIGKILL);
        let start = Instant::now();
        while PathBuf::from(format!("/proc/{pid}/fd/0")).exists() {
            assert!(start.elapsed() < DEADLINE);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts what is not running.
    pub fn up(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/stack");
        let mut command = Command::new(script);
        for name in ["MYSQL_HOST", "REDIS_HOST", "KAFKA_BROKERS"] {
            command.env_remove(name);
        }
        let output = command.arg("up").output().unwrap();
        assert!(output.status.success(), "{}", super::text(&output));
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
