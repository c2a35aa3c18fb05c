//! The steady apply loop allocates nothing: not for decoding, not for deciding, not for results,
//! ledger entries or the window. What is rare allocates what its messages own, and no more.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use kilter_engine::{
    AccountId, Generation, HashRange, Offset, Partition, Term,
    agent::Agent,
    epoch::EpochPart,
    hash::key_hash,
    partitioner::Partitioner,
    record::{Mark, Record},
    result::ResultSlot,
    ring::ring,
    shard::{
        Shard, ShardSettings,
        agent::{ShardAgent, ShardPorts},
    },
    slot::CommandSlot,
    wait::{WaitStrategy, waiter},
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is the system allocator's; counting touches a thread-local number only.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: passed on as it came.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USERS: u64 = 100;
const COMMANDS: u64 = 20_000;

#[test]
fn a_command_allocates_nothing() {
    assert_eq!(allocations(payload), 0, "for {COMMANDS} commands");
}

#[test]
fn what_is_rare_allocates_what_it_owns() {
    // One of eight is such a record, the others are deposits.
    for (what, rare, each) in [
        // The box it is decoded into, the other side in its result, and the two users of its leg.
        ("a transfer", transfer as fn(u64) -> (String, String), 4),
        // The box it is decoded into, the other side in its result, and the user in the ledger.
        ("a leg", leg, 3),
        // The keys met inside of it, the list of its postings, and the postings.
        ("a batch", batch, 3),
        ("a batch that fails", failing, 3),
    ] {
        let mixed = |number: u64| match number % 8 {
            0 => rare(number),
            _ => deposit(number),
        };
        assert_eq!(allocations(mixed), each * COMMANDS / 8, "{what}");
    }
}

/// How many allocations `COMMANDS` records make, once their balances and buffers are there.
fn allocations(payload: impl Fn(u64) -> (String, String)) -> u64 {
    let mut shard = Shard::new(ShardSettings {
        range: HashRange::ALL,
        term: Term::new(1),
        partitions: vec![(Partition::new(0), Generation::new(1))],
        partition_count: 1,
        partitioner: Partitioner::Murmur2,
        window_ms: 86_400_000,
        window_bytes: 1 << 28,
        dead_letters: kilter_engine::shard::DeadLetters::WithEpoch,
        entries: kilter_engine::shard::Entries::WithEpoch,
    });
    for number in 1..=USERS {
        let user = format!("u-{number}");
        shard.load_account(
            key_hash(user.as_bytes()),
            &user,
            AccountId::new(number).unwrap(),
        );
    }
    shard.reserve(2 * COMMANDS).unwrap();

    let (mut commands, commands_out) = ring(64, CommandSlot::new);
    let (results, mut results_out) = ring(64, ResultSlot::default);
    let (full, _full_out) = ring(2, || None);
    let (_empty, empty) = ring(2, || None);
    let (_, waker) = waiter(WaitStrategy::BusySpin);
    let ports = ShardPorts {
        commands: commands_out,
        results,
        full,
        empty,
        spilled_bytes: Default::default(),
        gauges: Default::default(),
        poller: waker.clone(),
        publisher: waker.clone(),
        writer: waker,
    };
    let part = Box::new(EpochPart::with_capacity(4 * COMMANDS as usize));
    let mut agent = ShardAgent::new(0, shard, ports, part);

    let payloads: Vec<(String, String)> = (0..2 * COMMANDS).map(payload).collect();
    let mut feed = |range: std::ops::Range<u64>| {
        let mut answered = 0;
        for number in range {
            let (key, value) = &payloads[number as usize];
            let record = Record {
                generation: Generation::new(1),
                partition: Partition::new(0),
                offset: Offset::new(number),
                timestamp_ms: 1_700_000_000_000,
                issued_at_ms: 1_700_000_000_000,
                mark: Mark::None,
                key: key.as_bytes(),
                value: value.as_bytes(),
                headers: &[],
            };
            let slot = commands.try_claim().unwrap();
            slot.set_record(&record, record.timestamp_ms, key_hash(record.key));
            if commands.pending() == 50 {
                commands.publish();
                while answered % 50 != 0 || commands.occupancy() > 0 {
                    answered += agent.do_work().unwrap();
                    let seen = results_out.available();
                    results_out.release(seen);
                }
            }
        }
        answered
    };
    // The first round makes the balances.
    assert_eq!(feed(0..COMMANDS), COMMANDS as usize);
    let before = ALLOCATIONS.get();
    assert_eq!(feed(COMMANDS..2 * COMMANDS), COMMANDS as usize);
    ALLOCATIONS.get() - before
}

fn deposit(number: u64) -> (String, String) {
    let user = number % USERS + 1;
    (
        format!("u-{user}"),
        with(number, user, &moves("DEPOSIT", "USDT", "1000")),
    )
}

fn transfer(number: u64) -> (String, String) {
    let user = number % USERS + 1;
    let to = user % USERS + 1;
    let body = moves("TRANSFER", "USDT", "0.5");
    let body = format!(r#"{body},"toUserId":"u-{to}","toAccountId":{to}"#);
    (format!("u-{user}"), with(number, user, &body))
}

fn leg(number: u64) -> (String, String) {
    let user = number % USERS + 1;
    let from = user % USERS + 1;
    let body = moves("CREDIT", "USDT", "0.5");
    let body = format!(
        r#"{body},"leg":"1/0/{number}/0/CREDIT","fromUserId":"u-{from}","fromAccountId":{from}"#
    );
    (format!("u-{user}"), with(number, user, &body))
}

fn batch(number: u64) -> (String, String) {
    let user = number % USERS + 1;
    let body = [
        moves("DEPOSIT", "USDT", "1"),
        moves("WITHDRAW", "USDT", "1"),
    ];
    let body = format!(r#""postings":[{{{}}}]"#, body.join("},{"));
    (format!("u-{user}"), with(number, user, &body))
}

fn failing(number: u64) -> (String, String) {
    let user = number % USERS + 1;
    let body = [moves("DEPOSIT", "USDT", "1"), moves("SETTLE", "USDT", "1")];
    let body = format!(r#""postings":[{{{}}}]"#, body.join("},{"));
    (format!("u-{user}"), with(number, user, &body))
}

fn moves(kind: &str, currency: &str, amount: &str) -> String {
    format!(r#""type":"{kind}","currencyCode":"{currency}","amount":"{amount}""#)
}

fn with(number: u64, user: u64, body: &str) -> String {
    format!(r#"{{"transactionId":"t-{number}","userId":"u-{user}","accountId":{user},{body}}}"#)
}

/// Deposits, withdrawals that fail, freezes, and now and then the id of the command before.
fn payload(number: u64) -> (String, String) {
    let user = number / 5 % USERS + 1;
    let kind = ["DEPOSIT", "WITHDRAW", "FREEZE", "SETTLE", "DEPOSIT"][(number % 5) as usize];
    let id = if number.is_multiple_of(97) {
        number / 2
    } else {
        number
    };
    (
        format!("u-{user}"),
        format!(
            r#"{{"transactionId":"t-{id}","accountId":{user},"userId":"u-{user}","currencyCode":"USDT","type":"{kind}","amount":"12.340000000000000001","description":"an ordinary command","metadata":{{"any":"json"}}}}"#
        ),
    )
}
