//! Seeded traffic: records as JSON, and beside each what was meant by it.
//!
//! The twin judges what was meant and never sees the JSON, so that decoding is checked as well.

use kilter_engine::{Code, CommandKind, partitioner::Partitioner, record::Mark};

use super::{
    flights::Flights,
    rng::Rng,
    twin::{Flight, Twin},
};

/// What a record means, told by whoever wrote it.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// Its shape is refused with this code, whatever the state.
    Bad(Code),
    /// An OPEN.
    Open(Person),
    /// A command on a balance.
    Move {
        person: Person,
        kind: CommandKind,
        currency: &'static str,
        amount: String,
    },
    /// A TRANSFER, or postings.
    Changes {
        person: Person,
        is_batch: bool,
        changes: Vec<Change>,
    },
    /// A leg.
    Leg(Flight),
}

/// One posting.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: CommandKind,
    pub currency: &'static str,
    pub amount: String,
    /// Who receives it, and by which account.
    pub to: Option<(String, u64)>,
}

/// Who a command speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub transaction_id: String,
    pub user: String,
    pub account: u64,
}

/// A record as it lies in the log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub partition: u32,
    pub offset: u64,
    pub timestamp_ms: i64,
    pub issued_at_ms: Option<i64>,
    pub mark: Mark,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub meaning: Meaning,
}

/// How a seed's traffic looks.
#[derive(Clone, Debug)]
pub struct Shape {
    pub users: u64,
    pub records: usize,
    pub partitions: u32,
    pub window_ms: u64,
    /// Whether timestamps jump by parts of the window and back.
    pub wild_time: bool,
    /// How many different ids a user has; few make duplicates frequent.
    pub ids: u64,
    /// One OPEN in so many names another user's account.
    pub conflicts: u64,
    /// Whether legs that have expired are issued anew. Only where the log ends as its writer
    /// foresaw: notes and claims of a run make other outcomes.
    pub anew: bool,
}

const CURRENCIES: [&str; 3] = ["USDT", "usdt", "TEN-CHARS."];
const KINDS: [CommandKind; 5] = [
    CommandKind::Deposit,
    CommandKind::Withdraw,
    CommandKind::Freeze,
    CommandKind::Unfreeze,
    CommandKind::Settle,
];

/// Writes a whole log.
pub fn log(shape: &Shape, rng: &mut Rng) -> Vec<Entry> {
    let partition_of = |key: &[u8]| Partitioner::Murmur2.partition(key, shape.partitions);
    let mut clocks = vec![1_700_000_000_000_i64; shape.partitions as usize];
    let mut offsets = vec![0_u64; shape.partitions as usize];
    let mut claims: Vec<(u64, String)> = Vec::new();
    let mut entries: Vec<Entry> = Vec::with_capacity(shape.records);
    // Outcomes follow from the log alone, so whoever writes it knows which legs leave.
    let mut twin = Twin::new(shape.window_ms, shape.partitions);
    let mut flights = Flights::default();
    for index in 0..shape.records {
        flights.judge(&entries, &mut twin);
        if rng.one_in(3)
            && let Some(entry) = flights.send(shape, rng, &twin, &mut clocks, &mut offsets)
        {
            entries.push(entry);
            flights.judge(&entries, &mut twin);
        }
        let (mut value, meaning, user) = command(shape, rng, index);
        // A client's retry: the same bytes again.
        let old = (!entries.is_empty() && rng.one_in(25)).then(|| rng.pick(&entries).clone());
        if let Some(old) =
            old.filter(|old| old.mark != Mark::Oversize && !matches!(old.meaning, Meaning::Leg(_)))
        {
            value = old.value.clone();
            push(
                &mut entries,
                shape,
                rng,
                &mut clocks,
                &mut offsets,
                &mut claims,
                old.key,
                value,
                old.meaning,
                &partition_of,
            );
            continue;
        }
        let key = if rng.one_in(60) {
            b"somebody else".to_vec()
        } else {
            user.into_bytes()
        };
        push(
            &mut entries,
            shape,
            rng,
            &mut clocks,
            &mut offsets,
            &mut claims,
            key,
            value,
            meaning,
            &partition_of,
        );
    }
    entries
}

