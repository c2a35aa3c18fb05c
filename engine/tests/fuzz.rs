//! Coverage-guided where a fuzzer runs them, a bounded random run under `cargo test`.

mod naive;

use kilter_engine::{Amount, AmountError};
use naive::assert_agrees;

const RUNS: usize = 20_000;

/// A record for the fuzzer to spoil.
const RECORD: &str = r#"{"transactionId":"t-1","accountId":42,"userId":"u-42","currencyCode":"USDT","type":"DEPOSIT","amount":"1.5","metadata":{"a":[1,{"b":null}],"c":"d"}}"#;

/// Pieces that mean something in JSON or in a command.
const PIECES: [&str; 32] = [
    "",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    " ",
    "\n",
    "0",
    "1",
    "-",
    ".",
    "e",
    "\\u0061",
    "\\ud800",
    "\\udc00",
    "\"a\":1,",
    "\"userId\":\"x\",",
    "\"OPEN\"",
    "null",
    "true",
    "é",
    "\0",
    "\u{7f}",
    "1e18",
    "{\"a\":1,\"\\u0061\":2}",
    "\"amount\"",
    "\"type\":\"OPEN\",",
    "/",
];

#[test]
fn any_bytes() {
    bolero::check!()
        .with_iterations(RUNS)
        .for_each(|record: &[u8]| {
            assert_agrees(record);
        });
}

#[test]
fn spoiled_records() {
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<Vec<(u8, u8, u8)>>()
        .for_each(|edits| {
            let mut record = RECORD.as_bytes().to_vec();
            for &(at, cut, piece) in edits.iter().take(8) {
                let at = usize::from(at) % (record.len() + 1);
                let cut = (usize::from(cut) % 4).min(record.len() - at);
                let piece = PIECES[usize::from(piece) % PIECES.len()];
                record.splice(at..at + cut, piece.bytes());
            }
            assert_agrees(&record);
        });
}

#[test]
fn records_of_pieces() {
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<Vec<u8>>()
        .for_each(|pieces| {
            let pieces = pieces
                .iter()
                .map(|&at| PIECES[usize::from(at) % PIECES.len()]);
            let inside: String = pieces.collect();
            assert_agrees(inside.as_bytes());
            assert_agrees(format!("{{\"metadata\":[{inside}]}}").as_bytes());
            assert_agrees(format!("{{{inside}}}").as_bytes());
        });
}

#[test]
fn amounts() {
    const BYTES: &[u8; 16] = b"0000123456789.e-";
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(bool, Vec<u8>)>()
        .for_each(|(any, raw)| {
            let text: Vec<u8> = if *any {
                raw.clone()
            } else {
                raw.iter().map(|&at| BYTES[usize::from(at) % 16]).collect()
            };
            match Amount::parse_command(&text) {
                Ok(amount) => {
                    assert!(amount > Amount::ZERO && amount <= Amount::MAX);
                    let printed = amount.to_string();
                    assert_eq!(Amount::parse_command(printed.as_bytes()), Ok(amount));
                    assert_eq!(printed.parse(), Ok(amount));
                }
                Err(AmountError::Syntax { at }) => assert!(at <= text.len()),
                Err(_) => {}
            }
        });
}
