//! A database, topics and a group of its own for each test, on the servers that the environment
//! names.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    future::Future,
    io::{BufRead, BufReader},
    path::PathBuf,
    pin::pin,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use kilter_engine::Partition;
use kilter_io::kafka::{CommandConsumer, CommandProducer, KafkaSettings};
use mysql::{Conn, OptsBuilder, prelude::Queryable};
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

use crate::support::{Killed, Place, text, wait_for};

/// How many partitions the command topic has.
pub const PARTITIONS: u32 = 3;

pub struct Stack {
    pub place: Place,
    pub name: String,
    brokers: String,
    config: PathBuf,
}

impl Stack {
    /// Names and settings of its own, or `None` after saying so.
    pub fn new(test: &str, settings: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if std::env::var_os("MYSQL_HOST").is_none() {
            println!("SKIPPED {test}: MYSQL_HOST is not set (bin/stack up; bin/stack env)");
            return None;
        }
        let Ok(brokers) = std::env::var("KAFKA_BROKERS") else {
            println!("SKIPPED {test}: KAFKA_BROKERS is not set (bin/stack up; bin/stack env)");
            return None;
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kilter_test_read_{}_{number}", std::process::id());
        let place = Place::new();
        let config = place.file("kilter.toml", settings);
        Some(Self {
            place,
            name,
            brokers,
            config,
        })
    }

    /// The program with these servers, without saying so on its command line.
    pub fn plain(&self, args: &[&str]) -> Command {
        let mut command = self.place.kilter(args);
        command
            .env_remove("KILTER_DATA")
            .env("MYSQL_DATABASE", &self.name)
            .env("KAFKA_CONSUMER_GROUP", &self.name)
            .env("KAFKA_TOPIC_BALANCE_CHANGES", self.topic("commands"))
            .env("KAFKA_TOPIC_BALANCE_RESULTS", self.topic("results"))
            .env("CONSUMER_DLQ_TOPIC", self.topic("letters"))
            .env("KILTER_REDIS_ENABLED", "false")
            .env("KILTER_METRICS_ENABLED", "false")
            .env("START_API", "false");
        command
    }

    /// The program with the configuration of these servers.
    pub fn kilter(&self, args: &[&str]) -> Command {
        let mut command = self.plain(args);
        command.arg("--config").arg(&self.config);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.kilter(args).output().expect("the program runs")
    }

    /// Runs it and expects that all is well; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it and expects exit code 1; all that it said.
    pub fn no(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output));
        text(&output)
    }

    /// A node that leads when this returns; `settings` are as for `--set`.
    pub fn serve(&self, settings: &[&str]) -> Node {
        let args = settings.iter().flat_map(|setting| ["--set", setting]);
        let mut child = Killed(
            self.kilter(&["serve"])
                .args(args)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let lines = BufReader::new(child.0.stderr.take().unwrap());
        let (said, hears) = mpsc::channel();
        // Read on to its end, so that the node never waits for us.
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                // Shown if the test fails.
                println!("{line}");
                let _ = said.send(line);
            }
        });
        let mut log = Vec::new();
        wait_for("a node that leads", || {
            log.extend(hears.try_iter());
            log.iter().any(|line: &String| line.contains("leading"))
        });
        Node { child, hears, log }
    }

    pub fn kafka(&self) -> KafkaSettings {
        KafkaSettings {
            group: self.name.clone(),
            commands: self.topic("commands"),
            results: self.topic("results"),
            dead_letters: self.topic("letters"),
            ..KafkaSettings::new(&self.brokers)
        }
    }

    fn topic(&self, what: &str) -> String {
        format!("{}_{what}", self.name)
    }

    /// Puts commands into the log, each under its user.
    pub fn produce(&self, lines: impl IntoIterator<Item = (String, String)>) {
        let mut producer = CommandProducer::new(&self.kafka()).unwrap();
        for (user, line) in lines {
            producer.send(user.as_bytes(), line.as_bytes()).unwrap();
        }
        producer.finish(Duration::from_secs(30)).unwrap();
    }

    /// Waits until everything that is in the log is in the store.
    pub fn wait_until_committed(&self) {
        let consumer = CommandConsumer::new(&self.kafka()).unwrap();
        let mut conn = self.conn();
        for partition in 0..PARTITIONS {
            let end = consumer.range(Partition::new(partition)).unwrap().end;
            wait_for("all to be committed", || {
                let lowest: Option<Option<u64>> = conn
                    .exec_first(
                        "SELECT min(`offset`) FROM consumer_offsets WHERE `partition` = ?",
                        (partition,),
                    )
                    .unwrap();
                lowest.flatten() == Some(end)
            });
        }
    }

    /// Throws away all but the last so many records of every partition of the result topic.
    pub fn shorten_results(&self, records: i64) {
        let client: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create()
            .unwrap();
        let mut offsets = TopicPartitionList::new();
        for partition in 0..PARTITIONS as i32 {
            let (first, end) = client
                .inner()
                .fetch_watermarks(&self.topic("results"), partition, Duration::from_secs(10))
                .unwrap();
            assert!(end - records > first);
            let at = rdkafka::Offset::Offset(end - records);
            offsets
                .add_partition_offset(&self.topic("results"), partition, at)
                .unwrap();
        }
        block_on(client.delete_records(&offsets, &AdminOptions::new())).unwrap();
    }

    /// A plain connection to the database.
    pub fn conn(&self) -> Conn {
        self.connect().unwrap()
    }

    fn connect(&self) -> Result<Conn, mysql::Error> {
        let var = |name: &str, default: &str| std::env::var(name).unwrap_or(default.into());
        Conn::new(
            OptsBuilder::new()
                .ip_or_hostname(std::env::var("MYSQL_HOST").ok())
                .tcp_port(var("MYSQL_PORT", "3306").parse().unwrap())
                .user(Some(var("MYSQL_USER", "root")))
                .pass(Some(var("MYSQL_PASSWORD", "")))
                .db_name(Some(&self.name))
                .prefer_socket(false),
        )
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // A test that failed early has none of these.
        if let Ok(mut conn) = self.connect() {
            let _ = conn.query_drop("SET lock_wait_timeout = 5");
            let _ = conn.query_drop(format!("DROP DATABASE IF EXISTS {}", self.name));
        }
        let client: Result<AdminClient<DefaultClientContext>, _> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create();
        if let Ok(client) = client {
            let topics = ["commands", "results", "letters"].map(|what| self.topic(what));
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
            let _ = block_on(client.delete_topics(&names, &options));
        }
    }
}

/// A running `kilter serve`.
pub struct Node {
    child: Killed,
    hears: mpsc::Receiver<String>,
    log: Vec<String>,
}

impl Node {
    /// Asks it to stop, and waits until it did so cleanly.
    pub fn stop(mut self) {
        let id = self.child.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let child: &mut Child = &mut self.child.0;
        let mut status = None;
        wait_for("the node to stop", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        self.log.extend(self.hears.iter());
        assert!(status.unwrap().success(), "{}", self.log.join("\n"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.extend(self.hears.try_iter());
            println!("the node said:\n{}", self.log.join("\n"));
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Nobody;
    impl std::task::Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    let waker = Waker::from(Arc::new(Nobody));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
}
