use std::io::Write;

use super::*;

fn load(file: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Config, Mistakes> {
    let mut at = tempfile::NamedTempFile::new().unwrap();
    at.write_all(file.as_bytes()).unwrap();
    let env = env.iter().copied().collect();
    let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
    Config::load(Some(at.path()), &env, &set)
}

/// The only mistake.
fn mistake(file: &str, env: &[(&str, &str)], set: &[&str]) -> String {
    let mistakes = load(file, env, set).unwrap_err();
    let said: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    assert_eq!(said.len(), 1, "{said:#?}");
    said[0].clone()
}

#[test]
fn defaults_are_sound_and_what_they_were() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.mysql.port, 3306);
    assert_eq!(config.mysql.tls_ca, None);
    assert_eq!(config.kafka.dead_letters, "balance-changes-dlq");
    assert_eq!(config.lease.ttl.as_millis(), 5000);
    assert_eq!(config.engine.window.as_secs(), 86_400);
    assert_eq!(config.engine.window_memory, None);
    assert_eq!(config.metrics.port, 9091);
    assert!(config.redis.enabled && config.mysql.writers.is_empty());
}

#[test]
fn later_sources_win() {
    let file = "[mysql]\nport = 1\n";
    let port = |env: &[_], set: &[_]| load(file, env, set).unwrap().mysql.port;
    let old = ("MYSQL_PORT", "2");
    let new = ("KILTER_MYSQL_PORT", "3");
    assert_eq!(port(&[], &[]), 1);
    assert_eq!(port(&[old], &[]), 2);
    assert_eq!(port(&[old, new], &[]), 3);
    assert_eq!(port(&[old, new], &["mysql.port=4"]), 4);
    assert_eq!(port(&[], &["mysql.port=4", "mysql.port=5"]), 5);
    // What Kubernetes writes for a service called mysql; the way around it is our own name.
    let linked = ("MYSQL_PORT", "tcp://10.0.0.1:3306");
    assert_eq!(port(&[linked, new], &[]), 3);
    assert!(mistake(file, &[linked], &[]).contains("environment: MYSQL_PORT: \"tcp://"));
    let wrong_below = "[mysql]\nport = 0\n";
    assert!(mistake(wrong_below, &[new], &[]).contains(":2: mysql.port: 0 is not a port"));
}

#[test]
fn every_key_is_set_from_the_environment_and_by_flag() {
    for section in keys::sections() {
        for key in &section.keys {
            let env = [(key.variable(), key.default.to_owned())];
            let set = [format!("{}={}", key.full(), key.default)];
            let env = env.into_iter().collect();
            Config::load(None, &env, &set).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert!(!key.doc.is_empty() && !key.allowed.is_empty());
        }
    }
}

#[test]
fn names_of_the_system_before() {
    let env = [
        ("MYSQL_HOST", "h"),
        ("MYSQL_PORT", "1"),
        ("MYSQL_USER", "u"),
        ("MYSQL_PASSWORD", "p"),
        ("MYSQL_DATABASE", "d"),
        ("REDIS_HOST", "rh"),
        ("REDIS_PORT", "2"),
        ("REDIS_PASSWORD", "rp"),
        ("REDIS_DB", "3"),
        ("REDIS_KEY_PREFIX", "x:"),
        ("KAFKA_BROKERS", "a:1,b:2"),
        ("KAFKA_CLIENT_ID", "c"),
        ("KAFKA_CONSUMER_GROUP", "g"),
        ("KAFKA_TOPIC_BALANCE_CHANGES", "t1"),
        ("KAFKA_TOPIC_BALANCE_RESULTS", "t2"),
        ("CONSUMER_DLQ_TOPIC", "t3"),
        ("LEADER_LOCK_TTL", "9000"),
        ("LEADER_RENEW_INTERVAL", "4000"),
        ("PROMETHEUS_PORT", "4"),
        ("START_REDIS_UPDATER", "false"),
    ];
    let config = load("", &env, &[]).unwrap();
    let (mysql, redis, kafka) = (&config.mysql, &config.redis, &config.kafka);
    assert_eq!((&*mysql.host, mysql.port, &*mysql.user), ("h", 1, "u"));
    assert_eq!((mysql.password.expose(), &*mysql.database), ("p", "d"));
    assert_eq!((&*redis.host, redis.port, redis.db), ("rh", 2, 3));
    assert_eq!((redis.password.expose(), &*redis.key_prefix), ("rp", "x:"));
    assert!(!redis.enabled);
    assert_eq!((&*kafka.brokers, &*kafka.client_id), ("a:1,b:2", "c"));
    assert_eq!((&*kafka.group, &*kafka.commands), ("g", "t1"));
    assert_eq!((&*kafka.results, &*kafka.dead_letters), ("t2", "t3"));
    assert_eq!(config.lease.ttl.as_millis(), 9000);
    assert_eq!(config.lease.renew_interval.as_millis(), 4000);
    assert_eq!(config.metrics.port, 4);
}

