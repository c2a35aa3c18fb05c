//! Claims: which account is whose, decided once and for ever by whoever comes first.

use kilter_engine::partitioner::Partitioner;

use super::{
    database::Database,
    sights::{Sight, saw},
};

impl Database {
    /// Claims a pair by the unique keys of `accounts`; whether it is bound now, by this call or an
    /// earlier one. A claim that fails claims nothing.
    pub fn claim(&mut self, account: u64, user: &str) -> bool {
        if let Some(owner) = self.claims.get(&account) {
            if owner == user {
                return true;
            }
            let partition = |user: &str| {
                Partitioner::Murmur2.partition(user.as_bytes(), self.leases.len() as u32)
            };
            if partition(owner) != partition(user) {
                saw(Sight::ClaimRefusedAcross);
            }
            saw(Sight::ClaimRefused);
            return false;
        }
        if self.claims.values().any(|bound| bound == user) {
            saw(Sight::ClaimRefused);
            return false;
        }
        saw(Sight::ClaimMade);
        self.claims.insert(account, user.to_owned());
        true
    }
}
