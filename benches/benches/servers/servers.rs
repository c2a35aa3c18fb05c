//! The servers that the environment names, and databases and topics of our own on them.

use std::{
    future::Future,
    io::Write,
    sync::Mutex,
    task::{Context, Poll, Waker},
    time::Duration,
};

use kilter_io::{
    kafka::{Admin, KafkaSettings},
    mysql::{InitLog, MysqlSettings},
};
use mysql::{Conn, LocalInfileHandler, OptsBuilder, prelude::Queryable};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

/// MySQL and Kafka. What was made on them is dropped with it.
pub struct Servers {
    mysql: MysqlSettings,
    brokers: String,
    databases: Mutex<Vec<String>>,
    topics: Mutex<Vec<String>>,
}

impl Servers {
    /// `None` when the environment names none.
    pub fn from_environment() -> Option<Self> {
        let var = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let defaults = MysqlSettings::default();
        Some(Self {
            brokers: var("KAFKA_BROKERS")?,
            mysql: MysqlSettings {
                host: var("MYSQL_HOST")?,
                port: var("MYSQL_PORT").map_or(3306, |port| port.parse().unwrap()),
                user: var("MYSQL_USER").unwrap_or(defaults.user),
                password: var("MYSQL_PASSWORD").unwrap_or_default(),
                ..MysqlSettings::default()
            },
            databases: Mutex::default(),
            topics: Mutex::default(),
        })
    }

    /// A new database with the tables of a store.
    pub fn database(&self) -> Database<'_> {
        let mut databases = self.databases.lock().unwrap();
        let name = format!("kilter_bench_{}_{}", std::process::id(), databases.len());
        databases.push(name.clone());
        let settings = MysqlSettings {
            database: name,
            ..self.mysql.clone()
        };
        // No older system's rows: group and topic do not matter.
        let log = InitLog {
            group: "",
            topic: "",
            partitions: 1,
        };
        kilter_io::mysql::init(&settings, &log).unwrap();
        Database {
            servers: self,
            settings,
        }
    }

    /// The topics of commands, results and dead letters for `what`, made where they are missing.
    pub fn topics(&self, commands: &str, results: &str) -> KafkaSettings {
        self.topics_of(1, commands, results)
    }

    /// The same with so many partitions.
    pub fn topics_of(&self, partitions: u32, commands: &str, results: &str) -> KafkaSettings {
        let own = |what: &str| format!("kilter-bench-{}-{what}", std::process::id());
        let settings = KafkaSettings {
            commands: own(commands),
            results: own(results),
            dead_letters: own(&format!("dlq-{partitions}")),
            group: own("group"),
            ..KafkaSettings::new(&self.brokers)
        };
        Admin::new(&settings).unwrap().init(partitions, 1).unwrap();
        self.topics.lock().unwrap().extend([
            settings.commands.clone(),
            settings.results.clone(),
            settings.dead_letters.clone(),
        ]);
        settings
    }

    fn connect(&self, database: Option<&str>) -> mysql::Result<Conn> {
        Conn::new(
            OptsBuilder::new()
                .ip_or_hostname(Some(self.mysql.host.as_str()))
                .tcp_port(self.mysql.port)
                .user(Some(self.mysql.user.as_str()))
                .pass(Some(self.mysql.password.as_str()))
                .db_name(database)
                .prefer_socket(false),
        )
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Whatever cannot be dropped is left behind: the figures are printed.
        if let Ok(mut conn) = self.connect(None) {
            for name in self.databases.lock().unwrap().iter() {
                let _ = conn.query_drop(format!("DROP DATABASE IF EXISTS {name}"));
            }
        }
        let admin: Result<AdminClient<DefaultClientContext>, _> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create();
        let mut topics = std::mem::take(&mut *self.topics.lock().unwrap());
        topics.sort();
        topics.dedup();
        if let Ok(admin) = admin {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let _ = block_on(admin.delete_topics(&names, &AdminOptions::new()));
        }
    }
}

/// A database of its own; dropped when it goes, so that the next has the disk to itself.
pub struct Database<'a> {
    servers: &'a Servers,
    /// How to reach it.
    pub settings: MysqlSettings,
}

impl Database<'_> {
    pub fn conn(&self) -> Conn {
        self.servers.connect(Some(&self.settings.database)).unwrap()
    }

    /// Streams lines of fields between tabs into a table.
    pub fn load(&self, table: &str, lines: impl Fn(&mut Vec<u8>) + Send + 'static) {
        let mut conn = self.conn();
        conn.set_local_infile_handler(Some(LocalInfileHandler::new(move |_, to| {
            let mut bytes = Vec::new();
            lines(&mut bytes);
            to.write_all(&bytes)
        })));
        conn.query_drop(format!(
            "LOAD DATA LOCAL INFILE 'bench' INTO TABLE {table} CHARACTER SET binary"
        ))
        .unwrap();
        assert_eq!(conn.warnings(), 0, "{table}");
    }

    /// Opens accounts 1 to `count` of the users that [`commands`](super::commands) speaks of.
    pub fn open_accounts(&self, count: u64) {
        self.load("accounts", move |to| {
            for id in 1..=count {
                writeln!(to, "{id}\tu-{id}\t0\t2026-01-01\t2026-01-01\tACTIVE").unwrap();
            }
        });
    }

    /// How many records are committed.
    pub fn committed(&self, conn: &mut Conn) -> u64 {
        let least: Option<Option<u64>> = conn
            .query_first("SELECT min(`offset`) FROM consumer_offsets")
            .unwrap();
        least.flatten().unwrap_or(0)
    }

    /// Balances, their versions added up, and whether they add up to `amount`.
    pub fn sums(&self, amount: &str) -> (u64, u64, bool) {
        self.conn()
            .query_first(format!(
                "SELECT count(*), CAST(sum(version) AS UNSIGNED), sum(available) = {amount} \
                 FROM account_balances"
            ))
            .unwrap()
            .unwrap()
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if let Ok(mut conn) = self.servers.connect(None) {
            let _ = conn.query_drop(format!(
                "DROP DATABASE IF EXISTS {}",
                self.settings.database
            ));
        }
    }
}

/// Waits for a future on this thread; the admin client's own thread completes it.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
