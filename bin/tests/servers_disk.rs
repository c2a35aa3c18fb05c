//! A store whose disk is full: it is waited for, and nothing is missing when there is space again.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    fs::File,
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use support::{
    DEADLINE,
    servers::{Servers, mixture},
    twin::Twin,
};

const ACCOUNTS: u64 = 100;

/// A server with its data on a small disk of its own, in a mount namespace that ends with it.
struct SmallDisk {
    server: Child,
    port: u16,
    dir: tempfile::TempDir,
}

/// What the namespace runs; the shell becomes the server, which keeps its process id.
const SCRIPT: &str = r#"
set -eu
PATH=$PATH:/usr/sbin:/usr/local/sbin
mount -t tmpfs -o size=220m none "$DISK"
if command -v mariadbd; then
    server=mariadbd
    mariadb-install-db --no-defaults --user=root --datadir="$DISK/data" --skip-test-db \
        --auth-root-authentication-method=normal --innodb-log-file-size=16M
else
    server=mysqld
    mysqld --no-defaults --user=root --datadir="$DISK/data" --initialize-insecure
fi
exec "$server" --no-defaults --user=root --datadir="$DISK/data" --socket="$DISK/socket" \
    --pid-file="$DISK/pid" --bind-address=127.0.0.1 --port="$PORT" --local-infile=1 \
    --innodb-log-file-size=16M --innodb-buffer-pool-size=64M --max-heap-table-size=64M \
    --skip-log-bin
"#;

impl SmallDisk {
    /// `None` after saying so where namespaces are forbidden.
    fn start(test: &str) -> Option<Self> {
        let may = Command::new("unshare")
            .args(["--mount", "--map-root-user", "mount", "-t", "tmpfs"])
            .args(["none", "/tmp"])
            .output();
        if !may.is_ok_and(|output| output.status.success()) {
            println!("SKIPPED {test}: this machine lets nobody mount in a namespace");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("disk")).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = File::create(dir.path().join("log")).unwrap();
        let server = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", SCRIPT])
            .env("DISK", dir.path().join("disk"))
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self { server, port, dir })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// A file on the disk, as the server's namespace has it.
    fn filler(&self) -> PathBuf {
        let disk = self.dir.path().join("disk");
        let inside = disk.strip_prefix("/").unwrap().join("filler");
        PathBuf::from(format!("/proc/{}/root", self.server.id())).join(inside)
    }

    /// Leaves not a block.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_space(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

#[test]
fn a_store_whose_disk_is_full_is_waited_for() {
    const TEST: &str = "a_store_whose_disk_is_full_is_waited_for";
    const COMMANDS: u64 = 80_000;
    let Some(servers) = Servers::new(TEST) else {
        return;
    };
    let Some(disk) = SmallDisk::start(TEST) else {
        return;
    };
    let servers = servers.with_store_at(disk.port);
    let start = Instant::now();
    while servers.connect(None).is_err() {
        assert!(start.elapsed() < DEADLINE, "{}", disk.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    servers.init();
    let node = servers.serve_ready(&[]);
    let lines = mixture(ACCOUNTS, COMMANDS);
    let first = servers.produce(lines.clone().take(5000));
    servers.wait_committed(first);

    disk.fill();
    let rest = servers.produce(lines.skip(5000));
    node.wait_for("the disk to be full", |node| node.log().contains("full"));
    let mut conn = servers.conn();
    let behind = servers.committed(&mut conn);
    assert!(behind < first + rest, "all of it went onto a full disk");
    servers.check_consistent();

    disk.make_space();
    servers.wait_committed(first + rest);
    let mut twin = Twin::default();
    mixture(ACCOUNTS, COMMANDS).for_each(|line| {
        twin.apply(&line);
    });
    assert_eq!(servers.balances(), twin.text());
    servers.check_consistent();
    node.wait_ready();
    node.stop();
}
