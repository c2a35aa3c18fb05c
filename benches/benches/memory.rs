//! What the window and the book cost: nanoseconds in a closed loop, one thread, and resident bytes.
//!
//! `cargo bench --bench memory [-- quick | window MILLIONS | book MILLIONS]`. Inputs are hashed beforehand, so that the figures are
//! those of the tables alone; a batch is 32 ids or balances, prefetched together. Resident bytes
//! are the growth of the process in /proc/self/statm. Every run checks its answers.
#![allow(clippy::float_arithmetic, clippy::unwrap_used)]

use kilter_engine::{
    AccountId, Amount, Book, Currency, IdHash, Opened, Window, WindowBudget, key_hash,
};
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

/// Ids or balances whose lines are fetched together.
const BATCH: usize = 32;
/// A day.
const LENGTH_MS: u64 = 86_400_000;
/// Runs of each figure; the median is shown, and the range.
const RUNS: usize = 5;

fn main() {
    // One part alone, to look at closely.
    for (name, measure) in [("window", window_speed as fn(u64)), ("book", book_speed)] {
        let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
        if let Some(millions) = args.next().and_then(|text| text.parse::<u64>().ok()) {
            return measure(millions * 1_000_000);
        }
    }
    let quick = std::env::args().any(|arg| arg == "quick");
    // Memory that another measurement gave back would count as none: a process for each.
    for (name, measure) in [
        ("window-bytes", window_bytes as fn(u64)),
        ("book-bytes", book_bytes),
    ] {
        if std::env::args().any(|arg| arg == name) {
            return measure(if quick { 1_000_000 } else { 10_000_000 });
        }
    }
    let most = if quick { 1_000_000 } else { 10_000_000 };
    println!("closed loop, one thread, batches of {BATCH}, median of {RUNS} (range)");
    println!("hiccups: {}", hiccups());
    window_speed(1_000_000);
    if !quick {
        window_speed(most);
    }
    for name in ["window-bytes", "book-bytes"] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.arg(name).args(quick.then_some("quick"));
        assert!(again.status().unwrap().success(), "{name}");
    }
    book_speed(1_000_000);
}

/// How long the machine stopped the thread, in a tenth of a second of doing nothing.
fn hiccups() -> String {
    let start = Instant::now();
    let (mut last, mut stops, mut stopped_ns) = (start, 0, 0);
    while start.elapsed().as_millis() < 100 {
        let now = Instant::now();
        let gap = now.duration_since(last).as_nanos();
        if gap > 5_000 {
            stops += 1;
            stopped_ns += gap;
        }
        last = now;
    }
    format!(
        "{stops} above 5 us in 100 ms, {} us in all",
        stopped_ns / 1000
    )
}

/// The process's resident memory in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// A fast generator (xorshift64*) that repeats from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn id(&mut self) -> IdHash {
        let (line, tag) = (self.next(), self.next());
        IdHash { line, tag }
    }
}

fn show(what: &str, mut ns: Vec<f64>) {
    ns.sort_by(f64::total_cmp);
    println!(
        "{what:<64} {:6.1} ns ({:.1}–{:.1})",
        ns[ns.len() / 2],
        ns[0],
        ns[ns.len() - 1]
    );
}

/// A window that can hold four times so many ids.
fn window(ids: u64) -> Window {
    let mut window = Window::new(LENGTH_MS, ids * 64, &WindowBudget::new(ids * 128));
    window.advance(LENGTH_MS * 100);
    window
}

/// contains + insert of every id, one in a hundred a duplicate: filling a table that grows, and
/// then going on at a steady size, where every id expires.
fn window_speed(ids: u64) {
    let (mut filling, mut steady, mut looking) = (vec![], vec![], vec![]);
    for run in 0..RUNS as u64 {
        let mut window = window(ids);
        let mut random = Random(run + 1);
        let hashes: Vec<IdHash> = (0..ids).map(|_| random.id()).collect();
        let start = Instant::now();
        let mut duplicates = 0;
        let now_ms = window.now_ms();
        for (at, batch) in hashes.chunks(BATCH).enumerate() {
            duplicates += apply(&mut window, batch, now_ms);
            if at % 3 == 0 {
                duplicates += apply(&mut window, &batch[..1], now_ms);
            }
        }
        filling.push(start.elapsed().as_nanos() as f64 / ids as f64);
        assert_eq!(duplicates, hashes.chunks(BATCH).len().div_ceil(3) as u64);
        assert_eq!(window.len(), ids);

        let start = Instant::now();
        for batch in hashes.chunks(BATCH) {
            for id in batch {
                window.prefetch(id);
            }
            for id in batch {
                window.prefetch_spill(id);
            }
            assert!(batch.iter().all(|id| window.contains(id)));
        }
        looking.push(start.elapsed().as_nanos() as f64 / ids as f64);

        // Two lengths more at the same rate: everything is replaced.
        let batches = ids / BATCH as u64;
        let step = |at: u64| now_ms + LENGTH_MS + LENGTH_MS * at / batches;
        let start = Instant::now();
        for at in 0..2 * batches {
            let now_ms = step(at);
            window.advance(now_ms);
            let batch: [IdHash; BATCH] = std::array::from_fn(|_| random.id());
            assert_eq!(apply(&mut window, &batch, now_ms), 0);
        }
        steady.push(start.elapsed().as_nanos() as f64 / (2 * batches * BATCH as u64) as f64);
        assert!(
            window.len() >= ids && window.len() < ids * 5 / 4,
            "{}",
            window.len()
        );
    }
    show(
        &format!("window {ids}: contains + insert, growing from nothing"),
        filling,
    );
    show(
        &format!("window {ids}: contains + insert, steady, swept"),
        steady,
    );
    show(&format!("window {ids}: contains alone, all there"), looking);
}

