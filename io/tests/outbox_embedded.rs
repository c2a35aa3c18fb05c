//! The embedded front door: same answers, and keys and records in one transaction.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kilter_engine::{
    AccountId, Offset,
    agent::run,
    log::{Log, Taken},
    wait::{WaitStrategy, waiter},
};
use kilter_io::{
    clock::SystemClock,
    embedded::{CommandLog, DataDir, LegMover, LogReader, NewRecord, StoreReader},
    outbox::{
        Admitted, Asked, Door, DoorError, DoorLimits, Lookup, Named, NewEvent, Status, Wakers,
        embedded_door,
    },
};
use parking_lot::Mutex;

fn id(number: u64) -> AccountId {
    AccountId::new(number).unwrap()
}

fn command(user: &str, account: u64, id: &str, kind: &str, amount: &str, opens: bool) -> NewEvent {
    NewEvent {
        user_id: user.into(),
        asked: Asked::Command {
            transaction_id: id.into(),
            account_id: self::id(account),
            payload: String::from_utf8(support::command(id, user, account, kind, amount)).unwrap(),
            opens,
        },
    }
}

fn open(user: &str, account: Option<u64>) -> NewEvent {
    NewEvent {
        user_id: user.into(),
        asked: Asked::Open {
            account_id: account.map(id),
        },
    }
}

/// A door on a directory, with its thread; the directory stays locked as long.
struct Front {
    door: Door,
    threads: [std::thread::JoinHandle<()>; 2],
    dir: DataDir,
}

impl Front {
    fn new(path: &std::path::Path) -> Self {
        let dir = DataDir::open_exclusive(path).unwrap();
        let log = Arc::new(Mutex::new(CommandLog::open(&dir, 86_400_000).unwrap()));
        let (mut accepts, acceptor) = waiter(WaitStrategy::Park);
        let (mut syncs, syncer) = waiter(WaitStrategy::Park);
        let (_, poller) = waiter(WaitStrategy::Park);
        let limits = DoorLimits::default();
        let wakers = Wakers {
            acceptor,
            syncer,
            poller,
        };
        let (door, mut acceptor, mut syncer) =
            embedded_door(&dir, log, limits, SystemClock::new(), wakers).unwrap();
        let threads = [
            std::thread::spawn(move || run(&mut acceptor, &mut accepts).unwrap()),
            std::thread::spawn(move || run(&mut syncer, &mut syncs).unwrap()),
        ];
        Self { door, threads, dir }
    }

