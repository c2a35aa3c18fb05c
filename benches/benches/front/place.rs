//! A node with an open front door, and accounts.

use std::path::Path;

use kilter_io::kafka::KafkaSettings;

use crate::{
    child::Node,
    drive::{Load, Width, closed},
    requests::{self, SECRET, Signer},
    servers::Database,
};

/// As many calls at once as fill several batches: while one is made durable, the next ones come in and
/// the last one's answers go out.
pub const WIDE: Width = Width {
    connections: 32,
    streams: 125,
};

/// One call at a time.
pub const NARROW: Width = Width {
    connections: 1,
    streams: 1,
};

/// A node on a directory.
pub fn on_directory(dir: &Path) -> (Node, String) {
    opened(Node::on_directory(dir, &[("HMAC_SECRET", SECRET)]))
}

/// A node on servers, or a part of one.
pub fn on_servers(
    database: &Database<'_>,
    kafka: &KafkaSettings,
    settings: &[(&str, &str)],
) -> (Node, String) {
    let mut settings = settings.to_vec();
    settings.push(("HMAC_SECRET", SECRET));
    opened(Node::with_front(database, kafka, &settings))
}

fn opened(mut node: Node) -> (Node, String) {
    let address = node.wait_grpc();
    (node, address)
}

/// Opens accounts 1 to `count`.
pub fn open_accounts(address: &str, count: u64, signer: &Signer) {
    let load = Load {
        request: &|number| signer.open(number),
        is_right: &|_, message| requests::is_open(message),
    };
    let ran = closed(address, WIDE, 1, count, &load);
    assert_eq!(ran.wrong, 0, "accounts are not opened");
}
