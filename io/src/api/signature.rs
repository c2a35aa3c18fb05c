//! Who may ask: HMAC-SHA256 over `<x-timestamp>:<raw body>`.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::RwLock;
use sha2::Sha256;

use super::{Key, Keys};
use crate::hex::hex;

/// Carries the signature: 64 lower-case hexadecimal digits.
pub const SIGNATURE_HEADER: &str = "x-signature";
/// Carries the time of signing, in ms since 1970.
pub const TIMESTAMP_HEADER: &str = "x-timestamp";
/// Carries the name of the key.
pub const KEY_ID_HEADER: &str = "x-key-id";

/// How far a request's time may be from ours, in ms, to either side.
pub const SKEW_MAX_MS: u64 = 300_000;

/// Why a request is not believed. Says nothing that whoever sent it did not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing, or there more than once.
    #[error("{0} is missing, or there more than once")]
    Missing(&'static str),
    /// The time is no number.
    #[error("x-timestamp is not a number of milliseconds since 1970")]
    Timestamp,
    /// The time is too far from ours.
    #[error("x-timestamp is more than 300000 ms away from the server's clock")]
    Skew,
    /// The signature has the wrong form.
    #[error("x-signature is not 64 lower-case hexadecimal digits")]
    Form,
    /// The key is not live, or the signature is not its.
    #[error("x-signature does not fit body, x-timestamp and x-key-id")]
    Wrong,
}

/// What a request says about itself. `None` is for headers that are missing or repeated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signed<'a> {
    /// `x-key-id`.
    pub key_id: Option<&'a [u8]>,
    /// `x-timestamp`.
    pub timestamp: Option<&'a [u8]>,
    /// `x-signature`.
    pub signature: Option<&'a [u8]>,
}

/// Checks signatures with the keys that are live now. Shared by all threads.
#[derive(Debug)]
pub struct Verifier {
    keys: RwLock<Arc<Keys>>,
}

impl Verifier {
    /// Checks with these keys.
    pub fn new(keys: Keys) -> Self {
        let keys = RwLock::new(Arc::new(keys));
        Self { keys }
    }

    /// Other keys from now on; requests that are being checked go on with the old ones.
    pub fn replace(&self, keys: Keys) {
        *self.keys.write() = Arc::new(keys);
    }

    /// Whether one of the live keys signed this body, about now.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong. An unknown key and a wrong signature are told alike.
    pub fn verify(
        &self,
        signed: Signed<'_>,
        body: &[u8],
        now_ms: i64,
    ) -> Result<(), SignatureError> {
        let needed = |value: Option<_>, name| value.ok_or(SignatureError::Missing(name));
        let signature = needed(signed.signature, SIGNATURE_HEADER)?;
        let timestamp = needed(signed.timestamp, TIMESTAMP_HEADER)?;
        let key_id = needed(signed.key_id, KEY_ID_HEADER)?;
        let time_ms = number(timestamp).ok_or(SignatureError::Timestamp)?;
        if now_ms.abs_diff(time_ms) > SKEW_MAX_MS {
            return Err(SignatureError::Skew);
        }
        let signature = from_hex(signature).ok_or(SignatureError::Form)?;
        let keys = Arc::clone(&self.keys.read());
        let key = keys.get(key_id).ok_or(SignatureError::Wrong)?;
        // In constant time, whatever the signature.
        mac(key, timestamp, body)
            .verify_slice(&signature)
            .map_err(|_| SignatureError::Wrong)
    }
}

/// The signature of a body, as `x-signature` has it.
pub fn sign(key: &Key, timestamp_ms: i64, body: &[u8]) -> String {
    let mac = mac(key, timestamp_ms.to_string().as_bytes(), body);
    hex(&mac.finalize().into_bytes())
}

fn mac(key: &Key, timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.secret()).expect("HMAC takes keys of every length");
    mac.update(timestamp);
    mac.update(b":");
    mac.update(body);
    mac
}

