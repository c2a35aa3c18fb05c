//! What a command does to a balance: the rules of money, and nothing else.

use crate::{Amount, Code, MoveKind, ledger::BalanceState};

/// The balance after a command that moves `amount` (above zero), or why it FAILED.
///
/// | kind | available | frozen |
/// | --- | --- | --- |
/// | DEPOSIT | + | |
/// | WITHDRAW | − | |
/// | FREEZE | − | + |
/// | UNFREEZE | + | − |
/// | SETTLE | | − |
/// | TRANSFER | − | |
/// | CREDIT, REFUND | + | |
///
/// Want of funds is told before overflow. A failure changes nothing, not even the version.
///
/// # Errors
///
/// [`Code::InsufficientAvailable`], [`Code::InsufficientFrozen`], [`Code::BalanceOverflow`].
///
/// # Panics
///
/// If a balance was negative before, or the amount is not above zero.
pub fn transition(
    kind: MoveKind,
    before: BalanceState,
    amount: Amount,
) -> Result<BalanceState, Code> {
    assert!(
        !before.available.is_negative() && !before.frozen.is_negative(),
        "a negative balance: {before:?}"
    );
    assert!(amount > Amount::ZERO, "an amount of {amount}");
    let spend = |from: Amount, code: Code| match from.checked_sub(amount) {
        Some(rest) if !rest.is_negative() => Ok(rest),
        _ => Err(code),
    };
    let receive = |to: Amount| to.checked_add(amount).ok_or(Code::BalanceOverflow);
    let (available, frozen) = match kind {
        MoveKind::Deposit | MoveKind::Credit | MoveKind::Refund => {
            (receive(before.available)?, before.frozen)
        }
        MoveKind::Withdraw | MoveKind::Transfer => (
            spend(before.available, Code::InsufficientAvailable)?,
            before.frozen,
        ),
        MoveKind::Freeze => (
            spend(before.available, Code::InsufficientAvailable)?,
            receive(before.frozen)?,
        ),
        MoveKind::Unfreeze => {
            let frozen = spend(before.frozen, Code::InsufficientFrozen)?;
            (receive(before.available)?, frozen)
        }
        MoveKind::Settle => (
            before.available,
            spend(before.frozen, Code::InsufficientFrozen)?,
        ),
    };
    Ok(BalanceState {
        available,
        frozen,
        version: before.version + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(available: &str, frozen: &str, version: u64) -> BalanceState {
        BalanceState {
            available: available.parse().unwrap(),
            frozen: frozen.parse().unwrap(),
            version,
        }
    }

    #[test]
    fn every_kind_and_every_failure() {
        use MoveKind::{Credit, Deposit, Freeze, Refund, Settle, Transfer, Unfreeze, Withdraw};
        let max = "999999999999999999.999999999999999999";
        let smallest = "0.000000000000000001";
        for (kind, available, frozen, amount, after) in [
            (Deposit, "1", "2", "3", Ok(("4", "2"))),
            (Withdraw, "3", "2", "3", Ok(("0", "2"))),
            (Transfer, "3", "2", "3", Ok(("0", "2"))),
            (Credit, "1", "2", "3", Ok(("4", "2"))),
            (Refund, "1", "2", "3", Ok(("4", "2"))),
            (Transfer, "3", "9", "4", Err(Code::InsufficientAvailable)),
            (Credit, max, "0", smallest, Err(Code::BalanceOverflow)),
            (Refund, max, "0", smallest, Err(Code::BalanceOverflow)),
            (Freeze, "3", "2", "1", Ok(("2", "3"))),
            (Unfreeze, "3", "2", "2", Ok(("5", "0"))),
            (Settle, "3", "2", "2", Ok(("3", "0"))),
            (Deposit, max, "0", smallest, Err(Code::BalanceOverflow)),
            (Freeze, max, max, smallest, Err(Code::BalanceOverflow)),
            (Unfreeze, max, max, smallest, Err(Code::BalanceOverflow)),
            (Withdraw, "3", "9", "4", Err(Code::InsufficientAvailable)),
            (Freeze, "3", max, "4", Err(Code::InsufficientAvailable)),
            (Unfreeze, max, "3", "4", Err(Code::InsufficientFrozen)),
            (Settle, "9", "3", "4", Err(Code::InsufficientFrozen)),
            (Withdraw, max, "0", max, Ok(("0", "0"))),
        ] {
            let before = state(available, frozen, 7);
            let want = after.map(|(available, frozen)| state(available, frozen, 8));
            assert_eq!(
                transition(kind, before, amount.parse().unwrap()),
                want,
                "{kind:?} {amount} of {available} and {frozen}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "negative balance")]
    fn a_negative_balance_stops() {
        let _ = transition(MoveKind::Deposit, state("-1", "0", 0), Amount::MAX);
    }
}
