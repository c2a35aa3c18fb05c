//! The HTTP/2 server against h2spec, strictly.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "support/echo.rs"]
mod echo;

use std::{path::PathBuf, process::Command};

use kilter_io::net::Limits;

/// Cases that fail, by section and number, and why. Neither more nor fewer may.
const EXPLAINED: &[(&str, &[u32], &str)] = &[
    (
        "5.1. Stream States",
        &[8, 9, 11, 12],
        "nghttp2 forgets streams that are over, and passes over frames of theirs: they may have been \
         under way when the stream ended. RFC 9113, 5.1, lets a server do so",
    ),
    (
        "5.1.1. Stream Identifiers",
        &[2],
        "a number that was passed over is one of a stream that is over, as above",
    ),
    (
        "5.3.1. Stream Dependencies",
        &[2],
        "RFC 9113 has done away with priorities, and nghttp2 with reading them",
    ),
    (
        "6.9.1. The Flow-Control Window",
        &[3],
        "nghttp2 ends the connection instead of the stream, as RFC 9113, 5.4, allows for any fault",
    ),
];

/// The cases that failed, each behind its section, from lines such as `5.1. Stream States` and
/// `× 5: closed: Sends …`.
fn failures(said: &str) -> Vec<(String, u32)> {
    let mut section = String::new();
    let mut failures = Vec::new();
    let (_, summary) = said.rsplit_once("Failures:").unwrap_or_default();
    for line in summary.lines().map(str::trim) {
        if let Some((number, _)) = line.split_once(": ")
            && let Some(number) = number.strip_prefix('×')
        {
            failures.push((section.clone(), number.trim().parse().unwrap()));
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            section = line.to_owned();
        }
    }
    failures
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
            // An answer that is out before all frames of a case came would decide some of them.
            "--path",
            "/soon",
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
    assert!(
        last.contains("146 tests") && last.contains(" 0 skipped"),
        "{said}"
    );
    let explained: Vec<(String, u32)> = EXPLAINED
        .iter()
        .flat_map(|(section, numbers, _)| numbers.iter().map(|each| ((*section).to_owned(), *each)))
        .collect();
    assert_eq!(failures(&said), explained, "{said}");
    for (section, numbers, why) in EXPLAINED {
        println!("explained: {section} {numbers:?}: {why}");
    }
}
