//! Clients of the front door, who ask again until they are answered, and a producer beside it.

use std::collections::{BTreeMap, VecDeque};

use kilter_engine::{CommandKind, record::Mark};

use super::{
    Scene,
    courier::Courier,
    sights::{Sight, saw},
    table::{Answer, Request},
    wire::Message,
};
use crate::support::{
    rng::Rng,
    traffic::{Change, Meaning, Person},
};

const CURRENCIES: [&str; 2] = ["USDT", "TEN-CHARS."];

/// The currency of this code.
pub fn currency(code: &str) -> &'static str {
    let mut known = CURRENCIES.iter();
    known.find(|it| **it == code).expect("a currency of theirs")
}

pub struct Clients {
    users: u64,
    ids: u64,
    left: u64,
    number: u64,
    waiting: VecDeque<Request>,
    /// The row that an id was first answered with.
    answered: BTreeMap<(String, String), usize>,
    /// The producer that goes to the log without the front door.
    direct: u64,
}

impl Clients {
    pub fn new(users: u64, scene: &mut Scene) -> Self {
        Self {
            users,
            ids: *scene.rng.pick(&[3, 8, 40]),
            left: scene.rng.between(30, 120),
            number: 0,
            waiting: VecDeque::new(),
            answered: BTreeMap::new(),
            direct: scene.wire.connect(),
        }
    }

    pub fn are_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Asks for room for a refund.
    pub fn make_room(&mut self, user: &str, account: u64, currency: &'static str, amount: String) {
        self.number += 1;
        let person = Person {
            transaction_id: format!("room-{}", self.number),
            user: user.to_owned(),
            account,
        };
        let change = Change {
            kind: CommandKind::Withdraw,
            currency,
            amount,
            to: None,
        };
        self.waiting.push_back(written(person, vec![change], false));
    }

    pub fn step(&mut self, scene: &mut Scene, sender: &mut Courier) {
        if !scene.is_calm && self.left > 0 && scene.rng.one_in(5) {
            // Mostly one, now and then many.
            let most = *scene.rng.pick(&[1, 1, 1, 8]);
            for _ in 0..scene.rng.between(1, most).min(self.left) {
                self.left -= 1;
                if scene.rng.one_in(5) {
                    self.produce(scene);
                } else {
                    let request = self.request(scene);
                    self.waiting.push_back(request);
                }
            }
        }
        if !self.waiting.is_empty() && scene.rng.one_in(6) {
            self.group(scene, sender);
        }
        if scene.wire.has_failed(self.direct) {
            scene.wire.disconnect(self.direct, scene.now_ms);
            self.direct = scene.wire.connect();
        }
    }

    /// One transaction of the front door.
    fn group(&mut self, scene: &mut Scene, sender: &mut Courier) {
        let count = scene.rng.between(1, 4).min(self.waiting.len() as u64);
        let group: Vec<Request> = self.waiting.drain(..count as usize).collect();
        if scene.rng.one_in(8) {
            // It did not come to a commit.
            self.waiting.extend(group);
            return;
        }
        let answers = scene.table.accept(&group, scene.now_ms);
        if scene.rng.one_in(8) {
            saw(Sight::AcceptUnanswered);
            self.waiting.extend(group);
            return;
        }
        for (request, answer) in group.into_iter().zip(&answers) {
            let key = (
                request.person.user.clone(),
                request.person.transaction_id.clone(),
            );
            match answer {
                Answer::Accepted(row) => {
                    let old = self.answered.insert(key, *row);
                    assert_eq!(old, None, "accepted twice: {request:?}");
                }
                Answer::Duplicate(row) => {
                    let first = *self.answered.entry(key).or_insert(*row);
                    assert_eq!(first, *row, "another row: {request:?}");
                }
                Answer::Conflict => continue,
            }
            // He did not wait for the answer.
            if !scene.is_calm && scene.rng.one_in(10) {
                self.waiting.push_back(request);
            }
        }
        sender.hand_over(answers.iter().filter_map(|answer| match answer {
            Answer::Accepted(row) => Some(*row),
            _ => None,
        }));
    }

