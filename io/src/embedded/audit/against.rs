//! The audit's own truth held against the store's tables.

use kilter_engine::Amount;

use super::{AuditReport, ending::text, state::State};
use crate::{
    embedded::{connection::Db, error::EmbeddedError, reader::StoreReader},
    rows::{AccountRow, BalanceRow},
};

impl State {
    /// Holds the legs that left against the store's.
    pub(super) fn against_legs(
        &mut self,
        db: &Db,
        report: &mut AuditReport,
    ) -> Result<(), EmbeddedError> {
        let failed = db.failed("read the legs of transfers");
        let mut statement = db
            .connection
            .prepare("SELECT name, payload FROM legs ORDER BY id")
            .map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let name: String = row.get(0).map_err(&failed)?;
            let payload: Vec<u8> = row.get(1).map_err(&failed)?;
            match self.legs.remove(&name) {
                None => report.differs(format!("the leg {name}: nothing made it")),
                Some(right) if right != payload => report.differs(format!(
                    "the leg {name} is {}, should be {}",
                    String::from_utf8_lossy(&payload),
                    String::from_utf8_lossy(&right)
                )),
                Some(_) => {}
            }
        }
        for name in self.legs.keys() {
            report.differs(format!("the leg {name} is missing"));
        }
        Ok(())
    }

    /// Holds the accounts against the store's.
    pub(super) fn against_accounts(
        &self,
        reader: &StoreReader,
        report: &mut AuditReport,
    ) -> Result<(), EmbeddedError> {
        let mut found = 0;
        reader.accounts(|row: AccountRow| {
            report.accounts += 1;
            match self.accounts.get(&row.user_id) {
                Some(own) if *own == row.account_id && row.state == "ACTIVE" => found += 1,
                _ => report.differs(format!(
                    "account {} of user {:?} ({}) was never opened",
                    row.account_id, row.user_id, row.state
                )),
            }
            Ok::<(), EmbeddedError>(())
        })?;
        let missing = self.accounts.len() - found;
        if missing > 0 {
            report.differs(format!("{missing} accounts are missing"));
        }
        Ok(())
    }

    /// Holds what was claimed against the log's table: a claim that is gone or another's would let
    /// a later OPEN through that must be refused.
    pub(super) fn against_claims(
        &self,
        db: &Db,
        report: &mut AuditReport,
    ) -> Result<(), EmbeddedError> {
        let failed = db.failed("read the claims");
        let mut statement = db
            .connection
            .prepare("SELECT account_id, user_id FROM log.claims ORDER BY account_id")
            .map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        let mut found = 0;
        while let Some(row) = rows.next().map_err(&failed)? {
            let account_id = row.get::<_, i64>(0).map_err(&failed)? as u64;
            let user: Vec<u8> = row.get(1).map_err(&failed)?;
            let user = String::from_utf8_lossy(&user);
            let opened = self.accounts.get(&*user);
            if opened.or_else(|| self.waiting.get(&*user)) == Some(&account_id) {
                found += 1;
            } else {
                report.differs(format!(
                    "account {account_id} is claimed for user {user:?}, by no OPEN of the log"
                ));
            }
        }
        let all = self
            .waiting
            .keys()
            .filter(|user| !self.accounts.contains_key(*user));
        let missing = self.accounts.len() + all.count() - found;
        if missing > 0 {
            report.differs(format!("{missing} claims are missing"));
        }
        Ok(())
    }

    /// Holds the balances against the store's.
    pub(super) fn against_balances(
        &mut self,
        reader: &StoreReader,
        report: &mut AuditReport,
    ) -> Result<(), EmbeddedError> {
        reader.balances(|row: BalanceRow| {
            report.balances += 1;
            let place = (row.account_id, row.currency_code.clone());
            let name = format!("account {} {}", row.account_id, row.currency_code);
            let Some(right) = self.purses.remove(&place) else {
                report.differs(format!("{name}: a balance that nothing made"));
                return Ok::<(), EmbeddedError>(());
            };
            let units = |text: &str| text.parse::<Amount>().map(Amount::units).ok();
            for (what, right, held) in [
                ("available", right.available, &row.available),
                ("frozen", right.frozen, &row.frozen),
            ] {
                if units(held) != Some(right) {
                    report.differs(format!(
                        "{name}: {what} is {held}, the ledger makes it {}",
                        text(right)
                    ));
                }
            }
            if right.version != row.version {
                report.differs(format!(
                    "{name}: version {}, the ledger makes it {}",
                    row.version, right.version
                ));
            }
            if row.available.starts_with('-') || row.frozen.starts_with('-') {
                report.differs(format!("{name}: negative"));
            }
            Ok(())
        })?;
        let mut missing: Vec<_> = self.purses.keys().collect();
        missing.sort();
        for (account_id, currency) in missing {
            report.differs(format!(
                "account {account_id} {currency}: the balance is missing"
            ));
        }
        Ok(())
    }
}
