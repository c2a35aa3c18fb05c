//! The script that lets the highest version win, and calls of it as Redis reads them.

use std::sync::LazyLock;

use kilter_engine::{amount::TEXT_BYTES, epoch::BalanceImage};

use super::key::{Keys, number};

/// Writes balances, each unless a version as high is there.
///
/// `KEYS` are hashes. `ARGV` is the time in ms, then a value and a version for each key. The answer
/// is how many were written. A hash without a version that can be compared, such as the
/// prototype's, and a key of another type give way.
///
/// Versions are compared as text, the longer being the higher: Lua's numbers are floats and lose
/// digits above 2⁵³.
pub const SCRIPT: &str = "\
local written = 0
for i = 1, #KEYS do
  local key, version = KEYS[i], ARGV[2 * i + 1]
  local old = redis.pcall('HGET', key, 'version')
  local newer = true
  if type(old) == 'table' then
    if not string.find(old.err, 'WRONGTYPE', 1, true) then
      return old
    end
    redis.call('DEL', key)
  elseif old then
    local more = #old - #version
    if (more > 0 or (more == 0 and old >= version)) and string.find(old, '^[1-9]%d*$') then
      newer = false
    end
  end
  if newer then
    redis.call('HSET', key, 'value', ARGV[2 * i], 'timestamp', ARGV[1], 'version', version)
    written = written + 1
  end
end
return written
";

/// [`SCRIPT`]'s SHA-1 in hexadecimal, by which a server knows it.
pub(super) static SHA: LazyLock<String> =
    LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// A balance as JSON, as readers of the prototype know it.
pub(super) fn value(image: &BalanceImage, to: &mut Vec<u8>) {
    let mut text = [0; TEXT_BYTES];
    to.extend_from_slice(b"{\"available\":\"");
    to.extend_from_slice(image.available.write_to(&mut text).as_bytes());
    to.extend_from_slice(b"\",\"frozen\":\"");
    to.extend_from_slice(image.frozen.write_to(&mut text).as_bytes());
    to.extend_from_slice(b"\",\"version\":");
    number(image.version, to);
    to.push(b'}');
}

/// Commands being written into one buffer that is used again and again.
#[derive(Debug, Default)]
pub(super) struct Calls {
    bytes: Vec<u8>,
    argument: Vec<u8>,
}

impl Calls {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a call for some balances, of one hash tag if it is a cluster.
    pub(super) fn write(&mut self, keys: &Keys, images: &[BalanceImage], time_ms: i64) {
        debug_assert!(!images.is_empty(), "a call without keys");
        self.bytes.push(b'*');
        number(4 + 3 * images.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(b"\r\n");
        self.text(b"EVALSHA");
        self.text(SHA.as_bytes());
        self.number(images.len() as u64);
        for image in images {
            self.argument.clear();
            keys.balance(image, &mut self.argument);
            self.end();
        }
        self.number(u64::try_from(time_ms).unwrap_or(0));
        for image in images {
            self.argument.clear();
            value(image, &mut self.argument);
            self.end();
            self.number(image.version);
        }
    }

    fn number(&mut self, value: u64) {
        self.argument.clear();
        number(value, &mut self.argument);
        self.end();
    }

    fn text(&mut self, text: &[u8]) {
        self.argument.clear();
        self.argument.extend_from_slice(text);
        self.end();
    }

    /// The argument with its length before it.
    fn end(&mut self) {
        self.bytes.push(b'$');
        number(self.argument.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(&self.argument);
        self.bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_engine::{AccountId, Currency, Partition};

    #[test]
    fn a_call_is_what_the_client_library_would_send() {
        let image = |account| BalanceImage {
            account_id: AccountId::new(account).unwrap(),
            currency: Currency::parse(b"USDT").unwrap(),
            available: "12.5".parse().unwrap(),
            frozen: "0".parse().unwrap(),
            version: u64::MAX,
            partition: Partition::new(3),
        };
        let mut calls = Calls::default();
        calls.write(
            &Keys::new("", true),
            &[image(1), image(20)],
            1_700_000_000_123,
        );
        let value = "{\"available\":\"12.5\",\"frozen\":\"0\",\"version\":18446744073709551615}";
        let expected = redis::cmd("EVALSHA")
            .arg(SHA.as_str())
            .arg(2)
            .arg("balance:{3}:1:USDT")
            .arg("balance:{3}:20:USDT")
            .arg(1_700_000_000_123_u64)
            .arg(value)
            .arg(u64::MAX)
            .arg(value)
            .arg(u64::MAX)
            .get_packed_command();
        assert_eq!(
            String::from_utf8(calls.bytes().to_vec()),
            String::from_utf8(expected)
        );
    }
}
