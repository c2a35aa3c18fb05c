//! What the node says about itself.

use parking_lot::RwLock;
use serde::Serialize;

use crate::metrics_names::UP;

/// Where a node is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "snake_case")]
pub enum State {
    /// Not there yet.
    Starting {
        /// What it is doing.
        what: String,
    },
    /// Another node works on the partitions.
    Standby {
        /// Which one.
        leader: String,
    },
    /// Works on what came while it was away.
    CatchingUp {
        /// Records that are left.
        lag: u64,
    },
    /// Works.
    Ready,
    /// Waits for something outside to come back.
    Paused {
        /// For what.
        why: String,
    },
    /// Ends as it was told to.
    Stopping,
    /// Ends because something is wrong.
    Failed {
        /// What.
        why: String,
    },
}

impl State {
    /// Whether the process should be left alone: all is well, or will be by itself.
    pub fn is_healthy(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }

    /// What clients hear: whether they are served, and a word.
    fn for_clients(&self) -> (bool, &'static str) {
        match self {
            Self::Starting { .. } => (false, "STARTING"),
            Self::Standby { .. } => (true, "STANDBY"),
            Self::CatchingUp { .. } => (true, "CATCHING_UP"),
            Self::Ready => (true, "OK"),
            Self::Paused { .. } => (false, "PAUSED"),
            Self::Stopping => (false, "STOPPING"),
            Self::Failed { .. } => (false, "FAILED"),
        }
    }

    /// Whether the node works.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}

/// The state of a node, which its threads set and the HTTP server tells. Also the figure
/// `kilter_up`, so that figures must be collected before this is made. Clients of the front door
/// hear of it, too.
pub struct Health {
    state: RwLock<State>,
    clients: kilter_io::api::Health,
}

impl Health {
    /// A node that begins, with `what`.
    pub fn starting(what: &str) -> Self {
        metrics::gauge!(UP).set(0.0);
        let what = what.to_owned();
        Self {
            state: RwLock::new(State::Starting { what }),
            clients: kilter_io::api::Health::new(),
        }
    }

    /// What clients are told.
    pub fn for_clients(&self) -> kilter_io::api::Health {
        self.clients.clone()
    }

    /// The node is in `state` now. What ends does not begin again: nothing follows `Failed`, and
    /// only that follows `Stopping`, whatever a thread that is late may say.
    pub fn set(&self, state: State) {
        let mut current = self.state.write();
        let is_final = match *current {
            State::Failed { .. } => true,
            State::Stopping => state.is_healthy(),
            _ => false,
        };
        if !is_final {
            metrics::gauge!(UP).set(if state.is_ready() { 1.0 } else { 0.0 });
            let (serves, word) = state.for_clients();
            self.clients.set(serves, word);
            *current = state;
        }
    }

    /// The state that was set last.
    pub fn state(&self) -> State {
        self.state.read().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(why: &str) -> State {
        State::Failed {
            why: why.to_owned(),
        }
    }

    #[test]
    fn what_ends_does_not_begin_again() {
        let health = Health::starting("reading");
        assert!(!health.for_clients().get().0);
        health.set(State::Ready);
        assert!(health.state().is_ready());
        assert_eq!(health.for_clients().get(), (true, "OK".to_owned()));
        health.set(State::Stopping);
        assert!(!health.for_clients().get().0);
        health.set(State::Ready);
        assert_eq!(health.state(), State::Stopping);
        health.set(failed("first"));
        health.set(failed("second"));
        health.set(State::Stopping);
        assert_eq!(health.state(), failed("first"));
    }

    #[test]
    fn states_are_told_with_their_details() {
        for (state, json) in [
            (State::Ready, r#"{"state":"ready"}"#),
            (
                State::CatchingUp { lag: 7 },
                r#"{"state":"catching_up","detail":{"lag":7}}"#,
            ),
            (
                failed("a \"b\""),
                r#"{"state":"failed","detail":{"why":"a \"b\""}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&state).unwrap(), json);
        }
    }
}
