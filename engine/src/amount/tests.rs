use super::*;
use proptest::prelude::*;
use rust_decimal::Decimal;

/// Units of a command's amount by school arithmetic on characters: moves the point one digit at a
/// time and looks at what stands left and right of it. `None` for what is no number.
fn oracle(text: &str) -> Option<Result<i128, AmountError>> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (significand, exponent) = match text.split_once(['e', 'E']) {
        Some((significand, exponent)) => {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if !digits(unsigned) {
                return None;
            }
            // No exponent of 64 bytes leaves this type out of its depth by more than its end.
            let size = unsigned.parse::<i128>().unwrap_or(i128::MAX).min(500);
            (
                significand,
                if exponent.starts_with('-') {
                    -size
                } else {
                    size
                },
            )
        }
        None => (text, 0),
    };
    let (whole, fraction) = match significand.split_once('.') {
        Some((whole, fraction)) if digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (significand, ""),
    };
    if !digits(whole) {
        return None;
    }
    let mut whole: Vec<char> = whole.chars().collect();
    let mut fraction: std::collections::VecDeque<char> = fraction.chars().collect();
    for _ in 0..exponent {
        whole.push(fraction.pop_front().unwrap_or('0'));
    }
    for _ in exponent..0 {
        fraction.push_front(whole.pop().unwrap_or('0'));
    }
    let whole: String = whole.into_iter().collect();
    let fraction: String = fraction.into_iter().collect();
    let (whole, fraction) = (
        whole.trim_start_matches('0'),
        fraction.trim_end_matches('0'),
    );
    Some(if whole.len() > 18 {
        Err(AmountError::TooLarge)
    } else if fraction.len() > 18 {
        Err(AmountError::TooManyDecimals)
    } else {
        match format!("{whole}{fraction:0<18}").parse().unwrap() {
            0 => Err(AmountError::Zero),
            units => Ok(units),
        }
    })
}

fn units(text: &str) -> Result<i128, AmountError> {
    Amount::parse_command(text.as_bytes()).map(Amount::units)
}

const ONE: i128 = super::ONE as i128;

#[test]
fn commands_amounts_by_value() {
    let table = [
        ("12", 12 * ONE),
        ("0.5", ONE / 2),
        ("007.50", 7 * ONE + ONE / 2),
        ("1e-18", 1),
        ("1E-18", 1),
        ("1.5E+3", 1500 * ONE),
        ("12.340000000000000001", 12_340000000000000001),
        ("0.000000000000000001", 1),
        ("999999999999999999.999999999999999999", Amount::MAX.units()),
        (
            "0999999999999999999.9999999999999999990",
            Amount::MAX.units(),
        ),
        (
            "999999999999999999999999999999999999e-18",
            Amount::MAX.units(),
        ),
        ("1e17", ONE * ONE / 10),
        ("1.0000000000000000000000", ONE),
        ("0.0000000000000000001e1", 1),
        ("100e-20", 1),
        ("0.00e5001", 0),
        (
            "1e0000000000000000000000000000000000000000000000000000000000001",
            10 * ONE,
        ),
        ("1e-0", ONE),
        (
            "000000000000000000000000000000000000000000000000000000000000001",
            ONE,
        ),
        (
            "0.0000000000000000000000000000000000000000000000000000000001e58",
            ONE,
        ),
    ];
    for (text, value) in table {
        let expected = if value == 0 {
            Err(AmountError::Zero)
        } else {
            Ok(value)
        };
        assert_eq!(units(text), expected, "{text}");
        assert_eq!(oracle(text), Some(expected), "the oracle on {text}");
    }
}

