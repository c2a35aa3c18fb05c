//! Who brings rows to the log: a front door's own sender, and relays, one for each range of users
//! by lease.
//!
//! Each does one small thing at a time, and between any two of them it may stand still or die.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kilter_engine::{hash::key_hash, partitioner::Partitioner};

use super::{
    Scene,
    sights::{Sight, saw},
    table::{Row, Status},
    wire::{Ack, Message},
};

/// A range of users is one relay's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    owner: u64,
    expires_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sender,
    Relay,
}

/// How the next row of a user is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    First,
    Goes,
    Stays,
}

/// A row whose fate is being looked up: the clock was read, the ledger comes next.
struct Judging {
    index: usize,
    row: Row,
    clock_ms: i64,
}

pub struct Courier {
    kind: Kind,
    name: u64,
    producer: u64,
    /// By how much its clock is wrong.
    skew_ms: i64,
    stands: u64,
    /// What it read, as it was then.
    page: VecDeque<(usize, Row)>,
    paces: BTreeMap<String, Pace>,
    judging: Option<Judging>,
    in_flight: BTreeSet<usize>,
    acks: VecDeque<Ack>,
    handover: VecDeque<usize>,
    /// Those of them that something older stood before at the last look.
    waiting: BTreeSet<usize>,
}

/// How many ranges there are.
pub const RANGES: usize = 2;

fn range_of(user: &str) -> usize {
    (key_hash(user.as_bytes()) >> 63) as usize
}

