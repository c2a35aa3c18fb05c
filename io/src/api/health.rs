//! How the node is, for those who ask and those who watch.

use std::sync::Arc;

use parking_lot::Mutex;

use super::wire::health::health_check_response::ServingStatus;

/// The name of the service whose health this is; the empty name is the whole server.
pub const SERVICE: &str = "balance.BalanceService";

/// Somebody who watches.
pub(super) trait Listener: Send {
    /// Told the state at once and whenever it changes; says whether to be told again. Called with a
    /// lock held, so it must neither wait nor ask for health.
    fn tell(&mut self, status: ServingStatus) -> bool;
    /// Whether nobody listens any more.
    fn is_gone(&self) -> bool;
    /// Nothing more will be told.
    fn end(self: Box<Self>);
}

struct State {
    healthy: bool,
    status: String,
    /// Whether nobody is listened to any more.
    closed: bool,
    /// Whether each asks for a service that there is.
    listeners: Vec<(bool, Box<dyn Listener>)>,
}

/// How the node is. Copies are the same.
#[derive(Clone)]
pub struct Health(Arc<Mutex<State>>);

impl Health {
    /// Not serving yet.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            healthy: false,
            status: "STARTING".into(),
            closed: false,
            listeners: Vec::new(),
        })))
    }

    /// Says how it is: whether requests are served, and in a word why (`OK`, `STOPPING`, …). Changes
    /// nothing once it is closed.
    pub fn set(&self, healthy: bool, status: &str) {
        let mut state = self.0.lock();
        if state.closed {
            return;
        }
        let changed = state.healthy != healthy;
        state.healthy = healthy;
        status.clone_into(&mut state.status);
        if changed {
            let serving = serving(healthy);
            state
                .listeners
                .retain_mut(|(known, listener)| !*known || listener.tell(serving));
        }
    }

    /// Requests are not served any more, for good: tells those who watch, and ends their watching.
    pub fn close(&self, status: &str) {
        self.set(false, status);
        let listeners = {
            let mut state = self.0.lock();
            state.closed = true;
            std::mem::take(&mut state.listeners)
        };
        for (_, listener) in listeners {
            listener.end();
        }
    }

    /// Whether requests are served, and in a word why.
    pub fn get(&self) -> (bool, String) {
        let state = self.0.lock();
        (state.healthy, state.status.clone())
    }

    /// The state of a service by the standard protocol; `None` if there is no such service.
    pub(super) fn serving(&self, service: &str) -> Option<ServingStatus> {
        is_known(service).then(|| serving(self.0.lock().healthy))
    }

    /// Tells the state of a service now and whenever it changes, in order. A service that there is
    /// not may come some day, says the protocol: its stream stays open, and here hears no more.
    pub(super) fn listen(&self, service: &str, mut listener: Box<dyn Listener>) {
        let mut state = self.0.lock();
        // Those who went since the last change, or coming and going would fill the memory.
        state.listeners.retain(|(_, listener)| !listener.is_gone());
        let known = is_known(service);
        let status = if known {
            serving(state.healthy)
        } else {
            ServingStatus::ServiceUnknown
        };
        let stays = listener.tell(status);
        if state.closed {
            drop(state);
            listener.end();
        } else if stays {
            state.listeners.push((known, listener));
        }
    }

    /// How many are told.
    #[cfg(test)]
    fn listeners(&self) -> usize {
        self.0.lock().listeners.len()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || service == SERVICE
}

fn serving(healthy: bool) -> ServingStatus {
    if healthy {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use super::*;

    struct Ears(mpsc::Sender<ServingStatus>, Arc<AtomicBool>);

    impl Listener for Ears {
        fn tell(&mut self, status: ServingStatus) -> bool {
            self.0.send(status).unwrap();
            !self.is_gone()
        }

        fn is_gone(&self) -> bool {
            self.1.load(Ordering::Relaxed)
        }

        fn end(self: Box<Self>) {
            self.1.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_listens_at_the_end_is_told_and_let_go() {
        let health = Health::new();
        health.set(true, "OK");
        let (tell, told) = mpsc::channel();
        let ends = ["", "other", ""].map(|_| Arc::new(AtomicBool::new(false)));
        health.listen("", Box::new(Ears(tell.clone(), Arc::clone(&ends[0]))));
        health.listen("other", Box::new(Ears(tell.clone(), Arc::clone(&ends[1]))));
        health.close("STOPPING");
        // One who comes late hears the same.
        health.listen("", Box::new(Ears(tell, Arc::clone(&ends[2]))));
        let heard: Vec<_> = told.try_iter().collect();
        let (up, down) = (ServingStatus::Serving, ServingStatus::NotServing);
        assert_eq!(heard, [up, ServingStatus::ServiceUnknown, down, down]);
        for end in ends {
            assert!(end.load(Ordering::Relaxed));
        }
        assert_eq!(
            (health.get(), health.listeners()),
            ((false, "STOPPING".into()), 0)
        );
    }

    #[test]
    fn listeners_hear_now_and_every_change_once() {
        let health = Health::new();
        assert_eq!(health.serving(""), Some(ServingStatus::NotServing));
        assert_eq!(health.serving("x"), None);
        let (tell, told) = mpsc::channel();
        let gone = Arc::new(AtomicBool::new(false));
        let ears = || Box::new(Ears(tell.clone(), Arc::clone(&gone)));
        health.listen(SERVICE, ears());
        health.set(true, "OK");
        health.set(true, "FINE");
        health.set(false, "STOPPING");
        let heard: Vec<_> = told.try_iter().collect();
        let (up, down) = (ServingStatus::Serving, ServingStatus::NotServing);
        assert_eq!(heard, [down, up, down]);
        assert_eq!(health.get(), (false, "STOPPING".into()));
        health.listen("other", ears());
        health.set(true, "OK");
        let heard: Vec<_> = told.try_iter().collect();
        assert_eq!(heard, [ServingStatus::ServiceUnknown, up]);
        assert_eq!(health.listeners(), 2);
        gone.store(true, Ordering::Relaxed);
        health.listen("", ears());
        assert_eq!(health.listeners(), 0, "who has gone is forgotten at once");
    }
}
