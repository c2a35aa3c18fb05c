//! What the front door is asked to take.

use std::collections::{BTreeMap, BTreeSet};

use kilter_engine::AccountId;
use sha2::{Digest, Sha256};

use super::NotTaken;

/// The longest user and transaction id, in bytes.
const NAME_MAX_BYTES: usize = 64;

/// Something to accept, validated in shape by the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Whose it is: 1 to 64 bytes.
    pub user_id: String,
    /// What is asked for.
    pub asked: Asked,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A command on an account.
    Command {
        /// The client's id: 1 to 64 bytes, once for ever per user.
        transaction_id: String,
        /// The account, which must be the user's.
        account_id: AccountId,
        /// The command as it goes to the log, as canonical JSON: the same request gives the same
        /// bytes, because a retry is known by them.
        payload: String,
        /// Whether the account is opened for it, if neither it nor the user is known yet.
        opens: bool,
    },
    /// An account for the user: this one, or one of our choice.
    Open {
        /// Which one.
        account_id: Option<AccountId>,
    },
}

/// A request as it waits, with what its caller's thread made of it, so that the one thread that makes
/// requests durable need not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What is asked.
    pub event: NewEvent,
    /// The name that its event has for ever, if it is accepted; for an account that is opened without a
    /// command, too.
    pub event_id: String,
    /// By what a retry is known; of a command only.
    pub hash: [u8; 32],
}

impl From<NewEvent> for Named {
    fn from(event: NewEvent) -> Self {
        let hash = match &event.asked {
            Asked::Command { payload, .. } => request_hash(payload),
            Asked::Open { .. } => [0; 32],
        };
        Self {
            event,
            event_id: new_name(),
            hash,
        }
    }
}

/// A name for an event, different from all others.
pub(crate) fn new_name() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl NewEvent {
    /// About how much memory it holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let asked = match &self.asked {
            Asked::Command {
                transaction_id,
                payload,
                ..
            } => transaction_id.len() + payload.len(),
            Asked::Open { .. } => 0,
        };
        size_of::<Self>() + self.user_id.len() + asked
    }

    /// Refuses what would be refused by a store for the whole batch.
    pub(crate) fn check(&self, payload_max_bytes: usize) -> Result<(), NotTaken> {
        let bounds = |field, length: usize, max: usize| {
            if (1..=max).contains(&length) {
                Ok(())
            } else {
                Err(NotTaken::Length { field, length, max })
            }
        };
        bounds("userId", self.user_id.len(), NAME_MAX_BYTES)?;
        match &self.asked {
            Asked::Command {
                transaction_id,
                payload,
                ..
            } => {
                bounds("transactionId", transaction_id.len(), NAME_MAX_BYTES)?;
                bounds("payload", payload.len(), payload_max_bytes)
            }
            Asked::Open { .. } => Ok(()),
        }
    }
}

/// By what a retry is known.
pub(crate) fn request_hash(payload: &str) -> [u8; 32] {
    Sha256::digest(payload.as_bytes()).into()
}

/// Names of the top-level fields in which two commands differ, in order. None if they say the
/// same, however they are spaced and ordered, and `None` if one of them cannot be read.
pub(crate) fn differing_fields(ours: &str, theirs: &str) -> Option<Vec<String>> {
    // Raw, because a number is compared by its digits and never through a float.
    type Object = BTreeMap<String, Box<serde_json::value::RawValue>>;
    let read = |text: &str| -> Option<BTreeMap<String, Vec<u8>>> {
        let object: Object = serde_json::from_str(text).ok()?;
        let fields = object.into_iter().map(|(name, value)| {
            let mut line = Vec::new();
            crate::json::text_line(value.get().as_bytes(), &mut line)
                .ok()
                .map(|()| (name, line))
        });
        fields.collect()
    };
    let (ours, theirs) = (read(ours)?, read(theirs)?);
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    Some(
        names
            .into_iter()
            .filter(|name| ours.get(*name) != theirs.get(*name))
            .cloned()
            .collect(),
    )
}

/// What opens an account, as it goes to the log.
pub(crate) fn open_payload(user_id: &str, account_id: AccountId) -> String {
    let user = serde_json::Value::from(user_id);
    format!(
        r#"{{"transactionId":"{}","userId":{user},"accountId":{account_id},"type":"OPEN"}}"#,
        open_transaction_id(account_id)
    )
}

/// The id of what opens an account. A client's own id never meets it: the leg tells them apart.
pub(crate) fn open_transaction_id(account_id: AccountId) -> String {
    format!("open-{account_id}")
}

/// The leg under which an OPEN is kept.
pub(crate) const OPEN_LEG: &str = "OPEN";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_spelling_is_not() {
        let of = |a, b| differing_fields(a, b);
        assert_eq!(
            of(r#"{"a":"1","b":{"c":[1]}}"#, r#"{"b":{"c":[1]}, "a":"1"}"#),
            Some(vec![])
        );
        assert_eq!(
            of(r#"{"n":1.0}"#, r#"{"n":1.00000000000000000001}"#),
            Some(vec!["n".into()])
        );
        assert_eq!(
            of(r#"{"amount":"1","b":2}"#, r#"{"amount":"2","c":2}"#),
            Some(vec!["amount".into(), "b".into(), "c".into()])
        );
        assert_eq!(of("{}", "not json"), None);
    }

    #[test]
    fn an_open_is_a_command_whatever_the_user_is_called() {
        let account = AccountId::new(1 << 62).unwrap();
        let payload = open_payload("\"ü\\", account);
        let command = kilter_engine::decode(payload.as_bytes()).unwrap();
        assert_eq!(command.user_id, "\"ü\\");
        assert_eq!(command.account_id, account);
        assert!(matches!(command.body, kilter_engine::Body::Open));
    }

    #[test]
    fn lengths_are_bounded_and_named() {
        let event = |user: &str, id: &str, payload: &str| NewEvent {
            user_id: user.into(),
            asked: Asked::Command {
                transaction_id: id.into(),
                account_id: AccountId::MAX,
                payload: payload.into(),
                opens: false,
            },
        };
        let long = "x".repeat(65);
        for (event, field) in [
            (event("", "t", "{}"), "userId"),
            (event(&long, "t", "{}"), "userId"),
            (event("u", "", "{}"), "transactionId"),
            (event("u", &long, "{}"), "transactionId"),
            (event("u", "t", ""), "payload"),
            (event("u", "t", &long), "payload"),
        ] {
            let error = event.check(64).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        assert!(event(&long[1..], &long[1..], &long[1..]).check(64).is_ok());
    }
}