#[allow(clippy::too_many_arguments)]
fn push(
    entries: &mut Vec<Entry>,
    shape: &Shape,
    rng: &mut Rng,
    clocks: &mut [i64],
    offsets: &mut [u64],
    claims: &mut Vec<(u64, String)>,
    key: Vec<u8>,
    value: Vec<u8>,
    meaning: Meaning,
    partition_of: &impl Fn(&[u8]) -> u32,
) {
    let right = partition_of(&key);
    let partition = if rng.one_in(80) {
        rng.below(u64::from(shape.partitions)) as u32
    } else {
        right
    };
    let clock = &mut clocks[partition as usize];
    let window = shape.window_ms as i64;
    let timestamp_ms = match rng.below(if shape.wild_time { 60 } else { 4 }) {
        0 => *clock,
        5 => *clock + rng.below(window as u64 / 2) as i64,
        6 => *clock - rng.below(window as u64) as i64,
        7 => *clock + window + rng.below(3 * window as u64 / 40) as i64,
        8 if rng.one_in(4) => *clock + 5 * window,
        _ => *clock + rng.below(1 + window as u64 / 200) as i64,
    };
    *clock = (*clock).max(timestamp_ms);
    let issued_at_ms = rng.one_in(8).then(|| match rng.below(6) {
        0 => *clock - window / 2 - rng.below(3) as i64 + 1,
        1 => *clock + window / 4 + rng.below(3) as i64 - 1,
        2 => *clock + rng.below(window as u64 / 4) as i64,
        _ => *clock - rng.below(window as u64 / 2) as i64,
    });
    // The value stays whole and may be a fine command: the mark alone refuses it.
    let oversize = rng.one_in(150);
    let meaning = if oversize {
        Meaning::Bad(Code::Malformed)
    } else {
        meaning
    };
    let mark = match &meaning {
        _ if oversize => Mark::Oversize,
        Meaning::Open(person) => {
            let free = key == person.user.as_bytes()
                && partition == right
                && issued_at_ms
                    .is_none_or(|at| *clock <= at + window / 2 && at <= *clock + window / 4);
            let bound = claims
                .iter()
                .find(|(account, user)| *account == person.account || *user == person.user);
            match bound {
                _ if rng.one_in(40) => Mark::None,
                Some((account, user)) if *account == person.account && *user == person.user => {
                    Mark::Claimed
                }
                Some(_) => Mark::ClaimRefused,
                None if free => {
                    claims.push((person.account, person.user.clone()));
                    Mark::Claimed
                }
                // Refused before the claim is looked at, so any verdict will do.
                None => Mark::ClaimRefused,
            }
        }
        _ if rng.one_in(120) => Mark::OperatorRefused,
        _ => Mark::None,
    };
    let offset = offsets[partition as usize];
    // Logs may leave gaps: transaction markers take offsets too.
    offsets[partition as usize] += if rng.one_in(50) { 3 } else { 1 };
    entries.push(Entry {
        partition,
        offset,
        timestamp_ms,
        issued_at_ms,
        mark,
        key,
        value,
        meaning,
    });
}

fn command(shape: &Shape, rng: &mut Rng, index: usize) -> (Vec<u8>, Meaning, String) {
    let number = rng.below(shape.users) + 1;
    let user = format!("u-{number}");
    let account = if rng.one_in(40) { number + 1 } else { number };
    let id = rng.below(shape.ids);
    let transaction_id = if rng.one_in(2) {
        format!("T-{id}")
    } else {
        format!("t-{index}")
    };
    let person = Person {
        transaction_id: transaction_id.clone(),
        user: user.clone(),
        account,
    };
    if rng.one_in(5) {
        let account = if rng.one_in(shape.conflicts) {
            rng.between(1, shape.users)
        } else {
            account
        };
        let person = Person { account, ..person };
        let json = format!(
            r#"{{"transactionId":"{transaction_id}","userId":"{user}","accountId":{account},"type":"OPEN"}}"#
        );
        return (json.into_bytes(), Meaning::Open(person), user);
    }
    if rng.one_in(30) {
        let (json, code) = bad(rng, &person);
        return (json.into_bytes(), Meaning::Bad(code), user);
    }
    if rng.one_in(6) {
        let (json, meaning) = changes(shape, rng, person);
        return (json.into_bytes(), meaning, user);
    }
    let kind = if rng.one_in(2) {
        CommandKind::Deposit
    } else {
        *rng.pick(&KINDS)
    };
    let currency = *rng.pick(&CURRENCIES);
    let amount = amount(rng);
    let padding = if rng.one_in(30) {
        format!(
            r#","description":"{}""#,
            "x".repeat(rng.below(700) as usize)
        )
    } else {
        String::new()
    };
    let written = if rng.one_in(6) {
        amount.clone()
    } else {
        format!("\"{amount}\"")
    };
    let json = format!(
        r#"{{"transactionId":"{transaction_id}","userId":"{user}","accountId":{account},"currencyCode":"{currency}","type":"{}","amount":{written}{padding}}}"#,
        kind.as_str()
    );
    let meaning = Meaning::Move {
        person,
        kind,
        currency,
        amount,
    };
    (json.into_bytes(), meaning, user)
}

