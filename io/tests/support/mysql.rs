//! A database of its own for each test, on the server that the environment names.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use kilter_io::mysql::MysqlSettings;
use mysql::{Conn, OptsBuilder, prelude::Queryable};

pub struct Database {
    pub settings: MysqlSettings,
}

/// The server's settings, or `None` after saying so.
pub fn server(test: &str) -> Option<MysqlSettings> {
    let Ok(host) = std::env::var("MYSQL_HOST") else {
        println!("SKIPPED {test}: MYSQL_HOST is not set (bin/stack up; bin/stack env)");
        return None;
    };
    let var = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
    Some(MysqlSettings {
        host,
        port: var("MYSQL_PORT", "3306").parse().unwrap(),
        user: var("MYSQL_USER", "root"),
        password: var("MYSQL_PASSWORD", ""),
        statement_timeout: Duration::from_secs(20),
        outage_limit: Duration::from_secs(60),
        ..MysqlSettings::default()
    })
}

pub fn database(test: &str) -> Option<Database> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut settings = server(test)?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    settings.database = format!("kilter_test_{}_{number}", std::process::id());
    Some(Database { settings })
}

impl Database {
    /// A plain connection, to look from outside.
    pub fn conn(&self) -> Conn {
        connect(&self.settings, Some(&self.settings.database))
    }

    /// Ends every connection to the database but this one, and says how many there were.
    pub fn end_others(&self, conn: &mut Conn) -> usize {
        let others: Vec<u64> = conn
            .exec(
                "SELECT id FROM information_schema.processlist \
                 WHERE db = ? AND id <> CONNECTION_ID()",
                (&self.settings.database,),
            )
            .unwrap();
        for other in &others {
            conn.query_drop(format!("KILL {other}")).unwrap();
        }
        others.len()
    }
}

pub fn connect(settings: &MysqlSettings, database: Option<&str>) -> Conn {
    Conn::new(
        OptsBuilder::new()
            .ip_or_hostname(Some(settings.host.as_str()))
            .tcp_port(settings.port)
            .user(Some(settings.user.as_str()))
            .pass(Some(settings.password.as_str()))
            .db_name(database)
            .prefer_socket(false),
    )
    .unwrap()
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut conn = connect(&self.settings, None);
        let _ = conn.query_drop("SET lock_wait_timeout = 5");
        let _ = conn.query_drop(format!(
            "DROP DATABASE IF EXISTS {}",
            self.settings.database
        ));
    }
}
