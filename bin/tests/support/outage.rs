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

    /// Holds up the threads of a server that have this name, and no others. Whether the system allows
    /// that.
    pub fn hold(&self, server: &str, name: &str, time: Duration) -> bool {
        let tasks = format!("/proc/{}/task", self.pid(server));
        let tasks = std::fs::read_dir(tasks).unwrap().map(Result::unwrap);
        let threads: Vec<i32> = tasks
            .filter(|task| {
                let comm = std::fs::read_to_string(task.path().join("comm"));
                comm.is_ok_and(|comm| comm.trim_end() == name)
            })
            .map(|task| task.file_name().to_str().unwrap().parse().unwrap())
            .collect();
        assert!(!threads.is_empty(), "{server} has no thread {name}");
        let held: Vec<Held> = threads.into_iter().map_while(Held::new).collect();
        if !held.is_empty() {
            std::thread::sleep(time);
        }
        !held.is_empty()
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

/// A thread of another process that is stopped by itself, until this is dropped: on the thread that
/// made it.
struct Held(i32);

impl Held {
    fn new(thread: i32) -> Option<Self> {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: no memory of ours is named; the thread is one of a server that bin/stack started.
        unsafe {
            if libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, nothing) < 0 {
                return None;
            }
            libc::ptrace(libc::PTRACE_INTERRUPT, thread, nothing, nothing);
            libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL);
        }
        Some(Self(thread))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}
