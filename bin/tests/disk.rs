//! A disk that is full, and one that cannot be written: clear words, nothing torn.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::process::Command;

use support::{Place, command, open, text};

/// Runs a script in a mount namespace of its own, where it may mount a small disk at `$DISK`.
/// `None` if this machine does not let it.
fn with_small_disk(place: &Place, script: &str) -> Option<std::process::Output> {
    let disk = place.path("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let run = |script: &str| {
        Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", script])
            .env("DISK", &disk)
            .env("KILTER", env!("CARGO_BIN_EXE_kilter"))
            .env("KILTER_DATA", disk.join("data"))
            .env("FILE", place.path("commands.jsonl"))
            .output()
    };
    let mount = "mount -t tmpfs -o size=6m none \"$DISK\"";
    match run(mount) {
        Ok(output) if output.status.success() => {}
        _ => {
            println!("SKIPPED disk tests: this machine lets nobody mount in a namespace");
            return None;
        }
    }
    Some(run(&format!("{mount} || exit 99\n{script}")).unwrap())
}

fn lines() -> Vec<String> {
    let opens = (1..=10).map(open);
    let deposits = (0..40_000).map(|n| command(&format!("t-{n}"), n % 10 + 1, "DEPOSIT", "1"));
    opens.chain(deposits).collect()
}

#[test]
fn a_full_disk_stops_the_node_and_space_lets_it_go_on() {
    let place = Place::new();
    place.file("commands.jsonl", lines());
    let Some(output) = with_small_disk(
        &place,
        r#"
        "$KILTER" apply "$FILE"; echo "first: $?"
        mount -o remount,size=200m none "$DISK" || exit 98
        "$KILTER" audit; echo "torn: $?"
        "$KILTER" apply "$FILE" || exit 97
        "$KILTER" audit || exit 96
        "$KILTER" balances --json
        "#,
    ) else {
        return;
    };
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("first: 1"), "it failed: {said}");
    assert!(said.contains("no space left"), "{said}");
    assert!(said.contains("free some space"), "{said}");
    assert!(said.contains("torn: 0"), "{said}");
    assert_eq!(said.matches(r#""available": "4000""#).count(), 10, "{said}");
}

#[test]
fn a_disk_that_cannot_be_written_is_named() {
    let place = Place::new();
    place.file("commands.jsonl", lines());
    let Some(output) = with_small_disk(
        &place,
        r#"
        mount -o remount,ro none "$DISK" || exit 98
        "$KILTER" apply "$FILE"; echo "answer: $?"
        "#,
    ) else {
        return;
    };
    let said = text(&output);
    assert!(said.contains("answer: 1"), "{said}");
    assert!(said.contains("cannot make the data directory"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}
