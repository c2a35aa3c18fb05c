//! Many answers, one ring.

use std::{cell::RefCell, sync::Arc};

use super::reply::Mailbox;

thread_local! {
    /// The mailboxes that this thread owes a ring; `None` while it rings at once.
    static OWED: RefCell<Option<Vec<Arc<Mailbox>>>> = const { RefCell::new(None) };
}

/// Does some work; connections that this thread answers meanwhile are woken once each, at the end.
///
/// For whoever gives many answers at a time: a connection that is woken by the first one would send
/// that one alone. Within another such call it is part of that one.
pub fn together(work: impl FnOnce()) {
    let begins = OWED.with_borrow_mut(|owed| {
        let begins = owed.is_none();
        owed.get_or_insert_default();
        begins
    });
    // Dropped, it rings, whatever happens to the work.
    let _ring = begins.then(|| Ring);
    work();
}

/// Whether the ring for a mailbox is put off.
pub(super) fn owes(mailbox: &Arc<Mailbox>) -> bool {
    OWED.with_borrow_mut(|owed| match owed {
        Some(owed) => {
            owed.push(Arc::clone(mailbox));
            true
        }
        None => false,
    })
}

struct Ring;

impl Drop for Ring {
    fn drop(&mut self) {
        let owed = OWED.take().unwrap_or_default();
        owed.iter().for_each(|mailbox| mailbox.ring());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::{
        bell::Bell,
        reply::{Reply, Response},
        request::Cancelled,
    };

    #[test]
    fn a_connection_hears_many_answers_at_once_and_none_is_forgotten() {
        let (bell, ours) = (Bell::new().unwrap(), Bell::new().unwrap());
        let socket = std::fs::File::open("/dev/null").unwrap();
        let rings = |bell: &Bell| {
            let woken = bell.wait(&socket, false, false, Duration::ZERO).unwrap();
            woken.rung
        };
        let (mailbox, other) = (Mailbox::new(bell.clone()), Mailbox::new(ours.clone()));
        let answer = |mailbox: &Arc<Mailbox>| {
            let reply = Reply::new(Arc::clone(mailbox), 1, Cancelled::default());
            reply.send(Response::default());
        };
        together(|| {
            answer(&mailbox);
            together(|| answer(&mailbox));
            answer(&other);
            assert!(!rings(&bell) && !rings(&ours));
        });
        assert!(rings(&bell) && rings(&ours));
        let mut news = Vec::new();
        mailbox.take(&mut news);
        assert_eq!(news.len(), 2);
        // Outside it rings at once, and within after a panic, too.
        answer(&mailbox);
        assert!(rings(&bell));
        mailbox.take(&mut news);
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            together(|| {
                answer(&mailbox);
                panic!("a test's own");
            });
        }));
        assert!(broken.is_err() && rings(&bell));
        mailbox.take(&mut news);
        answer(&mailbox);
        assert!(rings(&bell));
    }
}
