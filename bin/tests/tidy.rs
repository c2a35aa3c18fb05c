//! The house style, as far as a machine can hold it.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::path::{Path, PathBuf};

/// Files that may be longer than 500 lines, and why.
const LONG: &[(&str, &str)] = &[("engine/src/decode/tests.rs", "one table of every refusal")];

/// Where `unsafe` may be allowed.
const UNSAFE: &[&str] = &[
    "engine/src/lib.rs",
    "engine/src/prefetch.rs",
    "io/src/kafka.rs",
    "io/src/net/h2/callbacks.rs",
    "io/src/net/h2/fault.rs",
    "io/src/net/h2/session.rs",
    "benches/benches/servers/clients.rs",
];

/// Where a thread may sleep, and why.
const SLEEPS: &[(&str, &str)] = &[
    (
        "bin/tests/servers_",
        "servers tell nobody when they are ready",
    ),
    (
        "bin/tests/front_",
        "neither do they, and clients that are refused come back later",
    ),
    ("bin/tests/support/", "other processes tell nobody, either"),
    ("io/tests/", "as for the program's"),
    ("io/src/", "pauses between tries, which have a limit"),
    ("bin/src/servers/", "as in io"),
    ("benches/", "a steady rate"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["engine", "io", "bin", "benches"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                let name = name.replace('\\', "/");
                if !name.ends_with("tests/tidy.rs") {
                    found.push((name, std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Lines that hold any of `words`, as `file:line`.
fn places(files: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| files(name)) {
        for (index, line) in text.lines().enumerate() {
            let documents = line.trim_start().starts_with("//!");
            if !documents && words.iter().any(|word| line.contains(word)) {
                places.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    places
}

#[test]
fn files_are_short_or_have_a_reason() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| {
            text.lines().count() > 500 && LONG.iter().all(|(long, _)| long != name)
        })
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    let found = places(
        |_| true,
        &["todo!(", "unimplemented!(", "#[ignore", "dbg!("],
    );
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_engine_has_no_floats_files_sockets_or_clocks() {
    let engine = |name: &str| name.starts_with("engine/src/");
    let words = [
        "f32",
        "f64",
        "std::fs",
        "std::net",
        "SystemTime",
        "Instant",
        "std::thread::spawn",
    ];
    let found = places(engine, &words);
    let found: Vec<_> = found
        .iter()
        // Tests of rings and waiting start threads and have deadlines.
        .filter(|place| !place.contains("/tests.rs:") && !place.contains("/stress.rs:"))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_sleeps_that_could_be_told() {
    let may = |name: &str| SLEEPS.iter().any(|(start, _)| name.starts_with(start));
    let found = places(|name| !may(name), &["thread::sleep("]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unsafe_is_allowed_where_it_was_meant() {
    let code = |name: &str| !name.contains("/tests/") && !UNSAFE.contains(&name);
    let found = places(code, &["allow(unsafe_code", "allow(\n    unsafe_code"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn dependencies_point_one_way_and_bring_no_runtime() {
    for (package, forbidden) in [
        (
            "engine",
            &["kilter-io", "kilter-benches", "rusqlite", "anyhow"][..],
        ),
        ("io", &["kilter-benches", "anyhow", "\nkilter ="]),
        ("benches", &["\nkilter ="]),
    ] {
        let manifest = std::fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
        for name in forbidden {
            assert!(!manifest.contains(name), "{package} depends on {name}");
        }
    }
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in ["tokio", "async-std", "smol", "futures-executor"] {
        assert!(
            !lock.contains(&format!("name = \"{name}\"\n")),
            "{name} is in the tree"
        );
    }
}
