//! A dead letter as it lies in its topic.

use kilter_engine::{epoch::DeadLetter, headers::Headers};
use rdkafka::message::{Header, OwnedHeaders};
use serde::{Serialize, Serializer, ser::SerializeMap};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::json::{base64, rfc3339};

/// How much is kept of an original that is too large.
const KEPT_BYTES: usize = 64 << 10;

/// The names of the topics in a dead letter.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) commands: String,
    pub(super) dead_letters: String,
}

/// A dead letter's value as JSON.
pub(super) struct LetterJson<'a> {
    pub(super) names: &'a Names,
    pub(super) letter: &'a DeadLetter,
    /// Whether the original is replaced by its length, its digest and its beginning.
    pub(super) cut: bool,
}

/// The value of a dead letter of at most `max_bytes`, as far as that can be had.
pub(super) fn spell(
    names: &Names,
    letter: &DeadLetter,
    max_bytes: usize,
    to: &mut Vec<u8>,
) -> bool {
    let mut cut = letter.value.len() + letter.headers.len() > max_bytes;
    loop {
        to.clear();
        let json = LetterJson { names, letter, cut };
        // Into memory, of text and numbers: there is nothing that could fail.
        let written = serde_json::to_writer(&mut *to, &json);
        debug_assert!(written.is_ok(), "{written:?}");
        if cut || to.len() <= max_bytes {
            return cut;
        }
        cut = true;
    }
}

/// The headers of a dead letter: where it was, and its own.
pub(super) fn headers(names: &Names, letter: &DeadLetter, with_own: bool) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    let partition = letter.partition.to_string();
    let offset = letter.offset.to_string();
    let failed_at = rfc3339(letter.failed_at_ms);
    let retries = retry_count(letter).to_string();
    for (key, value) in [
        ("x-original-topic", names.commands.as_str()),
        ("x-original-partition", &partition),
        ("x-original-offset", &offset),
        ("x-failed-at", &failed_at),
        ("x-retry-count", &retries),
    ] {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    if with_own {
        for (name, value) in Headers(&letter.headers).iter() {
            // Ours say where it was this time.
            if !name.starts_with(b"x-original-")
                && name != b"x-failed-at"
                && name != b"x-retry-count"
            {
                headers = headers.insert(Header {
                    key: &String::from_utf8_lossy(name),
                    value,
                });
            }
        }
    }
    headers
}

/// How often somebody put it back into the log: what its own header says.
fn retry_count(letter: &DeadLetter) -> u64 {
    Headers(&letter.headers)
        .iter()
        .find(|(name, _)| *name == b"x-retry-count")
        .and_then(|(_, value)| std::str::from_utf8(value?).ok()?.parse().ok())
        .unwrap_or(0)
}

impl Serialize for LetterJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let letter = self.letter;
        let headers = Headers(&letter.headers);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("originalTopic", &self.names.commands)?;
        map.serialize_entry("originalPartition", &letter.partition)?;
        map.serialize_entry("originalOffset", &letter.offset)?;
        match std::str::from_utf8(&letter.key) {
            _ if headers.has_no_key() => map.serialize_entry("originalKey", &())?,
            Ok(key) => map.serialize_entry("originalKey", key)?,
            Err(_) => map.serialize_entry("originalKeyBase64", &base64(&letter.key))?,
        }
        let value = if self.cut {
            &letter.value[..letter.value.len().min(KEPT_BYTES)]
        } else {
            &letter.value[..]
        };
        match std::str::from_utf8(value) {
            _ if headers.has_no_value() => map.serialize_entry("originalValue", &())?,
            Ok(value) => map.serialize_entry("originalValue", value)?,
            Err(_) => map.serialize_entry("originalValueBase64", &base64(value))?,
        }
        if self.cut {
            map.serialize_entry("originalValueBytes", &letter.value.len())?;
            map.serialize_entry("originalValueSha256", &hex(&Sha256::digest(&letter.value)))?;
        }
        map.serialize_entry("originalHeaders", &HeadersJson(headers, self.cut))?;
        map.serialize_entry(
            "error",
            &serde_json::json!({"name": letter.code.as_str(), "message": &*letter.message}),
        )?;
        map.serialize_entry("retryCount", &retry_count(letter))?;
        map.serialize_entry("failedAt", &rfc3339(letter.failed_at_ms))?;
        map.serialize_entry("dlqTopic", &self.names.dead_letters)?;
        map.end()
    }
}

