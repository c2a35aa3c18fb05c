//! Clients of the front door that keep asking, each with a book of its own.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::json;

use super::rest::Rest;

/// What clients share.
#[derive(Debug, Default)]
struct Shared {
    /// Where the front door is at the moment.
    address: Mutex<String>,
    stop: AtomicBool,
    answered: AtomicU64,
}

/// Clients that deposit on accounts of their own: client `c` on those from `c * users + 1` on.
pub struct Clients {
    count: u64,
    users: u64,
    seed: u64,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<BTreeMap<String, Asked>>>,
}

impl Clients {
    pub fn new(count: u64, users: u64, seed: u64) -> Self {
        Self {
            count,
            users,
            seed,
            shared: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// The front door is here from now on.
    pub fn go_to(&self, address: &str) {
        address.clone_into(&mut self.shared.address.lock().unwrap());
    }

    pub fn address(&self) -> String {
        self.shared.address.lock().unwrap().clone()
    }

    /// How many requests were answered so that it is known what became of them.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    pub fn start(&mut self) {
        self.threads = (0..self.count)
            .map(|number| {
                let client = Client {
                    number,
                    random: Random(self.seed ^ number << 32),
                    users: self.users,
                    shared: Arc::clone(&self.shared),
                };
                std::thread::spawn(move || client.run())
            })
            .collect();
    }

    /// All that they asked for, by id.
    pub fn stop(&mut self) -> BTreeMap<String, Asked> {
        self.shared.stop.store(true, Ordering::Release);
        let threads = self.threads.drain(..);
        threads.flat_map(|thread| thread.join().unwrap()).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// What a client knows of one of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Accepted,
    Refused,
    /// No answer, or one that leaves it open.
    Nothing,
}

/// A client's own book: what it asked for, by id, and what it was told.
#[derive(Debug)]
pub struct Asked {
    pub account: u64,
    pub amount: u64,
    pub known: Known,
}

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct Client {
    number: u64,
    random: Random,
    users: u64,
    shared: Arc<Shared>,
}

impl Client {
    /// Asks until it is told to stop; its book.
    fn run(mut self) -> BTreeMap<String, Asked> {
        let mut book = BTreeMap::new();
        let mut rest = Rest::new("");
        let mut place = String::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            let account = self.number * self.users + self.random.below(self.users) + 1;
            // One in ten cannot be: the account is somebody else's.
            let user = match self.random.below(10) {
                0 => format!("u-{}", account + 1),
                _ => format!("u-{account}"),
            };
            let amount = self.random.below(1000) + 1;
            let id = format!("c{}-{}", self.number, book.len());
            let request = json!({
                "transaction_id": id, "account_id": account, "user_id": user,
                "currency_code": "USDT", "type": 0, "amount": amount.to_string(),
            });
            let mut known = Known::Nothing;
            // Some give up at once, most ask again with the same id.
            for _ in 0..self.random.below(6) + 1 {
                let now = self.shared.address.lock().unwrap().clone();
                if now != place {
                    place = now;
                    rest = Rest::new(&place);
                }
                known = match rest.post("/api/v1/balance/change", &request) {
                    Ok(answer) => judge(answer.status, &answer.json()),
                    Err(_) => Known::Nothing,
                };
                if known != Known::Nothing {
                    self.shared.answered.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                if self.shared.stop.load(Ordering::Acquire) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(self.random.below(50)));
            }
            let asked = Asked {
                account,
                amount,
                known,
            };
            book.insert(id, asked);
        }
        book
    }
}

fn judge(status: u16, body: &serde_json::Value) -> Known {
    match status {
        200 if body["success"] == true => Known::Accepted,
        // The same was accepted before: an earlier try of ours whose answer got lost.
        409 if body["event_id"].as_str().is_some_and(|id| !id.is_empty()) => Known::Accepted,
        200 | 400 | 404 => Known::Refused,
        429 | 500.. => Known::Nothing,
        _ => panic!("{status} {body}"),
    }
}