/// A TRANSFER, or postings.
fn changes(shape: &Shape, rng: &mut Rng, person: Person) -> (String, Meaning) {
    let is_batch = rng.one_in(2);
    let count = if is_batch { rng.between(1, 16) } else { 1 };
    let changes: Vec<Change> = (0..count)
        .map(|_| {
            let transfers = !is_batch || rng.one_in(4);
            Change {
                kind: match transfers {
                    true => CommandKind::Transfer,
                    false if rng.one_in(2) => CommandKind::Deposit,
                    false => *rng.pick(&KINDS),
                },
                currency: rng.pick::<&str>(&CURRENCIES),
                amount: amount(rng),
                to: transfers.then(|| receiver(shape, rng, &person)),
            }
        })
        .collect();
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
    let Person {
        transaction_id,
        user,
        account,
    } = &person;
    let body = match is_batch {
        false => written.concat(),
        true => {
            let named = if rng.one_in(2) {
                r#""type":"BATCH","#
            } else {
                ""
            };
            format!(r#"{named}"postings":[{{{}}}]"#, written.join("},{"))
        }
    };
    let json = format!(
        r#"{{"transactionId":"{transaction_id}","userId":"{user}","accountId":{account},{body}}}"#
    );
    let meaning = Meaning::Changes {
        person,
        is_batch,
        changes,
    };
    (json, meaning)
}

/// Anybody but the sender; now and then nobody at all, or by somebody else's account.
fn receiver(shape: &Shape, rng: &mut Rng, person: &Person) -> (String, u64) {
    let number = rng.below(shape.users + 1) + 1;
    let user = format!("u-{number}");
    let account = if rng.one_in(15) { number + 1 } else { number };
    if user == person.user || account == person.account {
        return ("u-nobody".into(), 1_000_000);
    }
    (user, account)
}

fn amount(rng: &mut Rng) -> String {
    match rng.below(12) {
        0 => "999999999999999999.999999999999999999".into(),
        1 => "0.000000000000000001".into(),
        2 => format!("{}e-18", rng.between(1, 999_999)),
        3 => format!(
            "{}.{:018}",
            rng.below(1000),
            rng.between(1, 10_u64.pow(18) - 1)
        ),
        4 => "500000000000000000".into(),
        _ => format!("{}.5", rng.between(1, 50)),
    }
}

fn bad(rng: &mut Rng, person: &Person) -> (String, Code) {
    let Person {
        transaction_id,
        user,
        account,
    } = person;
    let with = |kind: &str, currency: &str, amount: &str| {
        format!(
            r#"{{"transactionId":"{transaction_id}","userId":"{user}","accountId":{account},"currencyCode":"{currency}","type":"{kind}","amount":{amount}}}"#
        )
    };
    match rng.below(9) {
        0 => ("{\"transactionId\":".into(), Code::Malformed),
        1 => (with("STEAL", "USDT", "\"1\""), Code::UnknownType),
        2 => (with("TRANSFER", "USDT", "\"1\""), Code::Malformed),
        3 => (with("DEPOSIT", "US DT", "\"1\""), Code::InvalidCurrency),
        4 => (with("DEPOSIT", "USDT", "\"-1\""), Code::InvalidAmount),
        5 => (with("DEPOSIT", "USDT", "0"), Code::InvalidAmount),
        6 => (
            with("DEPOSIT", "USDT", "\"1000000000000000000\""),
            Code::InvalidAmount,
        ),
        7 => (
            with("DEPOSIT", "USDT", "\"1\",\"amount\":\"2\""),
            Code::Malformed,
        ),
        _ => (with("\\u004fPEN", "USDT", "\"1\""), Code::Malformed),
    }
}
