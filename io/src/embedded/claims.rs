//! Which account is whose: claimed once, for ever.

use kilter_engine::AccountId;
use rusqlite::{OptionalExtension, Transaction, params};

/// Claims a pair; whether it is bound now, by this call or an earlier one. A claim that fails
/// claims nothing.
pub(super) fn claim(
    transaction: &Transaction<'_>,
    account_id: AccountId,
    user: &[u8],
) -> rusqlite::Result<bool> {
    let bound = transaction
        .prepare_cached("SELECT user_id FROM claims WHERE account_id = ?1")?
        .query_row([account_id.get() as i64], |row| {
            Ok(row.get_ref(0)?.as_blob()? == user)
        })
        .optional()?;
    if let Some(same) = bound {
        return Ok(same);
    }
    // Nobody has the account. The user may have another one: then the unique key refuses.
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO claims (account_id, user_id) VALUES (?1, ?2)
             ON CONFLICT (user_id) DO NOTHING",
        )?
        .execute(params![account_id.get() as i64, user])?;
    Ok(inserted == 1)
}
