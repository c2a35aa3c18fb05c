//! The HTTP/2 server against h2spec, strictly.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/echo.rs"]
mod echo;

use std::{path::PathBuf, process::Command};

use kilter_io::net::Limits;

/// Cases that may fail, by what h2spec calls them, and why.
///
/// nghttp2 passes over frames of streams that it has forgotten instead of ending the connection:
/// they may have been under way when the stream ended (RFC 9113, 5.1, allows both). And it passes
/// over priorities, which RFC 9113 has done away with.
const EXPLAINED: &[&str] = &[
    "half closed (remote): Sends a DATA frame",
    "half closed (remote): Sends a HEADERS frame",
    "closed: Sends a DATA frame after sending RST_STREAM frame",
    "closed: Sends a HEADERS frame after sending RST_STREAM frame",
    "closed: Sends a DATA frame",
    "closed: Sends a HEADERS frame",
    "Sends stream identifier that is numerically smaller than previous",
    "Sends PRIORITY frame that depend on itself",
    "Sends HEADERS frame that depends on itself",
    // The answer is out, and the stream forgotten, before the frame that goes too far comes.
    "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
];

/// The case in a line of the summary, such as `× 5: closed: Sends …`.
fn failed(line: &str) -> Option<&str> {
    let (_, case) = line.rsplit_once('×')?;
    let (number, name) = case.trim().split_once(": ")?;
    number.parse::<u32>().ok().map(|_| name)
}

/// Where the program may be: on the path, or where `bin/test` puts it.
fn h2spec() -> Option<PathBuf> {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/h2spec");
    ["h2spec", tools]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| {
            Command::new(path)
                .arg("--version")
                .output()
                .is_ok_and(|output| output.status.success())
        })
}

#[test]
fn every_case_of_h2spec_passes_or_is_explained() {
    let Some(h2spec) = h2spec() else {
        println!(
            "SKIPPED every_case_of_h2spec_passes_or_is_explained: there is no h2spec on this machine"
        );
        return;
    };
    let limits = Limits {
        http1: false,
        ..Limits::default()
    };
    let server = echo::server(limits, None);
    let output = Command::new(h2spec)
        .args([
            "--strict",
            "--timeout",
            "5",
            "--host",
            "127.0.0.1",
            "--port",
        ])
        .arg(server.address().port().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said
        .lines()
        .rev()
        .find(|line| line.contains(" passed"))
        .unwrap_or_default();
    println!("{last}");
    assert!(last.contains("146 tests"), "{said}");
    let wrong: Vec<&str> = said
        .lines()
        .filter_map(failed)
        .filter(|case| !EXPLAINED.contains(case))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{said}");
}
