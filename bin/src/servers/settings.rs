//! From the configuration to what each part is told.

use kilter_io::{
    kafka::KafkaSettings,
    mysql::{MysqlSettings, StoreSettings, Tls},
};

use crate::{
    config::{self, Config, Ledger},
    engine_setup::quarter_of_memory,
    node::NodeSettings,
};

/// The way to the store.
pub fn mysql_settings(config: &Config) -> MysqlSettings {
    let mysql = &config.mysql;
    MysqlSettings {
        host: mysql.host.clone(),
        port: mysql.port,
        user: mysql.user.clone(),
        password: mysql.password.expose().to_owned(),
        database: mysql.database.clone(),
        tls: match mysql.tls {
            config::Tls::Off => Tls::Off,
            config::Tls::Require => Tls::Require,
            config::Tls::Verify => Tls::Verify(mysql.tls_ca.clone()),
        },
        connect_timeout: mysql.connect_timeout,
        statement_timeout: mysql.statement_timeout,
        lock_timeout: mysql.lock_timeout,
        outage_limit: mysql.outage_limit,
        local_infile: mysql.local_infile,
    }
}

/// The way of one writer to the store.
pub fn writer_mysql(config: &Config, index: usize) -> MysqlSettings {
    let own = config.mysql.server_of_writer(index);
    MysqlSettings {
        host: own.host,
        port: own.port,
        user: own.user,
        password: own.password.expose().to_owned(),
        ..mysql_settings(config)
    }
}

/// The way to the log.
pub fn kafka_settings(config: &Config) -> KafkaSettings {
    let kafka = &config.kafka;
    let properties = kafka.properties.iter();
    KafkaSettings {
        brokers: kafka.brokers.clone(),
        client_id: kafka.client_id.clone(),
        group: kafka.group.clone(),
        commands: kafka.commands.clone(),
        results: kafka.results.clone(),
        dead_letters: kafka.dead_letters.clone(),
        properties: properties
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        outage_limit: kafka.outage_limit,
    }
}

/// What holds for every replay.
pub fn store_settings(config: &Config) -> StoreSettings {
    StoreSettings {
        group: config.kafka.group.clone(),
        topic: config.kafka.commands.clone(),
        partitioner: "murmur2".into(),
        ledger: match config.engine.ledger {
            Ledger::Mysql => "mysql".into(),
            Ledger::Topic => "topic".into(),
        },
    }
}

/// The threads of a node.
pub fn node_settings(config: &Config) -> NodeSettings {
    let engine = &config.engine;
    NodeSettings {
        shards: engine.shards.into(),
        writers: engine.writers.into(),
        flush_interval_ms: engine.flush_interval.as_millis() as u64,
        flush_max_commands: engine.flush_max_commands,
        ring_slots: engine.ring_slots,
        wait: engine.wait,
        pin: engine.pin.clone(),
        window_max_bytes: engine.window_memory.unwrap_or_else(quarter_of_memory),
    }
}
