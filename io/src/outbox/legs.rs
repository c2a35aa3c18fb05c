//! Legs that have left and not landed, for an operator.

use serde::Deserialize;

/// How far a leg is that has not landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegProgress {
    /// It will come to an end by itself.
    OnItsWay,
    /// It was refused, and nobody sends it again.
    Refused,
    /// It may have been refused or have landed: the ledger is in the result topic.
    Unknown,
}

impl LegProgress {
    /// As it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnItsWay => "on its way",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// A leg that has left and not landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlyingLeg {
    /// Its name: the record it comes from, and CREDIT or REFUND.
    pub name: String,
    /// Whom it pays.
    pub user_id: String,
    /// The client's id.
    pub transaction_id: String,
    /// The currency's code.
    pub currency_code: String,
    /// How much, as its record says it.
    pub amount: String,
    /// How far it is.
    pub progress: LegProgress,
    /// Generation, partition and offset of its last record.
    pub place: Option<(u32, u32, u64)>,
    /// What is noted about it.
    pub message: Option<String>,
}

/// Why a leg is not sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotResent {
    /// There is none.
    #[error("there is no leg {name}")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// It took effect, and must not again.
    #[error("the leg {name} has landed: see the ledger")]
    Landed {
        /// Its name.
        name: String,
    },
    /// It comes to its end by itself.
    #[error("the leg {name} is on its way: {why}")]
    OnItsWay {
        /// Its name.
        name: String,
        /// What is waited for.
        why: String,
    },
    /// The ledger is elsewhere.
    #[error(
        "what became of the leg {name} is told by the result topic alone: if that has no result of \
         this leg that succeeded or failed, say so with --not-landed"
    )]
    Untold {
        /// Its name.
        name: String,
    },
    /// Its record cannot be read any more.
    #[error("the payload of the leg {name} is no command, so it cannot be sent")]
    Unreadable {
        /// Its name.
        name: String,
    },
}

/// Currency and amount in a leg's payload.
pub(crate) fn money_in(payload: &[u8]) -> (String, String) {
    #[derive(Default, Deserialize)]
    struct Named {
        #[serde(rename = "currencyCode")]
        currency_code: String,
        amount: String,
    }
    let named: Named = serde_json::from_slice(payload).unwrap_or_default();
    (named.currency_code, named.amount)
}
