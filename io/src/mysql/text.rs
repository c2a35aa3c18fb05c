//! Rows as LOAD DATA and as INSERT read them.

use kilter_engine::{
    Amount, Leg,
    amount::TEXT_BYTES,
    epoch::{BalanceImage, Landed},
    hash::key_hash,
    ledger::LedgerEntry,
};

/// The columns of the staging table.
pub(super) const STAGING: &str =
    "account_id, currency_code, available, frozen, version, updated_at";

/// The ledger's columns, in the order of [`Rows::entry`].
pub(super) const LEDGER: &str = "generation, `partition`, `offset`, posting, account_id, \
     currency_code, transaction_id, type, amount, available_before, available_after, \
     frozen_before, frozen_after, status, error_message, created_at, version, remembered_ms, leg, leg_user";

/// The columns of the outbox, in the order of [`Rows::leg`].
pub(super) const OUTBOX: &str = "event_id, topic, partition_key, transaction_id, leg, payload, \
     status, created_at, issued_at_ms, issues, key_hash";

/// How rows are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Fields between tabs, a row a line, `\` escapes: LOAD DATA's own defaults.
    Lines,
    /// `(…),(…)` behind VALUES.
    Values,
}

/// Rows being written into one buffer that is used again and again.
#[derive(Debug)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    spelling: Spelling,
    count: u64,
    /// Where each row ends; kept for values only, whose statements have a largest size.
    ends: Vec<usize>,
    first_field: bool,
    times: Times,
}