    fn ask(&self, event: NewEvent) -> Result<Admitted, DoorError> {
        let (sender, answer) = mpsc::channel();
        self.door
            .submit(event, move |answer| sender.send(answer).unwrap())
            .unwrap();
        answer.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    fn accept(&self, event: NewEvent) -> String {
        match self.ask(event) {
            Ok(Admitted::Accepted { event_id, .. }) => event_id,
            other => panic!("{other:?}"),
        }
    }

    fn end(self) -> DataDir {
        self.door.close();
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.dir
    }
}

fn records(dir: &DataDir) -> u64 {
    let log = LogReader::open(dir, Offset::new(0)).unwrap();
    log.end().unwrap().get()
}

#[test]
fn what_is_accepted_is_in_the_log_once_and_found_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let front = Front::new(folder.path());
    // A first deposit opens its account; nobody else's.
    assert_eq!(
        front.ask(command("u-1", 7, "t", "DEPOSIT", "5", false)),
        Ok(Admitted::NoAccount)
    );
    let first = front.accept(command("u-1", 7, "t", "DEPOSIT", "5", true));
    assert_eq!(
        front.ask(command("u-2", 7, "t", "DEPOSIT", "5", true)),
        Ok(Admitted::NoAccount)
    );
    assert_eq!(
        front.ask(open("u-1", Some(8))),
        Ok(Admitted::HasAccount { account_id: id(7) })
    );
    assert_eq!(front.ask(open("u-2", Some(7))), Ok(Admitted::AccountTaken));
    let Ok(Admitted::Accepted { account_id, .. }) = front.ask(open("u-2", None)) else {
        panic!("not opened");
    };
    assert_eq!(account_id, id(8));
    let too_much = front.accept(command("u-1", 7, "w", "WITHDRAW", "9", false));
    front.accept(command("u-1", 7, "bad", "DEPOSIT", "-1", false));
    let dir = front.end();
    assert_eq!(records(&dir), 5);
    let mut reader = StoreReader::open(&dir).unwrap();
    let status = |reader: &mut StoreReader, user: &str, id: &str| {
        let state = reader.transaction(user, id).unwrap();
        state.map(|state| (state.event_id, state.outcome.status))
    };
    assert_eq!(
        status(&mut reader, "u-1", "t"),
        Some((first.clone(), Status::Pending))
    );
    // Whose an account is, is told before the store has it: a shard may have applied the deposit.
    assert_eq!(reader.owner(id(7)).unwrap().as_deref(), Some("u-1"));
    assert_eq!(reader.owner(id(9)).unwrap(), None);
    support::apply(&dir, 2, 100);
    assert_eq!(
        status(&mut reader, "u-1", "t"),
        Some((first.clone(), Status::Success))
    );
    assert_eq!(
        status(&mut reader, "u-1", "w"),
        Some((too_much, Status::Failed))
    );
    assert_eq!(
        status(&mut reader, "u-1", "bad").map(|(_, status)| status),
        Some(Status::Refused)
    );
    assert_eq!(status(&mut reader, "u-2", "t"), None);
    drop((reader, dir));
    // Keys outlive the process.
    let front = Front::new(folder.path());
    let Ok(Admitted::Duplicate {
        event_id, outcome, ..
    }) = front.ask(command("u-1", 7, "t", "DEPOSIT", "5", false))
    else {
        panic!("not a duplicate");
    };
    assert_eq!(event_id, Some(first.clone()));
    assert_eq!(outcome.unwrap().entries[0].available_after, "5");
    assert_eq!(
        front.ask(command("u-1", 7, "t", "WITHDRAW", "6", false)),
        Ok(Admitted::Conflict {
            event_id: first,
            differs: vec!["amount".into(), "type".into()]
        })
    );
    let again = front.ask(open("u-2", None));
    assert!(
        matches!(&again, Ok(Admitted::Duplicate { account_id, outcome: Some(outcome), .. })
            if *account_id == id(8) && outcome.status == Status::Success),
        "{again:?}"
    );
    assert_eq!(records(&front.end()), 5);
}

#[test]
fn what_is_not_durable_is_seen_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::open_exclusive(folder.path()).unwrap();
    let mut log = CommandLog::open(&dir, 86_400_000).unwrap();
    let store = StoreReader::open(&dir).unwrap();
    let accept = |log: &mut CommandLog, id: &str| {
        let named = Named::from(command("u-1", 7, id, "DEPOSIT", "5", true));
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let accepted = log.accept(&store, [&named], now_ms.as_millis() as i64);
        let accepted = accepted.unwrap();
        assert!(matches!(accepted.answers[..], [Admitted::Accepted { .. }]));
        accepted.end
    };
    let first = accept(&mut log, "first");
    assert_eq!(first.get(), 2, "it opens the account");
    log.sync().sync(first).unwrap();
    let second = accept(&mut log, "second");

    let mut reader = LogReader::open(&dir, Offset::new(0)).unwrap();
    let mut looker = StoreReader::open(&dir).unwrap();
    let mut read = || reader.poll(100, &mut |_| Taken::Yes).unwrap();
    let mut knows = |id: &str| looker.transaction("u-1", id).unwrap().is_some();
    assert_eq!(read(), 2);
    assert_eq!(read(), 0);
    assert_eq!((knows("first"), knows("second")), (true, false));
    assert_eq!(records(&dir), 2);
    // Whoever appends otherwise waits for the disk, for all that is before.
    let appended = log.append(&[NewRecord::new(b"{}")], 0).unwrap();
    assert_eq!(appended.first, second);
    assert_eq!(read(), 2);
    assert!(knows("second"));
    assert_eq!(records(&dir), 4);
    // An earlier end takes nothing back.
    log.sync().sync(first).unwrap();
    assert_eq!(records(&dir), 4);
}

