//! Compiles the protocol files, without protoc, and keeps their description for reflection.

use std::{env, error::Error, fs, path::Path};

use prost::Message;

const FILES: &[&str] = &[
    "balance.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("api.fds"), files.encode_to_vec())?;
    prost_build::Config::new()
        // Sorted, so that equal requests are equal bytes.
        .btree_map(["."])
        .compile_fds(files)?;
    Ok(())
}
