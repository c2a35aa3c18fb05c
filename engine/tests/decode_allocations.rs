//! Decoding an ordinary command allocates nothing. A binary of its own: it replaces the allocator.

// A global allocator cannot be written without `unsafe`.
#![allow(unsafe_code)]

use kilter_engine::{Body, decode, decode_key, may_be_open};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

thread_local! {
    /// Allocations of this thread; the test harness has threads of its own.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator with a counter in front.
struct Counting;

// SAFETY: every call goes to `System` unchanged, which keeps the contract; the counter is a
// constant-initialised thread local without a destructor, so touching it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> usize {
    let before = COUNT.get();
    black_box(work());
    COUNT.get() - before
}

#[test]
fn an_ordinary_command_allocates_nothing() {
    let records = [
        r#"{"transactionId":"t-1","accountId":42,"userId":"u-42","currencyCode":"USDT","type":"DEPOSIT","amount":"12.340000000000000001","description":"optional \n","metadata":{"any":"json"}}"#,
        r#"{"transactionId": "é", "accountId": 1, "userId": "u", "type": "SETTLE", "amount": 1e-3, "currencyCode": "A", "metadata": {"a": 1, "b": 2}}"#,
        r#"{"transactionId":"o-1","userId":"u-1","accountId":1,"type":"OPEN"}"#,
    ];
    may_be_open(b""); // builds the finder, once
    for record in records {
        let record = record.as_bytes();
        assert_eq!(allocations(|| assert!(decode(record).is_ok())), 0);
        assert_eq!(allocations(|| decode_key(record)), 0);
        assert_eq!(allocations(|| may_be_open(record)), 0);
        if let Body::Move { amount, .. } = decode(record).unwrap().body {
            assert_eq!(allocations(|| amount.write_to(&mut [0; 40]).len()), 0);
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| Box::new(1)), 1);
    let escaped = br#"{"userId":"\u0075"}"#;
    assert!(allocations(|| decode_key(escaped)) > 0);
}
