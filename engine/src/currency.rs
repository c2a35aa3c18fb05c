//! Currency codes.

use core::fmt;
use core::str::FromStr;
use serde::{Serialize, Serializer};

/// The longest code, in bytes.
const MAX_BYTES: usize = 10;

/// A currency code: 1 to 10 bytes of `[A-Za-z0-9._-]`, compared byte by byte, so that `usdt` and
/// `USDT` are two currencies.
///
/// Kept padded with zero bytes. Zero sorts before every allowed byte, so the order of the padded
/// bytes is the order of the codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; MAX_BYTES]);

/// Why a text is not a currency code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// There is no text.
    #[error("a currency code has at least one byte")]
    Empty,
    /// The text is longer than 10 bytes.
    #[error("a currency code has at most 10 bytes, this has {bytes}")]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
    },
    /// A byte is outside `[A-Za-z0-9._-]`.
    #[error("a currency code is made of letters, digits, '.', '_' and '-', byte {at} is another")]
    Byte {
        /// Which byte, from 0.
        at: usize,
    },
}

impl Currency {
    /// Reads a code.
    ///
    /// # Errors
    ///
    /// [`CurrencyError`] says what is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, CurrencyError> {
        if text.is_empty() {
            return Err(CurrencyError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(CurrencyError::TooLong { bytes: text.len() });
        }
        let mut code = [0; MAX_BYTES];
        for (at, (slot, &byte)) in code.iter_mut().zip(text).enumerate() {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
                return Err(CurrencyError::Byte { at });
            }
            *slot = byte;
        }
        Ok(Self(code))
    }

    /// The code padded with zero bytes, for rows and hashes of fixed width.
    #[inline]
    pub const fn padded(&self) -> &[u8; MAX_BYTES] {
        &self.0
    }

    /// The code as text.
    #[inline]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0);
        let code = &self.0[..end.unwrap_or(MAX_BYTES)];
        core::str::from_utf8(code).expect("parse lets only ASCII in")
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Currency({})", self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_they_were() {
        for code in ["A", "USDT", "usdt", "TEN-CHARS.", "0_1.2-3"] {
            let currency: Currency = code.parse().unwrap();
            assert_eq!(currency.as_str(), code);
            assert_eq!(currency.to_string(), code);
            assert_eq!(
                serde_json::to_string(&currency).unwrap(),
                format!("\"{code}\"")
            );
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let table: &[(&[u8], CurrencyError)] = &[
            (b"", CurrencyError::Empty),
            (b"ELEVENBYTES", CurrencyError::TooLong { bytes: 11 }),
            (b"US DT", CurrencyError::Byte { at: 2 }),
            (b"US\0", CurrencyError::Byte { at: 2 }),
            ("€".as_bytes(), CurrencyError::Byte { at: 0 }),
            (b"USD/", CurrencyError::Byte { at: 3 }),
            (b"\xff", CurrencyError::Byte { at: 0 }),
        ];
        for (text, error) in table {
            assert_eq!(Currency::parse(text), Err(*error), "{text:?}");
        }
    }

    #[test]
    fn order_is_that_of_the_bytes() {
        let mut codes = ["USDT", "A", "USD", "usd", "A-", "0"].map(|c| c.parse().unwrap());
        codes.sort_unstable();
        assert_eq!(
            codes.map(|c: Currency| c.to_string()),
            ["0", "A", "A-", "USD", "USDT", "usd"]
        );
    }
}
