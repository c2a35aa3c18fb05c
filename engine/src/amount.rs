//! Money.

mod decimal;
mod parse;
mod print;

pub use decimal::DecimalError;
pub use parse::AmountError;
pub use print::TEXT_BYTES;

use core::fmt;
use core::str::FromStr;
use serde::{Serialize, Serializer};

/// Decimals that an amount has.
const SCALE: u32 = 18;

/// Units in one whole: 10¹⁸. Also the first amount that a command may no longer name, in wholes.
const ONE: u64 = 10_u64.pow(SCALE);

/// One more than the largest magnitude in units: 10³⁶.
const LIMIT: u128 = 10_u128.pow(2 * SCALE);

/// An exact amount of money: a count of units of 10⁻¹⁸, over the whole range of DECIMAL(36,18),
/// −(10³⁶ − 1) ..= 10³⁶ − 1 units.
///
/// There is no multiplication, no division and no rounding: what does not fit is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The largest amount, 10¹⁸ − 10⁻¹⁸.
    pub const MAX: Self = Self(LIMIT as i128 - 1);

    /// The smallest amount, −(10¹⁸ − 10⁻¹⁸).
    pub const MIN: Self = Self(1 - LIMIT as i128);

    /// The amount of so many units of 10⁻¹⁸, or `None` outside DECIMAL(36,18).
    #[inline]
    pub const fn from_units(units: i128) -> Option<Self> {
        if units >= Self::MIN.0 && units <= Self::MAX.0 {
            Some(Self(units))
        } else {
            None
        }
    }

    /// The count of units of 10⁻¹⁸.
    #[inline]
    pub const fn units(self) -> i128 {
        self.0
    }

    /// Whether the amount is below zero.
    #[inline]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The sum, or `None` outside DECIMAL(36,18).
    #[inline]
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        // Two values within ±10³⁶ add up within ±2·10³⁶, far inside an i128.
        Self::from_units(self.0 + other.0)
    }

    /// The difference, or `None` outside DECIMAL(36,18).
    #[inline]
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        Self::from_units(self.0 - other.0)
    }

    /// Reads the amount of a command: digits, an optional fraction, an optional exponent with or
    /// without its sign (`12`, `0.5`, `007.50`, `1e-18`, `1.5E+3`), at most 64 bytes, no leading
    /// sign, spaces or separators. Judged by its value: above zero, below 10¹⁸, a whole number of
    /// 10⁻¹⁸.
    ///
    /// # Errors
    ///
    /// [`AmountError`] says what is wrong with the text.
    #[inline]
    pub fn parse_command(text: &[u8]) -> Result<Self, AmountError> {
        parse::command(text)
    }

    /// Prints the amount in plain notation into a buffer, without allocating: no exponent, no
    /// trailing zeros, `0` for zero, `-0.5`.
    #[inline]
    pub fn write_to<'b>(&self, buffer: &'b mut [u8; TEXT_BYTES]) -> &'b str {
        print::write(self.0, buffer)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    /// Reads plain decimal text as stores hold it: an optional minus, digits, an optional
    /// fraction; no exponent; at most 64 bytes.
    ///
    /// # Errors
    ///
    /// [`AmountError`] says what is wrong with the text.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        parse::stored(text.as_bytes())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.write_to(&mut [0; TEXT_BYTES]))
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({self})")
    }
}

impl Serialize for Amount {
    /// As a string: a JSON number would pass through a float at most readers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.write_to(&mut [0; TEXT_BYTES]))
    }
}

#[cfg(test)]
mod tests;
