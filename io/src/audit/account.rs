//! One account's entries, one after the other: each must go on where the one before it ended.

use std::collections::{BTreeMap, HashMap};

use kilter_engine::{
    Amount, Code, CommandKind, MoveKind, ledger::BalanceState, transition::transition,
};

use super::{
    offsets::Positions,
    report::{Kind, Report},
};
use crate::rows::{AccountRow, BalanceRow, LedgerRow};

/// The type of an entry that brings a balance over from the system before.
const OPENING: &str = "OPENING";

/// The log generation of everything that was there before the first log.
const BEFORE: u32 = 0;

/// How many parts a window has; an id is forgotten when its part is more than so many back.
const PARTS: i64 = 40;

/// How many ids are held before those that no window reaches any more are dropped.
const IDS_MAX: usize = 1 << 16;

/// A balance as its entries make it.
#[derive(Clone, Copy, Debug, Default)]
struct Purse {
    state: BalanceState,
    /// Whether an entry made it: a first SUCCESS, or an opening.
    is_made: bool,
}

impl Purse {
    /// What the first entry that is kept says was before it.
    fn before(entry: &LedgerRow, amounts: &Amounts) -> Self {
        let version = entry
            .version
            .saturating_sub(u64::from(entry.error_code.is_none()));
        Self {
            state: BalanceState {
                available: amounts.available.0,
                frozen: amounts.frozen.0,
                version,
            },
            is_made: version > 0,
        }
    }
}

/// The account whose entries are looked at.
pub(super) struct Account<'a> {
    id: u64,
    /// Its row, if there is one.
    row: Option<&'a AccountRow>,
    purses: BTreeMap<String, Purse>,
    /// When each id was remembered, as far as a window may still reach.
    ids: HashMap<String, i64>,
    /// The same for the names of legs.
    legs: HashMap<String, i64>,
    /// The record of the last entry.
    last: Option<(u32, u32, u64)>,
    /// What would be wrong with the last entry, were it not of a command with several postings.
    alone: Option<String>,
    ids_max: usize,
    positions: &'a Positions,
    /// Whether the ledger holds every entry there ever was.
    is_whole: bool,
}

impl<'a> Account<'a> {
    /// The account of this id, before its first entry.
    pub(super) fn new(
        id: u64,
        row: Option<&'a AccountRow>,
        positions: &'a Positions,
        is_whole: bool,
        report: &mut Report,
    ) -> Self {
        match row {
            None => report.differs(Kind::Account, || {
                format!("account {} has ledger entries, but is not there", id as i64)
            }),
            Some(row) if row.state != "ACTIVE" => report.differs(Kind::Account, || {
                format!("account {id} has ledger entries, but is {}", row.state)
            }),
            Some(_) => {}
        }
        Self {
            id,
            row,
            purses: BTreeMap::new(),
            ids: HashMap::new(),
            legs: HashMap::new(),
            last: None,
            alone: None,
            ids_max: IDS_MAX,
            positions,
            is_whole,
        }
    }

    /// Whose entries these are.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Looks at the next entry.
    pub(super) fn entry(&mut self, entry: &LedgerRow, report: &mut Report) {
        let Some(amounts) = Amounts::of(entry) else {
            report.differs(Kind::Ledger, || {
                format!("{}: an amount of it cannot be read", place(entry))
            });
            return;
        };
        if entry.generation == BEFORE {
            // Whatever else is from before is no part of the chain: it begins with the opening.
            if entry.kind == OPENING {
                self.opening(entry, &amounts, report);
            }
            return;
        }
        if let Some(row) = self.row
            && let Some((kind, what)) = self.positions.misplaced(entry, &row.user_id)
        {
            report.differs(kind, || format!("{}: {what}", place(entry)));
        }
        let is_next = self.last == Some((entry.generation, entry.partition, entry.offset));
        if let (false, Some(what)) = (is_next, self.alone.take()) {
            report.differs(Kind::Ledger, || what);
        }
        self.id_is_new(entry, report);
        let is_whole = self.is_whole;
        let purse = self
            .purses
            .entry(entry.currency_code.clone())
            .or_insert_with(|| match is_whole {
                true => Purse::default(),
                false => Purse::before(entry, &amounts),
            });
        let before = purse.state;
        for (name, right, held) in [
            ("available", before.available, amounts.available.0),
            ("frozen", before.frozen, amounts.frozen.0),
        ] {
            if right != held {
                report.differs(Kind::Ledger, || {
                    format!(
                        "{}: {name} before it is {held}, the entries before it make it {right}",
                        place(entry)
                    )
                });
            }
        }
        match contradiction(entry, &amounts, before.version) {
            None => {}
            // A posting fails with the others of its command, whatever its own balance allows.
            Some(Wrong::Outcome(_)) if entry.error_code.is_some() && entry.posting > 0 => {}
            Some(Wrong::Outcome(what)) if entry.error_code.is_some() => {
                self.alone = Some(format!("{}: {what}", place(entry)));
            }
            Some(Wrong::Outcome(what) | Wrong::Always(what)) => {
                report.differs(Kind::Ledger, || format!("{}: {what}", place(entry)));
            }
        }
        // From what it says, so that one difference is not told again at every later entry.
        purse.state = BalanceState {
            available: amounts.available.1,
            frozen: amounts.frozen.1,
            version: entry.version,
        };
        purse.is_made |= entry.error_code.is_none();
    }

