//! How a call ended.

use std::borrow::Cow;

use crate::net::{Response, reply::Fields};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)+) => {
        /// The codes of gRPC.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)+
        }

        impl Code {
            /// The code of a number.
            pub const fn of(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

codes! {
    /// Fine.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Nobody knows.
    Unknown = 2,
    /// The request is wrong in itself.
    InvalidArgument = 3,
    /// Time was up.
    DeadlineExceeded = 4,
    /// There is no such thing.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// Too much is asked for at once.
    ResourceExhausted = 8,
    /// What is asked for is not possible now.
    FailedPrecondition = 9,
    /// It met something else and was given up.
    Aborted = 10,
    /// Beyond what there is.
    OutOfRange = 11,
    /// There is no such method, or it is not known how.
    Unimplemented = 12,
    /// Something is broken here.
    Internal = 13,
    /// Something that is needed is away.
    Unavailable = 14,
    /// Something is lost.
    DataLoss = 15,
    /// Nobody knows who calls.
    Unauthenticated = 16,
}

/// How a call ended, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct Status {
    /// The kind of ending.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// Further fields for the caller.
    pub metadata: Fields,
}

impl Status {
    /// An ending without further fields.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            metadata: Fields::new(),
        }
    }

    /// The same with one more field for the caller.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// As fields behind the messages.
    pub(super) fn into_trailers(self) -> Fields {
        let number = (self.code as u8).to_string();
        let mut fields: Fields = vec![("grpc-status".into(), number.into())];
        if !self.message.is_empty() {
            fields.push(("grpc-message".into(), encode(&self.message).into()));
        }
        fields.extend(self.metadata);
        fields
    }

    /// As an answer without any message.
    pub(in crate::net) fn into_response(self) -> Response {
        let mut headers: Fields = vec![("content-type".into(), "application/grpc".into())];
        headers.extend(self.into_trailers());
        Response {
            status: 200,
            headers,
            body: Vec::new(),
            trailers: None,
        }
    }
}

/// Percent-encodes what a header field cannot hold, byte by byte.
fn encode(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_encoded_and_codes_are_numbers() {
        let status = Status::new(Code::NotFound, "50% of \"é\"\n").with("a", "b");
        let fields = status.into_trailers();
        assert_eq!(fields[0], ("grpc-status".into(), "5".into()));
        assert_eq!(
            fields[1],
            ("grpc-message".into(), "50%25 of \"%C3%A9\"%0A".into())
        );
        assert_eq!(fields[2], ("a".into(), "b".into()));
        for number in 0..17 {
            assert_eq!(Code::of(number).map(|code| code as i32), Some(number));
        }
        assert_eq!(Code::of(17), None);
    }
}
