//! Doors, relays and what came to lie in the log.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use kilter_engine::{
    AccountId,
    agent::{Agent, run},
    key_hash,
    wait::{Idle, WaitStrategy, waiter},
};
use kilter_io::{
    clock::SystemClock,
    kafka::{Admin, KafkaError, KafkaSettings, TopicReader, TopicValue},
    mysql::{InitLog, init},
    outbox::{
        Admitted, Asked, Door, DoorError, DoorLimits, Hands, LogGuard, NewEvent, OutboxCounters,
        OutboxError, OutboxSettings, Relay, mysql_door,
    },
};
use mysql::prelude::Queryable;

use super::server::{self, Database};

/// How long a condition is waited for.
pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Bed {
    pub database: Database,
    pub settings: OutboxSettings,
}

/// A database with tables, accounts 1 to 9 of the users u-1 to u-9, and topics of its own.
pub fn bed(test: &str, partitions: u32) -> Option<Bed> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Ok(brokers) = std::env::var("KAFKA_BROKERS") else {
        println!("SKIPPED {test}: KAFKA_BROKERS is not set (bin/stack up; bin/stack env)");
        return None;
    };
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = |what: &str| format!("outbox-{what}-{}-{number}", std::process::id());
    let mut kafka = KafkaSettings::new(&brokers);
    kafka.commands = name("commands");
    kafka.results = name("results");
    kafka.dead_letters = name("letters");
    let bed = bed_on(test, kafka, partitions)?;
    let admin = Admin::new(&bed.settings.kafka).unwrap();
    admin.init(partitions, 1).unwrap();
    Some(bed)
}

/// The same, with topics of somebody else's.
pub fn bed_on(test: &str, kafka: KafkaSettings, partitions: u32) -> Option<Bed> {
    let database = server::database(test)?;
    let log = InitLog {
        group: &kafka.group,
        topic: &kafka.commands,
        partitions,
    };
    init(&database.settings, &log).unwrap();
    let mut conn = database.conn();
    for account in 1..10 {
        conn.query_drop(format!(
            "INSERT INTO accounts VALUES ({account}, 'u-{account}', 0, UTC_TIMESTAMP(3), \
             UTC_TIMESTAMP(3), 'ACTIVE')"
        ))
        .unwrap();
    }
    let mut settings = OutboxSettings::new(database.settings.clone(), kafka, partitions);
    settings.relay_delay = Duration::from_millis(100);
    settings.lease_ttl = Duration::from_secs(1);
    Some(Bed { database, settings })
}

impl Bed {
    pub fn number(&self, sql: &str) -> u64 {
        let found: Option<Option<u64>> = self.database.conn().query_first(sql).unwrap();
        found.flatten().unwrap_or(0)
    }

    pub fn count(&self, which: &str) -> u64 {
        self.number(&format!("SELECT count(*) FROM outbox_events WHERE {which}"))
    }

    pub fn run(&self, sql: &str) {
        self.database.conn().query_drop(sql).unwrap();
    }

    /// Every record of the command topic, by partition and offset.
    pub fn log(&self) -> Vec<serde_json::Value> {
        let kafka = &self.settings.kafka;
        let mut records: BTreeMap<(i32, i64), serde_json::Value> = BTreeMap::new();
        TopicReader::from_start(kafka, &kafka.commands)
            .unwrap()
            .read_all::<KafkaError>(LIMIT, |record: TopicValue| {
                let value = serde_json::from_slice(&record.value).unwrap();
                records.insert((record.partition, record.offset), value);
                Ok(())
            })
            .unwrap();
        records.into_values().collect()
    }

    /// The transaction ids of each user in the order of the log, the first copy of each.
    pub fn first_copies(&self) -> BTreeMap<String, Vec<String>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in self.log() {
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            let ids = users.entry(text("userId")).or_default();
            let id = text("transactionId");
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        users
    }

    /// The same by the store's ids: what the log must have.
    pub fn accepted(&self) -> BTreeMap<String, Vec<String>> {
        let rows: Vec<(String, String)> = self
            .database
            .conn()
            .query(
                "SELECT CAST(partition_key AS CHAR), CAST(transaction_id AS CHAR) \
                 FROM outbox_events ORDER BY id",
            )
            .unwrap();
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (user, id) in rows {
            users.entry(user).or_default().push(id);
        }
        users
    }

