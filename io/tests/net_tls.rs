//! TLS, and who may come in.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/echo.rs"]
mod echo;
#[path = "support/raw.rs"]
mod raw;

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use kilter_io::net::{Limits, TlsSettings};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;

fn openssl(dir: &Path, args: &str) {
    let args = args.split(' ').map(|arg| arg.replace('+', " "));
    let output = Command::new("openssl").args(args).current_dir(dir).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Makes `name.pem` and `name.key`, signed by `by`.
fn certificate(dir: &Path, name: &str, by: &str, extensions: &str) {
    std::fs::write(dir.join("extensions"), extensions).unwrap();
    openssl(
        dir,
        &format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key \
             -out {name}.csr -subj /CN={name}"
        )
        .replace("  ", " "),
    );
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 2 \
             -extfile extensions -out {name}.pem"
        ),
    );
}

fn authority(dir: &Path, name: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -keyout {name}.key -out {name}.pem -subj /CN={name}"
        ),
    );
}

const SERVER: &str = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";
const CLIENT: &str = "extendedKeyUsage=clientAuth\n";

/// An authority with a server and a client, and a stranger's; `None` after saying that it is missing.
fn files(test: &str) -> Option<TempDir> {
    let found = Command::new("openssl").arg("version").output();
    if !found.is_ok_and(|found| found.status.success()) {
        println!("SKIPPED {test}: no openssl");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["ours", "theirs"] {
        authority(dir.path(), name);
    }
    certificate(dir.path(), "server", "ours", SERVER);
    certificate(dir.path(), "client", "ours", CLIENT);
    certificate(dir.path(), "stranger", "theirs", CLIENT);
    Some(dir)
}

fn settings(dir: &Path, clients: Option<&str>) -> TlsSettings {
    TlsSettings {
        certificates: dir.join("server.pem"),
        key: dir.join("server.key"),
        client_authorities: clients.map(|name| dir.join(name)),
    }
}

struct Caller<'a> {
    dir: &'a Path,
    address: SocketAddr,
    trusts: &'a str,
    /// Its own certificate.
    shows: Option<&'a str>,
    protocol: &'a [u8],
}

impl Caller<'_> {
    /// What it is answered, or what went wrong.
    fn ask(&self, bytes: &[u8]) -> Result<String, std::io::Error> {
        let path =
            |name: &str, ending: &str| -> PathBuf { self.dir.join(format!("{name}.{ending}")) };
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_file(path(self.trusts, "pem")).unwrap();
        roots.add(trusted).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let shown = CertificateDer::from_pem_file(path(name, "pem")).unwrap();
                let key = PrivateKeyDer::from_pem_file(path(name, "key")).unwrap();
                builder.with_client_auth_cert(vec![shown], key).unwrap()
            }
        };
        config.alpn_protocols = vec![self.protocol.to_vec()];
        let name = self.address.ip().into();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, raw::connect(self.address));
        stream.write_all(bytes)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

const POST: &[u8] =
    b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn answers_are_encrypted_and_the_server_proves_its_name() {
    let Some(dir) = files("answers_are_encrypted_and_the_server_proves_its_name") else {
        return;
    };
    let server = echo::server(Limits::default(), Some(settings(dir.path(), None)));
    let caller = Caller {
        dir: dir.path(),
        address: server.address(),
        trusts: "ours",
        shows: None,
        protocol: b"http/1.1",
    };
    let answer = caller.ask(POST).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("x-certificate: 0\r\n"), "{answer}");
    let large = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(caller.ask(large).unwrap().len() > 3 << 20);
    let stranger = Caller {
        trusts: "theirs",
        ..caller
    };
    stranger.ask(POST).unwrap_err();
    // Without encryption nothing is answered.
    let plain = raw::exchange(server.address(), POST);
    assert!(!plain.contains("HTTP"), "{plain}");
}

#[test]
fn http2_is_agreed_on() {
    let Some(dir) = files("http2_is_agreed_on") else {
        return;
    };
    let server = echo::server(Limits::default(), Some(settings(dir.path(), None)));
    let caller = Caller {
        dir: dir.path(),
        address: server.address(),
        trusts: "ours",
        shows: None,
        protocol: b"h2",
    };
    let goaway = raw::frame(raw::GOAWAY, 0, 0, &[0; 8]);
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &raw::frame(raw::SETTINGS, 0, 0, &[])[..],
        &raw::head(1, "GET", "/", &[], true),
        &goaway,
    ]
    .concat();
    let answer = caller.ask(&bytes).unwrap();
    assert!(answer.contains("hello"), "{answer:?}");
}

#[test]
fn only_clients_of_our_authority_are_let_in() {
    let Some(dir) = files("only_clients_of_our_authority_are_let_in") else {
        return;
    };
    let tls = settings(dir.path(), Some("ours.pem"));
    let server = echo::server(Limits::default(), Some(tls));
    let caller = |shows| Caller {
        dir: dir.path(),
        address: server.address(),
        trusts: "ours",
        shows,
        protocol: b"http/1.1",
    };
    let answer = caller(Some("client")).ask(POST).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains("x-certificate: 0\r\n"), "{answer}");
    for shows in [None, Some("stranger")] {
        caller(shows).ask(POST).unwrap_err();
    }
    assert_eq!(server.counters().requests(), 1);
}

#[test]
fn certificates_are_exchanged_while_it_runs() {
    let Some(dir) = files("certificates_are_exchanged_while_it_runs") else {
        return;
    };
    let server = echo::server(Limits::default(), Some(settings(dir.path(), None)));
    let caller = |trusts| Caller {
        dir: dir.path(),
        address: server.address(),
        trusts,
        shows: None,
        protocol: b"http/1.1",
    };
    caller("ours").ask(POST).unwrap();
    certificate(dir.path(), "server", "theirs", SERVER);
    // Not before it is said.
    caller("ours").ask(POST).unwrap();
    server.reload_tls().unwrap();
    caller("ours").ask(POST).unwrap_err();
    caller("theirs").ask(POST).unwrap();
    // What cannot be used changes nothing.
    std::fs::write(dir.path().join("server.pem"), "nothing").unwrap();
    server.reload_tls().unwrap_err();
    std::fs::copy(dir.path().join("client.pem"), dir.path().join("server.pem")).unwrap();
    server.reload_tls().unwrap_err();
    caller("theirs").ask(POST).unwrap();
}
