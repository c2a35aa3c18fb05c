//! What it costs to read a command: amounts against `rust_decimal`, whole records against a plain
//! serde struct, which checks less (no duplicate keys below the top, no ranges, no order of
//! faults). Every reading is checked once before it is timed.

// criterion_group! makes a function without docs.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kilter_engine::{Amount, decode, decode_key, may_be_open};
use rust_decimal::Decimal;
use serde::Deserialize;
use std::hint::black_box;
use std::str::FromStr;

/// Amounts as commands carry them; the last is past what `rust_decimal` holds.
const AMOUNTS: [&str; 4] = [
    "125.50",
    "12.340000000000000001",
    "1e-18",
    "123456789012345678.123456789012345678",
];

/// A command of 220 bytes.
const COMMAND: &str = r#"{"transactionId":"7d0f6c1e-52a1-4be0-9d51-0a6f2f6c9b11","accountId":4200017,"userId":"u-4200017","currencyCode":"USDT","type":"DEPOSIT","amount":"12.340000000000000001","description":"salary 11","metadata":{"src":"api"}}"#;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plain<'a> {
    transaction_id: &'a str,
    account_id: u64,
    user_id: &'a str,
    currency_code: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    amount: &'a str,
}

fn amounts(c: &mut Criterion) {
    let mut group = c.benchmark_group("amount");
    for text in AMOUNTS {
        let amount = Amount::parse_command(text.as_bytes()).expect("an amount");
        group.bench_function(format!("parse/kilter/{text}"), |b| {
            b.iter(|| Amount::parse_command(black_box(text.as_bytes())));
        });
        let printed = amount.to_string();
        assert_eq!(printed.parse(), Ok(amount));
        group.bench_function(format!("print/kilter/{text}"), |b| {
            let mut buffer = [0; kilter_engine::amount::TEXT_BYTES];
            b.iter(|| black_box(amount).write_to(&mut buffer).len());
        });
        group.bench_function(format!("add/kilter/{text}"), |b| {
            b.iter(|| black_box(amount).checked_add(black_box(amount)));
        });
        // Exact only: where it would round, there is nothing to compare.
        let Ok(decimal) = Decimal::try_from(amount) else {
            continue;
        };
        if Decimal::from_str(text) == Ok(decimal) {
            group.bench_function(format!("parse/rust_decimal/{text}"), |b| {
                b.iter(|| Decimal::from_str(black_box(text)));
            });
        }
        assert_eq!(decimal.to_string(), printed);
        group.bench_function(format!("print/rust_decimal/{text}"), |b| {
            use std::fmt::Write;
            let mut line = String::with_capacity(64);
            b.iter(|| {
                line.clear();
                write!(line, "{}", black_box(decimal)).map(|()| line.len())
            });
        });
        group.bench_function(format!("add/rust_decimal/{text}"), |b| {
            b.iter(|| black_box(decimal).checked_add(black_box(decimal)));
        });
    }
    group.finish();
}

fn records(c: &mut Criterion) {
    let record = COMMAND.as_bytes();
    let command = decode(record).expect("a command");
    let plain: Plain<'_> = serde_json::from_slice(record).expect("a command");
    assert_eq!(record.len(), 220);
    assert_eq!(command.transaction_id, plain.transaction_id);
    assert_eq!(command.user_id, plain.user_id);
    assert_eq!(command.account_id.get(), plain.account_id);
    assert_eq!(command.kind().as_str(), plain.kind);
    assert_eq!(plain.currency_code, "USDT");
    assert_eq!(plain.amount, "12.340000000000000001");
    assert_eq!(decode_key(record), Some(command.user_id));
    assert!(!may_be_open(record));

    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode/kilter", |b| b.iter(|| decode(black_box(record))));
    group.bench_function("decode/serde_json struct", |b| {
        b.iter(|| serde_json::from_slice::<Plain<'_>>(black_box(record)));
    });
    group.bench_function("key", |b| b.iter(|| decode_key(black_box(record))));
    group.bench_function("may be open", |b| b.iter(|| may_be_open(black_box(record))));
    group.finish();
}

criterion_group!(benches, amounts, records);
criterion_main!(benches);
