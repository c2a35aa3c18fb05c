//! A running `kilter serve`.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unsafe_code, reason = "signals to own children")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use super::DEADLINE;

/// A running `kilter serve`.
pub struct Node {
    pub child: Child,
    pub log: PathBuf,
    pub stopped: bool,
}

impl Node {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where figures and health are told, once that is known.
    fn http(&self) -> Option<String> {
        let log = self.log();
        let at = log.find("address=127.0.0.1:")?;
        let rest = &log[at + "address=".len()..];
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '"')
            .unwrap_or(rest.len());
        // Escape sequences may follow on a terminal; there is none here.
        Some(rest[..end].to_owned())
    }

    /// Where REST is served, once that is known.
    pub fn rest(&self) -> Option<String> {
        let log = self.log();
        let at = log.find("rest=127.0.0.1:")?;
        let rest = &log[at + "rest=".len()..];
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '"')
            .unwrap_or(rest.len());
        Some(rest[..end].to_owned())
    }

    /// GET of a path: status line and body.
    pub fn get(&self, path: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(self.http()?).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_owned(), body.to_owned()))
    }

    pub fn state(&self) -> String {
        self.get("/readyz")
            .map(|(_, body)| body)
            .unwrap_or_default()
    }

    pub fn is_ready(&self) -> bool {
        self.get("/readyz")
            .is_some_and(|(status, _)| status.contains(" 200 "))
    }

    pub fn wait_ready(&self) {
        self.wait_for("ready", |node| node.is_ready());
    }

    pub fn wait_for(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(
                start.elapsed() < DEADLINE,
                "waited too long for {what}; the node says {} and {}",
                self.state(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that was not waited for, so its number is still its own.
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0);
    }

    pub fn freeze(&mut self) {
        self.signal(libc::SIGSTOP);
        self.stopped = true;
    }

    pub fn thaw(&mut self) {
        self.signal(libc::SIGCONT);
        self.stopped = false;
    }

    /// Without a warning; what it wrote stays with the system.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As an operator does.
    pub fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "it does not end: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
