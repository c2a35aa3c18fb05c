//! Clients that ask two front doors for everything there is, each with a book of its own.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    clients::{Known, Random},
    rest::{Answer, Rest},
};

const CHANGE: &str = "/api/v1/balance/change";

/// What clients share.
#[derive(Debug, Default)]
struct Shared {
    /// Where the front doors are at the moment.
    addresses: Mutex<[String; 2]>,
    stop: AtomicBool,
    answered: AtomicU64,
    /// A number for everything that is sent or heard, in the order in which it is.
    clock: AtomicU64,
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel)
    }
}

/// Clients, each with accounts of its own: client `c` has those from `c * users + 1` on, and opens
/// more.
pub struct Mixed {
    count: u64,
    users: u64,
    seed: u64,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Book>>,
}

impl Mixed {
    pub fn new(count: u64, users: u64, seed: u64) -> Self {
        Self {
            count,
            users,
            seed,
            shared: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// A front door is here from now on.
    pub fn go_to(&self, door: usize, address: &str) {
        address.clone_into(&mut self.shared.addresses.lock().unwrap()[door]);
    }

    pub fn address(&self, door: usize) -> String {
        self.shared.addresses.lock().unwrap()[door].clone()
    }

    /// How many requests were answered so that it is known what became of them.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    pub fn start(&mut self) {
        self.threads = (0..self.count)
            .map(|number| {
                let first = number * self.users + 1;
                let accounts = first..first + self.users;
                let client = Client {
                    number,
                    random: Random(self.seed ^ number << 32),
                    accounts: accounts.map(|n| (format!("u-{n}"), n)).collect(),
                    shared: Arc::clone(&self.shared),
                    book: Book::default(),
                    doors: [Door::default(), Door::default()],
                };
                std::thread::spawn(move || client.run())
            })
            .collect();
    }

    /// All that they asked for.
    pub fn stop(&mut self) -> Book {
        self.shared.stop.store(true, Ordering::Release);
        let mut all = Book::default();
        for thread in self.threads.drain(..) {
            let book = thread.join().unwrap();
            all.asked.extend(book.asked);
            all.opened.extend(book.opened);
        }
        all
    }
}

impl Drop for Mixed {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// What was asked for, and what was told.
#[derive(Debug, Default)]
pub struct Book {
    pub asked: Vec<Asked>,
    /// Users for whom an account was asked for, and its number if that was told.
    pub opened: Vec<(String, Option<u64>)>,
}

/// A command.
#[derive(Debug)]
pub struct Asked {
    pub id: String,
    pub user: String,
    pub account: u64,
    pub kind: &'static str,
    pub amount: u64,
    /// The creditor's account of a transfer.
    pub to: Option<u64>,
    pub known: Known,
    /// What became of it, if somebody waited for that and was told.
    pub outcome: Option<String>,
    /// When it was sent first, and when it was heard that it is accepted.
    pub sent: u64,
    pub heard: Option<u64>,
}

/// One of the front doors, as a client knows it.
struct Door {
    place: String,
    rest: Rest,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            place: String::new(),
            rest: Rest::new(""),
        }
    }
}

struct Client {
    number: u64,
    random: Random,
    accounts: Vec<(String, u64)>,
    shared: Arc<Shared>,
    book: Book,
    doors: [Door; 2],
}

impl Client {
    /// Asks until it is told to stop; its book.
    fn run(mut self) -> Book {
        while !self.shared.stop.load(Ordering::Acquire) {
            match self.random.below(20) {
                0 => self.open(),
                _ => self.change(),
            }
        }
        self.book
    }

    fn open(&mut self) {
        let user = format!("n-{}-{}", self.number, self.book.opened.len());
        let wish = json!({ "user_id": user });
        let answer = self.ask("/api/v1/accounts", &wish, |answer| match answer.status {
            200 => Some(answer.json()["account_id"].as_u64().unwrap()),
            429 | 500.. => None,
            _ => panic!("{} {}", answer.status, answer.text()),
        });
        if let Some(account) = answer {
            self.accounts.push((user.clone(), account));
        }
        self.book.opened.push((user, answer));
    }

