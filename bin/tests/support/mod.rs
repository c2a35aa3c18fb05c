//! Runs the real program in directories of its own.
#![allow(dead_code)]

pub mod clients;
pub mod directory;
pub mod mixed;
pub mod outage;
pub mod preload;
pub mod process;
pub mod rest;
pub mod servers;
pub mod topics;
pub mod twin;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

/// The longest that anything here may take.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A seed that is another one each time, and said, so that what it gave can be had again.
pub fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = now.unwrap().as_nanos() as u64;
    println!("seed {seed}");
    seed
}

/// A directory for one test.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes an input file of these lines.
    pub fn file(&self, name: &str, lines: impl IntoIterator<Item = impl AsRef<[u8]>>) -> PathBuf {
        let path = self.path(name);
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
        for line in lines {
            file.write_all(line.as_ref()).unwrap();
            file.write_all(b"\n").unwrap();
        }
        file.flush().unwrap();
        path
    }

    /// The program, with the data directory of this place.
    pub fn kilter(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kilter"));
        command
            .args(args)
            .env("KILTER_DATA", self.path("data"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.kilter(args).output().expect("the program runs")
    }

    /// Runs it and expects that all is well; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applies lines and expects that all is well.
    pub fn apply(&self, lines: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
        let file = self.file("commands.jsonl", lines);
        self.ok(&["apply", file.to_str().unwrap()])
    }

    /// The balances: account, currency, available, frozen, version.
    pub fn balances(&self) -> Vec<(u64, String, String, String, u64)> {
        self.ok(&["balances", "--json"])
            .lines()
            .map(|line| {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                (
                    row["accountId"].as_u64().unwrap(),
                    row["currencyCode"].as_str().unwrap().to_owned(),
                    row["available"].as_str().unwrap().to_owned(),
                    row["frozen"].as_str().unwrap().to_owned(),
                    row["version"].as_u64().unwrap(),
                )
            })
            .collect()
    }

    /// Available of one balance.
    pub fn available(&self, account: u64, currency: &str) -> Option<String> {
        self.balances()
            .into_iter()
            .find(|row| row.0 == account && row.1 == currency)
            .map(|row| row.2)
    }

    /// The codes of the dead letters, in order.
    pub fn dead_letters(&self) -> Vec<String> {
        self.ok(&["dead-letters", "--json"])
            .lines()
            .map(|line| {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                row["error"]["name"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// The ledger's outcomes, in order.
    pub fn outcomes(&self) -> Vec<String> {
        self.ok(&["ledger", "--json"])
            .lines()
            .map(|line| {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                row["errorCode"].as_str().unwrap_or("SUCCESS").to_owned()
            })
            .collect()
    }

    /// Balances, accounts, ledger and dead letters as one text without times.
    pub fn dump(&self) -> String {
        let mut dump = String::new();
        for what in ["balances", "accounts", "ledger", "dead-letters"] {
            for line in self.ok(&[what, "--json"]).lines() {
                let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
                let object = row.as_object_mut().unwrap();
                object.retain(|name, _| name != "createdAt" && name != "failedAt");
                dump.push_str(&format!("{what} {row}\n"));
            }
        }
        dump
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }
}

/// What a run printed, for messages.
pub fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Waits for a condition.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::yield_now();
    }
}

/// A child that is killed when the test is done with it.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn open(number: u64) -> String {
    format!(
        r#"{{"transactionId":"open-{number}","userId":"u-{number}","accountId":{number},"type":"OPEN"}}"#
    )
}

pub fn command(id: &str, account: u64, kind: &str, amount: &str) -> String {
    format!(
        r#"{{"transactionId":"{id}","userId":"u-{account}","accountId":{account},"currencyCode":"USDT","type":"{kind}","amount":"{amount}"}}"#
    )
}

pub fn lines_of(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}
