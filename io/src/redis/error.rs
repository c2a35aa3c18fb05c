//! What can go wrong with Redis.

/// What a source of balances may fail with.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Why balances could not be written to Redis or read from it.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The server refused, or could not be reached.
    #[error("Redis at {address}: cannot {what}")]
    Server {
        /// The server.
        address: String,
        /// What was tried.
        what: &'static str,
        /// The server's or the connection's reason.
        source: Box<redis::RedisError>,
    },
    /// The server answered with something else than what the command answers with.
    #[error("Redis at {address}: cannot {what}: it answered {answer}")]
    Answer {
        /// The server.
        address: String,
        /// What was tried.
        what: &'static str,
        /// What it answered.
        answer: String,
    },
    /// The cluster serves only some of its slots.
    #[error("the Redis cluster behind {address} has no node for slot {slot}")]
    NoNode {
        /// The node that was asked.
        address: String,
        /// The slot, 0 ..= 16383.
        slot: u16,
    },
    /// Balances cannot be read from where they are kept.
    #[error("cannot read the balances that are to be offered to Redis")]
    Source(#[source] SourceError),
    /// The server lost data again and again while balances were being written.
    #[error(
        "Redis at {address} lost or changed its data {times} times while all balances were being \
         written to it; see whether it restarts, is flushed, or evicts keys"
    )]
    Unsteady {
        /// The server.
        address: String,
        /// How often it was begun anew.
        times: u32,
    },
}

impl RedisError {
    /// The code of the server's own error, such as `OOM`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether the connection is still of use: the server answered, and with a reason that passes
    /// without another connection.
    pub(super) fn keeps_connection(&self) -> bool {
        matches!(
            self.code(),
            Some("OOM" | "LOADING" | "BUSY" | "MISCONF" | "NOSCRIPT" | "TRYAGAIN" | "ASK")
        )
    }

    /// The error with all its causes.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}
