//! JSON as the outside world reads it: field names and order of the contract, decimals as text.

mod result;

pub use result::ResultJson;
pub(crate) use result::{digits, write_result};

use crate::hex::hex;
use crate::rows::{AccountRow, BalanceRow, DeadLetterRow, LedgerRow};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::ser::{Formatter, Serializer as JsonSerializer};

/// Writes a value on one line, with a space behind `,` and `:`, as most scripting languages do by
/// default, so that dumps can be compared with `diff`.
///
/// # Errors
///
/// When the writer fails.
pub fn line(value: &impl Serialize, to: &mut impl std::io::Write) -> std::io::Result<()> {
    value.serialize(&mut JsonSerializer::with_formatter(&mut *to, Spaced))?;
    to.write_all(b"\n")
}

/// Writes JSON that is there already as [`line()`] does: on one line, with the same spaces.
///
/// # Errors
///
/// When the writer fails.
pub fn text_line(text: &[u8], to: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut is_inside = false;
    let mut is_escaped = false;
    let mut line = Vec::with_capacity(text.len() + text.len() / 8);
    for &byte in text {
        if !is_inside && byte.is_ascii_whitespace() {
            continue;
        }
        line.push(byte);
        if is_inside {
            is_inside = byte != b'"' || is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
        } else if byte == b'"' {
            is_inside = true;
        } else if byte == b',' || byte == b':' {
            line.push(b' ');
        }
    }
    line.push(b'\n');
    to.write_all(&line)
}

/// A space behind separators.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// A time in ms since 1970 as RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(ms: i64) -> String {
    let days = ms.div_euclid(86_400_000);
    let rest = ms.rem_euclid(86_400_000);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000
    )
}

/// The date of a day since 1970, by Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// A balance as JSON.
pub struct BalanceJson<'a>(pub &'a BalanceRow);

impl Serialize for BalanceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.0;
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("accountId", &row.account_id)?;
        map.serialize_entry("currencyCode", &row.currency_code)?;
        map.serialize_entry("available", &row.available)?;
        map.serialize_entry("frozen", &row.frozen)?;
        map.serialize_entry("version", &row.version)?;
        map.end()
    }
}

/// An account as JSON.
pub struct AccountJson<'a>(pub &'a AccountRow);

impl Serialize for AccountJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.0;
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("accountId", &row.account_id)?;
        map.serialize_entry("userId", &row.user_id)?;
        map.serialize_entry("shardId", &row.shard_id)?;
        map.serialize_entry("state", &row.state)?;
        map.serialize_entry("createdAt", &row.created_at_ms)?;
        map.end()
    }
}

/// A ledger entry as JSON.
pub struct LedgerJson<'a>(pub &'a LedgerRow);

impl Serialize for LedgerJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("transactionId", &row.transaction_id)?;
        map.serialize_entry("accountId", &row.account_id)?;
        map.serialize_entry("userId", &row.user_id)?;
        map.serialize_entry("currencyCode", &row.currency_code)?;
        map.serialize_entry("type", &row.kind)?;
        map.serialize_entry("amount", &row.amount)?;
        map.serialize_entry("success", &row.error_code.is_none())?;
        map.serialize_entry("availableBefore", &row.available_before)?;
        map.serialize_entry("availableAfter", &row.available_after)?;
        map.serialize_entry("frozenBefore", &row.frozen_before)?;
        map.serialize_entry("frozenAfter", &row.frozen_after)?;
        map.serialize_entry("version", &row.version)?;
        if let Some(code) = &row.error_code {
            map.serialize_entry("errorCode", code)?;
        }
        map.serialize_entry("generation", &row.generation)?;
        map.serialize_entry("partition", &row.partition)?;
        map.serialize_entry("offset", &row.offset)?;
        map.serialize_entry("posting", &row.posting)?;
        map.serialize_entry("createdAt", &row.created_at_ms)?;
        if let Some(remembered_at_ms) = &row.remembered_at_ms {
            map.serialize_entry("rememberedAt", remembered_at_ms)?;
        }
        if let Some(leg) = &row.leg {
            map.serialize_entry("legName", leg)?;
        }
        map.end()
    }
}

/// A dead letter as JSON.
pub struct DeadLetterJson<'a>(pub &'a DeadLetterRow);

/// The names of the embedded log and its dead letters, as they are in Kafka.
const TOPIC: &str = "balance-changes";
const DLQ_TOPIC: &str = "balance-changes-dlq";

impl Serialize for DeadLetterJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("originalTopic", TOPIC)?;
        map.serialize_entry("originalPartition", &row.partition)?;
        map.serialize_entry("originalOffset", &row.offset)?;
        map.serialize_entry("originalKey", &String::from_utf8_lossy(&row.key))?;
        match std::str::from_utf8(&row.value) {
            Ok(value) => map.serialize_entry("originalValue", value)?,
            Err(_) => map.serialize_entry("originalValueBase64", &base64(&row.value))?,
        }
        if let Some((bytes, sha256)) = &row.full {
            map.serialize_entry("originalValueBytes", bytes)?;
            map.serialize_entry("originalValueSha256", &hex(sha256))?;
        }
        let headers: serde_json::Map<String, serde_json::Value> = row
            .issued_at_ms
            .map(|ms| ("issuedAt".to_owned(), ms.to_string().into()))
            .into_iter()
            .collect();
        map.serialize_entry("originalHeaders", &headers)?;
        let error = serde_json::json!({"name": row.code, "message": row.message});
        map.serialize_entry("error", &error)?;
        map.serialize_entry("retryCount", &0)?;
        map.serialize_entry("failedAt", &rfc3339(row.failed_at_ms))?;
        map.serialize_entry("dlqTopic", DLQ_TOPIC)?;
        map.end()
    }
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let padded = [
            three[0],
            three.get(1).copied().unwrap_or(0),
            three.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for index in 0..4 {
            text.push(if index <= three.len() {
                char::from(DIGITS[(bits >> (18 - 6 * index) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_spaced_as_values_are() {
        let value = serde_json::json!({
            "a": [1, {"b": "x\\\",: \n"}], "c\\": null, "d": {}, "": "é, \"\\\\\": "
        });
        let mut lines = [Vec::new(), Vec::new(), Vec::new()];
        line(&value, &mut lines[0]).unwrap();
        text_line(&serde_json::to_vec(&value).unwrap(), &mut lines[1]).unwrap();
        text_line(&serde_json::to_vec_pretty(&value).unwrap(), &mut lines[2]).unwrap();
        assert_eq!(lines[0], lines[1]);
        assert_eq!(lines[0], lines[2]);
    }

    #[test]
    fn times_and_base64() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\xfc", "//79/A=="),
        ] {
            assert_eq!(base64(bytes), text);
        }
    }
}