    pub fn wait_until_sent(&self) {
        until("everything is sent", || self.count("status <> 'SENT'") == 0);
    }
}

/// Waits for a condition.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

type Running = JoinHandle<Result<(), OutboxError>>;

fn spawn(mut agent: impl Agent<Error = OutboxError> + Send + 'static, mut idle: Idle) -> Running {
    std::thread::spawn(move || run(&mut agent, &mut idle))
}

/// A door with its threads.
pub struct Front {
    pub door: Door,
    pub hands: Hands,
    threads: Vec<Running>,
}

impl Front {
    pub fn new(settings: &OutboxSettings) -> Self {
        Self::with(settings, DoorLimits::default())
    }

    pub fn with(settings: &OutboxSettings, limits: DoorLimits) -> Self {
        let (accept_idle, accepts) = waiter(WaitStrategy::Park);
        let (send_idle, sends) = waiter(WaitStrategy::Park);
        let clock = SystemClock::new();
        let (door, acceptor, sender) = mysql_door(settings, limits, clock, accepts, sends).unwrap();
        Self {
            door,
            hands: sender.hands(),
            threads: vec![spawn(acceptor, accept_idle), spawn(sender, send_idle)],
        }
    }

    /// A door that was handed these before its threads began, and their answers in order.
    pub fn after(
        settings: &OutboxSettings,
        events: Vec<NewEvent>,
    ) -> (Self, Vec<Result<Admitted, DoorError>>) {
        let (accept_idle, accepts) = waiter(WaitStrategy::Park);
        let (send_idle, sends) = waiter(WaitStrategy::Park);
        let clock = SystemClock::new();
        let limits = DoorLimits::default();
        let (door, acceptor, sender) = mysql_door(settings, limits, clock, accepts, sends).unwrap();
        let (sender_of, answers) = mpsc::channel();
        let count = events.len();
        for (n, event) in events.into_iter().enumerate() {
            let tell = sender_of.clone();
            door.submit(event, move |answer| tell.send((n, answer)).unwrap())
                .unwrap();
        }
        let front = Self {
            door,
            hands: sender.hands(),
            threads: vec![spawn(acceptor, accept_idle), spawn(sender, send_idle)],
        };
        let mut all: Vec<_> = (0..count)
            .map(|_| answers.recv_timeout(LIMIT).expect("an answer"))
            .collect();
        all.sort_by_key(|(n, _)| *n);
        (front, all.into_iter().map(|(_, answer)| answer).collect())
    }

    /// A door that accepts and whose producing thread died.
    pub fn without_sender(settings: &OutboxSettings) -> Self {
        let (accept_idle, accepts) = waiter(WaitStrategy::Park);
        let (_, sends) = waiter(WaitStrategy::Park);
        let clock = SystemClock::new();
        let (door, acceptor, sender) =
            mysql_door(settings, DoorLimits::default(), clock, accepts, sends).unwrap();
        Self {
            door,
            hands: sender.hands(),
            threads: vec![spawn(acceptor, accept_idle)],
        }
    }

    pub fn ask(&self, event: NewEvent) -> Result<Admitted, DoorError> {
        let (sender, answer) = mpsc::channel();
        self.door
            .submit(event, move |answer| sender.send(answer).unwrap())
            .unwrap();
        answer.recv_timeout(LIMIT).expect("an answer")
    }

    pub fn accept(&self, event: NewEvent) -> String {
        match self.ask(event) {
            Ok(Admitted::Accepted { event_id, .. }) => event_id,
            other => panic!("{other:?}"),
        }
    }

    pub fn counters(&self) -> &OutboxCounters {
        self.door.counters()
    }

    /// Waits for a thread that ends by itself, and tells why it did.
    pub fn failure(mut self) -> String {
        until("a thread ends", || {
            self.threads.iter().any(JoinHandle::is_finished)
        });
        self.door.close();
        let ends = self.threads.drain(..).map(|thread| thread.join().unwrap());
        let errors: Vec<String> = ends
            .filter_map(Result::err)
            .map(|e| e.to_string())
            .collect();
        errors.join("; ")
    }

    pub fn end(self) {
        self.door.close();
        for thread in self.threads {
            thread.join().unwrap().unwrap();
        }
    }
}

