//! The servers of `bin/stack`, to be killed and started again.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unsafe_code, reason = "signals to the stack's servers")]

use std::{
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::DEADLINE;

/// The servers of `bin/stack`, for tests that kill them: one such test at a time.
pub struct Stack {
    dir: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Stack {
    /// `None` after saying so when the servers are somebody else's.
    pub fn alone(test: &str) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let Ok(dir) = std::env::var("KILTER_STACK_DIR") else {
            println!("SKIPPED {test}: only servers of bin/stack may be killed");
            return None;
        };
        Some(Self {
            dir: dir.into(),
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn pid(&self, server: &str) -> i32 {
        let text = std::fs::read_to_string(self.dir.join(server).join("pid")).unwrap();
        text.trim().parse().unwrap()
    }

    pub fn signal(&self, server: &str, signal: i32) {
        // SAFETY: a signal to the process that bin/stack started and wrote down.
        unsafe { libc::kill(self.pid(server), signal) };
    }

    /// Kills a server, as a power cut does.
    pub fn kill(&self, server: &str) {
        let pid = self.pid(server);
        self.signal(server, libc::SIGKILL);
        let start = Instant::now();
        while PathBuf::from(format!("/proc/{pid}/fd/0")).exists() {
            assert!(start.elapsed() < DEADLINE);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts what is not running.
    pub fn up(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/stack");
        let mut command = Command::new(script);
        for name in ["MYSQL_HOST", "REDIS_HOST", "KAFKA_BROKERS"] {
            command.env_remove(name);
        }
        let output = command.arg("up").output().unwrap();
        assert!(output.status.success(), "{}", super::text(&output));
    }
}
