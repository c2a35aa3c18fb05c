//! Wakes a thread that waits for a socket.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fd::OwnedFd,
    io::{Errno, read, write},
};

/// An eventfd. Any number of threads may ring it, one waits.
#[derive(Clone, Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

/// What a wait ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Woken {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) rung: bool,
    /// The connection is gone, in both directions; what came before may still be read.
    pub(super) broken: bool,
}

impl Bell {
    pub(super) fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    pub(super) fn ring(&self) {
        // Full only after 2⁶⁴ − 2 rings that nobody heard, and then it rings all the same.
        let _ = write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Waits until the socket is ready, the bell rings, or time is up.
    pub(super) fn wait(
        &self,
        socket: &impl AsFd,
        to_read: bool,
        to_write: bool,
        limit: Duration,
    ) -> std::io::Result<Woken> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, to_read);
        flags.set(PollFlags::OUT, to_write);
        let mut fds = [
            PollFd::new(socket, flags),
            PollFd::new(&*self.0, PollFlags::IN),
        ];
        // Rounded up: a deadline must be past when the wait for it ends.
        let limit = limit + Duration::from_micros(1);
        let timeout = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Woken::default()),
            Err(error) => return Err(error.into()),
        }
        let found = fds[0].revents();
        let broken = found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        let rung = fds[1].revents().contains(PollFlags::IN);
        if rung {
            let mut count = [0; 8];
            // Nothing to read: somebody was faster, which nobody is.
            let _ = read(&*self.0, &mut count);
        }
        Ok(Woken {
            readable: found.contains(PollFlags::IN) || broken,
            writable: found.contains(PollFlags::OUT) || broken,
            rung,
            broken,
        })
    }
}
