//! Requests as gRPC has them.

use super::{
    draft::{ChangeDraft, OpenDraft, PostingDraft},
    strict::write_text,
    wire::balance::{ChangeBalanceRequest, OpenAccountRequest, Posting},
};

impl From<ChangeBalanceRequest> for ChangeDraft {
    fn from(request: ChangeBalanceRequest) -> Self {
        // An unset type and DEPOSIT are the same there.
        let unset = !request.postings.is_empty() && request.r#type == 0;
        let metadata = request.metadata.into_iter().map(|(name, value)| {
            let mut text = String::new();
            write_text(&value, &mut text);
            (name, text)
        });
        Self {
            transaction_id: request.transaction_id,
            user_id: request.user_id,
            account_id: request.account_id,
            single: PostingDraft {
                kind: (!unset).then_some(request.r#type),
                currency_code: request.currency_code,
                amount: request.amount,
                to_user_id: request.to_user_id,
                to_account_id: request.to_account_id,
            },
            description: request.description,
            metadata: metadata.collect(),
            postings: request.postings.into_iter().map(Into::into).collect(),
            wait: request.wait,
            wait_ms: request.wait_ms,
        }
    }
}

impl From<Posting> for PostingDraft {
    fn from(posting: Posting) -> Self {
        Self {
            kind: Some(posting.r#type),
            currency_code: posting.currency_code,
            amount: posting.amount,
            to_user_id: posting.to_user_id,
            to_account_id: posting.to_account_id,
        }
    }
}

impl From<OpenAccountRequest> for OpenDraft {
    fn from(request: OpenAccountRequest) -> Self {
        Self {
            user_id: request.user_id,
            account_id: request.account_id,
        }
    }
}
