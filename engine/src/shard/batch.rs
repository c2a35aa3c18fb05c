//! TRANSFER and postings: several changes of one user's balances, all or nothing.

use arrayvec::ArrayVec;

use super::{
    Entries, Item, Movement, Results, Shard, ShardError, item::Prepared, result::address_change,
    transaction_id,
};
use crate::{
    Change, Code, Command, Currency, POSTINGS_MAX, Posting,
    book::AccountHandle,
    command::MoveKind,
    epoch::EpochPart,
    ledger::{BalanceState, LedgerEntry, Position},
    leg::{Leg, LegKind, LegName},
    result::{Around, FailedPosting, Status},
    transition::transition,
};

/// What the postings come to.
struct Outcome {
    /// The balance around each; all as they were, if one failed.
    around: ArrayVec<Around, POSTINGS_MAX>,
    /// Which posting failed, and why.
    failure: Option<(usize, Code)>,
}

impl Shard {
    /// Answers a command of one or several postings.
    pub(super) fn answer_changes(
        &mut self,
        item: &Item<'_>,
        command: &Command<'_>,
        ready: &Prepared,
        account: AccountHandle,
        part: &mut EpochPart,
        results: &mut impl Results,
    ) -> Result<(), ShardError> {
        let changes = command.changes();
        let state = &mut self.partitions[ready.partition];
        let is_duplicate = state.window.contains(&ready.id);
        let remembered_ms = item.remembered_ms();
        if !is_duplicate {
            state.remember(&ready.id, remembered_ms)?;
        }
        let outcome = if is_duplicate {
            self.unchanged(item, changes, account, None)
        } else {
            self.outcome(item, changes, account)
        };
        let status = match outcome.failure {
            _ if is_duplicate => Status::Duplicate,
            Some((_, code)) => Status::Failed(code),
            None => Status::Success,
        };
        for (index, (change, around)) in changes.iter().zip(&outcome.around).enumerate() {
            let position = position_of(item, index);
            if !is_duplicate && self.settings.entries == Entries::WithEpoch {
                part.ledger.push(LedgerEntry {
                    position,
                    account_id: command.account_id,
                    currency: change.currency,
                    kind: change.kind.into(),
                    failure: outcome.failure.map(|(_, code)| code),
                    amount: change.amount,
                    transaction_id: transaction_id(&command.transaction_id),
                    before: around.before,
                    after: around.after,
                    time_ms: item.clock_ms,
                    remembered_ms,
                });
            }
            if status == Status::Success {
                let movement = Movement {
                    kind: change.kind,
                    currency: change.currency,
                    amount: change.amount,
                    account,
                    found: self.book.find_of(account, item.key_hash, change.currency),
                };
                part.new_balances += u64::from(around.before.version == 0);
                let (id, after) = (command.account_id, around.after);
                self.store(item, position, id, movement, after, part);
                part.legs.extend(credit(item, command, change, position));
            }
            let result = results.next();
            self.fill(result, item, status);
            address_change(result, command, change);
            result.position = position;
            result.around = Some(*around);
            if !is_duplicate {
                result.remembered_ms = remembered_ms;
            }
            if let (Some((failed, _)), true) = (outcome.failure, command.is_batch()) {
                let Change {
                    kind,
                    currency,
                    amount,
                    ..
                } = changes[failed];
                result.failed_posting = Some(FailedPosting {
                    posting: Posting::new(failed as u16),
                    kind,
                    amount,
                    currency,
                });
            }
        }
        Ok(())
    }

    /// What the postings come to, one after the other, without changing anything yet.
    fn outcome(&self, item: &Item<'_>, changes: &[Change<'_>], account: AccountHandle) -> Outcome {
        let mut purses: ArrayVec<(Currency, BalanceState), POSTINGS_MAX> = ArrayVec::new();
        let mut around = ArrayVec::new();
        for (index, change) in changes.iter().enumerate() {
            let known = purses
                .iter()
                .position(|(currency, _)| *currency == change.currency);
            let purse = known.unwrap_or_else(|| {
                let state = self.state_of(item, account, change.currency);
                purses.push((change.currency, state));
                purses.len() - 1
            });
            let before = purses[purse].1;
            match transition(change.kind, before, change.amount) {
                Ok(after) => {
                    purses[purse].1 = after;
                    around.push(Around { before, after });
                }
                Err(code) => return self.unchanged(item, changes, account, Some((index, code))),
            }
        }
        Outcome {
            around,
            failure: None,
        }
    }

    fn unchanged(
        &self,
        item: &Item<'_>,
        changes: &[Change<'_>],
        account: AccountHandle,
        failure: Option<(usize, Code)>,
    ) -> Outcome {
        let around = changes.iter().map(|change| {
            let state = self.state_of(item, account, change.currency);
            Around {
                before: state,
                after: state,
            }
        });
        Outcome {
            around: around.collect(),
            failure,
        }
    }

    /// A balance as it is; zeros if there is none yet.
    pub(super) fn state_of(
        &self,
        item: &Item<'_>,
        account: AccountHandle,
        currency: Currency,
    ) -> BalanceState {
        let slot = self.book.find_of(account, item.key_hash, currency);
        slot.map_or_else(BalanceState::default, |slot| self.book.slot(slot).state())
    }
}

fn position_of(item: &Item<'_>, index: usize) -> Position {
    Position {
        posting: Posting::new(index as u16),
        ..item.position()
    }
}

/// The credit leg of a posting that is a TRANSFER.
fn credit(
    item: &Item<'_>,
    command: &Command<'_>,
    change: &Change<'_>,
    position: Position,
) -> Option<Leg> {
    let to = change.to.as_ref()?;
    assert_eq!(change.kind, MoveKind::Transfer, "a posting with a receiver");
    Some(Leg {
        name: LegName {
            debit: position,
            kind: LegKind::Credit,
        },
        user_id: to.user_id.as_ref().into(),
        account_id: to.account_id,
        currency: change.currency,
        amount: change.amount,
        transaction_id: transaction_id(&command.transaction_id),
        from_user_id: command.user_id.as_ref().into(),
        from_account_id: command.account_id,
        issued_at_ms: item.clock_ms,
    })
}
