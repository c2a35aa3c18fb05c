//! Messages in a body: each behind a flag and its length.

use super::status::{Code, Status};
use crate::net::Headers;

/// The length of what stands before a message.
const HEAD: usize = 5;

/// The first message of some bytes, and how much of them it takes; `None` while it is not whole.
///
/// # Errors
///
/// When it is compressed, longer than `most`, or no message.
pub(super) fn first<'a>(
    bytes: &'a [u8],
    headers: &Headers,
    most: usize,
) -> Result<Option<(&'a [u8], usize)>, Status> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    match head[0] {
        0 => {}
        1 => {
            let coding = headers.text("grpc-encoding").unwrap_or("identity");
            let message = format!("messages compressed by {coding:?} are not known here");
            return Err(
                Status::new(Code::Unimplemented, message).with("grpc-accept-encoding", "identity")
            );
        }
        flag => {
            let message = format!("a message begins with {flag}, not 0 or 1");
            return Err(Status::new(Code::Internal, message));
        }
    }
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > most {
        let message = format!("a message of {length} bytes is too large: {most} are taken");
        return Err(Status::new(Code::ResourceExhausted, message));
    }
    Ok(rest.get(..length).map(|message| (message, HEAD + length)))
}

/// The only message of a body.
///
/// # Errors
///
/// When it is not one message, and all there.
pub(super) fn only(mut body: Vec<u8>, headers: &Headers) -> Result<Vec<u8>, Status> {
    let came = body.len();
    match first(&body, headers, usize::MAX)? {
        None => Err(Status::new(
            Code::Internal,
            format!("the body ends after {came} bytes, within a message"),
        )),
        Some((_, used)) if used < came => Err(Status::new(
            Code::Unimplemented,
            "one message is taken for a call, and more came",
        )),
        Some(_) => {
            body.drain(..HEAD);
            Ok(body)
        }
    }
}

/// A message behind its head, not compressed.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + HEAD);
    bytes.push(0);
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_one_after_the_other_and_what_is_none() {
        let headers = Headers::default();
        let first = |bytes: &[u8]| {
            first(bytes, &headers, 10)
                .map(|found| found.map(|(message, used)| (message.to_vec(), used)))
                .map_err(|status| status.code)
        };
        let two = [framed(b"abc"), framed(b"")].concat();
        for short in 0..8 {
            assert_eq!(first(&two[..short]), Ok(None));
        }
        assert_eq!(first(&two), Ok(Some((b"abc".to_vec(), 8))));
        assert_eq!(first(&two[8..]), Ok(Some((Vec::new(), 5))));
        assert_eq!(first(&[1, 0, 0, 0, 0]), Err(Code::Unimplemented));
        assert_eq!(first(&[2, 0, 0, 0, 0]), Err(Code::Internal));
        assert_eq!(first(&[0, 0, 0, 0, 11]), Err(Code::ResourceExhausted));
        let only = |bytes: &[u8]| only(bytes.to_vec(), &headers).map_err(|status| status.code);
        assert_eq!(only(&framed(b"abc")), Ok(b"abc".to_vec()));
        assert_eq!(only(&two), Err(Code::Unimplemented));
        assert_eq!(only(&two[..7]), Err(Code::Internal));
        assert_eq!(only(b""), Err(Code::Internal));
    }
}
