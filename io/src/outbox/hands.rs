//! What whoever accepted it is about to bring to the log by itself.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use uuid::Uuid;

/// The events that a process accepted and has not brought to the log yet, by their names. The relay of
/// the same process leaves them alone while they are young: a copy would do no harm, but costs as much
/// as the event, and a user whose events the relay has taken up has to wait for it with the next ones.
///
/// What is in here is a hint: with another process's events, or after a crash, there is none.
#[derive(Clone, Debug, Default)]
pub struct Hands(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    events: HashSet<Uuid>,
    /// Nobody brings anything to the log any more.
    is_over: bool,
}

impl Hands {
    pub(super) fn take<'a>(&self, events: impl Iterator<Item = &'a str>) {
        let mut held = self.0.lock();
        if !held.is_over {
            held.events.extend(events.filter_map(name));
        }
    }

    pub(super) fn leave<'a>(&self, events: impl Iterator<Item = &'a str>) {
        let mut held = self.0.lock();
        for name in events.filter_map(name) {
            held.events.remove(&name);
        }
    }

    /// For good.
    pub(super) fn leave_all(&self) {
        *self.0.lock() = Held {
            events: HashSet::new(),
            is_over: true,
        };
    }

    pub(super) fn hold(&self, event: &str) -> bool {
        name(event).is_some_and(|name| self.0.lock().events.contains(&name))
    }
}

/// Legs have other names, and nobody accepts them.
fn name(event: &str) -> Option<Uuid> {
    Uuid::parse_str(event).ok()
}
