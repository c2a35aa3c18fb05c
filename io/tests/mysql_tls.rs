//! TLS to the store: encrypted when asked for, and only to the server that can prove its name.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/mysql.rs"]
mod server;

use std::path::PathBuf;

use kilter_io::mysql::{BalancePages, InitLog, MysqlSettings, Tls, init};

/// The stack's own authority, or `None` after saying so.
fn authority(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("KILTER_STACK_DIR").map(PathBuf::from);
    let found = dir
        .map(|dir| dir.join("mysql/tls/ca.pem"))
        .filter(|path| path.is_file());
    if found.is_none() {
        println!("SKIPPED {test}: only the server of bin/stack has a certificate of ours");
    }
    found
}

#[test]
fn tls_is_used_and_certificates_are_checked() {
    let name = "tls_is_used_and_certificates_are_checked";
    let (Some(database), Some(authority)) = (server::database(name), authority(name)) else {
        return;
    };
    let log = InitLog {
        group: "",
        topic: "",
        partitions: 1,
    };
    init(&database.settings, &log).unwrap();
    let with = |tls: Tls| MysqlSettings {
        tls,
        ..database.settings.clone()
    };
    let open = |tls: Tls| BalancePages::open(&with(tls)).map(drop);
    for tls in [Tls::Require, Tls::Verify(Some(authority.clone()))] {
        open(tls.clone()).unwrap_or_else(|error| panic!("{tls:?}: {error:?}"));
        // And everything else goes that way, too.
        init(&with(tls), &log).unwrap();
    }
    // A stranger's authority, and those that everybody trusts, do not know this server.
    let other = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=other",
        ])
        .arg("-keyout")
        .arg(other.path().join("key.pem"))
        .arg("-out")
        .arg(other.path().join("ca.pem"))
        .output()
        .unwrap();
    assert!(made.status.success());
    open(Tls::Verify(Some(other.path().join("ca.pem")))).unwrap_err();
    open(Tls::Verify(None)).unwrap_err();
    // The right authority, and another name than the certificate's.
    let by_name = MysqlSettings {
        host: "127.0.0.2".into(),
        ..with(Tls::Verify(Some(authority)))
    };
    if database.settings.host == "127.0.0.1" {
        assert!(BalancePages::open(&by_name).is_err());
    }
}