impl Courier {
    pub fn start(kind: Kind, scene: &mut Scene) -> Self {
        let producer = scene.wire.connect();
        let skew = (scene.window_ms / 16) as u64;
        Self {
            kind,
            name: producer,
            producer,
            skew_ms: scene.rng.below(2 * skew + 1) as i64 - skew as i64,
            stands: 0,
            page: VecDeque::new(),
            paces: BTreeMap::new(),
            judging: None,
            in_flight: BTreeSet::new(),
            acks: VecDeque::new(),
            handover: VecDeque::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// Rows that were accepted just now.
    pub fn hand_over(&mut self, rows: impl Iterator<Item = usize>) {
        self.handover.extend(rows);
    }

    /// It is dead; what it sent may arrive any time.
    pub fn die(self, scene: &mut Scene) {
        let met = [
            (!self.handover.is_empty(), Sight::CrashedAccepted),
            (!self.waiting.is_empty(), Sight::CrashedWaiting),
            (!self.page.is_empty(), Sight::CrashedRead),
            (self.judging.is_some(), Sight::CrashedJudging),
            (!self.in_flight.is_empty(), Sight::CrashedProduced),
            (!self.acks.is_empty(), Sight::CrashedAcknowledged),
        ];
        met.into_iter()
            .filter(|(is, _)| *is)
            .for_each(|(_, sight)| saw(sight));
        scene.wire.disconnect(self.producer, scene.now_ms);
    }

    pub fn step(&mut self, scene: &mut Scene) {
        if self.stands > 0 && !scene.is_calm {
            self.stands -= 1;
            return;
        }
        if scene.rng.one_in(100) {
            self.stands = scene.rng.below(200);
        }
        if scene.wire.has_failed(self.producer) {
            self.begin_anew(scene);
            return;
        }
        if let Some(judging) = self.judging.take() {
            self.decide(judging, scene);
            return;
        }
        match scene.rng.below(4) {
            0 => self.acks.extend(scene.wire.hear(self.producer)),
            1 => self.mark(scene),
            _ => match self.page.pop_front() {
                Some((index, row)) => self.meet(index, row, scene),
                None if self.kind == Kind::Relay => self.read(scene),
                None => self.take_over(scene),
            },
        }
    }

    /// Everything in flight is sent again, by a producer that has sent nothing yet.
    fn begin_anew(&mut self, scene: &mut Scene) {
        scene.wire.disconnect(self.producer, scene.now_ms);
        self.producer = scene.wire.connect();
        self.in_flight.clear();
        self.acks.clear();
        self.page.clear();
        self.judging = None;
    }

    fn now_ms(&self, scene: &Scene) -> i64 {
        scene.now_ms + self.skew_ms
    }

    fn mark(&mut self, scene: &mut Scene) {
        let now_ms = self.now_ms(scene);
        let quarter_ms = scene.window_ms / 4;
        for ack in self.acks.drain(..) {
            let is_near = |ms: i64| (ms - ack.issued_at_ms).abs() <= quarter_ms;
            let is_late = !is_near(now_ms) || !is_near(ack.timestamp_ms);
            scene.table.mark(ack.row, ack.issues, is_late);
            self.in_flight.remove(&ack.row);
        }
    }

    /// The open rows of the ranges that it has, by user and age.
    fn read(&mut self, scene: &mut Scene) {
        let (now_ms, ttl_ms) = (scene.now_ms, scene.window_ms / 100);
        let mut has = [false; RANGES];
        for (lease, has) in scene.leases.iter_mut().zip(&mut has) {
            if lease.owner == self.name || lease.expires_ms < now_ms {
                *lease = Lease {
                    owner: self.name,
                    expires_ms: now_ms + ttl_ms,
                };
                *has = true;
            }
        }
        let rows = scene.table.rows.iter().enumerate();
        let mut page: Vec<(usize, Row)> = rows
            .filter(|(_, row)| row.status != Status::Sent && has[range_of(&row.user)])
            .map(|(index, row)| (index, row.clone()))
            .collect();
        page.sort_by(|(old, a), (new, b)| (&a.user, old).cmp(&(&b.user, new)));
        self.page = page.into();
        self.paces.clear();
    }

    /// The sender's rows, except what older rows of the same user that are not its own stand before:
    /// those wait, and are looked for again, or are left to the relay.
    fn take_over(&mut self, scene: &mut Scene) {
        let mut own = self.in_flight.clone();
        for index in std::mem::take(&mut self.handover) {
            let rows = &scene.table.rows;
            let row = &rows[index];
            let waited = self.waiting.remove(&index);
            if row.status != Status::Pending || row.issues > 0 {
                // A relay has seen to it.
                continue;
            }
            let blocked = rows[..index].iter().enumerate().any(|(old, it)| {
                it.user == row.user && it.status == Status::Pending && !own.contains(&old)
            });
            if !blocked {
                if waited {
                    saw(Sight::SentAfterWaiting);
                }
                own.insert(index);
                self.page.push_back((index, row.clone()));
            } else if !scene.rng.one_in(100) {
                self.handover.push_back(index);
                self.waiting.insert(index);
            }
        }
    }

    fn meet(&mut self, index: usize, row: Row, scene: &mut Scene) {
        if self.kind == Kind::Sender {
            self.produce(index, &row, scene);
            return;
        }
        if row.status == Status::SentLate {
            self.judge(index, row, scene);
            return;
        }
        let delay_ms = scene.window_ms / 500;
        let is_older = |ms| row.created_ms + ms < scene.now_ms;
        let pace = self.paces.get(&row.user).copied().unwrap_or(Pace::First);
        let next = match pace {
            _ if self.in_flight.contains(&index) => Pace::Goes,
            Pace::Stays => Pace::Stays,
            Pace::First if !is_older(delay_ms) => Pace::Stays,
            // Its door waits for the one before it, too.
            Pace::Goes if !row.is_leg() && !is_older(2 * delay_ms) => Pace::Stays,
            _ => {
                let is_stale = self.now_ms(scene) - row.issued_at_ms > scene.window_ms / 2;
                let user = row.user.clone();
                if is_stale {
                    self.judge(index, row, scene);
                } else {
                    self.produce(index, &row, scene);
                }
                self.paces.insert(user, Pace::Goes);
                return;
            }
        };
        self.paces.insert(row.user, next);
    }

    /// Reads the committed clock; the ledger is read after it.
    fn judge(&mut self, index: usize, row: Row, scene: &Scene) {
        let disk = scene.disk.borrow();
        let key = row.user.as_bytes();
        let partition = Partitioner::Murmur2.partition(key, scene.partitions);
        let hash = key_hash(key);
        let mut rows = disk.rows.iter();
        let held = rows.find(|it| it.partition.get() == partition && it.range.contains(hash));
        let clock_ms = held.expect("every hash has a row").clock_ms;
        self.judging = Some(Judging {
            index,
            row,
            clock_ms,
        });
    }

    fn decide(&mut self, judging: Judging, scene: &mut Scene) {
        let Judging {
            index,
            mut row,
            clock_ms,
        } = judging;
        let has_landed = scene.table.has_landed(index, &scene.disk.borrow());
        if has_landed {
            scene.table.land(index);
            return;
        }
        let now_ms = self.now_ms(scene);
        let has_expired = clock_ms > row.issued_at_ms + scene.window_ms / 2;
        if has_expired && scene.table.issue_anew(index, row.issues, now_ms) {
            row.issues += 1;
            row.issued_at_ms = now_ms;
        }
        if row.status == Status::Pending {
            self.produce(index, &row, scene);
        }
    }

    fn produce(&mut self, index: usize, row: &Row, scene: &mut Scene) {
        if self.kind == Kind::Relay && scene.leases[range_of(&row.user)].owner != self.name {
            saw(Sight::SentWithoutLease);
        }
        let message = Message {
            row: Some((index, row.issues)),
            user: row.user.clone(),
            value: row.value.clone(),
            issued_at_ms: Some(row.issued_at_ms),
            mark: row.mark(),
            meaning: row.meaning.clone(),
        };
        scene.wire.send(self.producer, message);
        self.in_flight.insert(index);
    }
}
