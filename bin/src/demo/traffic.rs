//! A believable mix of commands, the same for the same seed.

use std::io::Write;

use super::zipf::{Random, Zipf};

const CURRENCIES: [&str; 4] = ["USDT", "BTC", "ETH", "EUR"];

/// How many of the last commands may come once more.
const MEMORY: usize = 256;

/// How many commands in ten thousand come twice, are refused, or are no JSON.
const DUPLICATES: u64 = 100;
const REFUSALS: u64 = 100;
const MALFORMED: u64 = 20;

/// How many commands of each kind were written: what the node must tell in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// OPEN.
    pub opens: u64,
    /// Commands that a balance may or may not allow.
    pub moves: u64,
    /// Commands that came before.
    pub duplicates: u64,
    /// ACCOUNT_NOT_FOUND.
    pub unknown: u64,
    /// ACCOUNT_MISMATCH.
    pub mismatched: u64,
    /// INVALID_AMOUNT.
    pub amounts: u64,
    /// UNKNOWN_TYPE.
    pub types: u64,
    /// MALFORMED.
    pub malformed: u64,
}

impl Written {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.opens
            + self.moves
            + self.duplicates
            + self.unknown
            + self.mismatched
            + self.amounts
            + self.types
            + self.malformed
    }
}

/// Writes commands into buffers.
pub struct Traffic {
    users: u64,
    random: Random,
    zipf: Zipf,
    run: u64,
    next: u64,
    opened: u64,
    recent: Vec<Vec<u8>>,
    written: Written,
}

impl Traffic {
    /// Traffic of so many users. `run` tells the transaction ids of several runs apart.
    pub fn new(users: u64, theta: f64, seed: u64, run: u64) -> Self {
        Self {
            users,
            random: Random::new(seed),
            zipf: Zipf::new(users, theta),
            run,
            next: 0,
            opened: 0,
            recent: Vec::with_capacity(MEMORY),
            written: Written::default(),
        }
    }

    /// What was written so far.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Writes the next OPEN, until every user has an account.
    pub fn open(&mut self, to: &mut Vec<u8>) -> bool {
        if self.opened == self.users {
            return false;
        }
        self.opened += 1;
        self.written.opens += 1;
        let number = self.opened;
        put(
            to,
            format_args!(
                r#"{{"transactionId":"open-{number}","userId":"u-{number}","accountId":{number},"type":"OPEN"}}"#
            ),
        );
        true
    }

    /// Writes the next command.
    pub fn command(&mut self, to: &mut Vec<u8>) {
        let ticket = self.random.below(10_000);
        if ticket < DUPLICATES && !self.recent.is_empty() {
            let index = self.random.below(self.recent.len() as u64) as usize;
            to.extend_from_slice(&self.recent[index]);
            self.written.duplicates += 1;
            return;
        }
        self.next += 1;
        let user = self.zipf.sample(&mut self.random) + 1;
        if (DUPLICATES..DUPLICATES + REFUSALS).contains(&ticket) {
            self.refused(user, to);
            return;
        }
        if ticket >= 10_000 - MALFORMED {
            self.written.malformed += 1;
            put(
                to,
                format_args!(
                    r#"{{"transactionId":"d{}-{}","userId":"#,
                    self.run, self.next
                ),
            );
            return;
        }
        let kind = match self.random.below(100) {
            0..45 => "DEPOSIT",
            45..70 => "WITHDRAW",
            70..84 => "FREEZE",
            84..92 => "UNFREEZE",
            _ => "SETTLE",
        };
        let start = to.len();
        self.write(user, user, kind, None, to);
        self.written.moves += 1;
        let line = &to[start..];
        if self.recent.len() < MEMORY {
            self.recent.push(line.to_vec());
        } else if self.next.is_multiple_of(16) {
            let index = self.random.below(MEMORY as u64) as usize;
            self.recent[index].clear();
            self.recent[index].extend_from_slice(line);
        }
    }

    fn refused(&mut self, user: u64, to: &mut Vec<u8>) {
        match self.random.below(4) {
            0 => {
                self.written.unknown += 1;
                self.write(user + self.users, user, "DEPOSIT", None, to);
            }
            1 => {
                self.written.mismatched += 1;
                self.write(user, user + self.users, "DEPOSIT", None, to);
            }
            2 => {
                self.written.amounts += 1;
                self.write(user, user, "WITHDRAW", Some("-100"), to);
            }
            _ => {
                self.written.types += 1;
                self.write(user, user, "STEAL", None, to);
            }
        }
    }

    fn write(
        &mut self,
        user: u64,
        account: u64,
        kind: &str,
        amount: Option<&str>,
        to: &mut Vec<u8>,
    ) {
        let currency = CURRENCIES[(self.random.below(8).saturating_sub(4)) as usize];
        put(
            to,
            format_args!(
                r#"{{"transactionId":"d{}-{}","accountId":{account},"userId":"u-{user}","currencyCode":"{currency}","type":"{kind}","amount":""#,
                self.run, self.next
            ),
        );
        match amount {
            Some(amount) => put(to, format_args!("{amount}")),
            None => self.amount(to),
        }
        put(
            to,
            format_args!(r#"","description":"demo","metadata":{{"source":"demo"}}}}"#),
        );
    }

    /// Amounts with few and with many decimals, mostly small.
    fn amount(&mut self, to: &mut Vec<u8>) {
        let whole = self.random.below(1000);
        match self.random.below(4) {
            0 => put(to, format_args!("{}", whole + 1)),
            1 | 2 => put(to, format_args!("{whole}.{:02}", self.random.below(99) + 1)),
            _ => put(
                to,
                format_args!("{whole}.{:018}", self.random.below(10_u64.pow(18) - 1) + 1),
            ),
        }
    }
}

fn put(to: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    match to.write_fmt(text) {
        Ok(()) => {}
        Err(error) => unreachable!("writing to memory failed: {error}"),
    }
}
