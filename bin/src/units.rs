//! Numbers with units, as people write them: `24h`, `1500ms`, `4GiB`.

use std::time::Duration;

/// Units of time, the smallest first, in ms.
const TIMES: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Units of memory, the smallest first, in bytes.
const SIZES: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A number with a unit: `1500ms`, `90s`, `30m`, `24h`, `7d`.
///
/// # Errors
///
/// When it is none, or not between 40 ms and 366 days.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, factor_ms) = split(text, TIMES)?;
    let ms = number
        .checked_mul(factor_ms)
        .filter(|ms| (40..=366 * 86_400_000).contains(ms));
    ms.map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not between 40ms and 366d"))
}

/// A number with a unit: `512MiB`, `4GiB`.
///
/// # Errors
///
/// When it is none, less than 1 MiB, or more than 64 bits hold.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, factor) = split(text, SIZES)?;
    let bytes = number.checked_mul(factor).filter(|bytes| *bytes >= 1 << 20);
    bytes.ok_or_else(|| format!("{text:?} is less than 1MiB or too much"))
}

/// What [`duration`] reads as `length`, in the largest unit that is exact; a single day is `24h`.
/// Parts of a ms are lost.
pub fn show_duration(length: Duration) -> String {
    let ms = length.as_millis() as u64;
    let (_, but_days) = TIMES.split_last().unwrap_or((&TIMES[0], TIMES));
    show(ms, if ms < 2 * 86_400_000 { but_days } else { TIMES })
}

/// What [`size`] reads as `bytes`, in the largest unit that is exact. Parts of a KiB are lost.
pub fn show_size(bytes: u64) -> String {
    show(bytes >> 10 << 10, SIZES)
}

fn show(number: u64, units: &[(&str, u64)]) -> String {
    let exact = units
        .iter()
        .rev()
        .find(|(_, factor)| number.is_multiple_of(*factor));
    let (unit, factor) = exact.unwrap_or(&units[0]);
    format!("{}{unit}", number / factor)
}

fn split(text: &str, units: &[(&str, u64)]) -> Result<(u64, u64), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit);
    match (number.parse(), factor) {
        (Ok(number), Some((_, factor))) => Ok((number, *factor)),
        _ => {
            let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
            Err(format!(
                "{text:?} is not a whole number with a unit ({})",
                names.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(size("4GiB"), Ok(4 << 30));
        for text in [
            "",
            "24",
            "h",
            "-1h",
            "1.5h",
            "24 h",
            "99999999999999999999h",
            "0s",
            "400d",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        for text in ["", "4", "4GB", "1KiB", "99999999999999999GiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in ["40ms", "1500ms", "90s", "7m", "24h", "25h", "2d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["1025KiB", "1MiB", "3GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
