//! Reads the store beside a running node: what people, comparisons and the audit look at.

mod legs;

pub(crate) use legs::OutboxLeg;

use std::time::Duration;

use kilter_engine::{AccountId, Amount, Generation, Offset, Partition, notes::Note};
use mysql::{
    Row,
    prelude::{FromValue, Queryable},
};

use super::{
    connection::Db,
    error::{MysqlError, failed},
    notes::notes,
    rows::{self, OwnedOffsetRow},
    schema,
    settings::MysqlSettings,
    start::{self, KnownLog, StoreSettings},
};
use crate::rows::{AccountRow, BalanceRow, LedgerRow};

/// The longest wait for the next row: a large table may have to be sorted before the first one.
const ROW_TIMEOUT: Duration = Duration::from_secs(3600);

/// The longest that the server waits for whoever reads, such as a pager, in s.
const READER_PATIENCE_S: u32 = 86_400;

/// A time in ms since 1970.
macro_rules! ms {
    ($column:literal) => {
        concat!(
            "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ",
            $column,
            ") DIV 1000"
        )
    };
}
pub(super) use ms;

/// The columns of a ledger entry, in the order that [`entry`] reads them.
pub(super) const ENTRY: &str = concat!(
    "t.generation, t.`partition`, t.`offset`, t.posting, t.account_id, \
     COALESCE(t.leg_user, a.user_id), \
     t.currency_code, t.transaction_id, t.type, t.amount, t.available_before, t.available_after, \
     t.frozen_before, t.frozen_after, t.version, CAST(t.status AS CHAR), t.error_message, ",
    ms!("t.created_at"),
    ", t.remembered_ms, t.leg"
);

/// How long transaction ids of a partition are remembered, from an offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// Which life of the log.
    pub generation: Generation,
    /// The partition.
    pub partition: Partition,
    /// From here on.
    pub from: Offset,
    /// In ms of record time.
    pub window_ms: u64,
}

/// A store, for reading: everything is seen as it was when it was opened. Rows are streamed, so
/// nothing but one row is held, however many there are.
#[derive(Debug)]
pub struct MysqlReader {
    pub(super) db: Db,
}

impl MysqlReader {
    /// Takes a snapshot of the store.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or its tables are not those of this program.
    pub fn open(settings: &MysqlSettings) -> Result<Self, MysqlError> {
        let mut db = Db::open(&MysqlSettings {
            statement_timeout: settings.statement_timeout.max(ROW_TIMEOUT),
            ..settings.clone()
        })?;
        schema::is_ready(&mut db)?;
        const WHAT: &str = "begin to read";
        db.run(
            WHAT,
            &format!("SET SESSION net_write_timeout = {READER_PATIENCE_S}"),
        )?;
        // READ COMMITTED would ignore the snapshot.
        db.run(
            WHAT,
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        )?;
        db.run(
            WHAT,
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        )?;
        Ok(Self { db })
    }

    /// Refuses a store that belongs to other settings than these.
    ///
    /// # Errors
    ///
    /// [`MysqlError::Differs`], or when its settings cannot be read.
    pub fn expect(&mut self, asked: &StoreSettings) -> Result<(), MysqlError> {
        start::expect_settings(&mut self.db, asked)
    }