#[test]
fn legs_are_told_from_when_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let front = Front::new(folder.path());
    front.accept(command("u-1", 1, "d", "DEPOSIT", "5", true));
    let mut transfer = command("u-1", 1, "t", "TRANSFER", "5", false);
    let Asked::Command { payload, .. } = &mut transfer.asked else {
        unreachable!()
    };
    payload.truncate(payload.len() - 1);
    payload.push_str(r#","toUserId":"u-9","toAccountId":9}"#);
    front.accept(transfer);
    let dir = front.end();
    let mut reader = StoreReader::open(&dir).unwrap();
    let mut legs = || -> Vec<(String, Status)> {
        let state = reader.transaction("u-1", "t").unwrap().unwrap();
        let legs = state.legs.into_iter();
        legs.map(|leg| (leg.name, leg.outcome.status)).collect()
    };
    let all = || {
        support::apply(&dir, 2, 100);
        let mut log = CommandLog::open(&dir, 86_400_000).unwrap();
        let moved = LegMover::open(&dir).unwrap().step(&mut log, 2000).unwrap();
        assert_eq!(moved, 1);
    };
    let (credit, refund) = ("1/0/2/0/CREDIT".to_owned(), "1/0/2/0/REFUND".to_owned());
    support::apply(&dir, 2, 100);
    assert_eq!(legs(), [(credit.clone(), Status::Pending)]);
    all();
    assert_eq!(legs(), [(credit.clone(), Status::Pending)]);
    support::apply(&dir, 2, 100);
    let failed = (credit, Status::Failed);
    assert_eq!(legs(), [failed.clone(), (refund.clone(), Status::Pending)]);
    all();
    support::apply(&dir, 2, 100);
    assert_eq!(legs(), [failed, (refund, Status::Success)]);
}

#[test]
fn two_hundred_threads_with_the_same_ids_have_one_record_each() {
    let folder = tempfile::tempdir().unwrap();
    let front = Front::new(folder.path());
    let events: BTreeSet<(u64, String)> = std::thread::scope(|scope| {
        let ask = |thread: u64| {
            let front = &front;
            move || {
                let each = (0..10).map(|n| {
                    let n = (n + thread) % 10;
                    let user = format!("u-{}", n % 3);
                    let event = command(&user, 1 + n % 3, &format!("t-{n}"), "DEPOSIT", "1", true);
                    match front.ask(event) {
                        Ok(Admitted::Accepted { event_id, .. }) => (n, event_id),
                        Ok(Admitted::Duplicate { event_id, .. }) => (n, event_id.unwrap()),
                        other => panic!("{other:?}"),
                    }
                });
                each.collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..200).map(|thread| scope.spawn(ask(thread))).collect();
        let found = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        found.collect()
    });
    assert_eq!(events.len(), 10);
    let dir = front.end();
    assert_eq!(records(&dir), 13, "ten deposits, three accounts");
    support::apply(&dir, 2, 100);
    let reader = StoreReader::open(&dir).unwrap();
    let mut sum = 0;
    reader
        .balances::<kilter_io::embedded::EmbeddedError>(|row| {
            sum += row.available.parse::<u64>().unwrap();
            Ok(())
        })
        .unwrap();
    assert_eq!(sum, 10);
}

#[test]
fn threads_that_race_for_accounts_share_none() {
    let folder = tempfile::tempdir().unwrap();
    let front = Front::new(folder.path());
    let opened: Vec<(String, Admitted)> = std::thread::scope(|scope| {
        let ask = |thread: u64| {
            let front = &front;
            move || {
                let user = format!("racer-{}", thread % 10);
                let asked = thread.is_multiple_of(3).then_some(1 + thread % 4);
                (user.clone(), front.ask(open(&user, asked)).unwrap())
            }
        };
        let threads: Vec<_> = (0..80).map(|thread| scope.spawn(ask(thread))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut bound: BTreeSet<(String, u64)> = BTreeSet::new();
    for (user, answer) in opened {
        match answer {
            Admitted::Accepted { account_id, .. }
            | Admitted::Duplicate { account_id, .. }
            | Admitted::HasAccount { account_id } => {
                bound.insert((user, account_id.get()));
            }
            Admitted::AccountTaken => {}
            other => panic!("{other:?}"),
        }
    }
    let users: BTreeSet<_> = bound.iter().map(|(user, _)| user).collect();
    let accounts: BTreeSet<_> = bound.iter().map(|(_, account)| account).collect();
    assert_eq!((users.len(), accounts.len()), (10, bound.len()));
    assert_eq!(bound.len(), 10);
    let dir = front.end();
    support::apply(&dir, 2, 100);
    let reader = StoreReader::open(&dir).unwrap();
    let mut active = BTreeSet::new();
    reader
        .accounts::<kilter_io::embedded::EmbeddedError>(|row| {
            active.insert((row.user_id, row.account_id));
            Ok(())
        })
        .unwrap();
    assert_eq!(active, bound);
}
