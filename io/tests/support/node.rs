//! A node's side of the MySQL store, step by step.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{sync::Arc, time::Duration};

use kilter_engine::{
    AccountId, Amount, CommandKind, Currency, EpochNumber, Generation, HashRange, Offset,
    Partition, Position,
    epoch::{BalanceImage, Cut, Epoch, EpochPart, LastRecord, PartitionCut, RowStep},
    ledger::{BalanceState, LedgerEntry, TransactionId},
    store::{Committed, Store},
};
use kilter_io::mysql::{
    Db, InitLog, Lease, MysqlError, MysqlSettings, MysqlWriter, StartAsked, Started, Taken,
    WriterSettings, owner_name, start,
};
use mysql::prelude::Queryable;

use super::server::Database;

pub const GROUP: &str = "balance-consumer-group";
pub const TOPIC: &str = "balance-changes";
pub const GENERATION: Generation = Generation::new(1);
pub const P0: Partition = Partition::new(0);
pub const LOG: InitLog<'static> = InitLog {
    group: GROUP,
    topic: TOPIC,
    partitions: 1,
};
pub const TTL: Duration = Duration::from_secs(5);

pub struct Node {
    pub db: Db,
    pub lease: Lease,
    pub taken: Taken,
    pub started: Started,
}

pub fn node(settings: &MysqlSettings, ttl: Duration, ranges: &[HashRange]) -> Node {
    let mut db = Db::open(settings).unwrap();
    let lease = Lease::new(owner_name(), ttl);
    let taken = lease.take(&mut db, 1, usize::MAX).unwrap();
    assert_eq!(taken.partitions, [P0]);
    let started = started(&mut db, &lease, &taken, ranges);
    Node {
        db,
        lease,
        taken,
        started,
    }
}

pub fn started(db: &mut Db, lease: &Lease, taken: &Taken, ranges: &[HashRange]) -> Started {
    let asked = StartAsked {
        group: GROUP,
        topic: TOPIC,
        generation: GENERATION,
        ranges,
        window_ms: 86_400_000,
    };
    start(db, lease, taken, asked).unwrap()
}

impl Node {
    pub fn settings(&self, mysql: &MysqlSettings) -> WriterSettings {
        WriterSettings {
            mysql: mysql.clone(),
            group: GROUP.into(),
            topic: TOPIC.into(),
            owner: self.lease.owner().into(),
            lease_ttl: self.lease.ttl(),
            index: 0,
            ledger: true,
        }
    }

    pub fn writer(&self, mysql: &MysqlSettings) -> MysqlWriter {
        MysqlWriter::open(self.settings(mysql), Arc::new(())).unwrap()
    }

    /// Commits, and remembers the rows as a writer does.
    pub fn commit(
        &mut self,
        writer: &mut MysqlWriter,
        cut: &Cut,
        part: EpochPart,
    ) -> Result<Committed, MysqlError> {
        let steps: Vec<RowStep> = self.started.rows[0]
            .iter()
            .map(|row| RowStep {
                before: *row,
                after: row.advanced_to(cut, self.taken.term),
            })
            .collect();
        let committed = writer.commit(&Epoch {
            cut,
            term: self.taken.term,
            rows: &steps,
            parts: &[Box::new(part)],
        })?;
        self.started.rows[0] = steps.iter().map(|step| step.after).collect();
        Ok(committed)
    }
}

pub fn cut(epoch: u64, offset: u64) -> Cut {
    Cut {
        epoch: EpochNumber::new(epoch),
        partitions: vec![PartitionCut {
            partition: P0,
            generation: GENERATION,
            offset: Offset::new(offset),
            clock_ms: 1000,
            last: LastRecord {
                key_hash: 77,
                timestamp_ms: 1000,
            },
        }],
        last: false,
    }
}

pub fn state(version: u64) -> BalanceState {
    BalanceState {
        available: Amount::from_units(i128::from(version)).unwrap(),
        frozen: Amount::ZERO,
        version,
    }
}

pub fn entry(account: u64, offset: u64, version: u64, id: &str) -> LedgerEntry {
    LedgerEntry {
        position: Position {
            generation: GENERATION,
            partition: P0,
            offset: Offset::new(offset),
            ..Position::default()
        },
        account_id: AccountId::new(account).unwrap(),
        currency: Currency::parse(b"USDT").unwrap(),
        kind: CommandKind::Deposit,
        failure: None,
        amount: "0.000000000000000001".parse().unwrap(),
        transaction_id: TransactionId::new(id).unwrap(),
        before: state(version - 1),
        after: state(version),
        time_ms: 1000,
        remembered_ms: 1000,
    }
}

pub fn image(account: u64, version: u64) -> BalanceImage {
    BalanceImage {
        account_id: AccountId::new(account).unwrap(),
        currency: Currency::parse(b"USDT").unwrap(),
        available: state(version).available,
        frozen: Amount::ZERO,
        version,
        partition: Partition::new(0),
    }
}

/// One deposit at `offset`, which makes the balance's version `version`.
pub fn deposit(offset: u64, version: u64) -> EpochPart {
    let entry = entry(7, offset, version, &format!("t-\\\t\n'{offset}"));
    EpochPart {
        balances: vec![image(7, version)],
        changed_by: vec![entry.position],
        new_balances: u64::from(version == 1),
        ledger: vec![entry],
        ..EpochPart::default()
    }
}

/// Another one, to another account.
pub fn add_deposit(part: &mut EpochPart, account: u64, offset: u64, version: u64) {
    let entry = entry(account, offset, version, &format!("t-{account}-{offset}"));
    part.balances.push(image(account, version));
    part.changed_by.push(entry.position);
    part.new_balances += u64::from(version == 1);
    part.ledger.push(entry);
}

/// Deposits to many new accounts, a record each.
pub fn deposits(first: u64, count: u64) -> EpochPart {
    let ledger: Vec<LedgerEntry> = (first..first + count)
        .map(|n| entry(1000 + n, n, 1, &format!("t-{n}")))
        .collect();
    EpochPart {
        balances: (first..first + count).map(|n| image(1000 + n, 1)).collect(),
        changed_by: ledger.iter().map(|entry| entry.position).collect(),
        new_balances: count,
        ledger,
        ..EpochPart::default()
    }
}

/// Everything that an epoch can change, as text.
pub fn dump(database: &Database) -> String {
    let mut conn = database.conn();
    let mut text = String::new();
    for sql in [
        "SELECT * FROM account_balances ORDER BY account_id, currency_code",
        "SELECT * FROM balance_transactions ORDER BY generation, `partition`, `offset`, posting",
        "SELECT id, user_id, state FROM accounts ORDER BY id",
        "SELECT `partition`, first_hash, last_hash, `offset`, term, epoch FROM consumer_offsets \
         ORDER BY `partition`, first_hash",
    ] {
        let rows: Vec<mysql::Row> = conn.query(sql).unwrap();
        for row in rows {
            text.push_str(&format!("{:?}\n", row.unwrap()));
        }
    }
    text
}

pub fn count(database: &Database, table: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM {table}");
    database.conn().query_first(sql).unwrap().unwrap()
}
