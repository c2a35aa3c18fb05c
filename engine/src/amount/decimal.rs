//! To and from `rust_decimal`, where people hold decimals.

use super::{Amount, SCALE};
use rust_decimal::Decimal;

/// Why a decimal and an amount have no common value. Nothing is rounded to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// The decimal is 10¹⁸ or more away from zero.
    #[error("{0} is outside DECIMAL(36,18)")]
    TooLarge(Decimal),
    /// The decimal is not a whole number of 10⁻¹⁸.
    #[error("{0} has more than 18 decimals")]
    TooManyDecimals(Decimal),
    /// The amount has more digits than the 96 bits of a decimal carry.
    #[error("{0} has more digits than a 96-bit decimal carries")]
    TooWide(Amount),
}

impl TryFrom<Decimal> for Amount {
    type Error = DecimalError;

    fn try_from(decimal: Decimal) -> Result<Self, DecimalError> {
        let mantissa = decimal.mantissa();
        let units = match SCALE.checked_sub(decimal.scale()) {
            // Below 2⁹⁶ times at most 10¹⁸: may leave an i128.
            Some(missing) => mantissa
                .checked_mul(10_i128.pow(missing))
                .ok_or(DecimalError::TooLarge(decimal))?,
            None => {
                let excess = 10_i128.pow(decimal.scale() - SCALE);
                if mantissa % excess != 0 {
                    return Err(DecimalError::TooManyDecimals(decimal));
                }
                mantissa / excess
            }
        };
        Self::from_units(units).ok_or(DecimalError::TooLarge(decimal))
    }
}

impl TryFrom<Amount> for Decimal {
    type Error = DecimalError;

    fn try_from(amount: Amount) -> Result<Self, DecimalError> {
        let mut mantissa = amount.units();
        let mut scale = SCALE;
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        Self::try_from_i128_with_scale(mantissa, scale).map_err(|_| DecimalError::TooWide(amount))
    }
}