    /// Operators' notes about a log generation.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn notes(&mut self, generation: Generation) -> Result<Vec<Note>, MysqlError> {
        notes(&mut self.db, generation)
    }

    /// Every life of the log, the newest first.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn logs(&mut self) -> Result<Vec<KnownLog>, MysqlError> {
        start::known_logs(&mut self.db)
    }

    /// Balances by account and currency.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or `each` fails.
    pub fn balances<E: From<MysqlError>>(
        &mut self,
        each: impl FnMut(BalanceRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.every(
            "read balances",
            "SELECT account_id, currency_code, available, frozen, version \
             FROM account_balances ORDER BY account_id, currency_code",
            balance,
            each,
        )
    }

    /// The balances of the accounts `first ..= last`, by account and currency.
    ///
    /// # Errors
    ///
    /// As for all of them.
    pub(crate) fn balances_of<E: From<MysqlError>>(
        &mut self,
        (first, last): (i64, i64),
        each: impl FnMut(BalanceRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.every(
            "read balances",
            &format!(
                "SELECT account_id, currency_code, available, frozen, version \
                 FROM account_balances WHERE account_id BETWEEN {first} AND {last} \
                 ORDER BY account_id, currency_code"
            ),
            balance,
            each,
        )
    }

    /// One balance.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn balance(
        &mut self,
        account_id: AccountId,
        currency: &str,
    ) -> Result<Option<BalanceRow>, MysqlError> {
        let row: Option<Row> = self
            .db
            .conn
            .exec_first(
                "SELECT account_id, currency_code, available, frozen, version \
                 FROM account_balances WHERE account_id = ? AND currency_code = ?",
                (account_id.get(), currency.as_bytes()),
            )
            .map_err(failed("read a balance"))?;
        row.map(|row| balance(Cells::of(row, "a balance")))
            .transpose()
    }

    /// Accounts by id.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or `each` fails.
    pub fn accounts<E: From<MysqlError>>(
        &mut self,
        each: impl FnMut(AccountRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = concat!(
            "SELECT id, user_id, shard_id, CAST(state AS CHAR), ",
            ms!("created_at"),
            " FROM accounts ORDER BY id"
        );
        self.every("read accounts", sql, account, each)
    }

    /// The first accounts behind an id, at most `most`.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) fn accounts_behind(
        &mut self,
        id: i64,
        most: usize,
    ) -> Result<Vec<AccountRow>, MysqlError> {
        let mut found = Vec::new();
        let sql = format!(
            concat!(
                "SELECT id, user_id, shard_id, CAST(state AS CHAR), ",
                ms!("created_at"),
                " FROM accounts WHERE id > {} ORDER BY id LIMIT {}"
            ),
            id, most
        );
        self.every("read accounts", &sql, account, |row| {
            found.push(row);
            Ok::<_, MysqlError>(())
        })?;
        Ok(found)
    }

    /// Ledger entries by generation, partition, offset and posting, of one account or of all.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or `each` fails.
    pub fn ledger<E: From<MysqlError>>(
        &mut self,
        account_id: Option<AccountId>,
        each: impl FnMut(LedgerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        // Both indexes have the rows in this order: nothing is sorted.
        let chosen = match account_id {
            Some(id) => format!("FORCE INDEX (account) {JOIN} WHERE t.account_id = {id}"),
            None => format!("FORCE INDEX (PRIMARY) {JOIN}"),
        };
        self.every(
            "read the ledger",
            &format!(
                "SELECT {ENTRY} FROM balance_transactions AS t {chosen} \
                 ORDER BY t.generation, t.`partition`, t.`offset`, t.posting"
            ),
            entry,
            each,
        )
    }

    /// The ledger entries of the accounts `first ..= last`, by account and then as in
    /// [`ledger`](Self::ledger).
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn ledger_of<E: From<MysqlError>>(
        &mut self,
        (first, last): (i64, i64),
        each: impl FnMut(LedgerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.every(
            "read the ledger",
            &format!(
                "SELECT {ENTRY} FROM balance_transactions AS t FORCE INDEX (account) {JOIN} \
                 WHERE t.account_id BETWEEN {first} AND {last} \
                 ORDER BY t.account_id, t.generation, t.`partition`, t.`offset`, t.posting"
            ),
            entry,
            each,
        )
    }

    /// The ledger entries of one partition in one life of the log, from one offset to another, by
    /// offset and posting.
    ///
    /// # Errors
    ///
    /// As for [`ledger`](Self::ledger).
    pub(crate) fn ledger_at<E: From<MysqlError>>(
        &mut self,
        (generation, partition): (Generation, Partition),
        (first, last): (u64, u64),
        each: impl FnMut(LedgerRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.every(
            "read the ledger",
            &format!(
                "SELECT {ENTRY} FROM balance_transactions AS t FORCE INDEX (PRIMARY) {JOIN} \
                 WHERE t.generation = {generation} AND t.`partition` = {partition} \
                 AND t.`offset` BETWEEN {first} AND {last} ORDER BY t.`offset`, t.posting"
            ),
            entry,
            each,
        )
    }

    /// Whether balances were taken over from before the first log: entries of generation 0.
    ///
    /// # Errors
    ///
    /// When that cannot be read.
    pub fn has_openings(&mut self) -> Result<bool, MysqlError> {
        let found: Option<u64> = self
            .db
            .conn
            .query_first(
                "SELECT 1 FROM balance_transactions FORCE INDEX (PRIMARY) \
                 WHERE generation = 0 LIMIT 1",
            )
            .map_err(failed("look for opening entries"))?;
        Ok(found.is_some())
    }

    /// The offset rows of all groups and topics, each with its own.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn offsets(&mut self) -> Result<Vec<OwnedOffsetRow>, MysqlError> {
        rows::all(&mut self.db)
    }

    /// The windows of all partitions, by generation, partition and offset.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn windows(&mut self) -> Result<Vec<WindowRow>, MysqlError> {
        let rows: Vec<(u32, u32, u64, u64)> = self
            .db
            .conn
            .query(
                "SELECT generation, `partition`, from_offset, window_ms FROM kilter_windows \
                 ORDER BY generation, `partition`, from_offset",
            )
            .map_err(failed("read its windows"))?;
        Ok(rows
            .into_iter()
            .map(|(generation, partition, from, window_ms)| WindowRow {
                generation: Generation::new(generation),
                partition: Partition::new(partition),
                from: Offset::new(from),
                window_ms,
            })
            .collect())
    }

    fn every<T, E: From<MysqlError>>(
        &mut self,
        what: &'static str,
        sql: &str,
        read: impl Fn(Cells) -> Result<T, MysqlError>,
        mut each: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = failed(what);
        let rows = self.db.conn.query_iter(sql).map_err(failed)?;
        for row in rows {
            each(read(Cells::of(row.map_err(failed)?, what))?)?;
        }
        Ok(())
    }
}

/// Where an entry's user is.
pub(super) const JOIN: &str = "LEFT JOIN accounts AS a ON a.id = t.account_id";

/// The cells of a row, from left to right.
pub(super) struct Cells {
    row: Row,
    next: usize,
    what: &'static str,
}

impl Cells {
    pub(super) fn of(row: Row, what: &'static str) -> Self {
        Self { row, next: 0, what }
    }

    pub(super) fn next<T: FromValue>(&mut self) -> Result<T, MysqlError> {
        let index = self.next;
        self.next += 1;
        match self.row.take_opt(index) {
            Some(Ok(value)) => Ok(value),
            _ => Err(self.corrupt(index)),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, MysqlError> {
        let index = self.next;
        let bytes: Option<Vec<u8>> = self.next()?;
        String::from_utf8(bytes.unwrap_or_default()).map_err(|_| self.corrupt(index))
    }

    /// An amount as everybody else has it: without trailing zeros.
    pub(super) fn amount(&mut self) -> Result<String, MysqlError> {
        let index = self.next;
        let text: String = self.next()?;
        let amount: Amount = text.parse().map_err(|_| self.corrupt(index))?;
        Ok(amount.to_string())
    }

    fn corrupt(&self, index: usize) -> MysqlError {
        let column = self.row.columns_ref().get(index);
        MysqlError::Corrupt {
            what: format!(
                "while it was asked to {}: a row whose {} cannot be read",
                self.what,
                column.map_or("cells".into(), |column| column.name_str())
            ),
        }
    }
}

fn balance(mut cells: Cells) -> Result<BalanceRow, MysqlError> {
    Ok(BalanceRow {
        account_id: cells.next::<i64>()? as u64,
        currency_code: cells.text()?,
        available: cells.amount()?,
        frozen: cells.amount()?,
        version: cells.next()?,
    })
}

pub(super) fn account(mut cells: Cells) -> Result<AccountRow, MysqlError> {
    Ok(AccountRow {
        account_id: cells.next::<i64>()? as u64,
        user_id: cells.text()?,
        shard_id: cells.next::<i32>()? as u32,
        state: cells.text()?,
        created_at_ms: cells.next()?,
    })
}

pub(super) fn entry(mut cells: Cells) -> Result<LedgerRow, MysqlError> {
    let mut row = LedgerRow {
        generation: cells.next()?,
        partition: cells.next()?,
        offset: cells.next()?,
        posting: cells.next()?,
        account_id: cells.next::<i64>()? as u64,
        user_id: cells.text()?,
        currency_code: cells.text()?,
        transaction_id: cells.text()?,
        kind: cells.text()?,
        amount: cells.amount()?,
        available_before: cells.amount()?,
        available_after: cells.amount()?,
        frozen_before: cells.amount()?,
        frozen_after: cells.amount()?,
        version: cells.next()?,
        error_code: None,
        created_at_ms: 0,
        remembered_at_ms: None,
        leg: None,
    };
    let status = cells.text()?;
    let code: Option<String> = cells.next()?;
    // Whatever is no SUCCESS shows as what it says, or as its status.
    row.error_code = match (status.as_str(), code) {
        ("SUCCESS", None) => None,
        (_, Some(code)) => Some(code),
        (_, None) => Some(status),
    };
    row.created_at_ms = cells.next()?;
    row.remembered_at_ms = cells.next()?;
    row.leg = cells.next()?;
    Ok(row)
}