/// Headers as an object; those of an original that is too large only as far as they are small.
struct HeadersJson<'a>(Headers<'a>, bool);

impl Serialize for HeadersJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.iter() {
            let name = String::from_utf8_lossy(name);
            match value {
                None => map.serialize_entry(&name, &())?,
                Some(value) if self.1 && value.len() > 1024 => {}
                Some(value) => match std::str::from_utf8(value) {
                    Ok(text) => map.serialize_entry(&name, text)?,
                    Err(_) => {
                        map.serialize_entry(&name, &serde_json::json!({"base64": base64(value)}))?
                    }
                },
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_engine::{
        Code, Generation, Offset, Partition, headers::HeadersWriter, record::NOT_ISSUED,
    };

    fn letter(key: Option<&[u8]>, value: Option<&[u8]>, own: &[(&[u8], &[u8])]) -> DeadLetter {
        let mut headers = Vec::new();
        let mut writer = HeadersWriter::new(&mut headers, key.is_none(), value.is_none());
        for (name, value) in own {
            writer.header(name, Some(value));
        }
        DeadLetter {
            generation: Generation::new(1),
            partition: Partition::new(2),
            offset: Offset::new(3),
            code: Code::Malformed,
            message: "no".into(),
            failed_at_ms: 1_700_000_000_123,
            issued_at_ms: NOT_ISSUED,
            key: key.unwrap_or_default().into(),
            value: value.unwrap_or_default().into(),
            headers: headers.into(),
        }
    }

    fn json(letter: &DeadLetter, max_bytes: usize) -> serde_json::Value {
        let names = Names {
            commands: "balance-changes".into(),
            dead_letters: "balance-changes-dlq".into(),
        };
        let mut bytes = Vec::new();
        spell(&names, letter, max_bytes, &mut bytes);
        assert!(bytes.len() <= max_bytes.max(600_000));
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn what_is_missing_stays_missing_and_bytes_stay_bytes() {
        let found = json(&letter(None, None, &[]), 1 << 20);
        assert!(found["originalKey"].is_null() && found["originalValue"].is_null());
        assert_eq!(found["originalHeaders"], serde_json::json!({}));
        let found = json(
            &letter(
                Some(b"u"),
                Some(b"\xff"),
                &[
                    (b"eventId", b"e"),
                    (b"raw", b"\xfe"),
                    (b"x-retry-count", b"2"),
                ],
            ),
            1 << 20,
        );
        assert_eq!(found["originalKey"], "u");
        assert_eq!(found["originalValueBase64"], "/w==");
        assert_eq!(found["originalHeaders"]["eventId"], "e");
        assert_eq!(found["originalHeaders"]["raw"]["base64"], "/g==");
        assert_eq!(found["retryCount"], 2);
        assert_eq!(found["failedAt"], "2023-11-14T22:13:20.123Z");
        assert_eq!(found["originalOffset"], 3);
    }

    #[test]
    fn what_is_too_large_is_told_by_length_digest_and_beginning() {
        // Each byte takes six when it is escaped.
        let value = vec![1; 200_000];
        let found = json(&letter(Some(b"u"), Some(&value), &[]), 900_000);
        assert_eq!(found["originalValueBytes"], 200_000);
        assert_eq!(found["originalValue"].as_str().unwrap().len(), 64 << 10);
        assert_eq!(found["originalValueSha256"].as_str().unwrap().len(), 64);
    }
}