#[test]
fn each_mistake_says_where_what_and_what_is_allowed() {
    for (file, words) in [
        (
            "[mysq]\n",
            ":1: mysq: there is no such section; did you mean mysql?",
        ),
        (
            "[mysql]\nprot = 1\n",
            ":2: mysql.prot: there is no such key; did you mean mysql.port?",
        ),
        ("[mysql]\ngroup = 1\n", "did you mean kafka.group?"),
        ("[mysql]\nxyzzy = 1\n", "mysql has host, port,"),
        (
            "port = 1\n",
            ":1: port: a key outside all sections; did you mean mysql.port?",
        ),
        ("mysql = 1\n", "this is not a section"),
        (
            "[mysql]\nport = \"3306\"\n",
            ":2: mysql.port: \"3306\" is not a port from 1 to 65535",
        ),
        ("[mysql]\nport = 3306.0\n", "3306.0 is not a port"),
        ("[mysql]\nport = -1\n", "-1 is not a port"),
        ("[mysql]\nhost = 5\n", "5 is not a string of 1 to 255 bytes"),
        ("[mysql]\nhost = \"\"\n", "\"\" is not"),
        (
            "[mysql]\ntls = \"on\"\n",
            "\"on\" is not \"off\" or \"require\" or \"verify\"",
        ),
        ("[mysql]\nlocal_infile = 1\n", "1 is not true or false"),
        ("[mysql]\ntls_ca = \"/ca\"\n", "mysql.tls_ca ("),
        ("[mysql]\ndatabase = \"a`b\"\n", "is not a name of 1 to 64"),
        (
            "[[mysql.writers]]\nprot = 1\n",
            ":2: mysql.writers[0].prot: no such key; did you mean port?",
        ),
        (
            "[[mysql.writers]]\n[[mysql.writers]]\nport = 0\n",
            ":3: mysql.writers[1].port: 0 is not",
        ),
        (
            "[[mysql.writers]]\n[[mysql.writers]]\n",
            "2 servers for writers are more than 1",
        ),
        (
            "[kafka]\nbrokers = \"a:1,b\"\n",
            "\"a:1,b\" is not a list of host:port",
        ),
        ("[kafka]\nbrokers = \"\"\n", "is not a list"),
        ("[kafka]\nresults = \"a b\"\n", "is not a topic's name"),
        (
            "[kafka]\nresults = \"balance-changes\"\n",
            "each must be a topic of its own",
        ),
        (
            "[kafka]\npartitioner = \"random\"\n",
            "\"random\" is not \"murmur2\"",
        ),
        (
            "[kafka.properties]\n\"group.id\" = \"x\"\n",
            "kafka.group sets it",
        ),
        (
            "[kafka.properties]\nacks = 1\n",
            "kafka.properties.acks: not allowed",
        ),
        (
            "[kafka.properties]\na.b = [1]\n",
            ":2: kafka.properties.a.b: this is not a string",
        ),
        ("[kafka]\nproperties = 5\n", "this is not a table"),
        ("[redis]\ncluster = true\ndb = 1\n", ":2) and redis.db ("),
        (
            "[redis]\ncluster = true\nkey_prefix = \"a}{b\"\n",
            "the beginning of a hash tag",
        ),
        (
            "[lease]\nrenew_interval_ms = 2500\n",
            "2500 ms is not less than half of 5000 ms",
        ),
        (
            "[engine]\nwriters = 3\n",
            "3 writers are more than 2 shards",
        ),
        (
            "[engine]\nledger = \"topic\"\n",
            "api.enabled (default) and engine.ledger (",
        ),
        (
            "[engine]\nshards = 257\n",
            "257 is not a whole number from 1 to 256",
        ),
        (
            "[engine]\nring_slots = 1000\n",
            "1000 is not a power of two",
        ),
        (
            "[engine]\nwait = \"sleep\"\n",
            "\"busy-spin\" or \"spin-then-yield\" or \"park\"",
        ),
        ("[engine]\npin = [1, 1]\n", "pin[1]: CPU 1 is there twice"),
        (
            "[engine]\npin = [\"a\"]\n",
            "pin[0]: \"a\" is not the number of a CPU",
        ),
        ("[engine]\nwindow = 24\n", "24 is not a time"),
        (
            "[engine]\nwindow_memory = \"4GB\"\n",
            "\"4GB\" is not a size",
        ),
        (
            "[metrics]\nbind = \"here\"\n",
            "\"here\" is not an IP address",
        ),
        ("[log]\nlevel = \"inof\"\n", "\"inof\" is not error, warn"),
        ("[log]\nlevel = 1979-05-27\n", "a date is not"),
        ("a = = 1\n", ":1: this is no TOML"),
        (
            "[log]\nlevel = \"info\"\nlevel = \"info\"\n",
            ":3: this is no TOML",
        ),
    ] {
        let said = mistake(file, &[], &[]);
        assert!(said.contains(words), "{file:?}: {said}");
    }
    for (name, value, words) in [
        (
            "KILTER_MYSQL_PROT",
            "1",
            "KILTER_MYSQL_PROT: there is no such setting; did you mean KILTER_MYSQL_PORT?",
        ),
        (
            "KILTER_NOTHING_LIKE_IT",
            "1",
            "kilter config print --defaults",
        ),
        (
            "KILTER_ENGINE_SHARDS",
            "two",
            "\"two\" is not a whole number",
        ),
        ("KILTER_ENGINE_SHARDS", "", "\"\" is not a whole number"),
        ("KILTER_KAFKA_PROPERTIES", "a=1;b", "part 2 has no ="),
        (
            "KILTER_MYSQL_WRITERS",
            "[{port = 0}]",
            "KILTER_MYSQL_WRITERS[0].port: 0 is not a port",
        ),
        ("START_REDIS_UPDATER", "no", "\"no\" is not true or false"),
    ] {
        let said = mistake("", &[(name, value)], &[]);
        assert!(said.contains(words), "{name}={value}: {said}");
    }
    for (flag, words) in [
        (
            "mysql.prot=1",
            "--set mysql.prot: there is no such setting; did you mean mysql.port?",
        ),
        ("mysql.port=x", "--set mysql.port: \"x\" is not a port"),
        ("mysql.port", "--set number 1: there is no ="),
        (
            "kafka.properties.acks=1",
            "--set kafka.properties.acks: not allowed",
        ),
    ] {
        let said = mistake("", &[], &[flag]);
        assert!(said.contains(words), "{flag}: {said}");
    }
    let missing = Config::load(
        Some(Path::new("/no/such/file")),
        &Environment::default(),
        &[],
    );
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("/no/such/file: cannot be read")
    );
}

