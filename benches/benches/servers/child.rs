//! `kilter serve` as a child process.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kilter_io::kafka::KafkaSettings;

use crate::servers::Database;

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// Names another program than that of this tree: what was before, to be compared with.
const PROGRAM: &str = "KILTER_BENCH_PROGRAM";

/// Builds the program as it is released, unless another build is to be measured.
pub fn build() {
    if std::env::var_os(PROGRAM).is_some() {
        return;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "-q", "-p", "kilter"])
        .status()
        .unwrap();
    assert!(status.success(), "cannot build kilter");
}

/// Beside the directory that this bench lies in, if no other is named.
fn program() -> PathBuf {
    if let Some(other) = std::env::var_os(PROGRAM) {
        return other.into();
    }
    let bench = std::env::current_exe().unwrap();
    bench.parent().unwrap().parent().unwrap().join("kilter")
}

/// A running node.
pub struct Node {
    child: Child,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Node {
    /// Starts one that leads and has no front door; `settings` are names of the environment without
    /// `KILTER_`.
    pub fn start(
        database: &Database<'_>,
        kafka: &KafkaSettings,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut command = on_servers(database, kafka);
        command
            .env("START_API", "false")
            .env("START_RELAY", "false");
        for (name, value) in settings {
            command.env(format!("KILTER_{name}"), value);
        }
        Self::spawn(command)
    }

    /// Starts one with a front door on ports that are free; `settings` are whole names.
    pub fn with_front(
        database: &Database<'_>,
        kafka: &KafkaSettings,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut command = on_servers(database, kafka);
        command.env("GRPC_PORT", "0").env("PORT", "0");
        command.envs(settings.iter().copied());
        Self::spawn(command)
    }

    /// The same on a directory.
    pub fn on_directory(dir: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program());
        command
            .args(["serve", "--data"])
            .arg(dir)
            .env_remove("KILTER_CONFIG")
            .env("GRPC_PORT", "0")
            .env("PORT", "0");
        for name in ["MYSQL_HOST", "KAFKA_BROKERS", "REDIS_HOST"] {
            command.env_remove(name);
        }
        command.envs(settings.iter().copied());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            log,
            _dir: dir,
        }
    }

    /// Waits until its front door is open: where it serves gRPC.
    pub fn wait_grpc(&mut self) -> String {
        let begin = Instant::now();
        loop {
            let said = self.said();
            if let Some((_, rest)) = said.split_once("grpc=")
                && let Some((address, _)) = rest.split_once(char::is_whitespace)
            {
                return address.to_owned();
            }
            self.check(begin);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has caught up with its log.
    pub fn wait_ready(&mut self) {
        let begin = Instant::now();
        while self
            .get("/readyz")
            .is_none_or(|text| !text.contains(" 200 "))
        {
            self.check(begin);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Panics with what it said when it has ended, or when it is too late.
    pub fn check(&mut self, begin: Instant) {
        let ended = self.child.try_wait().unwrap();
        assert!(
            ended.is_none() && begin.elapsed() < DEADLINE,
            "{ended:?} {}",
            self.said()
        );
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The last line that it said.
    pub fn last_words(&self) -> String {
        self.said().lines().last().unwrap_or_default().to_owned()
    }

    /// One figure of `/metrics`, added up over its labels.
    pub fn figure(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap_or_default();
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// A line of its `/proc/PID/status`, in MB.
    pub fn memory_mb(&self, line: &str) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let kib: f64 = status
            .lines()
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap();
        kib * 1024.0 / 1e6
    }

    /// The CPU time that it has used, user and system.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).unwrap();
        let rest = stat.rsplit_once(')').unwrap().1;
        let ticks: u64 = rest
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .map(|text| text.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Its number, for whoever looks at it from outside.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn get(&self, path: &str) -> Option<String> {
        let said = self.said();
        let (_, rest) = said.split_once("address=")?;
        let address = rest.split(char::is_whitespace).next()?;
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// `kilter serve` on servers of its own, without Redis.
fn on_servers(database: &Database<'_>, kafka: &KafkaSettings) -> Command {
    let mysql = &database.settings;
    let mut command = Command::new(program());
    command
        .arg("serve")
        .env("KILTER_CONFIG", "/dev/null")
        .env("MYSQL_HOST", &mysql.host)
        .env("MYSQL_PORT", mysql.port.to_string())
        .env("MYSQL_USER", &mysql.user)
        .env("MYSQL_PASSWORD", &mysql.password)
        .env("MYSQL_DATABASE", &mysql.database)
        .env("KAFKA_BROKERS", &kafka.brokers)
        .env("KAFKA_CONSUMER_GROUP", &kafka.group)
        .env("KAFKA_TOPIC_BALANCE_CHANGES", &kafka.commands)
        .env("KAFKA_TOPIC_BALANCE_RESULTS", &kafka.results)
        .env("CONSUMER_DLQ_TOPIC", &kafka.dead_letters)
        .env("KILTER_REDIS_ENABLED", "false")
        .env("PROMETHEUS_PORT", "0");
    command
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
