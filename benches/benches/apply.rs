//! A shard's apply loop alone: decoded commands, a million balances, the window on.
//!
//! Closed loop, one pinned thread; batches are made outside the timed part. Checks its answer: the
//! sum over all balances, and that the planned duplicates and nothing else were told as such.
//!
//! `APPLY_BALANCES` and `APPLY_COMMANDS` set the size.
#![allow(
    clippy::float_arithmetic,
    clippy::unwrap_used,
    reason = "rates and times; a bench ends by panicking"
)]

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use kilter_benches::{host, measure};
use kilter_engine::{
    AccountId, Amount, Body, Command, Currency, Generation, HashRange, MoveKind, Offset, Partition,
    Term,
    epoch::EpochPart,
    key_hash,
    ledger::BalanceState,
    partitioner::Partitioner,
    record::{Mark, NOT_ISSUED},
    result::{ResultRecord, Status},
    shard::{BATCH_MAX, Item, Results, Shard, ShardSettings},
};

/// Commands made at once: as many as stay in the cache, as those in a ring do.
const CHUNK: u64 = 1024;

/// Chunks of an epoch.
const CHUNKS_AN_EPOCH: u64 = 8;

/// One in so many commands is the one before once more.
const DUPLICATE_ONE_IN: u64 = 128;

/// Results written in place, as in a ring, and their duplicates counted.
struct Slots {
    slots: Vec<ResultRecord>,
    next: usize,
}

impl Results for Slots {
    fn next(&mut self) -> &mut ResultRecord {
        self.next = (self.next + 1) % self.slots.len();
        &mut self.slots[self.next]
    }
}

/// What one command is made of.
struct Text {
    user: String,
    hash: u64,
    account: AccountId,
    id: String,
}

fn main() {
    let balances = number("APPLY_BALANCES", 1_000_000);
    let commands = number("APPLY_COMMANDS", 6_000_000);
    println!("{}", host::line());
    if let Some(cpus) = host::two_cpus() {
        println!(
            "cache line round trip {:.0} ns; hiccups of a CPU in 1 s: {}",
            measure::cache_line_round_trip_ns(cpus),
            measure::percentiles(&measure::hiccups(cpus[0], Duration::from_secs(1)))
        );
        host::pin(cpus[0]);
    }
    for skewed in [false, true] {
        run(balances, commands, skewed);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn run(balances: u64, commands: u64, skewed: bool) {
    let usdt = Currency::parse(b"USDT").unwrap();
    let one = Amount::from_units(10_i128.pow(18)).unwrap();
    let mut shard = shard(balances, usdt, one);
    shard.reserve(commands).unwrap();
    let mut random = 1_u64;
    let mut part = EpochPart::with_capacity((CHUNK * CHUNKS_AN_EPOCH) as usize);
    let mut slots = Slots {
        slots: vec![ResultRecord::default(); 1024],
        next: 0,
    };
    let mut rates = Vec::new();
    let mut done = 0;
    let mut repeated = 0;
    while done < commands {
        let texts: Vec<Text> = (done..done + CHUNK)
            .map(|n| text(1 + choose(&mut random, balances, skewed), n))
            .collect();
        let items: Vec<Item<'_>> = (0..CHUNK)
            .map(|n| {
                let repeats = n % DUPLICATE_ONE_IN == DUPLICATE_ONE_IN - 1;
                repeated += u64::from(repeats);
                let text = &texts[(n - u64::from(repeats)) as usize];
                item(text, done + n, usdt, one)
            })
            .collect();
        let start = Instant::now();
        for batch in items.chunks(BATCH_MAX) {
            shard.apply(batch, &mut part, &mut slots).unwrap();
        }
        rates.push(CHUNK as f64 * 1000.0 / start.elapsed().as_nanos() as f64);
        assert!(
            slots
                .slots
                .iter()
                .any(|result| result.status == Status::Duplicate)
        );
        done += CHUNK;
        if done.is_multiple_of(CHUNK * CHUNKS_AN_EPOCH) {
            part.clear();
            shard.end_epoch();
        }
    }
    let sum: i128 = shard
        .book()
        .balances()
        .map(|(_, balance)| balance.available().units())
        .sum();
    assert_eq!(
        sum / one.units(),
        i128::from(balances) + i128::from(done - repeated),
        "every deposit once"
    );
    rates.sort_by(f64::total_cmp);
    let at = |share: usize| rates[(rates.len() - 1) * share / 100];
    println!(
        "{}: {:.2} M/s (median of {} times {CHUNK}; 5 % {:.2}, 95 % {:.2}), {:.0} ns a \
         command; {balances} balances, {} ids remembered",
        if skewed { "skewed " } else { "uniform" },
        at(50),
        rates.len(),
        at(5),
        at(95),
        1000.0 / at(50),
        shard.remembered()
    );
}

/// Four in five choices fall on a fifth of the users, again and again within that fifth.
fn choose(random: &mut u64, limit: u64, skewed: bool) -> u64 {
    let mut next = || {
        *random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *random >> 11
    };
    let mut limit = limit;
    if skewed {
        while limit > 5 && next() % 5 != 0 {
            limit /= 5;
        }
    }
    next() % limit
}

fn text(number: u64, id: u64) -> Text {
    let user = format!("u{number:07}");
    Text {
        hash: key_hash(user.as_bytes()),
        user,
        account: AccountId::new(number).unwrap(),
        id: format!("transaction-{id:012}"),
    }
}

fn item(text: &Text, offset: u64, currency: Currency, amount: Amount) -> Item<'_> {
    Item {
        generation: Generation::new(1),
        partition: Partition::new(0),
        offset: Offset::new(offset),
        clock_ms: 1_700_000_000_000 + (offset / 1000) as i64,
        issued_at_ms: NOT_ISSUED,
        key_hash: text.hash,
        mark: Mark::None,
        key: text.user.as_bytes(),
        value: b"",
        headers: &[],
        decoded: Ok(Command {
            transaction_id: Cow::Borrowed(&text.id),
            user_id: Cow::Borrowed(&text.user),
            account_id: text.account,
            body: Body::Move {
                kind: MoveKind::Deposit,
                currency,
                amount,
            },
        }),
    }
}

fn shard(balances: u64, currency: Currency, available: Amount) -> Shard {
    let mut shard = Shard::new(ShardSettings {
        range: HashRange::ALL,
        term: Term::new(1),
        partitions: vec![(Partition::new(0), Generation::new(1))],
        partition_count: 1,
        partitioner: Partitioner::Murmur2,
        window_ms: 86_400_000,
        window_bytes: 1 << 30,
        dead_letters: kilter_engine::shard::DeadLetters::WithEpoch,
        entries: kilter_engine::shard::Entries::WithEpoch,
    });
    for number in 1..=balances {
        let text = text(number, 0);
        let handle = shard.load_account(text.hash, &text.user, text.account);
        let state = BalanceState {
            available,
            frozen: Amount::ZERO,
            version: 1,
        };
        shard.load_balance(text.hash, handle, currency, state);
    }
    shard
}
