//! Settings as the program reads them: from a file, the environment and `--set`.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::process::Command;

use support::{Place, rest::SECRET};

/// The program with nothing in its environment but `env`.
fn kilter(args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kilter"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    (output.status.code().unwrap(), said)
}

#[test]
fn ten_mistakes_are_told_at_once() {
    let place = Place::new();
    let file = place.file(
        "kilter.toml",
        [
            "[mysql]",
            "prot = 3306",
            "tls = \"on\"",
            "password = 5",
            "[kafka]",
            "brokers = \"here\"",
            "results = \"balance-changes\"",
            "[kafka.properties]",
            "acks = \"1\"",
            "[engine]",
            "shards = 1000",
            "ring_slots = 1000",
            "[lease]",
            "ttl_ms = 4000",
            "[logs]",
        ],
    );
    let file = file.to_str().unwrap();
    let (code, said) = kilter(
        &["config", "check", "--config", file, "--set", "redis.prot=1"],
        &[("KILTER_REDIS_BATCH", "many")],
    );
    assert_eq!(code, 1, "{said}");
    let here = |rest: &str| format!("{file}:{rest}");
    for words in [
        here("2: mysql.prot: there is no such key; did you mean mysql.port?"),
        here("3: mysql.tls: \"on\" is not \"off\" or \"require\" or \"verify\""),
        here("4: mysql.password: ******** is not a string"),
        here("6: kafka.brokers: \"here\" is not a list of host:port"),
        format!("kafka.commands (default) and kafka.results ({file}:7): both are"),
        here("9: kafka.properties.acks: not allowed"),
        here("11: engine.shards: 1000 is not a whole number from 1 to 256"),
        here("12: engine.ring_slots: 1000 is not a power of two"),
        format!("lease.renew_interval_ms (default) and lease.ttl_ms ({file}:14): 2000 ms is not"),
        here("15: logs: there is no such section; did you mean log?"),
        "--set redis.prot: there is no such setting; did you mean redis.port?".to_owned(),
        "environment: KILTER_REDIS_BATCH: \"many\" is not a whole number".to_owned(),
    ] {
        assert!(said.contains(&words), "{words:?} is missing in\n{said}");
    }
    assert!(said.contains("12 mistakes"), "{said}");
    assert_eq!(said.trim().lines().count(), 13, "{said}");
}

#[test]
fn the_file_then_the_environment_then_set() {
    let place = Place::new();
    let file = place.file("kilter.toml", ["[mysql]", "host = \"from-file\""]);
    let file = file.to_str().unwrap();
    let mut args = vec!["config", "print"];
    let print = |args: &[&str], env: &[(&str, &str)]| {
        let (code, said) = kilter(args, env);
        assert_eq!(code, 0, "{said}");
        said
    };
    let said = print(&args, &[]);
    assert!(said.contains("host = \"127.0.0.1\"  # default\n"), "{said}");
    let mut env = vec![("KILTER_CONFIG", file)];
    let said = print(&args, &env);
    let line = format!("host = \"from-file\"  # {file}:2\n");
    assert!(said.contains(&line), "{said}");
    env.push(("MYSQL_HOST", "from-old-name"));
    let said = print(&args, &env);
    assert!(
        said.contains("host = \"from-old-name\"  # MYSQL_HOST\n"),
        "{said}"
    );
    env.push(("KILTER_MYSQL_HOST", "from-new-name"));
    let said = print(&args, &env);
    assert!(
        said.contains("host = \"from-new-name\"  # KILTER_MYSQL_HOST\n"),
        "{said}"
    );
    args.extend(["--set", "mysql.host=from-set"]);
    let said = print(&args, &env);
    assert!(said.contains("host = \"from-set\"  # --set\n"), "{said}");
}

#[test]
fn secrets_are_never_printed() {
    let place = Place::new();
    let file = place.file(
        "kilter.toml",
        [
            "[mysql]",
            "password = \"hunter2-a\"",
            "[[mysql.writers]]",
            "password = \"hunter2-b\"",
            "[kafka.properties]",
            "\"ssl.key.password\" = \"hunter2-c\"",
        ],
    );
    let file = file.to_str().unwrap();
    let env = [
        (
            "HMAC_SECRET",
            "hunter2-f, which is as long as a secret must be",
        ),
        ("REDIS_PASSWORD", "hunter2-d"),
        (
            "KILTER_KAFKA_PROPERTIES",
            "sasl.password=hunter2-e;linger.ms=1",
        ),
    ];
    for (command, wrong, wanted) in [
        ("check", "engine.shards=2", 0),
        ("print", "engine.shards=2", 0),
        ("check", "engine.shards=0", 1),
        ("print", "engine.shards=0", 1),
    ] {
        let args = ["config", command, "--config", file, "--set", wrong];
        let (code, said) = kilter(&args, &env);
        assert_eq!(code, wanted, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        if command == "print" && code == 0 {
            assert_eq!(said.matches("\"********\"").count(), 6, "{said}");
            assert!(said.contains("\"linger.ms\" = \"1\""), "{said}");
        }
    }
}

#[test]
fn unknown_variables_of_ours_are_mistakes_and_others_are_not() {
    let (code, said) = kilter(&["config", "check"], &[("KILTER_MYSQL_HSOT", "x")]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("did you mean KILTER_MYSQL_HOST?"), "{said}");
    let env = [("MYSQL_HSOT", "x"), ("HMAC_SECRET", SECRET)];
    let (code, said) = kilter(&["config", "check"], &env);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("ok: kafka 127.0.0.1:9092 (topic balance-changes)"),
        "{said}"
    );
}

#[test]
fn the_defaults_are_the_file_for_operators() {
    let (code, said) = kilter(&["config", "print", "--defaults"], &[]);
    assert_eq!(code, 0, "{said}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tuning/kilter.toml");
    assert!(said == std::fs::read_to_string(file).unwrap());
    // All but the secret has a default.
    let (code, said) = kilter(&["config", "check", "--config", file], &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("HMAC_SECRET"), "{said}");
    let secret = [("HMAC_SECRET", SECRET)];
    let (code, said) = kilter(&["config", "check", "--config", file], &secret);
    assert_eq!(code, 0, "{said}");
}