#[test]
fn commands_amounts_that_are_refused() {
    use AmountError::*;
    let table: &[(&str, AmountError)] = &[
        ("", Empty),
        ("+5", Signed),
        ("-5", Signed),
        ("-0", Signed),
        ("-", Signed),
        (".5", Syntax { at: 0 }),
        ("5.", Syntax { at: 2 }),
        (".", Syntax { at: 0 }),
        ("1.e5", Syntax { at: 2 }),
        ("1e", Syntax { at: 2 }),
        ("1e+", Syntax { at: 3 }),
        ("1e+-5", Syntax { at: 3 }),
        ("e5", Syntax { at: 0 }),
        ("1e5.0", Syntax { at: 3 }),
        ("1e5e5", Syntax { at: 3 }),
        ("1.2.3", Syntax { at: 3 }),
        (" 1", Syntax { at: 0 }),
        ("1 ", Syntax { at: 1 }),
        ("1\n", Syntax { at: 1 }),
        ("1,5", Syntax { at: 1 }),
        ("1_000", Syntax { at: 1 }),
        ("0x10", Syntax { at: 1 }),
        ("NaN", Syntax { at: 0 }),
        ("Infinity", Syntax { at: 0 }),
        ("１", Syntax { at: 0 }),
        ("1\0", Syntax { at: 1 }),
        ("0", Zero),
        ("0.000000000000000000", Zero),
        ("0.0000000000000000000000", Zero),
        ("0e5", Zero),
        ("0e999999999999", Zero),
        ("0.0e-999999999999", Zero),
        ("1000000000000000000", TooLarge),
        ("1e18", TooLarge),
        ("0.1e19", TooLarge),
        ("1000000000000000000.0000000000000000001", TooLarge),
        ("1e999999999999", TooLarge),
        (
            "1e99999999999999999999999999999999999999999999999999999999999999",
            TooLarge,
        ),
        ("0.0000000000000000001", TooManyDecimals),
        ("1.0000000000000000001", TooManyDecimals),
        ("1e-19", TooManyDecimals),
        ("15e-19", TooManyDecimals),
        ("1e-999999999999", TooManyDecimals),
    ];
    for (text, error) in table {
        assert_eq!(units(text), Err(*error), "{text}");
        match error {
            Zero | TooLarge | TooManyDecimals => {
                assert_eq!(oracle(text), Some(Err(*error)), "the oracle on {text}");
            }
            _ => assert_eq!(oracle(text), None, "the oracle on {text}"),
        }
    }
    assert_eq!(units(&format!("1{}", "0".repeat(63))), Err(TooLarge));
    assert_eq!(units(&format!("{}1", "0".repeat(63))), Ok(ONE));
    let long = AmountError::TooLong { bytes: 65 };
    assert_eq!(units(&format!("{}1", "0".repeat(64))), Err(long));
    assert_eq!(Amount::parse_command(b"1\xff"), Err(Syntax { at: 1 }));
}

#[test]
fn prints_plain_notation() {
    let table = [
        (0, "0"),
        (1, "0.000000000000000001"),
        (-1, "-0.000000000000000001"),
        (-ONE / 2, "-0.5"),
        (ONE, "1"),
        (100 * ONE, "100"),
        (ONE + ONE / 10, "1.1"),
        (10 * ONE + 10, "10.00000000000000001"),
        (Amount::MAX.units(), "999999999999999999.999999999999999999"),
        (
            Amount::MIN.units(),
            "-999999999999999999.999999999999999999",
        ),
    ];
    for (units, text) in table {
        let amount = Amount::from_units(units).unwrap();
        assert_eq!(amount.to_string(), text);
        assert_eq!(text.parse(), Ok(amount));
        assert_eq!(
            serde_json::to_string(&amount).unwrap(),
            format!("\"{text}\"")
        );
    }
    assert_eq!(format!("{:>5}|", Amount::ZERO), "    0|");
}

#[test]
fn reads_what_stores_hold() {
    let table: &[(&str, Result<i128, AmountError>)] = &[
        ("0.000000000000000000", Ok(0)),
        ("-0", Ok(0)),
        ("12.340000000000000000", Ok(12 * ONE + 34 * ONE / 100)),
        ("-12.340000000000000000", Ok(-(12 * ONE + 34 * ONE / 100))),
        ("1.50000000000000000000000", Ok(ONE + ONE / 2)),
        ("", Err(AmountError::Empty)),
        ("-", Err(AmountError::Syntax { at: 1 })),
        ("--1", Err(AmountError::Syntax { at: 1 })),
        ("+1", Err(AmountError::Syntax { at: 0 })),
        ("1e3", Err(AmountError::Syntax { at: 1 })),
        ("-.5", Err(AmountError::Syntax { at: 1 })),
        ("-1000000000000000000", Err(AmountError::TooLarge)),
        ("-0.0000000000000000001", Err(AmountError::TooManyDecimals)),
    ];
    for (text, expected) in table {
        let parsed: Result<Amount, _> = text.parse();
        assert_eq!(parsed.map(Amount::units), *expected, "{text}");
    }
}

#[test]
fn sums_stay_within_the_column() {
    let unit = Amount::from_units(1).unwrap();
    assert_eq!(Amount::MAX.checked_add(unit), None);
    assert_eq!(Amount::MIN.checked_sub(unit), None);
    assert_eq!(Amount::MAX.checked_add(Amount::MIN), Some(Amount::ZERO));
    assert_eq!(Amount::MAX.checked_add(Amount::MAX), None);
    assert_eq!(Amount::from_units(10_i128.pow(36)), None);
    assert_eq!(Amount::from_units(i128::MIN), None);
}

