//! The messages of the protocol files, as they were compiled, and the description of those files.

#![allow(
    missing_docs,
    clippy::all,
    reason = "generated; the protocol files say what is what"
)]

/// The front door's own messages.
pub mod balance {
    include!(concat!(env!("OUT_DIR"), "/balance.rs"));
}

/// The standard health protocol.
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The standard reflection protocol. Its older version has the same messages under another name.
pub mod reflection {
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
}

/// The protocol files, described: a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.fds"));
