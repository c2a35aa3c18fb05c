//! Names, and real threads that must not sleep through a wake-up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::ring::{Consumer, Producer, ring};

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn strategies_are_read_as_they_are_written() {
    for strategy in WaitStrategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
    }
    let error = "Spin".parse::<WaitStrategy>().unwrap_err();
    assert_eq!(error.value, "Spin");
    assert_eq!(
        error.to_string(),
        "no wait strategy is called \"Spin\"; there are busy-spin, spin-then-yield and park"
    );
}

#[test]
fn only_the_parking_strategy_parks() {
    for strategy in WaitStrategy::ALL {
        let (mut idle, waker) = waiter(strategy);
        assert_eq!(idle.strategy(), strategy);
        waker.wake();
        for _ in 0..SPIN_TURNS + YIELD_TURNS + 2 {
            idle.idle(0);
        }
        assert_eq!(idle.parks() > 0, strategy == WaitStrategy::Park);
    }
}

#[test]
fn announces_and_looks_once_more_before_it_parks() {
    let (mut idle, waker) = waiter(WaitStrategy::Park);
    for _ in 0..SPIN_TURNS + YIELD_TURNS {
        idle.idle(0);
    }
    assert!(!idle.announced);
    idle.idle(0);
    assert!(idle.announced, "announced");
    assert_eq!(idle.parks(), 0, "and not yet parked");
    waker.wake();
    idle.idle(0);
    assert_eq!(idle.parks(), 0, "a wake after the announcement keeps it up");
    assert!(!idle.announced);
    idle.idle(0);
    idle.idle(1);
    assert!(!idle.announced, "work takes the announcement back");
    assert_eq!(idle.turns, 0, "and starts over");
}

#[test]
fn an_unwoken_park_ends_by_itself() {
    let (mut idle, _waker) = waiter(WaitStrategy::Park);
    let started = Instant::now();
    while idle.parks() < 3 {
        idle.idle(0);
    }
    assert!(started.elapsed() < DEADLINE);
}

/// Answers every number with itself until the ring is finished.
fn echo(mut from: Consumer<u64>, mut to: Producer<u64>, mut idle: Idle, other: &Waker) {
    while !from.is_finished() {
        let (head, tail) = from.peek(64);
        let count = head.len() + tail.len();
        for value in head.iter().chain(tail) {
            *to.try_claim().expect("no more answers than questions") = *value;
        }
        to.publish();
        from.release(count);
        if count > 0 {
            other.wake();
        }
        idle.idle(count);
    }
}

/// Each turn, both sides run dry and one of them has to be woken. A lost wake-up costs
/// [`PARK_LIMIT`]: a few of them are the host's scheduling, many are a fault.
#[test]
fn no_wake_up_is_lost_in_ping_pong() {
    const TURNS: u64 = 20_000;
    let (mut ask, asked) = ring(2, || 0);
    let (answer, mut answered) = ring(2, || 0);
    let (mut idle, me) = waiter(WaitStrategy::Park);
    let (their_idle, them) = waiter(WaitStrategy::Park);
    // Straight to the announcement, so that every turn goes through the hand-shake.
    let eager = |idle: &mut Idle| idle.turns = SPIN_TURNS + YIELD_TURNS;
    let mut late = 0;
    thread::scope(|scope| {
        scope.spawn(|| echo(asked, answer, their_idle, &me));
        let started = Instant::now();
        for turn in 0..TURNS {
            let asked_at = Instant::now();
            *ask.try_claim().unwrap() = turn;
            ask.publish();
            them.wake();
            while answered.available() == 0 {
                eager(&mut idle);
                idle.idle(0);
                assert!(started.elapsed() < DEADLINE, "stuck at {turn}");
            }
            assert_eq!(answered.peek(1).0, [turn]);
            answered.release(1);
            idle.idle(1);
            late += u64::from(asked_at.elapsed() >= PARK_LIMIT);
        }
        drop(ask);
        them.wake();
    });
    assert!(idle.parks() > 0);
    assert!(
        late < TURNS / 20,
        "{late} of {TURNS} turns took a park's limit"
    );
}

#[test]
fn many_wakers_wake_one_sleeper() {
    const EACH: u64 = 5_000;
    let (mut idle, waker) = waiter(WaitStrategy::Park);
    let inputs: [AtomicU64; 3] = Default::default();
    thread::scope(|scope| {
        for input in &inputs {
            let waker = waker.clone();
            scope.spawn(move || {
                for _ in 0..EACH {
                    input.fetch_add(1, Ordering::Release);
                    waker.wake();
                    thread::yield_now();
                }
            });
        }
        let started = Instant::now();
        let mut seen = 0;
        while seen < EACH * inputs.len() as u64 {
            let now = inputs.iter().map(|i| i.load(Ordering::Acquire)).sum();
            idle.idle((now - seen) as usize);
            seen = now;
            assert!(started.elapsed() < DEADLINE, "seen {seen}");
        }
    });
}