#[test]
fn names_that_are_no_settings_are_left_alone() {
    let env = [
        ("KILTER_CONFIG", "x"),
        ("KILTER_DATA", "x"),
        ("KILTER_STACK_PORT", "1"),
        ("KILTER_SIM_SEED", "1"),
        ("KILTER_SERVICE_HOST", "10.0.0.1"),
        ("KILTER_PORT_9091_TCP", "tcp://10.0.0.1:9091"),
    ];
    load("", &env, &[]).unwrap();
}

#[test]
fn properties_add_up() {
    let file = "[kafka.properties]\nssl.ca.location = \"/ca\"\n\"linger.ms\" = 5\n\
                a.b.c = true\nd = 1.50\n";
    let env = [(
        "KILTER_KAFKA_PROPERTIES",
        "linger.ms = 6; sasl.password=a=b ;",
    )];
    let config = load(file, &env, &["kafka.properties.d=2"]).unwrap();
    let all: Vec<_> = config.kafka.properties.iter().collect();
    let wanted = [
        ("a.b.c", "true"),
        ("d", "2"),
        ("linger.ms", "6"),
        ("sasl.password", "a=b"),
        ("ssl.ca.location", "/ca"),
    ];
    assert_eq!(all, wanted);
}

#[test]
fn a_writer_has_a_server_of_its_own_where_it_says_so() {
    let file = "[engine]\nwriters = 2\n[mysql]\npassword = \"a\"\n\
                [[mysql.writers]]\n[[mysql.writers]]\nhost = \"db2\"\npassword = \"b\"\n";
    let mysql = load(file, &[], &[]).unwrap().mysql;
    assert_eq!(mysql.server_of_writer(0).host, "127.0.0.1");
    assert_eq!(mysql.server_of_writer(0).password.expose(), "a");
    let second = mysql.server_of_writer(1);
    assert_eq!(
        (&*second.host, second.port, &*second.user),
        ("db2", 3306, "root")
    );
    assert_eq!(second.password.expose(), "b");
    let same = load(
        "",
        &[],
        &[
            "engine.writers=2",
            "mysql.writers=[{}, {host = 'db2', password = 'b'}]",
            "mysql.password=a",
        ],
    );
    assert_eq!(same.unwrap().mysql, mysql);
}

