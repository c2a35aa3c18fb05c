//! How to reach a server, and in what portions to write.

use std::{fmt, time::Duration};

/// A server or a cluster, and how balances are written to it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Name or address; of a cluster, any of its nodes.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Password; not shown in messages.
    pub password: Option<String>,
    /// Database number; a cluster has only 0.
    pub db: u32,
    /// What every key begins with.
    pub key_prefix: String,
    /// Whether the server is a node of a Redis Cluster: keys then carry a hash tag.
    pub cluster: bool,
    /// Balances of one call of the script, 1 and more. While fewer wait, a writer waits too.
    pub batch: usize,
    /// The longest that a balance waits for others while the server is well.
    pub interval: Duration,
    /// The longest wait for a connection, for an answer, and for room to send.
    pub timeout: Duration,
    /// The first pause after a failure; each further one is twice as long.
    pub back_off_min: Duration,
    /// The longest pause after a failure.
    pub back_off_max: Duration,
    /// How often it is looked whether the server has lost or changed its data.
    pub check_interval: Duration,
    /// Balances that a full offer reads from its source at once.
    pub page: usize,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 6379,
            password: None,
            db: 0,
            key_prefix: String::new(),
            cluster: false,
            batch: 100,
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(2),
            back_off_min: Duration::from_millis(20),
            back_off_max: Duration::from_secs(2),
            check_interval: Duration::from_secs(2),
            page: 2_000,
        }
    }
}

impl RedisSettings {
    /// For messages: where.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("RedisSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("password", &password)
            .field("db", &self.db)
            .field("key_prefix", &self.key_prefix)
            .field("cluster", &self.cluster)
            .field("batch", &self.batch)
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("back_off_min", &self.back_off_min)
            .field("back_off_max", &self.back_off_max)
            .field("check_interval", &self.check_interval)
            .field("page", &self.page)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let settings = RedisSettings {
            password: Some("secret".into()),
            ..RedisSettings::default()
        };
        let shown = format!("{settings:?}");
        assert!(shown.contains("***") && !shown.contains("secret"));
    }
}