    /// Past the front door: no row, no `issuedAt`, and an id that may be used again.
    fn produce(&mut self, scene: &mut Scene) {
        let Some(user) = self.active(scene) else {
            return;
        };
        let person = Person {
            transaction_id: format!("d-{}", scene.rng.below(2)),
            user: format!("u-{user}"),
            account: user,
        };
        let transfers = scene.rng.one_in(2);
        let change = self.change(&mut scene.rng, user, transfers);
        let Request { value, meaning, .. } = written(person, vec![change], false);
        let message = Message {
            row: None,
            user: format!("u-{user}"),
            value,
            issued_at_ms: None,
            mark: Mark::None,
            meaning,
        };
        scene.wire.send(self.direct, message);
    }

    /// Some user whose account is active.
    fn active(&self, scene: &mut Scene) -> Option<u64> {
        let disk = scene.disk.borrow();
        let accounts: Vec<u64> = disk.accounts.keys().copied().collect();
        let some = scene.rng.below(accounts.len().max(1) as u64);
        accounts.get(some as usize).copied()
    }

    fn request(&mut self, scene: &mut Scene) -> Request {
        self.number += 1;
        let active = self.active(scene);
        let Some(user) = active.filter(|_| !scene.rng.one_in(6)) else {
            return open(scene.rng.between(1, self.users));
        };
        let person = Person {
            transaction_id: match scene.rng.below(3) {
                0 => format!("T-{}", scene.rng.below(self.ids)),
                _ => format!("t-{}", self.number),
            },
            user: format!("u-{user}"),
            account: user,
        };
        let rng = &mut scene.rng;
        let is_batch = rng.one_in(6);
        let count = if is_batch { rng.between(1, 4) } else { 1 };
        let changes = (0..count).map(|_| {
            let transfers = rng.one_in(2);
            self.change(rng, user, transfers)
        });
        written(person, changes.collect(), is_batch)
    }

    fn change(&self, rng: &mut Rng, user: u64, transfers: bool) -> Change {
        // Some are not there yet, or never.
        let mut to = rng.between(1, self.users + 1);
        if to == user {
            to = self.users + 2;
        }
        Change {
            kind: match rng.below(5) {
                _ if transfers => CommandKind::Transfer,
                0 => CommandKind::Withdraw,
                1 => CommandKind::Freeze,
                2 => CommandKind::Settle,
                _ => CommandKind::Deposit,
            },
            currency: if rng.one_in(4) {
                CURRENCIES[1]
            } else {
                CURRENCIES[0]
            },
            amount: match rng.below(7) {
                0 => "999999999999999999.999999999999999999".into(),
                1 | 2 => "700000000000000000".into(),
                3 => "0.000000000000000001".into(),
                // Who has something can mostly pay.
                _ if transfers => format!("{}.25", rng.between(1, 9)),
                _ => format!("{}.5", rng.between(1, 50)),
            },
            to: transfers.then(|| (format!("u-{to}"), to)),
        }
    }
}

fn open(number: u64) -> Request {
    let person = Person {
        transaction_id: "open".into(),
        user: format!("u-{number}"),
        account: number,
    };
    let value = format!(
        r#"{{"transactionId":"open","userId":"u-{number}","accountId":{number},"type":"OPEN"}}"#
    );
    Request {
        meaning: Meaning::Open(person.clone()),
        person,
        value: value.into_bytes(),
    }
}

fn written(person: Person, changes: Vec<Change>, is_batch: bool) -> Request {
    let written: Vec<String> = changes
        .iter()
        .map(|change| {
            let to = change
                .to
                .as_ref()
                .map(|(user, account)| format!(r#","toUserId":"{user}","toAccountId":{account}"#));
            format!(
                r#""type":"{}","currencyCode":"{}","amount":"{}"{}"#,
                change.kind,
                change.currency,
                change.amount,
                to.unwrap_or_default()
            )
        })
        .collect();
    let body = match is_batch {
        false => written.concat(),
        true => format!(r#""postings":[{{{}}}]"#, written.join("},{")),
    };
    let value = format!(
        r#"{{"transactionId":"{}","userId":"{}","accountId":{},{body}}}"#,
        person.transaction_id, person.user, person.account
    );
    Request {
        value: value.into_bytes(),
        meaning: Meaning::Changes {
            person: person.clone(),
            is_batch,
            changes,
        },
        person,
    }
}