    fn opening(&mut self, entry: &LedgerRow, amounts: &Amounts, report: &mut Report) {
        let purse = self.purses.entry(entry.currency_code.clone()).or_default();
        if purse.is_made {
            report.differs(Kind::Ledger, || {
                format!("{}: its balance was opened already", place(entry))
            });
        }
        *purse = Purse {
            state: BalanceState {
                available: amounts.available.1,
                frozen: amounts.frozen.1,
                version: entry.version,
            },
            is_made: true,
        };
    }

    /// The same id must not be answered again while it is remembered, by the rule of the window:
    /// its time is counted in parts, and it is alive until its own part is 40 parts back.
    fn id_is_new(&mut self, entry: &LedgerRow, report: &mut Report) {
        let Some(window_ms) = self.positions.window_ms(entry) else {
            report.differs(Kind::Offset, || {
                format!("{}: no window is known for its place", place(entry))
            });
            return;
        };
        let record = (entry.generation, entry.partition, entry.offset);
        if entry.posting > 0 && self.last == Some(record) {
            // One command's postings share its id.
            return;
        }
        self.last = Some(record);
        let clock_ms = entry.created_at_ms;
        let remembered_ms = entry.remembered_at_ms.unwrap_or(clock_ms).max(clock_ms);
        let before = match &entry.leg {
            Some(leg) => self.legs.insert(leg.clone(), remembered_ms),
            None => self.ids.insert(entry.transaction_id.clone(), remembered_ms),
        };
        let part_ms = ((window_ms + PARTS - 1) / PARTS).max(1);
        if let Some(before_ms) = before
            && clock_ms.div_euclid(part_ms) - before_ms.div_euclid(part_ms) <= PARTS
        {
            report.differs(Kind::Id, || {
                format!(
                    "{}: the transaction id {:?} was answered before, at {before_ms} ms, and was \
                     still remembered at {clock_ms} ms",
                    place(entry),
                    entry.transaction_id
                )
            });
        }
        if self.ids.len() + self.legs.len() > self.ids_max {
            let oldest_ms = clock_ms - 2 * self.positions.longest_ms();
            self.ids.retain(|_, at| *at >= oldest_ms);
            self.legs.retain(|_, at| *at >= oldest_ms);
            self.ids_max = (2 * (self.ids.len() + self.legs.len())).max(IDS_MAX);
        }
    }

    /// Holds its balances against the store's, which are taken out of `balances`.
    pub(super) fn finish(
        self,
        balances: &mut BTreeMap<(u64, String), BalanceRow>,
        report: &mut Report,
    ) {
        if let Some(what) = self.alone {
            report.differs(Kind::Ledger, || what);
        }
        for (currency, purse) in self.purses {
            let name = format!("account {} {currency}", self.id as i64);
            let Some(held) = balances.remove(&(self.id, currency)) else {
                if purse.is_made {
                    report.differs(Kind::Balance, || {
                        format!("{name}: the balance is missing, the ledger has entries of it")
                    });
                }
                continue;
            };
            let right = purse.state;
            let facts = [
                ("available", right.available.to_string(), held.available),
                ("frozen", right.frozen.to_string(), held.frozen),
                (
                    "version",
                    right.version.to_string(),
                    held.version.to_string(),
                ),
            ];
            for (what, right, held) in facts.into_iter().filter(|(_, right, held)| right != held) {
                report.differs(Kind::Balance, || {
                    format!("{name}: {what} is {held}, the ledger makes it {right}")
                });
            }
            if !purse.is_made {
                report.differs(Kind::Balance, || {
                    format!("{name}: a balance, but no command ever succeeded")
                });
            }
        }
    }
}

