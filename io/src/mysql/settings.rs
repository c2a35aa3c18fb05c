//! How to reach a server.

use std::{path::PathBuf, time::Duration};

use mysql::{Opts, OptsBuilder, SslOpts};

/// Whether the way to the server is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plain TCP.
    #[default]
    Off,
    /// Encrypted, whoever the server is.
    Require,
    /// Encrypted, and the server proves its name by a certificate of this authority, or of one
    /// that the system trusts.
    Verify(Option<PathBuf>),
}

/// A server, a database on it, and how long to wait for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlSettings {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password; empty is none.
    pub password: String,
    /// Database.
    pub database: String,
    /// Encryption.
    pub tls: Tls,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait for the answer to a statement; past it the connection is given up.
    pub statement_timeout: Duration,
    /// The longest wait for another transaction's lock.
    pub lock_timeout: Duration,
    /// How long what passes by itself is tried again before the node ends for a restart.
    pub outage_limit: Duration,
    /// Whether epochs go by LOAD DATA LOCAL where the server allows it.
    pub local_infile: bool,
}

impl Default for MysqlSettings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 3306,
            user: "root".into(),
            password: String::new(),
            database: "balance_system".into(),
            tls: Tls::Off,
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            outage_limit: Duration::from_secs(600),
            local_infile: true,
        }
    }
}

impl MysqlSettings {
    /// For messages: where, without the password.
    pub fn address(&self) -> String {
        format!("{}@{}:{}", self.user, self.host, self.port)
    }

    pub(super) fn opts(&self, with_database: bool) -> Opts {
        let tls = match &self.tls {
            Tls::Off => None,
            Tls::Require => Some(
                SslOpts::default()
                    .with_danger_accept_invalid_certs(true)
                    .with_danger_skip_domain_validation(true),
            ),
            Tls::Verify(authority) => {
                Some(SslOpts::default().with_root_cert_path(authority.clone()))
            }
        };
        let password = Some(self.password.as_str()).filter(|password| !password.is_empty());
        let database = with_database.then_some(self.database.as_str());
        OptsBuilder::new()
            .ip_or_hostname(Some(self.host.as_str()))
            .tcp_port(self.port)
            .user(Some(self.user.as_str()))
            .pass(password)
            .db_name(database)
            .ssl_opts(tls)
            // A socket would go around TLS, proxies and the port that was configured.
            .prefer_socket(false)
            .tcp_connect_timeout(Some(self.connect_timeout))
            .read_timeout(Some(self.statement_timeout))
            .write_timeout(Some(self.statement_timeout))
            .tcp_keepalive_time_ms(Some(10_000))
            .into()
    }
}
