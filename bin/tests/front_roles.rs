//! Front door, engine, relay and cache writer in processes of their own, and in one.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{process::Node, rest::Rest, servers::Servers, text, wait_for};

fn serve(servers: &Servers, role: &str) -> Node {
    servers.serve(&[
        ("KILTER_ROLE", role),
        ("LEADER_LOCK_TTL", "1000"),
        ("LEADER_RENEW_INTERVAL", "200"),
    ])
}

fn rest_of(node: &Node) -> Rest {
    node.wait_for("its address", |node| node.rest().is_some());
    Rest::new(&node.rest().unwrap())
}

fn deposit(id: &str, account: u64, amount: u64) -> Value {
    json!({
        "transaction_id": id, "account_id": account, "user_id": format!("u-{account}"),
        "currency_code": "USDT", "type": "DEPOSIT", "amount": amount.to_string(),
    })
}

fn open(rest: &mut Rest, account: u64) {
    let open = json!({"user_id": format!("u-{account}"), "account_id": account});
    let opened = rest.post("/api/v1/accounts", &open).unwrap();
    assert_eq!(opened.status, 200, "{}", opened.text());
}

const CHANGE: &str = "/api/v1/balance/change";

#[test]
fn each_does_its_part_in_a_process_of_its_own() {
    let Some(servers) = Servers::new("each_does_its_part_in_a_process_of_its_own") else {
        return;
    };
    servers.init();
    let api = serve(&servers, "api");
    let relay = serve(&servers, "relay");
    let mut rest = rest_of(&api);
    assert!(api.log().contains("roles=api"), "{}", api.log());
    open(&mut rest, 1);
    // Accepted while nobody leads, and pending until somebody does.
    let mut asked = deposit("t-1", 1, 5);
    asked["wait_ms"] = json!(300);
    let told = rest.post(CHANGE, &asked).unwrap().json();
    assert_eq!(
        (&told["success"], &told["pending"]),
        (&json!(true), &json!(true)),
        "{told}"
    );
    let state = rest.get("/api/v1/transactions/u-1/t-1").unwrap().json();
    assert_eq!(state["outcome"], "PENDING", "{state}");
    let engine = serve(&servers, "engine");
    engine.wait_ready();
    assert_eq!(engine.rest(), None, "an engine has no front door");
    asked["wait_ms"] = json!(20_000);
    let told = rest.post(CHANGE, &asked).unwrap().json();
    assert_eq!(told["outcome"], "SUCCESS", "{told}");
    assert_eq!(told["duplicate"], true);
    // Whoever waits in one process hears of what another one did.
    let mut asked = deposit("t-2", 1, 7);
    asked["wait_ms"] = json!(20_000);
    let told = rest.post(CHANGE, &asked).unwrap().json();
    assert_eq!(told["balances"][0]["available_after"], "12", "{told}");
    let version = told["version"].as_u64().unwrap();
    // Committed a moment later: a reader with its version sees its own write, or that it is early.
    let path = format!("/api/v1/balance/1/USDT?min_version={version}");
    let mut read = rest.get(&path).unwrap();
    wait_for("the balance in the store", || {
        read = rest.get(&path).unwrap();
        assert!(
            read.status == 200 || read.text().contains("not there yet"),
            "{}",
            read.text()
        );
        read.status == 200
    });
    let read = read.json();
    assert_eq!(read["balance"]["available"], "12", "{read}");
    assert_eq!(read["source"], "store");
    // Nobody wrote to Redis so far; a writer that comes later offers what is there.
    if servers.redis.is_some() {
        let cache = serve(&servers, "cache");
        cache.wait_for("the balance in Redis", |_| {
            rest.get(&path).unwrap().json()["source"] == "redis"
        });
        let mut asked = deposit("t-3", 1, 1);
        asked["wait"] = json!(true);
        let told = rest.post(CHANGE, &asked).unwrap().json();
        assert_eq!(told["outcome"], "SUCCESS", "{told}");
        let version = told["version"].as_u64().unwrap();
        let path = format!("/api/v1/balance/1/USDT?min_version={version}");
        cache.wait_for("the next balance in Redis", |_| {
            let read = rest.get(&path).unwrap().json();
            read["source"] == "redis" && read["balance"]["available"] == "13"
        });
        cache.stop();
    }
    // Results, from the first on, and behind the second.
    let watch = |query: &str, count: usize| {
        let watched = rest_of(&api).lines(&format!("/api/v1/results?{query}"), count);
        watched.unwrap()
    };
    let first = watch("after=1:0:0:0&after=1:1:0:0&after=1:2:0:0&user_id=u-1", 2);
    let ids: Vec<&Value> = first
        .iter()
        .map(|line| &line["entry"]["transaction_id"])
        .collect();
    assert!(
        ids.contains(&&json!("t-1")) || ids.contains(&&json!("t-2")),
        "{ids:?}"
    );
    for node in [api, relay, engine] {
        node.stop();
    }
    servers.check_consistent();
}