/// Whether it is of a credit that failed for want of the account that it names: it says nothing of
/// that account, which may be somebody else's, or nobody's.
pub(super) fn has_no_account(entry: &LedgerRow) -> bool {
    let code = entry.error_code.as_deref();
    entry.kind == CommandKind::Credit.as_str()
        && matches!(code, Some("ACCOUNT_NOT_FOUND" | "ACCOUNT_MISMATCH"))
}

/// Looks at such an entry.
pub(super) fn without_account(entry: &LedgerRow, positions: &Positions, report: &mut Report) {
    if let Some((kind, what)) = positions.misplaced(entry, &entry.user_id) {
        report.differs(kind, || format!("{}: {what}", place(entry)));
    }
    let around = [
        &entry.available_before,
        &entry.available_after,
        &entry.frozen_before,
        &entry.frozen_after,
    ];
    let zero = |text: &&String| text.parse() == Ok(Amount::ZERO);
    if !around.iter().all(zero) || entry.version != 0 {
        report.differs(Kind::Ledger, || {
            format!("{}: balances of an account that is not there", place(entry))
        });
    }
}

/// The amounts of an entry, before and after.
struct Amounts {
    amount: Amount,
    available: (Amount, Amount),
    frozen: (Amount, Amount),
}

impl Amounts {
    fn of(entry: &LedgerRow) -> Option<Self> {
        let read = |text: &str| text.parse::<Amount>().ok();
        Some(Self {
            amount: read(&entry.amount)?,
            available: (
                read(&entry.available_before)?,
                read(&entry.available_after)?,
            ),
            frozen: (read(&entry.frozen_before)?, read(&entry.frozen_after)?),
        })
    }
}

/// What is wrong with an entry, in words.
enum Wrong {
    /// It should have ended otherwise, were it a command of its own.
    Outcome(String),
    /// It cannot be.
    Always(String),
}

/// What an entry says that cannot be, whatever was before it, in words.
fn contradiction(entry: &LedgerRow, amounts: &Amounts, version: u64) -> Option<Wrong> {
    let both = [
        amounts.available.0,
        amounts.available.1,
        amounts.frozen.0,
        amounts.frozen.1,
    ];
    if both.iter().any(|amount| amount.is_negative()) {
        return Some(Wrong::Always("an amount around it is negative".into()));
    }
    if amounts.amount <= Amount::ZERO {
        return Some(Wrong::Always(format!("its amount is {}", amounts.amount)));
    }
    let Some(kind) = CommandKind::parse(&entry.kind).and_then(CommandKind::moves) else {
        let what = format!("no command has the type {:?}", entry.kind);
        return Some(Wrong::Always(what));
    };
    let code = match &entry.error_code {
        None => None,
        Some(text) => match Code::parse(text) {
            Some(code) => Some(code),
            None => return Some(Wrong::Always(format!("no command ends as {text:?}"))),
        },
    };
    let before = BalanceState {
        available: amounts.available.0,
        frozen: amounts.frozen.0,
        version,
    };
    let (made, outcome) = outcome(kind, before, amounts.amount);
    // What failed changes nothing, for whatever reason.
    let right = if code.is_some() { before } else { made };
    let facts = [
        ("available", right.available, amounts.available.1),
        ("frozen", right.frozen, amounts.frozen.1),
    ];
    if let Some((what, right, held)) = facts.into_iter().find(|(_, right, held)| right != held) {
        let what = format!("{what} after it is {held}, should be {right}");
        return Some(Wrong::Always(what));
    }
    if right.version != entry.version {
        return Some(Wrong::Always(format!(
            "the version after it is {}, should be {}",
            entry.version, right.version
        )));
    }
    let word = |code: Option<Code>| code.map_or("SUCCESS", Code::as_str);
    (outcome != code).then(|| {
        Wrong::Outcome(format!(
            "it ended as {}, should be {}",
            word(code),
            word(outcome)
        ))
    })
}

/// What a command makes of a balance, and why it does nothing.
fn outcome(kind: MoveKind, before: BalanceState, amount: Amount) -> (BalanceState, Option<Code>) {
    match transition(kind, before, amount) {
        Ok(after) => (after, None),
        Err(code) => (before, Some(code)),
    }
}

/// An entry's place, for messages.
fn place(entry: &LedgerRow) -> String {
    let mut text = format!(
        "the ledger entry of partition {} offset {}",
        entry.partition, entry.offset
    );
    if entry.posting != 0 {
        text.push_str(&format!(" posting {}", entry.posting));
    }
    if entry.generation != 1 {
        text.push_str(&format!(" generation {}", entry.generation));
    }
    text.push_str(&format!(
        " (account {} {})",
        entry.account_id as i64, entry.currency_code
    ));
    text
}