const SECRETS: &str = "[mysql]\npassword = \"hunter2-a\"\n[[mysql.writers]]\npassword = \"hunter2-b\"\n\
    [kafka.properties]\nsasl.password = \"hunter2-c\"\nssl.key.pem = \"hunter2-d\"\n\
    sasl.jaas.config = \"hunter2-e\"\n[redis]\npassword = \"hunter2-f\"\n";

#[test]
fn secrets_are_not_printed() {
    let config = load(SECRETS, &[], &[]).unwrap();
    assert_eq!(config.mysql.password.expose(), "hunter2-a");
    let said = format!("{config:?} {config:#?} {}", config.summary());
    assert!(!said.contains("hunter2"), "{said}");
    for wrong in [
        "[mysql]\npassword = [\"hunter2\"]\n",
        "[mysql]\npassword = \"hunter2\\nhunter2\"\n",
        "[mysql]\npasword = \"hunter2\"\n",
        "[mysql]\npassword = \"hunter2\n",
        "[mysql]\nwriters = \"hunter2\"\n",
        "[mysql]\nwriters = [\"hunter2\"]\n",
        "[[mysql.writers]]\npassword = [\"hunter2\"]\n",
        "[[mysql.writers]]\npasword = \"hunter2\"\n",
        "[kafka]\nproperties = \"hunter2\"\n",
        "[kafka]\nproperties.sasl.password = [\"hunter2\"]\n",
    ] {
        let said = load(wrong, &[], &[]).unwrap_err().to_string();
        assert!(!said.contains("hunter2"), "{wrong:?}: {said}");
    }
    for (name, value) in [
        ("KILTER_KAFKA_PROPERTIES", "sasl.password:hunter2"),
        ("KILTER_KAFKA_PROPERTIES", "acks=hunter2"),
        ("KILTER_MYSQL_WRITERS", "[{pasword=\"hunter2\"}]"),
        ("KILTER_MYSQL_WRITERS", "hunter2"),
        ("MYSQL_PASSWORD", "hunter2\n"),
        ("KILTER_MYSQL_PASWORD", "hunter2"),
    ] {
        let said = load("", &[(name, value)], &[]).unwrap_err().to_string();
        assert!(!said.contains("hunter2"), "{name}: {said}");
    }
    let said = load(
        "",
        &[],
        &["mysql.pasword=hunter2", "mysql.password:hunter2"],
    );
    let said = said.unwrap_err().to_string();
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn what_is_printed_is_read_again() {
    let mut at = tempfile::NamedTempFile::new().unwrap();
    let file = "[engine]\nwriters = 2\npin = [3, 1]\nwindow = \"90m\"\nwindow_memory = \"2GiB\"\n\
                [[mysql.writers]]\nhost = \"db2\"\nport = 7\n[kafka.properties]\n\"a.b\" = \"q\\\"\\\\\"\n\
                [redis]\nkey_prefix = \"ä 'x'\\\" #:\"\n[log]\nlevel = \"info,kilter=debug\"\n";
    at.write_all(file.as_bytes()).unwrap();
    let env = [("MYSQL_PORT", "77")].into_iter().collect();
    let (config, printed) = read(Some(at.path()), &env, &[]).ok().unwrap();
    for text in [print::in_force(&printed), print::annotated(&printed)] {
        assert_eq!(load(&text, &[], &[]).unwrap(), config, "{text}");
    }
    assert!(print::in_force(&printed).contains("port = 77  # MYSQL_PORT\n"));
    let (_, printed) = read(
        None,
        &Environment::default(),
        &["mysql.password=x".to_owned()],
    )
    .ok()
    .unwrap();
    let masked = mistake(&print::in_force(&printed), &[], &[]);
    assert!(masked.contains("******** stands for a secret"), "{masked}");
}

#[test]
fn the_file_for_operators_is_the_printed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning/kilter.toml");
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == print_defaults().unwrap(),
        "tuning/kilter.toml is old: kilter config print --defaults > tuning/kilter.toml"
    );
}