    fn change(&mut self) {
        let count = self.accounts.len() as u64;
        let (user, account) = self.accounts[self.random.below(count) as usize].clone();
        let (to_user, to_account) = self.accounts[self.random.below(count) as usize].clone();
        let (kind, number) = match self.random.below(20) {
            0..8 => ("DEPOSIT", 0),
            8..12 => ("WITHDRAW", 1),
            12..14 => ("FREEZE", 2),
            14..16 => ("UNFREEZE", 3),
            _ if to_account == account => ("DEPOSIT", 0),
            _ => ("TRANSFER", 4),
        };
        // Enough that some find no funds.
        let amount = self.random.below(2000) + 1;
        let id = format!("c{}-{}", self.number, self.book.asked.len());
        // One in twenty cannot be: the account is somebody else's.
        let named = match self.random.below(20) {
            0 => "u-0".to_owned(),
            _ => user.clone(),
        };
        let mut wish = json!({
            "transaction_id": id, "account_id": account, "user_id": named,
            "currency_code": "USDT", "type": number, "amount": amount.to_string(),
        });
        if kind == "TRANSFER" {
            wish["to_user_id"] = to_user.into();
            wish["to_account_id"] = to_account.into();
        }
        if self.random.below(4) == 0 {
            wish["wait_ms"] = json!(3000);
        }
        let sent = self.shared.tick();
        let answer = self.ask(CHANGE, &wish, judge);
        let (known, outcome) = answer.unwrap_or((Known::Nothing, None));
        let heard = (known == Known::Accepted).then(|| self.shared.tick());
        self.book.asked.push(Asked {
            id,
            user,
            account,
            kind,
            amount,
            to: (kind == "TRANSFER").then_some(to_account),
            known,
            outcome,
            sent,
            heard,
        });
    }

    /// Asks now here, now there, with the same id, until it is known what became of it. Some give up
    /// at once.
    fn ask<T>(&mut self, path: &str, wish: &Value, judge: fn(&Answer) -> Option<T>) -> Option<T> {
        for _ in 0..self.random.below(8) + 1 {
            let which = self.random.below(2) as usize;
            let now = self.shared.addresses.lock().unwrap()[which].clone();
            let door = &mut self.doors[which];
            if now != door.place {
                door.rest = Rest::new(&now);
                door.place = now;
            }
            if let Ok(answer) = door.rest.post(path, wish)
                && let Some(known) = judge(&answer)
            {
                self.shared.answered.fetch_add(1, Ordering::Relaxed);
                return Some(known);
            }
            if self.shared.stop.load(Ordering::Acquire) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(self.random.below(100)));
        }
        None
    }
}

fn judge(answer: &Answer) -> Option<(Known, Option<String>)> {
    if answer.status == 429 || answer.status >= 500 {
        return None;
    }
    let body = answer.json();
    let is_accepted = body["event_id"].as_str().is_some_and(|id| !id.is_empty());
    match answer.status {
        200 if is_accepted => {
            let outcome = match body["outcome"].as_str().unwrap() {
                "PENDING" => None,
                "SUCCESS" => Some("SUCCESS".to_owned()),
                "FAILED" => Some(body["error_code"].as_str().unwrap().to_owned()),
                _ => panic!("{body}"),
            };
            Some((Known::Accepted, outcome))
        }
        // An earlier try of ours whose answer got lost, and never another command's.
        409 if is_accepted => {
            assert!(body.to_string().contains("was accepted before\""), "{body}");
            Some((Known::Accepted, None))
        }
        200 | 400 | 404 => Some((Known::Refused, None)),
        _ => panic!("{} {body}", answer.status),
    }
}