#[test]
fn one_process_does_it_all_and_reads_its_memory() {
    let Some(servers) = Servers::new("one_process_does_it_all_and_reads_its_memory") else {
        return;
    };
    servers.init();
    let node = servers.serve_ready(&[]);
    let mut rest = rest_of(&node);
    open(&mut rest, 1);
    let mut asked = deposit("t-1", 1, 5);
    asked["wait"] = json!(true);
    let told = rest.post(CHANGE, &asked).unwrap().json();
    assert_eq!(told["outcome"], "SUCCESS", "{told}");
    let path = format!("/api/v1/balance/1/USDT?min_version={}", told["version"]);
    let read = rest.get(&path).unwrap().json();
    assert_eq!(read["source"], "memory", "{read}");
    assert_eq!(read["balance"]["available"], "5");
    let metrics = node.get("/metrics").unwrap().1;
    for line in [
        "balance_outbox_events_created_total 2",
        "kilter_api_requests_total{protocol=\"rest\"}",
    ] {
        wait_for("the figures", || {
            node.get("/metrics").unwrap().1.contains(line)
        });
        assert!(!metrics.is_empty());
    }
    node.stop();
    servers.check_consistent();
}

#[test]
fn two_hundred_clients_with_the_same_ids() {
    const CLIENTS: u64 = 200;
    const IDS: u64 = 20;
    let Some(servers) = Servers::new("two_hundred_clients_with_the_same_ids") else {
        return;
    };
    servers.init();
    let nodes = [serve(&servers, "api,engine,relay"), serve(&servers, "api")];
    let places = nodes.each_ref().map(|node| {
        node.wait_for("its address", |node| node.rest().is_some());
        node.rest().unwrap()
    });
    let mut rest = Rest::new(&places[0]);
    open(&mut rest, 1);
    let firsts = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (place, firsts) = (places[(client % 2) as usize].clone(), Arc::clone(&firsts));
            std::thread::spawn(move || {
                let mut rest = Rest::new(&place);
                let mut events = BTreeMap::new();
                for n in 0..IDS {
                    // Not all begin with the same one.
                    let id = format!("t-{}", (n + client) % IDS);
                    let start = Instant::now();
                    loop {
                        let answer = rest.post(CHANGE, &deposit(&id, 1, 3)).unwrap();
                        let body = answer.json();
                        match answer.status {
                            200 => {
                                firsts.fetch_add(1, Ordering::Relaxed);
                            }
                            409 => {}
                            429 | 503 => {
                                assert!(start.elapsed() < support::DEADLINE, "{body}");
                                std::thread::sleep(Duration::from_millis(20));
                                continue;
                            }
                            _ => panic!("{body}"),
                        }
                        events.insert(id, body["event_id"].as_str().unwrap().to_owned());
                        break;
                    }
                }
                events
            })
        })
        .collect();
    let told: Vec<_> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    assert_eq!(firsts.load(Ordering::Relaxed), IDS);
    assert!(
        told.iter().all(|events| *events == told[0]),
        "one event an id"
    );
    wait_for("all of them to be applied", || {
        servers.available(1, "USDT") == Some((3 * IDS).to_string())
    });
    assert_eq!(servers.ledger().len() as u64, IDS);
    for node in nodes {
        node.stop();
    }
    servers.check_consistent();
}

#[test]
fn a_process_without_anything_to_do_says_so() {
    let Some(servers) = Servers::new("a_process_without_anything_to_do_says_so") else {
        return;
    };
    servers.init();
    let off = [
        "START_API",
        "START_CONSUMER",
        "START_RELAY",
        "START_REDIS_UPDATER",
    ];
    let mut command = servers.kilter(&["serve"]);
    let output = command
        .envs(off.map(|name| (name, "false")))
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        text(&output).contains("START_CONSUMER"),
        "{}",
        text(&output)
    );
    let output = servers
        .kilter(&["serve", "--role", "cook"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("cook"), "{}", text(&output));
    let mut command = servers.kilter(&["serve", "--role", "api"]);
    let output = command.env_remove("HMAC_SECRET").output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("HMAC_SECRET"), "{}", text(&output));
}

/// How long a stop may take when nothing is away: what each part of it is given at most.
const STOP_MAX: Duration = Duration::from_secs(13);

