//! What a directory's front door accepted is kept: whatever kills the node, or takes its power.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    Place,
    clients::{Asked, Clients, Known, Random},
    directory::{client, serve},
    preload,
    process::Node,
    rest::SECRET,
    wait_for,
};

/// Clients of a node, each with a book.
struct Asking {
    clients: Clients,
    random: Random,
    seed: u64,
}

impl Asking {
    /// So many clients of 4 users each, whose accounts are opened first.
    fn begin(place: &Place, node: &Node, count: u64) -> Self {
        const USERS: u64 = 4;
        let seed = support::seed();
        let mut rest = client(place, node);
        for account in 1..=count * USERS + 1 {
            let open = json!({"user_id": format!("u-{account}"), "account_id": account});
            let opened = rest.post("/api/v1/accounts", &open).unwrap();
            assert_eq!(opened.status, 200, "{}", opened.text());
        }
        let mut clients = Clients::new(count, USERS, seed);
        clients.go_to(&node.rest().unwrap());
        clients.start();
        Self {
            clients,
            random: Random(seed),
            seed,
        }
    }

    /// Until some were answered, and then to a random moment.
    fn a_while(&mut self) {
        let before = self.clients.answered();
        wait_for("answers", || self.clients.answered() > before + 20);
        let until = Instant::now() + Duration::from_millis(self.random.below(100));
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Compares the books with what the node says, and what its directory holds once it has ended.
    fn check(mut self, place: &Place, node: Node) {
        let seed = self.seed;
        let book = self.clients.stop();
        let mut rest = client(place, &node);
        for (id, asked) in &book {
            let path = format!("/api/v1/transactions/u-{}/{id}", asked.account);
            let mut found = rest.get(&path).unwrap();
            wait_for("its outcome", || {
                if found.status == 200 && found.json()["outcome"] == "PENDING" {
                    found = rest.get(&path).unwrap();
                    return false;
                }
                true
            });
            match asked.known {
                Known::Accepted => {
                    assert_eq!(found.json()["outcome"], "SUCCESS", "seed {seed}: {id}");
                }
                Known::Refused => assert_eq!(found.status, 404, "seed {seed}: {id}"),
                Known::Nothing => assert!([200, 404].contains(&found.status), "seed {seed}: {id}"),
            }
        }
        node.stop();
        check_effects(place, &book, seed);
        place.ok(&["audit"]);
    }
}

fn check_effects(place: &Place, book: &BTreeMap<String, Asked>, seed: u64) {
    let mut effects: BTreeMap<String, u64> = BTreeMap::new();
    for line in place.ok(&["ledger", "--json"]).lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let id = row["transactionId"].as_str().unwrap();
        *effects.entry(id.to_owned()).or_default() += 1;
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    for (id, asked) in book {
        let times = effects.get(id).copied().unwrap_or(0);
        let (name, holds) = match asked.known {
            Known::Accepted => ("accepted", times == 1),
            Known::Refused => ("refused", times == 0),
            Known::Nothing => ("unanswered", times <= 1),
        };
        assert!(
            holds,
            "seed {seed}: {id} took effect {times} times: {asked:?}"
        );
        *counts.entry(name).or_default() += 1;
        *sums.entry(asked.account).or_default() += times * asked.amount;
    }
    println!("{counts:?}");
    for (account, sum) in sums.iter().filter(|(_, sum)| **sum > 0) {
        let found = place.available(*account, "USDT");
        assert_eq!(
            found,
            Some(sum.to_string()),
            "seed {seed}: account {account}"
        );
    }
}

#[test]
fn accepted_survives_thirty_kills() {
    const KILLS: u64 = 30;
    let place = Place::new();
    let env = [("HMAC_SECRET", SECRET)];
    let mut node = serve(&place, &env);
    let mut asking = Asking::begin(&place, &node, 4);
    for _ in 0..KILLS {
        asking.a_while();
        node.kill();
        node = serve(&place, &env);
        asking.clients.go_to(&node.rest().unwrap());
    }
    asking.check(&place, node);
}

/// Copies the files that processes of another boot would find, and no part of one.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with("-shm") && !name.ends_with(".part") {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

#[test]
fn accepted_survives_losses_of_power() {
    const TEST: &str = "accepted_survives_losses_of_power";
    const LOSSES: u64 = 12;
    let place = Place::new();
    let Some(library) = preload::library(TEST, &place.path(""), "power") else {
        return;
    };
    let (data, durable) = (place.data(), place.path("durable"));
    // Of its name as the kernel tells it.
    let data = data.parent().unwrap().canonicalize().unwrap().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let begin = || {
        serve(
            &place,
            &[
                ("HMAC_SECRET", SECRET),
                ("LD_PRELOAD", &library),
                ("POWER_FROM", data.to_str().unwrap()),
                ("POWER_TO", durable.to_str().unwrap()),
            ],
        )
    };
    copy_files(&data, &durable);
    let mut node = begin();
    let mut asking = Asking::begin(&place, &node, 8);
    for loss in 0..LOSSES {
        asking.a_while();
        node.kill();
        // Every other time the process alone ends first: what it wrote is there, and not yet durable.
        if loss % 2 == 0 {
            std::fs::remove_dir_all(&data).unwrap();
            copy_files(&durable, &data);
        }
        node = begin();
        asking.clients.go_to(&node.rest().unwrap());
    }
    asking.check(&place, node);
}
