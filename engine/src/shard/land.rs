//! Legs that arrive: a credit always ends, a refund ends only when it lands.

use super::{
    Entries, Item, Movement, Results, Shard, ShardError, item::Prepared, result::address,
    transaction_id,
};
use crate::{
    Code, Command, LegBody,
    book::AccountHandle,
    epoch::{EpochPart, Landed},
    ledger::{BalanceState, LedgerEntry},
    leg::{Leg, LegKind},
    result::{Around, Status},
    transition::transition,
};

impl Shard {
    /// Answers a leg. Its name is looked up before its account: a credit that failed for want of
    /// one stays failed when the account is opened later.
    pub(super) fn land(
        &mut self,
        item: &Item<'_>,
        command: &Command<'_>,
        leg: &LegBody<'_>,
        ready: &Prepared,
        part: &mut EpochPart,
        results: &mut impl Results,
    ) -> Result<(), ShardError> {
        let account = self.account_of_leg(item, command);
        let before = match account {
            Ok(account) => self.state_of(item, account, leg.currency),
            Err(_) => BalanceState::default(),
        };
        let unchanged = Around {
            before,
            after: before,
        };
        if self.partitions[ready.partition].window.contains(&ready.id) {
            let result = results.next();
            self.fill(result, item, Status::Duplicate);
            address(result, command);
            result.around = account.is_ok().then_some(unchanged);
            return Ok(());
        }
        let kind = leg.name.kind;
        let landed = account.and_then(|account| {
            let after = transition(kind.moves(), before, leg.amount)?;
            Ok((account, after))
        });
        let (around, failure) = match landed {
            Ok((_, after)) => (Around { before, after }, None),
            Err(code) if kind == LegKind::Refund => {
                let message = format!("{code}: the refund {} stays in flight", leg.name);
                return self.refuse(item, (code, message.into()), part, results);
            }
            Err(code) => (unchanged, Some(code)),
        };
        let remembered_ms = item.remembered_ms();
        self.partitions[ready.partition].remember(&ready.id, remembered_ms)?;
        if self.settings.entries == Entries::WithEpoch {
            part.landed.push(Landed {
                entry: part.ledger.len() as u32,
                name: leg.name,
                user_id: command.user_id.as_ref().into(),
            });
            part.ledger.push(LedgerEntry {
                position: item.position(),
                account_id: command.account_id,
                currency: leg.currency,
                kind: kind.into(),
                failure,
                amount: leg.amount,
                transaction_id: transaction_id(&command.transaction_id),
                before,
                after: around.after,
                time_ms: item.clock_ms,
                remembered_ms,
            });
        }
        let status = match (landed, failure) {
            (Ok((account, after)), None) => {
                let movement = Movement {
                    kind: kind.moves(),
                    currency: leg.currency,
                    amount: leg.amount,
                    account,
                    found: self.book.find_of(account, item.key_hash, leg.currency),
                };
                part.new_balances += u64::from(before.version == 0);
                let id = command.account_id;
                self.store(item, item.position(), id, movement, after, part);
                Status::Success
            }
            (_, Some(code)) => {
                part.legs.push(refund(item, command, leg));
                Status::Failed(code)
            }
            (Err(code), None) => unreachable!("a credit that failed as {code} has failed"),
        };
        let result = results.next();
        self.fill(result, item, status);
        address(result, command);
        result.around = Some(around);
        result.remembered_ms = remembered_ms;
        Ok(())
    }

    /// The account that a leg is for, or why there is none.
    fn account_of_leg(
        &self,
        item: &Item<'_>,
        command: &Command<'_>,
    ) -> Result<AccountHandle, Code> {
        let user = command.user_id.as_bytes();
        match self.book.account(item.key_hash, user) {
            None => Err(Code::AccountNotFound),
            Some(account) if account.id != command.account_id => Err(Code::AccountMismatch),
            Some(account) => Ok(account.handle),
        }
    }
}

/// What a credit that failed yields.
fn refund(item: &Item<'_>, command: &Command<'_>, leg: &LegBody<'_>) -> Leg {
    assert_eq!(leg.name.kind, LegKind::Credit, "only a credit is refunded");
    Leg {
        name: leg.name.refund(),
        user_id: leg.from.user_id.as_ref().into(),
        account_id: leg.from.account_id,
        currency: leg.currency,
        amount: leg.amount,
        transaction_id: transaction_id(&command.transaction_id),
        from_user_id: command.user_id.as_ref().into(),
        from_account_id: command.account_id,
        issued_at_ms: item.clock_ms,
    }
}
