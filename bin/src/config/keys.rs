//! Every setting, each in one place: its name, what it is, what it may be, its default, and the
//! name that the system before had for it in the environment.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use kilter_engine::{partitioner::Partitioner, wait::WaitStrategy};

use super::{
    kinds::{
        Address, Brokers, Cpus, Hidden, Length, OptionalFile, OptionalSize, PropertyMap, Switch,
        Writers, database, log_filter, millis, name, number, one_of, port, power_of_two, text,
        topic,
    },
    reader::settings,
    types::{Ledger, LogFormat, Properties, Secret, Signatures, Tls, Writer},
};

/// The longest time that may be set in ms: a day.
const DAY_MS: u64 = 86_400_000;

settings! {
    /// The store: a MySQL or MariaDB server.
    mysql: Mysql {
        /// The server's name or address.
        host: String = name(), "127.0.0.1", env "MYSQL_HOST";
        /// The server's port.
        port: u16 = port(), "3306", env "MYSQL_PORT";
        /// Who we are to the server.
        user: String = name(), "root", env "MYSQL_USER";
        /// What we prove it by. Better given in the environment.
        password: Secret = Hidden, "", env "MYSQL_PASSWORD";
        /// The database that holds our tables.
        database: String = database(), "balance_system", env "MYSQL_DATABASE";
        /// Encryption: off, require (whoever the server is) or verify (its certificate, too).
        tls: Tls = one_of::<Tls>(), "off";
        /// The authorities to trust, a PEM file; empty: those that everybody trusts.
        tls_ca: Option<PathBuf> = OptionalFile, "";
        /// Send epochs by LOAD DATA LOCAL; INSERTs, if not, are slower.
        local_infile: bool = Switch, "true";
        /// How long to wait for a connection.
        connect_timeout as "connect_timeout_ms": Duration = millis(100, 60_000), "3000";
        /// How long to wait for a statement.
        statement_timeout as "statement_timeout_ms": Duration = millis(100, 3_600_000), "30000";
        /// How long to wait for a lock of another.
        lock_timeout as "lock_timeout_ms": Duration = millis(1000, 600_000), "5000";
        /// How long the server may be away before the node exits to be started again.
        outage_limit as "outage_limit_ms": Duration = millis(1000, DAY_MS), "600000";
        /// A server of its own for a writer: one table each, the first for writer 0. What it
        /// leaves out (host, port, user, password) is as above.
        writers: Vec<Writer> = Writers, "";
    }
    /// The log: topics of Kafka.
    kafka: Kafka {
        /// Brokers to ask first: host:port with commas between.
        brokers: String = Brokers, "127.0.0.1:9092", env "KAFKA_BROKERS";
        /// Who we are to the brokers.
        client_id: String = name(), "kilter", env "KAFKA_CLIENT_ID";
        /// Whose offsets ours are, in the store and for lag tools.
        group: String = name(), "balance-consumer-group", env "KAFKA_CONSUMER_GROUP";
        /// The topic of commands.
        commands: String = topic(), "balance-changes", env "KAFKA_TOPIC_BALANCE_CHANGES";
        /// The topic of results.
        results: String = topic(), "balance-results", env "KAFKA_TOPIC_BALANCE_RESULTS";
        /// The topic of records that were refused.
        dead_letters: String = topic(), "balance-changes-dlq", env "CONSUMER_DLQ_TOPIC";
        /// How many partitions a topic gets when it is made.
        partitions: u32 = number(1, 10_000), "3";
        /// How many copies a topic gets when it is made.
        replication: u16 = number(1, 100), "1";
        /// How producers choose a partition by key.
        partitioner: Partitioner = one_of::<Partitioner>(), "murmur2";
        /// How long the brokers may be away before the node exits to be started again.
        outage_limit as "outage_limit_ms": Duration = millis(1000, DAY_MS), "600000";
        /// Other properties of librdkafka, such as "ssl.ca.location" = "/etc/ssl/kafka.pem".
        properties: Properties = PropertyMap, "";
    }
    /// The projection: balances in Redis for readers.
    redis: Redis {
        /// Whether balances are written to Redis at all.
        enabled: bool = Switch, "true", env "START_REDIS_UPDATER";
        /// The server's name or address.
        host: String = name(), "127.0.0.1", env "REDIS_HOST";
        /// The server's port.
        port: u16 = port(), "6379", env "REDIS_PORT";
        /// What we prove ourselves by; empty: not at all.
        password: Secret = Hidden, "", env "REDIS_PASSWORD";
        /// The database's number.
        db: u32 = number(0, 1_000_000), "0", env "REDIS_DB";
        /// What every key begins with.
        key_prefix: String = text(), "", env "REDIS_KEY_PREFIX";
        /// Whether the server is one of a Redis Cluster.
        cluster: bool = Switch, "false";
        /// Threads that write.
        threads: u16 = number(1, 64), "1";
        /// Balances in one pipeline.
        batch: u32 = number(1, 10_000), "100";
        /// How long a balance may wait for its pipeline to fill.
        interval as "interval_ms": Duration = millis(1, 60_000), "100";
        /// How long to wait for an answer.
        timeout as "timeout_ms": Duration = millis(10, 60_000), "2000";
    }
    /// The front door: gRPC and REST for clients.
    api: Api {
        /// Whether this node has one.
        enabled: bool = Switch, "true", env "START_API";
        /// The address that both listen on.
        bind: IpAddr = Address, "127.0.0.1";
        /// The port of gRPC; 0: any that is free.
        grpc_port: u16 = number(0, 65_535), "50051", env "GRPC_PORT";
        /// The port of REST; 0: any that is free.
        rest_port: u16 = number(0, 65_535), "3000", env "PORT";
        /// Our certificates, a PEM file; empty: no encryption.
        tls_cert: Option<PathBuf> = OptionalFile, "";
        /// Their key, a PEM file.
        tls_key: Option<PathBuf> = OptionalFile, "";
        /// The authorities whose clients are let in, a PEM file; empty: clients need no certificate.
        tls_client_ca: Option<PathBuf> = OptionalFile, "";
        /// Which requests must be signed: changes, all, or none (on a loopback address only).
        signatures: Signatures = one_of::<Signatures>(), "changes";
        /// The name of the key that requests are signed with.
        key_id: String = name(), "1";
        /// The key: a secret of at least 32 bytes.
        secret: Secret = Hidden, "", env "HMAC_SECRET";
        /// A file that holds the key instead; read again on SIGHUP.
        secret_file: Option<PathBuf> = OptionalFile, "";
        /// The name of another key that is taken as well, as long as keys are changed.
        second_key_id: String = name(), "2";
        /// The other key; empty: none.
        second_secret: Secret = Hidden, "";
        /// A file that holds the other key instead; read again on SIGHUP.
        second_secret_file: Option<PathBuf> = OptionalFile, "";
        /// How long a request may take if its client does not say.
        request_timeout as "request_timeout_ms": Duration = millis(100, 600_000), "30000", env "REQUEST_TIMEOUT";
        /// Connections at once, of gRPC and of REST each.
        connections_max: u32 = number(1, 100_000), "1024";
        /// Of those, from one address (of IPv6, a /64); raise it where a proxy stands before clients.
        connections_per_peer_max: u32 = number(1, 100_000), "512";
        /// Changes that may wait to become durable; more are refused early.
        queue_max: u32 = number(1, 10_000_000), "10000";
        /// Open an unknown account by its first deposit.
        open_on_deposit: bool = Switch, "false";
        /// Threads for reads that the store must answer.
        read_threads: u16 = number(1, 64), "2";
        /// Whether Redis is asked for balances of users that other nodes own.
        read_redis: bool = Switch, "true";
    }
    /// What brings accepted commands to the log that were left behind.
    relay: Relay {
        /// Whether this node helps with that.
        enabled: bool = Switch, "true", env "START_RELAY";
        /// How long a command is left to whoever accepted it in another process.
        delay as "delay_ms": Duration = millis(10, 600_000), "500";
        /// How long payloads are kept of what was sent; not less than engine.window.
        keep_payloads: Duration = Length, "7d";
    }
    /// Which node works on which partitions.
    lease: Lease {
        /// How long a lease holds when it is not renewed.
        ttl as "ttl_ms": Duration = millis(500, 600_000), "5000", env "LEADER_LOCK_TTL";
        /// How often it is renewed; less than half of ttl_ms, so that one failure costs nothing.
        renew_interval as "renew_interval_ms": Duration = millis(50, 300_000), "2000", env "LEADER_RENEW_INTERVAL";
        /// The most partitions this node takes; 0: all that are free.
        partitions_max: u32 = number(0, 10_000), "0";
    }
    /// The threads of the node; changes no outcome.
    engine: Engine {
        /// Whether this node leads, or stands by to.
        enabled: bool = Switch, "true", env "START_CONSUMER";
        /// Threads that own users, each a hash range.
        shards: u16 = number(1, 256), "2";
        /// Threads that commit epochs, each for neighbouring shards; at most as many as shards.
        writers: u16 = number(1, 256), "1";
        /// Cut an epoch when it is this old.
        flush_interval as "flush_interval_ms": Duration = millis(1, 60_000), "20";
        /// Cut an epoch when it holds this many commands.
        flush_max_commands: u64 = number(1, 1_000_000), "32768";
        /// Slots of the ring between the poller and a shard.
        ring_slots: usize = power_of_two(64, 1 << 24), "16384";
        /// How threads wait: busy-spin for dedicated hosts, spin-then-yield, or park.
        wait: WaitStrategy = one_of::<WaitStrategy>(), "park";
        /// CPUs to pin poller, shards, publisher and writers to, in turn.
        pin: Vec<usize> = Cpus, "";
        /// How long a transaction id is remembered.
        window: Duration = Length, "24h";
        /// How much memory remembered ids may take; empty: a quarter of the machine's.
        window_memory: Option<u64> = OptionalSize, "";
        /// Where the ledger is: in mysql, or in the topic of results, which must be kept as long
        /// as the window. In the topic there is no front door: it looks things up in the store.
        ledger: Ledger = one_of::<Ledger>(), "mysql";
    }
    /// Figures and health over HTTP: /metrics, /healthz, /readyz.
    metrics: Metrics {
        /// Whether there is such a server.
        enabled: bool = Switch, "true";
        /// The address it listens on.
        bind: IpAddr = Address, "127.0.0.1";
        /// The port it listens on; 0: any that is free.
        port: u16 = number(0, 65_535), "9091", env "PROMETHEUS_PORT";
    }
    /// What the node tells on standard error.
    log: Log {
        /// Lines for people (text) or for machines (json).
        format: LogFormat = one_of::<LogFormat>(), "text";
        /// The least important level that is told, for all or by module: info,kilter=debug.
        level: String = log_filter(), "info";
    }
}
