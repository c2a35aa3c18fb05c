//! One balance, one cache line.

use super::AccountHandle;
use crate::amount::Amount;
use crate::currency::Currency;
use crate::ledger::BalanceState;

/// What a user has of one currency. 64 bytes, so that a command touches one cache line of it.
#[repr(C, align(64))]
#[derive(Clone, Debug)]
pub struct Balance {
    available: Amount,
    frozen: Amount,
    version: u64,
    account: AccountHandle,
    dirty_index: u32,
    dirty_epoch: u32,
    currency: Currency,
}

const _: () = assert!(size_of::<Balance>() == 64);

impl Balance {
    /// A balance of nothing, version 0: no command has changed it yet.
    pub(super) const fn new(account: AccountHandle, currency: Currency) -> Self {
        Self {
            available: Amount::ZERO,
            frozen: Amount::ZERO,
            version: 0,
            account,
            dirty_index: 0,
            dirty_epoch: 0,
            currency,
        }
    }

    /// What can be spent, 0 or more.
    #[inline]
    pub const fn available(&self) -> Amount {
        self.available
    }

    /// What is held, 0 or more.
    #[inline]
    pub const fn frozen(&self) -> Amount {
        self.frozen
    }

    /// How many commands have changed the balance.
    #[inline]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Both amounts and the version.
    #[inline]
    pub const fn state(&self) -> BalanceState {
        BalanceState {
            available: self.available(),
            frozen: self.frozen(),
            version: self.version(),
        }
    }

    /// Whose it is.
    #[inline]
    pub const fn account(&self) -> AccountHandle {
        self.account
    }

    /// Its currency.
    #[inline]
    pub const fn currency(&self) -> Currency {
        self.currency
    }

    /// Where the balance is in the dirty set of an epoch, if it was marked in that one last.
    /// Epochs are numbered by the caller, from 1.
    #[inline]
    pub const fn dirty_mark(&self, epoch: u32) -> Option<u32> {
        if self.dirty_epoch == epoch {
            Some(self.dirty_index)
        } else {
            None
        }
    }

    /// Marks the balance as dirty in an epoch.
    #[inline]
    pub const fn set_dirty_mark(&mut self, epoch: u32, index: u32) {
        self.dirty_epoch = epoch;
        self.dirty_index = index;
    }

    /// Writes what a command made of the balance, and counts the version up by one.
    ///
    /// # Panics
    ///
    /// When an amount is negative, or after 2⁶⁴ − 1 versions.
    #[inline]
    pub const fn apply(&mut self, available: Amount, frozen: Amount) {
        self.restore(available, frozen, self.version + 1);
    }

    /// Writes what a store had of the balance.
    ///
    /// # Panics
    ///
    /// When an amount is negative.
    #[inline]
    pub const fn restore(&mut self, available: Amount, frozen: Amount, version: u64) {
        assert!(
            !available.is_negative(),
            "an available amount is never negative"
        );
        assert!(!frozen.is_negative(), "a frozen amount is never negative");
        self.available = available;
        self.frozen = frozen;
        self.version = version;
    }
}