/// A number of digits only: what is signed is the text, so that there is one text for a time.
fn number(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn from_hex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const SECRET: &[u8] = b"f2a9c1d47be0835516aa90cc31fe07bd";
    const NOW_MS: i64 = 1_700_000_000_000;
    const BODY: &[u8] = br#"{"a":1}"#;
    /// Of `BODY` at `NOW_MS`, made by Python's hmac module.
    const GOOD: &str = "83d43d0afa65da7a070f1ab6dad4aabfbb3030abc795faa2e16b4e557f634866";

    fn key() -> Key {
        Key::new("k1", SECRET).unwrap()
    }

    fn verifier() -> Verifier {
        Verifier::new(Keys::new(vec![key()]).unwrap())
    }

    fn signed<'a>(key_id: &'a str, timestamp: &'a str, signature: &'a str) -> Signed<'a> {
        Signed {
            key_id: Some(key_id.as_bytes()),
            timestamp: Some(timestamp.as_bytes()),
            signature: Some(signature.as_bytes()),
        }
    }

    #[test]
    fn vectors_of_another_implementation() {
        let all: Vec<u8> = (0..=255).collect();
        let table: [(&[u8], &str); 3] = [
            (BODY, GOOD),
            (
                b"",
                "bfa47adb096b8226acbd388893b2c4aed193c22be227432181f6b32152572a2b",
            ),
            (
                &all,
                "e218b8da0db4311ae7d20c5269986d5edc473fcf079779d3bf260709359e5234",
            ),
        ];
        for (body, signature) in table {
            assert_eq!(sign(&key(), NOW_MS, body), signature);
            let signed = signed("k1", "1700000000000", signature);
            assert_eq!(verifier().verify(signed, body, NOW_MS), Ok(()));
        }
    }

    #[test]
    fn every_other_signature_is_refused() {
        let time = "1700000000000";
        let upper = GOOD.to_ascii_uppercase();
        let wrong = GOOD.replace('8', "9");
        let long = format!("{GOOD}00");
        let table = [
            (signed("k1", time, &wrong), SignatureError::Wrong),
            (signed("k2", time, GOOD), SignatureError::Wrong),
            (signed("K1", time, GOOD), SignatureError::Wrong),
            (signed("", time, GOOD), SignatureError::Wrong),
            (signed("k1", "1700000000001", GOOD), SignatureError::Wrong),
            (signed("k1", "01700000000000", GOOD), SignatureError::Wrong),
            (signed("k1", time, &upper), SignatureError::Form),
            (signed("k1", time, &long), SignatureError::Form),
            (signed("k1", time, &GOOD[1..]), SignatureError::Form),
            (signed("k1", time, ""), SignatureError::Form),
            (signed("k1", "", GOOD), SignatureError::Timestamp),
            (
                signed("k1", "+1700000000000", GOOD),
                SignatureError::Timestamp,
            ),
            (
                signed("k1", "1700000000000 ", GOOD),
                SignatureError::Timestamp,
            ),
            (signed("k1", "1.7e12", GOOD), SignatureError::Timestamp),
            (
                signed("k1", "99999999999999999999", GOOD),
                SignatureError::Timestamp,
            ),
        ];
        for (signed, error) in table {
            assert_eq!(
                verifier().verify(signed, BODY, NOW_MS),
                Err(error),
                "{signed:?}"
            );
        }
        let whole = signed("k1", time, GOOD);
        assert_eq!(
            verifier().verify(whole, b"{\"a\":2}", NOW_MS),
            Err(SignatureError::Wrong)
        );
        for (missing, name) in [
            (
                Signed {
                    key_id: None,
                    ..whole
                },
                KEY_ID_HEADER,
            ),
            (
                Signed {
                    timestamp: None,
                    ..whole
                },
                TIMESTAMP_HEADER,
            ),
            (
                Signed {
                    signature: None,
                    ..whole
                },
                SIGNATURE_HEADER,
            ),
        ] {
            assert_eq!(
                verifier().verify(missing, BODY, NOW_MS),
                Err(SignatureError::Missing(name))
            );
        }
    }

    #[test]
    fn five_minutes_to_either_side() {
        let skew_max_ms = SKEW_MAX_MS as i64;
        for (now_ms, expected) in [
            (NOW_MS + skew_max_ms, Ok(())),
            (NOW_MS - skew_max_ms, Ok(())),
            (NOW_MS + skew_max_ms + 1, Err(SignatureError::Skew)),
            (NOW_MS - skew_max_ms - 1, Err(SignatureError::Skew)),
            (i64::MIN, Err(SignatureError::Skew)),
        ] {
            let signed = signed("k1", "1700000000000", GOOD);
            assert_eq!(verifier().verify(signed, BODY, now_ms), expected);
        }
    }

    #[test]
    fn keys_rotate_under_load() {
        const ROUNDS: u32 = 200;
        let named =
            |id: &str| Key::new(id, format!("the secret of {id}, which is long").as_bytes());
        let name = |round: u32| format!("round-{round}");
        let key = |round| named(&name(round)).unwrap();
        // Every request is signed by a key that is live before and after the next change, so that
        // no moment of a change may refuse it; one that is live no more is never taken.
        let verifier = Verifier::new(Keys::new(vec![key(0), key(1)]).unwrap());
        let round = AtomicU32::new(0);
        let by = |number: u32| {
            let signature = sign(&key(number), NOW_MS, BODY);
            let id = name(number);
            verifier.verify(signed(&id, "1700000000000", &signature), BODY, NOW_MS)
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let now = round.load(Ordering::SeqCst);
                        let (live, old) = (by(now + 1), now.checked_sub(1).map(by));
                        // Otherwise two changes came meanwhile, and nothing is said.
                        if round.load(Ordering::SeqCst) <= now + 1 {
                            assert_eq!(live, Ok(()), "{now}");
                        }
                        assert!(
                            old.is_none_or(|old| old == Err(SignatureError::Wrong)),
                            "{now}"
                        );
                        if now == ROUNDS {
                            break;
                        }
                    }
                });
            }
            for next in 1..=ROUNDS {
                verifier.replace(Keys::new(vec![key(next), key(next + 1)]).unwrap());
                round.store(next, Ordering::SeqCst);
                std::thread::yield_now();
            }
        });
    }
}