/// A relay on a thread.
pub struct RelayThread {
    stop: Arc<AtomicBool>,
    pub counters: Arc<OutboxCounters>,
    thread: Running,
}

impl RelayThread {
    pub fn new(settings: &OutboxSettings) -> Self {
        Self::beside(settings, Hands::default())
    }

    /// In the process of a door.
    pub fn beside(settings: &OutboxSettings, hands: Hands) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Arc::<OutboxCounters>::default();
        let clock = SystemClock::new();
        let relay = Relay::new(
            settings.clone(),
            hands,
            Arc::clone(&counters),
            Arc::clone(&stop),
            clock,
        );
        let (idle, _) = waiter(WaitStrategy::Park);
        Self {
            stop,
            counters,
            thread: spawn(relay.unwrap(), idle),
        }
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// A guard of the log, on a thread.
    pub fn guard(settings: &OutboxSettings) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let guard = LogGuard::new(settings.clone(), Arc::clone(&stop)).unwrap();
        let (idle, _) = waiter(WaitStrategy::Park);
        Self {
            stop,
            counters: Arc::default(),
            thread: spawn(guard, idle),
        }
    }

    /// Waits for one that ends by itself, and tells why it did.
    pub fn failure(self) -> String {
        until("the thread ends", || self.is_finished());
        self.thread.join().unwrap().unwrap_err().to_string()
    }

    /// Ends one that came to an error by itself.
    pub fn died(self) {
        assert!(self.thread.join().unwrap().is_err());
    }

    pub fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap().unwrap();
    }
}

pub fn deposit(account: u64, id: &str, amount: &str) -> NewEvent {
    command(&format!("u-{account}"), account, id, amount, false)
}

pub fn command(user: &str, account: u64, id: &str, amount: &str, opens: bool) -> NewEvent {
    NewEvent {
        user_id: user.into(),
        asked: Asked::Command {
            transaction_id: id.into(),
            account_id: AccountId::new(account).unwrap(),
            payload: format!(
                r#"{{"transactionId":"{id}","userId":"{user}","accountId":{account},"currencyCode":"USDT","type":"DEPOSIT","amount":"{amount}","description":"it's a \\ ü"}}"#
            ),
            opens,
        },
    }
}

pub fn open(user: &str, account: Option<u64>) -> NewEvent {
    NewEvent {
        user_id: user.into(),
        asked: Asked::Open {
            account_id: account.map(|id| AccountId::new(id).unwrap()),
        },
    }
}

/// A row as a crash leaves it: accepted, and nothing more.
pub fn left(bed: &Bed, user: &str, id: &str, leg: &str, age_ms: i64) {
    let event_id = if leg.is_empty() {
        format!("{user}-{id}")
    } else {
        format!("leg:{leg}")
    };
    bed.run(&format!(
        "INSERT INTO outbox_events (event_id, topic, partition_key, transaction_id, leg, payload, \
         status, created_at, issued_at_ms, key_hash) VALUES ('{event_id}', '{}', '{user}', '{id}', \
         '{leg}', '{{\"transactionId\":\"{id}\",\"userId\":\"{user}\",\"accountId\":{}}}', 'PENDING', \
         UTC_TIMESTAMP(3) - INTERVAL {age_ms} * 1000 MICROSECOND, \
         TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 - {age_ms}, {})",
        bed.settings.kafka.commands,
        &user[2..],
        key_hash(user.as_bytes())
    ));
}

/// What a node commits: offset and clock of the partition.
pub fn commit(bed: &Bed, offset: u64, clock_ms: i64) {
    let kafka = &bed.settings.kafka;
    bed.run(&format!(
        "REPLACE INTO consumer_offsets VALUES ('{}', '{}', 0, 0, 18446744073709551615, {offset}, \
         UTC_TIMESTAMP(3), 1, {clock_ms}, 0, 0, 1, 1)",
        kafka.group, kafka.commands
    ));
}

/// The ledger entry of a row's record.
pub fn answer(bed: &Bed, account: u64, id: &str, offset: u64) {
    bed.run(&format!(
        "INSERT INTO balance_transactions VALUES (1, 0, {offset}, 0, {account}, 'USDT', '{id}', 'DEPOSIT', \
         1, 0, 1, 0, 0, 'FAILED', 'INSUFFICIENT_AVAILABLE', UTC_TIMESTAMP(3), 1, NULL, NULL, NULL)"
    ));
}
