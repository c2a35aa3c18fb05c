//! Beside an oracle on characters, and beside `rust_decimal` where that is exact.

use super::*;
use proptest::prelude::*;

/// Units of a command's amount by school arithmetic on characters: moves the point one digit at a
/// time and looks at what stands left and right of it. `None` for what is no number.
pub(super) fn oracle(text: &str) -> Option<Result<i128, AmountError>> {
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
