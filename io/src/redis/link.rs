//! A connection to one server, made when it is needed.

use redis::{
    Client, Connection, ConnectionAddr, ConnectionLike, FromRedisValue, IntoConnectionInfo, Value,
};

use super::{error::RedisError, settings::RedisSettings};

/// One server and, while it is well, the connection to it.
pub(super) struct Link {
    host: String,
    port: u16,
    connection: Option<Connection>,
}

impl Link {
    pub(super) fn new(host: String, port: u16) -> Self {
        Self {
            host,
            port,
            connection: None,
        }
    }

    pub(super) fn is_of(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The next use connects anew.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// Connects, unless it is.
    pub(super) fn open(&mut self, settings: &RedisSettings) -> Result<(), RedisError> {
        if self.connection.is_none() {
            self.connection = Some(
                self.connect(settings)
                    .map_err(|source| self.failed("connect", source))?,
            );
        }
        Ok(())
    }

    fn connect(&self, settings: &RedisSettings) -> redis::RedisResult<Connection> {
        let mut info = redis::RedisConnectionInfo::default()
            .set_db(i64::from(settings.db))
            .set_lib_name("kilter", env!("CARGO_PKG_VERSION"));
        if let Some(password) = &settings.password {
            info = info.set_password(password);
        }
        let address = ConnectionAddr::Tcp(self.host.clone(), self.port);
        let client = Client::open(address.into_connection_info()?.set_redis_settings(info))?;
        let connection = client.get_connection_with_timeout(settings.timeout)?;
        connection.set_read_timeout(Some(settings.timeout))?;
        connection.set_write_timeout(Some(settings.timeout))?;
        Ok(connection)
    }

    /// Sends commands; as many answers are to be [received](Self::receive).
    pub(super) fn send(&mut self, commands: &[u8]) -> Result<(), RedisError> {
        let sent = match &mut self.connection {
            Some(connection) => connection.send_packed_command(commands),
            None => Err(closed()),
        };
        sent.map_err(|source| self.broken("send balances", source))
    }

    /// The next answer, which may be the server's error.
    pub(super) fn receive(&mut self) -> Result<Value, RedisError> {
        let received = match &mut self.connection {
            Some(connection) => connection.recv_response(),
            None => Err(closed()),
        };
        received.map_err(|source| self.broken("hear of the balances that were sent", source))
    }

    /// Runs one command and reads its answer.
    pub(super) fn query<T: FromRedisValue>(
        &mut self,
        what: &'static str,
        command: &redis::Cmd,
    ) -> Result<T, RedisError> {
        let answer = match &mut self.connection {
            Some(connection) => command.query(connection),
            None => Err(closed()),
        };
        answer.map_err(|source| self.refused(what, source))
    }

    /// Runs some commands in one round trip; each is answered, by the server's error too.
    pub(super) fn pipeline(
        &mut self,
        what: &'static str,
        commands: &redis::Pipeline,
    ) -> Result<Vec<Value>, RedisError> {
        let count = commands.len();
        let answers = match &mut self.connection {
            Some(connection) => {
                connection.req_packed_commands(&commands.get_packed_pipeline(), 0, count)
            }
            None => Err(closed()),
        };
        answers.map_err(|source| self.broken(what, source))
    }

    /// An error of the server's; the connection goes if another one may help.
    pub(super) fn refused(&mut self, what: &'static str, source: redis::RedisError) -> RedisError {
        let error = self.failed(what, source);
        if !error.keeps_connection() {
            self.close();
        }
        error
    }

    /// After this nobody knows which answer belongs to what.
    fn broken(&mut self, what: &'static str, source: redis::RedisError) -> RedisError {
        self.close();
        self.failed(what, source)
    }

    fn failed(&self, what: &'static str, source: redis::RedisError) -> RedisError {
        RedisError::Server {
            address: self.address(),
            what,
            source: Box::new(source),
        }
    }
}

fn closed() -> redis::RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}