/// Applies a batch and says how many were there already.
fn apply(window: &mut Window, batch: &[IdHash], now_ms: u64) -> u64 {
    for id in batch {
        window.prefetch(id);
    }
    for id in batch {
        window.prefetch_spill(id);
    }
    let mut duplicates = 0;
    for id in batch {
        if window.contains(id) {
            duplicates += 1;
        } else {
            window.insert(id, now_ms).unwrap();
        }
    }
    duplicates
}

/// Resident bytes an id at several fill levels of one growing window.
fn window_bytes(ids: u64) {
    let before = resident();
    let mut window = window(ids);
    let mut random = Random(7);
    let now_ms = window.now_ms();
    for level in 1..=10 {
        while window.len() < ids * level / 10 {
            window.insert(&random.id(), now_ms).unwrap();
        }
        let (resident, own) = (resident() - before, window.bytes());
        println!(
            "window of {:>9} ids: {:5.1} resident bytes an id, {:5.1} by its own count",
            window.len(),
            resident as f64 / window.len() as f64,
            own as f64 / window.len() as f64
        );
    }
    black_box(window);
}

fn open(book: &mut Book, n: u64, currency: Currency) {
    let user = n.to_le_bytes();
    let hash = key_hash(&user);
    let Opened::New(handle) = book.open(hash, &user, AccountId::new(n + 1).unwrap()) else {
        panic!("user {n} is new");
    };
    book.create(handle, hash, currency);
}

/// Resident bytes a balance, users of 8 bytes with one currency each, and what creating one takes.
fn book_bytes(most: u64) {
    let balances = most / 5;
    let before = resident();
    let mut book = Book::new();
    let currency = "USDT".parse().unwrap();
    for level in 1..=8 {
        let start = Instant::now();
        let from = book.len();
        while book.len() < balances * level / 8 {
            let n = book.len();
            open(&mut book, n, currency);
        }
        let ns = start.elapsed().as_nanos() as f64 / (book.len() - from) as f64;
        println!(
            "book of {:>9} balances: {:5.1} resident bytes a balance, {:5.1} by its own count; \
             {ns:.0} ns to open and create one",
            book.len(),
            (resident() - before) as f64 / book.len() as f64,
            book.bytes() as f64 / book.len() as f64
        );
    }
    black_box(book);
}

/// find + apply of one unit, the user's bytes compared.
fn book_speed(balances: u64) {
    let mut book = Book::new();
    let currency: Currency = "USDT".parse().unwrap();
    for n in 0..balances {
        open(&mut book, n, currency);
    }
    let commands = 4_000_000;
    let mut random = Random(99);
    let uniform: Vec<u64> = (0..commands).map(|_| random.next() % balances).collect();
    // The inverse of a Zipf distribution of exponent 1: rank = n^u, spread over all users.
    let zipf: Vec<u64> = (0..commands)
        .map(|_| {
            let u = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
            let rank = (balances as f64).powf(u) as u64;
            rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % balances
        })
        .collect();
    let mut applied = 0;
    for (name, users) in [("uniform", uniform), ("zipf", zipf)] {
        let users: Vec<(u64, [u8; 8])> = users
            .into_iter()
            .map(|n| (key_hash(&n.to_le_bytes()), n.to_le_bytes()))
            .collect();
        for steps in 0..=3 {
            let mut ns = vec![];
            for _ in 0..RUNS {
                let start = Instant::now();
                for batch in users.chunks(BATCH) {
                    add_one(&mut book, batch, currency, steps);
                }
                ns.push(start.elapsed().as_nanos() as f64 / users.len() as f64);
                applied += users.len() as i128;
            }
            show(
                &format!("book {balances} {name}: find + apply, {steps} prefetch steps"),
                ns,
            );
        }
    }
    let units: i128 = book.balances().map(|(_, b)| b.available().units()).sum();
    let versions: i128 = book.balances().map(|(_, b)| i128::from(b.version())).sum();
    assert_eq!((units, versions), (applied, applied));
    let start = Instant::now();
    black_box(book.state_hash());
    let ns = start.elapsed().as_nanos() as f64 / balances as f64;
    println!("book {balances}: state hash {ns:.1} ns a balance");
}

fn add_one(book: &mut Book, batch: &[(u64, [u8; 8])], currency: Currency, steps: usize) {
    let one = Amount::from_units(1).unwrap();
    let mut guesses = [None; BATCH];
    if steps >= 1 {
        for &(hash, _) in batch {
            book.prefetch_index(hash, currency);
        }
    }
    if steps >= 2 {
        for (&(hash, _), guess) in batch.iter().zip(&mut guesses) {
            *guess = book.prefetch_slot(hash, currency);
        }
    }
    if steps >= 3 {
        for guess in guesses.into_iter().flatten() {
            book.prefetch_user(guess);
        }
    }
    for ((hash, user), guess) in batch.iter().zip(guesses) {
        let slot = book.find(guess, *hash, user, currency).unwrap();
        let balance = book.slot_mut(slot);
        let available = balance.available().checked_add(one).unwrap();
        balance.apply(available, balance.frozen());
    }
}
