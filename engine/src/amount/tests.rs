//! Tables.

mod twins;

use super::*;
use rust_decimal::Decimal;
use twins::oracle;

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