#[test]
fn who_watches_does_not_hold_up_a_stop() {
    let Some(servers) = Servers::new("who_watches_does_not_hold_up_a_stop") else {
        return;
    };
    servers.init();
    let node = servers.serve_ready(&[]);
    let mut rest = rest_of(&node);
    let watching: Vec<_> = (0..3)
        .map(|_| rest.watch("/api/v1/results").unwrap())
        .collect();
    node.wait_for("the watchers", |node| {
        node.log().matches("results are watched").count() == 3
    });
    open(&mut rest, 1);
    let watching = watching.into_iter().map(|mut watched| {
        let first = watched.lines(1).unwrap();
        assert_eq!(first[0]["entry"]["type"], "OPEN", "{first:?}");
        watched
    });
    let watching: Vec<_> = watching.collect();
    let start = Instant::now();
    node.stop();
    assert!(start.elapsed() < STOP_MAX, "{:?}", start.elapsed());
    for mut watched in watching {
        // The stream has an end, and does not just break off.
        assert_eq!(watched.lines(1).unwrap(), [json!(null); 0]);
    }
    servers.check_consistent();
}

#[test]
fn a_second_signal_ends_at_once() {
    let Some(servers) = Servers::new("a_second_signal_ends_at_once") else {
        return;
    };
    servers.init();
    let mut node = serve(&servers, "api");
    let mut rest = rest_of(&node);
    open(&mut rest, 1);
    // Nobody leads, so that it waits for long, and the first signal waits for it.
    let waiting = std::thread::spawn(move || {
        let mut asked = deposit("t-1", 1, 5);
        asked["wait_ms"] = json!(20_000);
        rest.post(CHANGE, &asked)
    });
    wait_for("the request to be accepted", || {
        let state = rest_of(&node).get("/api/v1/transactions/u-1/t-1");
        state.unwrap().status == 200
    });
    node.signal(libc::SIGTERM);
    node.wait_for("the stop to begin", |node| {
        node.state().contains("stopping")
    });
    node.signal(libc::SIGTERM);
    assert_eq!(node.wait().code(), Some(130), "{}", node.log());
    // It was accepted, whatever became of the answer.
    let _ = waiting.join().unwrap();
    let accepted = serve(&servers, "api,engine,relay");
    accepted.wait_for("what was accepted", |_| {
        servers.available(1, "USDT").as_deref() == Some("5")
    });
    accepted.stop();
    servers.check_consistent();
}

/// Serves with one role turned off, by the name that the prototype's users know.
fn without(servers: &Servers, role: &str, roles: &str) -> Node {
    let node = servers.serve(&[(role, "false")]);
    node.wait_ready();
    let roles = format!("roles={roles}\n");
    assert!(node.log().contains(&roles), "{}", node.log());
    node
}

/// How many keys Redis has of this test.
fn keys(servers: &Servers) -> Option<usize> {
    let (host, port) = servers.redis.clone()?;
    let client = redis::Client::open(format!("redis://{host}:{port}/")).unwrap();
    let mut conn = client.get_connection().unwrap();
    let pattern = format!("{}:balance:*", servers.name);
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut conn).unwrap();
    Some(keys.len())
}

#[test]
fn each_role_can_be_turned_off() {
    let Some(servers) = Servers::new("each_role_can_be_turned_off") else {
        return;
    };
    servers.init();
    // Nobody leads: what is accepted stays pending, and nothing is committed.
    let node = without(&servers, "START_CONSUMER", "api, relay, cache");
    let mut rest = rest_of(&node);
    open(&mut rest, 1);
    let mut asked = deposit("t-1", 1, 5);
    asked["wait_ms"] = json!(500);
    let told = rest.post(CHANGE, &asked).unwrap().json();
    assert_eq!(told["pending"], true, "{told}");
    wait_for("the command in the log", || {
        servers.read("commands").len() == 2
    });
    node.stop();
    assert_eq!(servers.committed(&mut servers.conn()), 0);

    // Whoever leads does not write to Redis.
    let node = without(&servers, "START_REDIS_UPDATER", "api, engine, relay");
    servers.wait_committed(2);
    let mut rest = rest_of(&node);
    let read = rest.get("/api/v1/balance/1/USDT").unwrap().json();
    assert_eq!(read["source"], "memory", "{read}");
    node.stop();
    if let Some(keys) = keys(&servers) {
        assert_eq!(keys, 0, "somebody wrote to Redis");
    }

    // No front door; the others do their part.
    let node = without(&servers, "START_API", "engine, relay, cache");
    assert_eq!(node.rest(), None);
    assert!(!node.log().contains("the front door is open"));
    let committed = 2 + servers.produce([support::command("t-2", 1, "DEPOSIT", "1")]);
    servers.wait_committed(committed);
    if servers.redis.is_some() {
        node.wait_for("the balance in Redis", |_| keys(&servers) == Some(1));
    }
    node.stop();
    servers.check_consistent();
}