#[test]
fn decimals_are_refused_rather_than_rounded() {
    let decimal = |text: &str| Decimal::from_str_exact(text).unwrap();
    let amount = |text: &str| text.parse::<Amount>().unwrap();
    for text in [
        "0",
        "-1.5",
        "0.000000000000000001",
        "79228162514.264337593543950335",
    ] {
        assert_eq!(Amount::try_from(decimal(text)), Ok(amount(text)));
        assert_eq!(Decimal::try_from(amount(text)), Ok(decimal(text)));
    }
    let fine = decimal("1.0000000000000000000000");
    assert_eq!(Amount::try_from(fine), Ok(amount("1")));
    let fine = decimal("0.0000000000000000001");
    assert_eq!(
        Amount::try_from(fine),
        Err(DecimalError::TooManyDecimals(fine))
    );
    for large in [decimal("1000000000000000000"), Decimal::MAX, Decimal::MIN] {
        assert_eq!(Amount::try_from(large), Err(DecimalError::TooLarge(large)));
    }
    for wide in [
        amount("100000000000.000000000000000001"),
        Amount::MAX,
        Amount::MIN,
    ] {
        assert_eq!(Decimal::try_from(wide), Err(DecimalError::TooWide(wide)));
    }
}

/// Amounts of every size: a whole number of digits drawn first, then the digits.
fn any_amount() -> impl Strategy<Value = Amount> {
    (0_u32..=36, any::<i128>())
        .prop_map(|(digits, raw)| Amount::from_units(raw % 10_i128.pow(digits)).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn agrees_with_the_oracle(text in "[0-9]{1,22}(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?|0{0,40}[0-9]{0,3}\\.?0{0,15}[0-9]?[eE]?-?[0-9]{0,2}") {
        prop_assume!(text.len() <= 64);
        match oracle(&text) {
            Some(expected) => prop_assert_eq!(units(&text), expected),
            None => prop_assert!(units(&text).is_err()),
        }
    }

    #[test]
    fn agrees_with_the_oracle_on_rubbish(text in "[0-9.eE+-]{0,12}|\\PC{0,16}") {
        prop_assume!(text.len() <= 64);
        match oracle(&text) {
            Some(expected) => prop_assert_eq!(units(&text), expected),
            None => prop_assert!(units(&text).is_err()),
        }
    }

    #[test]
    fn text_and_amount_are_inverse(amount in any_amount()) {
        let text = amount.to_string();
        prop_assert_eq!(text.parse(), Ok(amount));
        let mut dirty = [b'x'; TEXT_BYTES];
        prop_assert_eq!(amount.write_to(&mut dirty), text.as_str());
        if amount > Amount::ZERO {
            prop_assert_eq!(Amount::parse_command(text.as_bytes()), Ok(amount));
            let exponent = format!("{}e-18", amount.units());
            prop_assert_eq!(Amount::parse_command(exponent.as_bytes()), Ok(amount));
        }
    }

    #[test]
    fn agrees_with_rust_decimal_where_that_is_exact(mantissa in -(1_i128 << 96) + 1..1_i128 << 96, scale in 0_u32..=28) {
        let decimal = Decimal::from_i128_with_scale(mantissa, scale);
        let text = decimal.to_string();
        let parsed: Result<Amount, _> = text.parse();
        match Amount::try_from(decimal) {
            Ok(amount) => {
                prop_assert_eq!(parsed, Ok(amount));
                prop_assert_eq!(amount.to_string(), decimal.normalize().to_string());
                prop_assert_eq!(Decimal::try_from(amount), Ok(decimal));
            }
            Err(_) => prop_assert!(parsed.is_err()),
        }
    }

    #[test]
    fn sums_agree_with_rust_decimal(a in -(1_i64 << 62)..1 << 62, b in any::<i64>()) {
        let sum = |a: Decimal, b: Decimal| (a + b, a - b);
        let amount = |units: i64| Amount::from_units(units.into()).unwrap();
        let decimal = |units: i64| Decimal::from_i128_with_scale(units.into(), 18);
        let (plus, minus) = sum(decimal(a), decimal(b));
        prop_assert_eq!(amount(a).checked_add(amount(b)).map(Decimal::try_from), Some(Ok(plus)));
        prop_assert_eq!(amount(a).checked_sub(amount(b)).map(Decimal::try_from), Some(Ok(minus)));
        prop_assert_eq!(amount(a).cmp(&amount(b)), decimal(a).cmp(&decimal(b)));
    }
}