impl Rows {
    pub(super) fn new(spelling: Spelling) -> Self {
        Self {
            bytes: Vec::new(),
            spelling,
            count: 0,
            ends: Vec::new(),
            first_field: true,
            times: Times::default(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.count = 0;
    }

    /// The rows' bytes, to be lent to a stream.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Values in pieces of at most `max` bytes, or of one row, each with its number of rows.
    pub(super) fn pieces(&self, max: usize) -> impl Iterator<Item = (&[u8], u64)> {
        let mut row = 0;
        std::iter::from_fn(move || {
            let begin = match row {
                0 => 0,
                // Behind the comma.
                _ => self.ends[row - 1] + 1,
            };
            let left = &self.ends[row..];
            let fits = left.partition_point(|end| end - begin <= max);
            let rows = fits.max(1).min(left.len());
            if rows == 0 {
                return None;
            }
            row += rows;
            Some((&self.bytes[begin..self.ends[row - 1]], rows as u64))
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn spelling(&self) -> Spelling {
        self.spelling
    }

    pub(super) fn image(&mut self, image: &BalanceImage, time_ms: i64) {
        self.begin();
        self.number(image.account_id.get());
        self.plain(image.currency.as_str());
        self.amount(image.available);
        self.amount(image.frozen);
        self.number(image.version);
        self.time(time_ms);
        self.end();
    }

    pub(super) fn entry(&mut self, entry: &LedgerEntry, landed: Option<&Landed>) {
        self.begin();
        self.number(u64::from(entry.position.generation.get()));
        self.number(u64::from(entry.position.partition.get()));
        self.number(entry.position.offset.get());
        self.number(u64::from(entry.position.posting.get()));
        self.number(entry.account_id.get());
        self.plain(entry.currency.as_str());
        self.bytes_of(entry.transaction_id.as_bytes());
        self.plain(entry.kind.as_str());
        self.amount(entry.amount);
        self.amount(entry.before.available);
        self.amount(entry.after.available);
        self.amount(entry.before.frozen);
        self.amount(entry.after.frozen);
        match entry.failure {
            None => {
                self.plain("SUCCESS");
                self.null();
            }
            Some(code) => {
                self.plain("FAILED");
                self.plain(code.as_str());
            }
        }
        self.time(entry.time_ms);
        self.number(entry.after.version);
        if entry.remembered_ms == entry.time_ms {
            self.null();
        } else {
            self.signed(entry.remembered_ms);
        }
        match landed {
            None => {
                self.null();
                self.null();
            }
            Some(landed) => {
                self.bytes_of(landed.name.to_string().as_bytes());
                self.bytes_of(landed.user_id.as_bytes());
            }
        }
        self.end();
    }

    /// A leg that is to become a record of `topic`.
    pub(super) fn leg(&mut self, leg: &Leg, topic: &str) {
        let name = leg.name.to_string();
        self.begin();
        self.bytes_of(format!("leg:{name}").as_bytes());
        self.bytes_of(topic.as_bytes());
        self.bytes_of(leg.user_id.as_bytes());
        self.bytes_of(leg.transaction_id.as_bytes());
        self.bytes_of(name.as_bytes());
        self.bytes_of(&leg.payload());
        self.plain("PENDING");
        self.time(leg.issued_at_ms);
        self.signed(leg.issued_at_ms);
        // Whoever hands it over first issues it, so that it is not born old after an outage.
        self.number(0);
        self.number(key_hash(leg.user_id.as_bytes()));
        self.end();
    }

    fn begin(&mut self) {
        self.first_field = true;
        if self.spelling == Spelling::Values {
            self.bytes
                .extend_from_slice(if self.count == 0 { b"(" } else { b",(" });
        }
    }

    fn end(&mut self) {
        self.count += 1;
        match self.spelling {
            Spelling::Lines => self.bytes.push(b'\n'),
            Spelling::Values => {
                self.bytes.push(b')');
                self.ends.push(self.bytes.len());
            }
        }
    }

    fn next_field(&mut self) {
        if !std::mem::take(&mut self.first_field) {
            self.bytes.push(match self.spelling {
                Spelling::Lines => b'\t',
                Spelling::Values => b',',
            });
        }
    }

    fn number(&mut self, number: u64) {
        self.next_field();
        crate::json::digits(&mut self.bytes, number);
    }

    fn signed(&mut self, number: i64) {
        self.next_field();
        self.bytes.extend_from_slice(number.to_string().as_bytes());
    }

    fn amount(&mut self, amount: Amount) {
        self.next_field();
        let mut buffer = [0; TEXT_BYTES];
        self.bytes
            .extend_from_slice(amount.write_to(&mut buffer).as_bytes());
    }

    /// Text without any byte that means something to SQL.
    fn plain(&mut self, text: &str) {
        debug_assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            "{text:?}"
        );
        self.next_field();
        let quote = self.spelling == Spelling::Values;
        if quote {
            self.bytes.push(b'\'');
        }
        self.bytes.extend_from_slice(text.as_bytes());
        if quote {
            self.bytes.push(b'\'');
        }
    }

    /// Any bytes at all.
    fn bytes_of(&mut self, text: &[u8]) {
        self.next_field();
        match self.spelling {
            Spelling::Lines => {
                for &byte in text {
                    match byte {
                        0 => self.bytes.extend_from_slice(b"\\0"),
                        b'\t' => self.bytes.extend_from_slice(b"\\t"),
                        b'\n' => self.bytes.extend_from_slice(b"\\n"),
                        b'\\' => self.bytes.extend_from_slice(b"\\\\"),
                        _ => self.bytes.push(byte),
                    }
                }
            }
            Spelling::Values => {
                self.bytes.extend_from_slice(b"x'");
                for &byte in text {
                    for half in [byte >> 4, byte & 15] {
                        self.bytes.push(b"0123456789abcdef"[usize::from(half)]);
                    }
                }
                self.bytes.push(b'\'');
            }
        }
    }

    fn null(&mut self) {
        self.next_field();
        self.bytes.extend_from_slice(match self.spelling {
            Spelling::Lines => b"\\N",
            Spelling::Values => b"NULL",
        });
    }

    fn time(&mut self, time_ms: i64) {
        self.next_field();
        let quote = self.spelling == Spelling::Values;
        if quote {
            self.bytes.push(b'\'');
        }
        self.bytes.extend_from_slice(self.times.text(time_ms));
        if quote {
            self.bytes.push(b'\'');
        }
    }
}

/// Times as `YYYY-MM-DD hh:mm:ss.mmm`, UTC; neighbours share their second.
#[derive(Debug)]
struct Times {
    second: i64,
    text: [u8; 23],
}

impl Default for Times {
    fn default() -> Self {
        Self {
            second: 0,
            text: *b"1970-01-01 00:00:00.000",
        }
    }
}

impl Times {
    fn text(&mut self, time_ms: i64) -> &[u8] {
        let second = time_ms.div_euclid(1000);
        if second != self.second {
            self.second = second;
            self.set_second(second);
        }
        digits(&mut self.text[20..23], time_ms.rem_euclid(1000));
        &self.text
    }

    fn set_second(&mut self, second: i64) {
        let (year, month, day) = civil(second.div_euclid(86_400));
        let of_day = second.rem_euclid(86_400);
        digits(&mut self.text[0..4], year);
        digits(&mut self.text[5..7], month);
        digits(&mut self.text[8..10], day);
        digits(&mut self.text[11..13], of_day / 3600);
        digits(&mut self.text[14..16], of_day / 60 % 60);
        digits(&mut self.text[17..19], of_day % 60);
    }
}

fn digits(to: &mut [u8], mut number: i64) {
    for place in to.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01 (Hinnant's `civil_from_days`).
fn civil(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_as_the_calendar_has_them() {
        let mut times = Times::default();
        for (ms, text) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_399_999, "2000-02-28 23:59:59.999"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (1_709_251_199_001, "2024-02-29 23:59:59.001"),
            (4_102_444_800_000, "2100-01-01 00:00:00.000"),
        ] {
            assert_eq!(std::str::from_utf8(times.text(ms)).unwrap(), text);
        }
    }

    #[test]
    fn bytes_that_mean_something_are_escaped() {
        let mut rows = Rows::new(Spelling::Lines);
        rows.begin();
        rows.bytes_of(b"a\0\t\n\\'\xff");
        rows.null();
        rows.end();
        assert_eq!(rows.buffer().as_slice(), b"a\\0\\t\\n\\\\'\xff\t\\N\n");
        let mut rows = Rows::new(Spelling::Values);
        rows.begin();
        rows.bytes_of(b"'\\");
        rows.number(0);
        rows.end();
        rows.begin();
        rows.number(1);
        rows.end();
        assert_eq!(rows.buffer().as_slice(), b"(x'275c',0),(1)");
        let pieces: Vec<_> = rows.pieces(3).collect();
        assert_eq!(pieces, [(&b"(x'275c',0)"[..], 1), (&b"(1)"[..], 1)]);
        let pieces: Vec<_> = rows.pieces(100).collect();
        assert_eq!(pieces, [(&b"(x'275c',0),(1)"[..], 2)]);
    }
}
