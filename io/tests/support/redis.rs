//! A Redis server of its own for each test, and what is to be found in it.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use kilter_engine::{AccountId, Amount, Currency, Partition, epoch::BalanceImage};
use kilter_io::redis::{
    BalanceSource, Compared, Offers, OpenSource, Projection, RedisSettings, RedisWriter,
    SourceError, SourceRow, compare,
};
use parking_lot::Mutex;
use redis::{Commands, Connection};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(120);

/// Waits for a condition.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A `redis-server` process, killed when the test is done with it.
pub struct Server {
    child: Child,
    pub port: u16,
    options: Vec<String>,
    dir: TempDir,
}

impl Server {
    /// A server on a free port, or `None` after saying that there is no such program.
    pub fn start(test: &str, options: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("-v").output().is_err() {
            println!("SKIPPED {test}: there is no redis-server on this machine");
            return None;
        }
        let options: Vec<String> = options.iter().map(|&option| option.into()).collect();
        for _ in 0..10 {
            let port = free_port();
            let dir = TempDir::new().unwrap();
            let mut server = Self {
                child: process(port, &options, &dir),
                port,
                options: options.clone(),
                dir,
            };
            if server.is_there() {
                return Some(server);
            }
        }
        panic!("redis-server does not start");
    }

    /// Whether it answers; not, if it ended because somebody else has its port.
    fn is_there(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if self.try_connect().is_ok() {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        false
    }

    fn try_connect(&self) -> redis::RedisResult<Connection> {
        let mut connection =
            redis::Client::open(("127.0.0.1", self.port))?.get_connection_with_timeout(DEADLINE)?;
        match redis::cmd("DBSIZE").query::<u64>(&mut connection) {
            Err(error) if error.code() != Some("NOAUTH") => Err(error),
            _ => Ok(connection),
        }
    }

    /// A connection, to look from outside.
    pub fn connection(&self) -> Connection {
        self.try_connect().unwrap()
    }

    /// Runs a command from outside.
    pub fn run(&self, command: &str) {
        let mut words = command.split(' ');
        let mut built = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            built.arg(word);
        });
        built.query::<()>(&mut self.connection()).unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, with the data that it saved.
    pub fn restart(&mut self) {
        wait_for("the port of a server that was killed", || {
            self.child = process(self.port, &self.options, &self.dir);
            self.is_there()
        });
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    pub fn settings(&self) -> RedisSettings {
        RedisSettings {
            port: self.port,
            key_prefix: "test:".into(),
            batch: 10,
            interval: Duration::from_millis(5),
            timeout: Duration::from_millis(500),
            back_off_min: Duration::from_millis(2),
            back_off_max: Duration::from_millis(50),
            check_interval: Duration::from_millis(20),
            page: 64,
            ..RedisSettings::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn process(port: u16, options: &[String], dir: &TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(dir.path())
        .args(options);
    if options.iter().any(|option| option == "--cluster-enabled") {
        command.args(["--cluster-port", &free_port().to_string()]);
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The balances as they are committed: what MySQL is in production.
#[derive(Clone, Default)]
pub struct Store {
    rows: Arc<Mutex<BTreeMap<(AccountId, Currency), BalanceImage>>>,
    /// So many pages fail.
    pub faults: Arc<AtomicU64>,
    /// The page behind this account waits until this is another one.
    pub gate: Arc<AtomicU64>,
    /// Pages that came to the gate.
    pub at_gate: Arc<AtomicU64>,
}

impl Store {
    /// Balances of accounts 1 to `accounts`, version 1, nobody being told.
    pub fn with(accounts: u64) -> Self {
        let store = Self::default();
        (1..=accounts).for_each(|account| {
            store.commit(account);
        });
        store
    }

    /// The next version of a balance.
    pub fn commit(&self, account: u64) -> BalanceImage {
        let mut rows = self.rows.lock();
        let first = image(account, 0);
        let row = rows
            .entry((first.account_id, first.currency))
            .or_insert(first);
        *row = image(account, row.version + 1);
        *row
    }

    pub fn put(&self, image: BalanceImage) {
        let key = (image.account_id, image.currency);
        self.rows.lock().insert(key, image);
    }

    pub fn len(&self) -> usize {
        self.rows.lock().len()
    }

    pub fn source(&self) -> OpenSource {
        let store = self.clone();
        Box::new(move || Ok(Box::new(store.clone())))
    }
}

impl BalanceSource for Store {
    fn page(
        &mut self,
        after: Option<(AccountId, Currency)>,
        limit: usize,
    ) -> Result<Vec<SourceRow>, SourceError> {
        let fails = |faults: u64| faults.checked_sub(1);
        if self
            .faults
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
            .is_ok()
        {
            return Err("the store is away".into());
        }
        let gate = after.map_or(0, |(account, _)| account.get());
        if gate > 0 && self.gate.load(Ordering::SeqCst) == gate {
            self.at_gate.fetch_add(1, Ordering::SeqCst);
            wait_for("the gate", || self.gate.load(Ordering::SeqCst) != gate);
        }
        let rows = self.rows.lock();
        let behind = |key: &(AccountId, Currency)| after.is_none_or(|after| *key > after);
        let rows = rows.iter().filter(|(key, _)| behind(key));
        Ok(rows.take(limit).map(|(_, row)| *row).collect())
    }
}

/// A balance whose amounts follow from its version; in one of four partitions.
pub fn image(account: u64, version: u64) -> BalanceImage {
    BalanceImage {
        account_id: AccountId::new(account).unwrap(),
        currency: Currency::parse(b"USDT").unwrap(),
        available: Amount::from_units(i128::from(version) * 1_000_000_007).unwrap(),
        frozen: Amount::from_units(i128::from(version)).unwrap(),
        version,
        partition: Partition::new((account % 4) as u32),
    }
}

/// Two writers, and a full offer if there is a store.
pub fn projection(settings: &RedisSettings, store: Option<&Store>) -> Projection {
    let offers = Arc::new(Offers::new(2, settings.batch));
    RedisWriter::spawn(settings, offers, store.map(Store::source)).unwrap()
}

pub fn differences(settings: &RedisSettings, store: &Store) -> Option<Compared> {
    compare(settings, store.source(), &mut |_| {}).ok()
}

/// Waits until Redis has every balance as the store has it.
pub fn converges(settings: &RedisSettings, store: &Store) {
    wait_for("Redis to have what the store has", || {
        differences(settings, store).is_some_and(|compared| {
            assert_eq!((compared.different, compared.ahead), (0, 0), "{compared:?}");
            compared.is_equal() && compared.rows == store.len() as u64
        })
    });
}

/// Looks at balances all the time, and panics when a version goes down without Redis having been
/// made to lose it.
pub struct Watcher {
    /// Odd while Redis is being made to lose data.
    life: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Watcher {
    pub fn start(port: u16, accounts: u64) -> Self {
        let life = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (lives, stopped) = (Arc::clone(&life), Arc::clone(&stop));
        Self {
            life,
            stop,
            thread: std::thread::spawn(move || watch(port, accounts, &lives, &stopped)),
        }
    }

    /// Versions may go down while this runs.
    pub fn unseen<T>(&self, lose: impl FnOnce() -> T) -> T {
        self.life.fetch_add(1, Ordering::SeqCst);
        let lost = lose();
        self.life.fetch_add(1, Ordering::SeqCst);
        lost
    }

    /// It has seen versions, and none that went down.
    pub fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        assert!(self.thread.join().unwrap() > 0, "the watcher saw nothing");
    }
}

fn watch(port: u16, accounts: u64, life: &AtomicU64, stop: &AtomicBool) -> u64 {
    let client = redis::Client::open(("127.0.0.1", port)).unwrap();
    let mut last = BTreeMap::new();
    let mut last_life = 0;
    let mut seen = 0;
    let mut connection = None;
    while !stop.load(Ordering::SeqCst) || seen == 0 {
        let mut ready = match connection.take() {
            Some(ready) => ready,
            None => match client.get_connection_with_timeout(DEADLINE) {
                Ok(ready) => ready,
                Err(_) => continue,
            },
        };
        let mut alive = true;
        for account in 1..=accounts {
            let before = life.load(Ordering::SeqCst);
            let key = format!("test:balance:{account}:USDT");
            let fields = ready.hmget(&key, &["value", "version"]);
            let (value, version) = match fields {
                Ok((Some(value), Some(version))) => (value, version),
                Ok::<(Option<String>, Option<String>), _>(_) => continue,
                Err(_) => {
                    alive = false;
                    break;
                }
            };
            assert!(
                value.ends_with(&format!("\"version\":{version}}}")),
                "{value}"
            );
            let version: u64 = version.parse().unwrap();
            if before % 2 == 1 || life.load(Ordering::SeqCst) != before {
                continue;
            }
            if before != last_life {
                last.clear();
                last_life = before;
            }
            let old = last.insert(account, version).unwrap_or(0);
            assert!(
                version >= old,
                "account {account} went from {old} to {version}"
            );
            seen += 1;
        }
        if alive {
            connection = Some(ready);
        }
    }
    seen
}
