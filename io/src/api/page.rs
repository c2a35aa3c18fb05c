//! Where a page of the ledger goes on: a text that only we read.

use kilter_engine::{AccountId, Generation, Offset, Partition, Position, Posting};

use super::{Problem, problem::shown};
use crate::hex::hex;

/// The form of the text.
const FORM: u8 = 1;
/// Form, account, generation, partition, offset, posting.
const BYTES: usize = 1 + 8 + 4 + 4 + 8 + 2;

/// The text that goes on behind a position of an account.
pub(crate) fn token(account_id: AccountId, after: Position) -> String {
    let mut bytes = vec![FORM];
    bytes.extend(account_id.get().to_be_bytes());
    bytes.extend(after.generation.get().to_be_bytes());
    bytes.extend(after.partition.get().to_be_bytes());
    bytes.extend(after.offset.get().to_be_bytes());
    bytes.extend(after.posting.get().to_be_bytes());
    hex(&bytes)
}

/// The position of a text, which must be of this account; none for the empty text.
pub(crate) fn position(account_id: AccountId, token: &str) -> Result<Option<Position>, Problem> {
    if token.is_empty() {
        return Ok(None);
    }
    let position = read(account_id, token);
    let what = || format!("{} is not of a page of this account", shown(token));
    position
        .map(Some)
        .ok_or_else(|| Problem::field("page_token", what()))
}

fn read(account_id: AccountId, token: &str) -> Option<Position> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if token.len() != 2 * BYTES || !token.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&token[2 * at..2 * at + 2], 16).ok()?;
    }
    let (form, rest) = bytes.split_first()?;
    let (account, rest) = rest.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (partition, rest) = rest.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let posting = rest.try_into().ok()?;
    (*form == FORM && u64::from_be_bytes(*account) == account_id.get()).then(|| Position {
        generation: Generation::new(u32::from_be_bytes(*generation)),
        partition: Partition::new(u32::from_be_bytes(*partition)),
        offset: Offset::new(u64::from_be_bytes(*offset)),
        posting: Posting::new(u16::from_be_bytes(posting)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_wrote_for_this_account_is_read() {
        let account = AccountId::new(42).unwrap();
        let after = Position {
            generation: Generation::new(1),
            partition: Partition::new(u32::MAX),
            offset: Offset::new(u64::MAX - 7),
            posting: Posting::new(15),
        };
        let text = token(account, after);
        assert_eq!(position(account, &text), Ok(Some(after)));
        assert_eq!(position(account, ""), Ok(None));
        let other = AccountId::new(43).unwrap();
        let upper = text.to_ascii_uppercase();
        for (account, token) in [
            (other, text.as_str()),
            (account, &text[2..]),
            (account, &upper),
            (account, &text.replacen("01", "02", 1)),
            (account, "é"),
            (account, "x"),
        ] {
            let problem = position(account, token).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("page_token"));
        }
    }
}
