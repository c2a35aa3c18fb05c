//! What is asked of the front door.

use std::time::{SystemTime, UNIX_EPOCH};

use kilter_io::api::{
    KEY_ID_HEADER, Key, SIGNATURE_HEADER, SecretSource, TIMESTAMP_HEADER, sign,
    wire::balance as wire,
};
use prost::Message;

use crate::client::Request;

/// The secret of every node here.
pub const SECRET: &str = "a-bench-has-a-secret-of-its-own-too-0123456789";

/// Signs as clients do.
pub struct Signer(Key);

impl Signer {
    pub fn new() -> Self {
        let source = SecretSource::Value(SECRET.into());
        Self(Key::load("1", &source).unwrap())
    }

    fn signed(&self, path: &'static str, message: Vec<u8>) -> Request {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let time_ms = now.as_millis() as i64;
        let signature = sign(&self.0, time_ms, &message);
        Request {
            path,
            metadata: vec![
                (SIGNATURE_HEADER, signature),
                (TIMESTAMP_HEADER, time_ms.to_string()),
                (KEY_ID_HEADER, "1".to_owned()),
            ],
            message,
        }
    }

    /// A deposit of 1 to the account of this number, of so many.
    pub fn deposit(&self, prefix: &str, number: u64, accounts: u64, wait: bool) -> Request {
        let id = format!("{prefix}-7f3c9a52-{number:012}");
        self.change(id, account(number, accounts), wait)
    }

    /// A deposit of 1 to an account, answered with its outcome.
    pub fn deposit_to(&self, account: u64) -> Request {
        self.change(format!("to-{account}"), account, true)
    }

    fn change(&self, transaction_id: String, account: u64, wait: bool) -> Request {
        let request = wire::ChangeBalanceRequest {
            transaction_id,
            account_id: account as i64,
            user_id: format!("u-{account}"),
            currency_code: "USDT".into(),
            r#type: wire::TransactionType::Deposit.into(),
            amount: "1".into(),
            description: "a bench's own".into(),
            wait,
            ..wire::ChangeBalanceRequest::default()
        };
        let path = "/balance.BalanceService/ChangeBalance";
        self.signed(path, request.encode_to_vec())
    }

    /// The account of this number.
    pub fn open(&self, number: u64) -> Request {
        let request = wire::OpenAccountRequest {
            user_id: format!("u-{number}"),
            account_id: number as i64,
        };
        let path = "/balance.BalanceService/OpenAccount";
        self.signed(path, request.encode_to_vec())
    }
}

/// The account of the request with this number: uniform, by a multiplicative hash.
pub fn account(number: u64, accounts: u64) -> u64 {
    1 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % accounts
}

/// Whether a change was accepted.
pub fn is_accepted(message: &[u8]) -> bool {
    wire::ChangeBalanceResponse::decode(message)
        .is_ok_and(|answer| answer.success && !answer.event_id.is_empty())
}

/// Whether a change was accepted and has succeeded.
pub fn has_succeeded(message: &[u8]) -> bool {
    wire::ChangeBalanceResponse::decode(message).is_ok_and(|answer| {
        answer.success
            && answer.outcome() == wire::Outcome::Success
            && answer.balances.len() == 1
            && !answer.duplicate
    })
}

/// Whether an account is open.
pub fn is_open(message: &[u8]) -> bool {
    wire::OpenAccountResponse::decode(message).is_ok_and(|answer| answer.account_id > 0)
}

/// A read of an account's balance.
pub fn read(account: u64) -> Request {
    let request = wire::GetBalanceRequest {
        account_id: account as i64,
        currency_code: "USDT".into(),
        ..wire::GetBalanceRequest::default()
    };
    Request {
        path: "/balance.BalanceService/GetBalance",
        metadata: Vec::new(),
        message: request.encode_to_vec(),
    }
}

/// A balance that was read, and where; `None` if there is none.
pub fn balance(message: &[u8]) -> Option<(u64, String)> {
    let answer = wire::GetBalanceResponse::decode(message).ok()?;
    let available = answer.balance?.available.parse().ok()?;
    Some((available, answer.source))
}
