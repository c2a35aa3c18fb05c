//! Text to units, exactly.

use super::{Amount, LIMIT, ONE, SCALE};

/// The longest text that is read, in bytes.
const MAX_BYTES: usize = 64;

/// Exponents are held to this: past it the value is out of range whatever digits stand before it
/// (at most 64 of them), and no arithmetic on them can overflow.
const EXPONENT_BOUND: i32 = 1_000;

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// There is no text.
    #[error("an amount has at least one digit")]
    Empty,
    /// The text is longer than 64 bytes.
    #[error("an amount has at most 64 bytes, this has {bytes}")]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
    },
    /// A sign stands before the digits of a command's amount.
    #[error("an amount has no sign")]
    Signed,
    /// A byte does not belong where it stands, or the text ends too early.
    #[error("an amount is a plain decimal number, this is not one from byte {at}")]
    Syntax {
        /// Which byte, from 0; the text's length if it ends too early.
        at: usize,
    },
    /// A command's amount is zero.
    #[error("an amount is above zero")]
    Zero,
    /// The value is 10¹⁸ or more.
    #[error("an amount is below 10^18")]
    TooLarge,
    /// The value is not a whole number of 10⁻¹⁸.
    #[error("an amount has at most 18 decimals")]
    TooManyDecimals,
}

/// Reads the amount of a command. See [`Amount::parse_command`].
#[inline]
pub(super) fn command(text: &[u8]) -> Result<Amount, AmountError> {
    let units = match plain(text) {
        Some(units) => units,
        None => {
            if let Some(b'-' | b'+') = text.first() {
                return Err(AmountError::Signed);
            }
            Decimal::read(text, 0)?.units()?
        }
    };
    if units == 0 {
        return Err(AmountError::Zero);
    }
    // Both readers end below 10³⁶.
    Ok(Amount(units as i128))
}

/// Reads what a store holds. See `Amount::from_str`.
pub(super) fn stored(text: &[u8]) -> Result<Amount, AmountError> {
    let negative = text.first() == Some(&b'-');
    let digits = &text[usize::from(negative)..];
    let units = match plain(digits) {
        Some(units) => units,
        None => {
            if let Some(at) = text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
                return Err(AmountError::Syntax { at });
            }
            Decimal::read(text, usize::from(negative))?.units()?
        }
    };
    let units = units as i128;
    Ok(Amount(if negative { -units } else { units }))
}

/// The ordinary case: up to 18 digits, and up to 18 more after a point. `None` means that the
/// text is something else, right or wrong.
#[inline]
fn plain(text: &[u8]) -> Option<u128> {
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut units = u128::from(digits(whole)?) * u128::from(ONE);
    if let Some(fraction) = fraction {
        let missing = SCALE as usize - fraction.len().min(SCALE as usize);
        units += u128::from(digits(fraction)? * POWERS[missing]);
    }
    Some(units)
}

/// 10⁰ ..= 10¹⁸.
const POWERS: [u64; SCALE as usize + 1] = {
    let mut powers = [1; SCALE as usize + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// The value of 1 to 18 digits.
#[inline]
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > SCALE as usize {
        return None;
    }
    let mut value = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

/// Any text of the grammar: its digits without the point, and the power of ten of the last one.
struct Decimal {
    digits: [u8; MAX_BYTES],
    len: usize,
    power: i32,
}

impl Decimal {
    /// Takes the text apart from a byte on; nothing is judged but its form.
    fn read(text: &[u8], from: usize) -> Result<Self, AmountError> {
        if text.is_empty() {
            return Err(AmountError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(AmountError::TooLong { bytes: text.len() });
        }
        let mut decimal = Self {
            digits: [0; MAX_BYTES],
            len: 0,
            power: 0,
        };
        let mut at = decimal.take(text, from)?;
        if text.get(at) == Some(&b'.') {
            let end = decimal.take(text, at + 1)?;
            decimal.power = -((end - at - 1) as i32);
            at = end;
        }
        if let Some(b'e' | b'E') = text.get(at) {
            let (exponent, end) = exponent(text, at + 1)?;
            decimal.power += exponent;
            at = end;
        }
        if at < text.len() {
            return Err(AmountError::Syntax { at });
        }
        Ok(decimal)
    }

    /// Takes a run of at least one digit and says where it ends.
    fn take(&mut self, text: &[u8], from: usize) -> Result<usize, AmountError> {
        let mut at = from;
        while let Some(digit @ b'0'..=b'9') = text.get(at) {
            self.digits[self.len] = digit - b'0';
            self.len += 1;
            at += 1;
        }
        if at == from {
            return Err(AmountError::Syntax { at });
        }
        Ok(at)
    }

    /// The value in units of 10⁻¹⁸, below 10³⁶.
    fn units(&self) -> Result<u128, AmountError> {
        // Zeros at either end carry no value: what is left says by itself whether it fits.
        let digits = &self.digits[..self.len];
        let Some(first) = digits.iter().position(|&digit| digit != 0) else {
            return Ok(0);
        };
        let trailing = digits.iter().rev().take_while(|&&digit| digit == 0).count();
        let digits = &digits[first..digits.len() - trailing];
        let power = self.power + trailing as i32 + SCALE as i32;
        if digits.len() as i32 + power > 2 * SCALE as i32 {
            return Err(AmountError::TooLarge);
        }
        if power < 0 {
            return Err(AmountError::TooManyDecimals);
        }
        let significand = digits
            .iter()
            .fold(0, |value, &digit| value * 10 + u128::from(digit));
        let units = significand * 10_u128.pow(power.unsigned_abs());
        debug_assert!(units < LIMIT);
        Ok(units)
    }
}

/// Reads an exponent behind its letter, held to ±[`EXPONENT_BOUND`], and says where it ends.
fn exponent(text: &[u8], from: usize) -> Result<(i32, usize), AmountError> {
    let negative = text.get(from) == Some(&b'-');
    let start = from + usize::from(matches!(text.get(from), Some(b'-' | b'+')));
    let mut at = start;
    let mut value = 0;
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        value = (value * 10 + i32::from(digit - b'0')).min(EXPONENT_BOUND);
        at += 1;
    }
    if at == start {
        return Err(AmountError::Syntax { at });
    }
    Ok((if negative { -value } else { value }, at))
}
