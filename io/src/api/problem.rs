//! Why a request is not answered as it wished.

use super::SignatureError;
use crate::outbox::{DoorError, NotTaken};

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request is wrong in itself.
    Invalid,
    /// Nobody knows who asks.
    Unauthenticated,
    /// There is no such thing, or it is not the user's.
    NotFound,
    /// It contradicts what was accepted before.
    Conflict,
    /// What is asked for is not there yet.
    NotYet,
    /// Too much is asked for at once; later it may go through.
    Overload,
    /// Something that is needed is away.
    Unavailable,
    /// There was not enough time.
    Deadline,
    /// Something is broken here.
    Internal,
}

impl ProblemKind {
    /// The gRPC status code.
    pub const fn grpc(self) -> i32 {
        match self {
            Self::Invalid => 3,
            Self::Deadline => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Overload => 8,
            Self::NotYet => 9,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// The HTTP status code.
    pub const fn http(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::NotFound => 404,
            Self::Conflict | Self::NotYet => 409,
            Self::Overload => 429,
            Self::Unavailable => 503,
            Self::Deadline => 504,
            Self::Internal => 500,
        }
    }

    /// A word for programs, where the status alone may mean something else.
    pub const fn code(self) -> Option<&'static str> {
        match self {
            Self::NotYet => Some("NOT_YET"),
            _ => None,
        }
    }

    /// Whether it concerns the call, not what the call says: the prototype's methods answer the
    /// latter with OK and a message. What the prototype could not be asked counts as the call.
    pub const fn concerns_the_call(self) -> bool {
        matches!(
            self,
            Self::Unauthenticated
                | Self::Overload
                | Self::Unavailable
                | Self::Deadline
                | Self::Internal
                | Self::NotYet
        )
    }
}

/// A problem, in words that a client may read. Reveals nothing of another user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What kind of problem.
    pub kind: ProblemKind,
    /// Which field is wrong, as requests spell it, such as `postings[3].amount`.
    pub field: Option<String>,
    /// What is wrong, with the value.
    pub message: String,
}

impl Problem {
    /// A problem with no field to blame.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            field: None,
            message: message.into(),
        }
    }

    /// A field that is wrong. `what` says how, behind the field's name.
    pub fn field(field: impl Into<String>, what: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self {
            kind: ProblemKind::Invalid,
            message: format!("{field} {what}"),
            field: Some(field),
        }
    }
}

impl From<SignatureError> for Problem {
    fn from(error: SignatureError) -> Self {
        Self::new(ProblemKind::Unauthenticated, error.to_string())
    }
}

impl From<NotTaken> for Problem {
    fn from(error: NotTaken) -> Self {
        let kind = match error {
            NotTaken::Full { .. } => ProblemKind::Overload,
            NotTaken::Closed => ProblemKind::Unavailable,
            NotTaken::Length { .. } => ProblemKind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DoorError> for Problem {
    fn from(error: DoorError) -> Self {
        let kind = match error {
            DoorError::Refused { .. } => ProblemKind::Internal,
            DoorError::Unavailable { .. } | DoorError::Stopped => ProblemKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

/// A value as messages show it: quoted, control characters escaped, cut to 64 characters.
pub(crate) fn shown(value: &str) -> String {
    const SHOWN_MAX: usize = 64;
    match value.char_indices().nth(SHOWN_MAX) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}…", &value[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_and_escaped() {
        assert_eq!(shown("a\"\n\u{1b}"), r#""a\"\n\u{1b}""#);
        let long = "é".repeat(65);
        assert_eq!(shown(&long), format!("\"{}\"…", "é".repeat(64)));
    }

    #[test]
    fn a_field_is_named_in_field_and_message() {
        let problem = Problem::field("postings[3].amount", "is zero");
        assert_eq!(problem.field.as_deref(), Some("postings[3].amount"));
        assert_eq!(problem.message, "postings[3].amount is zero");
        assert_eq!((problem.kind.grpc(), problem.kind.http()), (3, 400));
    }
}
