//! The decoder beside a naive one, on records that were put together field by field.

mod naive;

use naive::assert_agrees;
use proptest::prelude::*;
use std::cell::Cell;

/// What stands between tokens.
fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![5 => Just(""), 1 => Just(" "), 1 => Just("\n\t"), 1 => Just("\r\n  ")]
}

/// A text as a JSON string, each character plain or as an escape.
fn spelled(text: String) -> impl Strategy<Value = String> {
    let count = text.chars().count();
    (
        Just(text),
        any::<bool>(),
        prop::collection::vec(0_u8..8, count),
    )
        .prop_map(|(text, escapes, ways)| {
            let mut json = String::from("\"");
            for (char, way) in text.chars().zip(ways) {
                match (char, way) {
                    (char, 0) if escapes => {
                        for unit in char.encode_utf16(&mut [0; 2]) {
                            json.push_str(&format!("\\u{unit:04x}"));
                        }
                    }
                    ('/', 1) => json.push_str("\\/"),
                    ('\n', 1) => json.push_str("\\n"),
                    (char, _) if char < ' ' => {
                        json.push_str(&format!("\\u{:04X}", u32::from(char)));
                    }
                    ('"' | '\\', _) => json.extend(['\\', char]),
                    (char, _) => json.push(char),
                }
            }
            json + "\""
        })
}

fn text(pattern: &'static str) -> BoxedStrategy<String> {
    pattern.prop_flat_map(spelled).boxed()
}

/// Any small JSON, keys from a set small enough to meet again.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?",
        text("\\PC{0,8}"),
        Just(r#""\ud800""#.to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let entry = (text("[a-e]{1,2}"), space(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(entry, 0..4).prop_map(|entries| {
                let entries: Vec<_> = entries
                    .into_iter()
                    .map(|(key, space, value)| format!("{key}{space}:{space}{value}{space}"))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

/// A field: mostly good, sometimes of the right form with a wrong value, sometimes anything.
fn field(
    name: &'static str,
    good: BoxedStrategy<String>,
    bad: BoxedStrategy<String>,
) -> impl Strategy<Value = Option<(String, String)>> {
    let value = prop_oneof![30 => good, 1 => bad, 1 => json()];
    let field = (text(name), value);
    prop_oneof![60 => field.prop_map(Some), 1 => Just(None)]
}

/// A posting: mostly good.
fn posting() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        40 => "DEPOSIT|WITHDRAW|FREEZE|UNFREEZE|SETTLE|TRANSFER",
        1 => "OPEN|BATCH|CREDIT|STEAL",
    ];
    let amount = prop_oneof![40 => "[1-9]{1,6}", 1 => "0|-1"];
    let good = (kind, amount, "[A-Z]{1,4}").prop_map(|(kind, amount, currency)| {
        format!(
            r#"{{"type":"{kind}","amount":"{amount}","currencyCode":"{currency}","toUserId":"v","toAccountId":9}}"#
        )
    });
    prop_oneof![60 => good, 1 => json()]
}

fn record() -> impl Strategy<Value = String> {
    let fields = (
        field(
            "transactionId",
            text("\\PC{1,16}"),
            text("\\PC{0}|[a-z]{64,66}|é{31,33}"),
        ),
        field("userId", text("u-[0-9]{1,8}"), text("\\PC{0}|[a-z]{64,66}")),
        field(
            "accountId",
            "[1-9][0-9]{0,17}".boxed(),
            "0|-1|42\\.0|4e1|\"42\"|46116860184273879(0[345]|9)|[1-9][0-9]{19,21}".boxed(),
        ),
        field(
            "type",
            text("DEPOSIT|WITHDRAW|FREEZE|UNFREEZE|SETTLE|OPEN|TRANSFER|CREDIT|REFUND"),
            text("BATCH|transfer|deposit| OPEN|"),
        ),
        field(
            "currencyCode",
            text("[A-Za-z0-9._-]{1,10}"),
            text("[A-Z]{11}|US D|€|"),
        ),
        field(
            "amount",
            prop_oneof![
                text("[0-9]{0,10}[1-9](\\.[0-9]{1,18})?(e[0-6])?"),
                "[1-9][0-9]{0,9}(\\.[0-9]{1,18})?".boxed()
            ]
            .boxed(),
            prop_oneof![text("\\PC{0,4}|-1|1e19"), "-1|0|0\\.0|1e18|1e-19".boxed()].boxed(),
        ),
    );
    let legs = (
        field("toUserId", text("[uv]-[0-9]{1,8}"), text("|[a-z]{65}")),
        field("toAccountId", "[1-9][0-9]{0,17}".boxed(), "0|\"7\"".boxed()),
        field(
            "leg",
            text("(0|[1-9][0-9]{0,8})/0/(0|[1-9][0-9]{0,17})/[0-9]/(CREDIT|REFUND)"),
            text("0/0/01/0/CREDIT|0/0/0/0|0/0/0/99999/REFUND|"),
        ),
        field("fromUserId", text("u-[0-9]{1,8}"), text("|[a-z]{65}")),
        field("fromAccountId", "[1-9][0-9]{0,17}".boxed(), "0|1e3".boxed()),
        prop_oneof![
            40 => Just(None),
            1 => json().prop_map(Some),
            6 => prop::collection::vec(posting(), 0..18)
                .prop_map(|list| Some(format!("[{}]", list.join(",")))),
        ],
    );
    let others = prop::collection::vec((text("[a-e]{1,2}|description|metadata"), json()), 0..4);
    (fields, legs, others, space(), space())
        .prop_flat_map(|(fields, legs, others, outside, inside)| {
            let (a, b, c, mut d, mut e, mut f) = fields;
            let (mut g, mut h, i, j, k, postings) = legs;
            let postings = postings.map(|json| ("\"postings\"".to_owned(), json));
            if postings.is_some() && !outside.is_empty() {
                // Else hardly any would be a command.
                (d, e, f, g, h) = (None, None, None, None, None);
            }
            let known = [a, b, c, d, e, f, g, h, i, j, k, postings];
            let known = known.into_iter().flatten();
            let fields: Vec<_> = known.chain(others).collect();
            (Just(fields).prop_shuffle(), Just(outside), Just(inside))
        })
        .prop_map(|(fields, outside, inside)| {
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(key, value)| format!("{inside}{key}{inside}:{inside}{value}{inside}"))
                .collect();
            format!("{outside}{{{}}}{outside}", fields.join(","))
        })
}

#[test]
fn agrees_with_the_naive_decoder() {
    let (all, valid) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(5_000)
    };
    proptest!(config, |(record in record())| {
        all.set(all.get() + 1);
        valid.set(valid.get() + i32::from(assert_agrees(record.as_bytes())));
    });
    // Both ways must be walked often, or the test says little.
    assert!(valid.get() > all.get() / 4, "{valid:?} of {all:?}");
    assert!(valid.get() < all.get() * 9 / 10, "{valid:?} of {all:?}");
}
