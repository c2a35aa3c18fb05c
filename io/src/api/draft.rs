//! What a request says, before anybody judged it. Unset is empty, as in the protocol files.

use std::collections::BTreeMap;

/// A request for a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeDraft {
    pub(crate) transaction_id: String,
    pub(crate) user_id: String,
    pub(crate) account_id: i64,
    /// The only movement, unless there are `postings`.
    pub(crate) single: PostingDraft,
    pub(crate) description: String,
    /// Names to canonical JSON.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) postings: Vec<PostingDraft>,
    pub(crate) wait: bool,
    pub(crate) wait_ms: i64,
}

/// A movement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PostingDraft {
    /// The number of its type.
    pub(crate) kind: Option<i32>,
    pub(crate) currency_code: String,
    pub(crate) amount: String,
    pub(crate) to_user_id: String,
    pub(crate) to_account_id: i64,
}

/// A request for an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenDraft {
    pub(crate) user_id: String,
    /// 0: any.
    pub(crate) account_id: i64,
}
