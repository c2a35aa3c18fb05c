//! A book against maps.

use super::*;
use crate::amount::Amount;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn amount(units: i128) -> Amount {
    Amount::from_units(units).unwrap()
}

fn account(n: u64) -> AccountId {
    AccountId::new(n).unwrap()
}

/// All users alike.
fn one(_user: &[u8]) -> u64 {
    7
}

/// Few hashes, in the low bits only: few lines and one tag.
fn few(user: &[u8]) -> u64 {
    key_hash(user) & 3
}

/// The naive twin.
#[derive(Default)]
struct Naive {
    accounts: BTreeMap<Vec<u8>, u64>,
    balances: BTreeMap<(Vec<u8>, Currency), (i128, i128, u64)>,
}

#[derive(Clone, Debug)]
enum Step {
    Open(Vec<u8>, u64),
    Add(Vec<u8>, Currency, i128, i128),
}

fn users() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Users that begin alike, and users that are the beginning of others.
        (1usize..=64).prop_map(|bytes| vec![b'u'; bytes]),
        (0u8..200).prop_map(|n| format!("user-{n}").into_bytes()),
        prop::collection::vec(any::<u8>(), 1..=64),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let currency = prop::sample::select(vec!["USDT", "usdt", "A", "B", "TEN-CHARS.", "TEN-CHARS-"]);
    let step = prop_oneof![
        (users(), 1..4u64).prop_map(|(user, id)| Step::Open(user, id)),
        (users(), currency, 0..1i128 << 100, 0..1000i128).prop_map(
            |(user, code, available, frozen)| {
                Step::Add(user, code.parse().unwrap(), available, frozen)
            }
        ),
    ];
    prop::collection::vec(step, 1..600)
}

fn run(steps: &[Step], hash: fn(&[u8]) -> u64) -> Result<(), TestCaseError> {
    let mut book = Book::with_hash(hash);
    let mut naive = Naive::default();
    for step in steps {
        match step {
            Step::Open(user, id) => {
                let opened = book.open(hash(user), user, account(*id));
                match naive.accounts.get(user) {
                    None => prop_assert!(matches!(opened, Opened::New(_))),
                    Some(known) if known == id => prop_assert!(matches!(opened, Opened::Known(_))),
                    Some(&known) => prop_assert_eq!(
                        opened,
                        Opened::Mismatch {
                            existing: account(known)
                        }
                    ),
                }
                naive.accounts.entry(user.clone()).or_insert(*id);
            }
            Step::Add(user, currency, available, frozen) => {
                let (user_hash, currency) = (hash(user), *currency);
                let found = book.account(user_hash, user);
                prop_assert_eq!(found.map(|a| a.id.get()), naive.accounts.get(user).copied());
                let Some(found) = found else { continue };
                prop_assert_eq!(found.user, user.as_slice());
                let handle = found.handle;
                let slot = book.find(None, user_hash, user, currency);
                prop_assert_eq!(slot, book.find_of(handle, user_hash, currency));
                let guess = book.prefetch_slot(user_hash, currency);
                for guess in [guess, book.balances().next().map(|(slot, _)| slot)] {
                    guess
                        .into_iter()
                        .for_each(|guess| book.prefetch_user(guess));
                    prop_assert_eq!(slot, book.find(guess, user_hash, user, currency));
                }
                let slot = slot.unwrap_or_else(|| book.create(handle, user_hash, currency));
                let balance = book.slot_mut(slot);
                let available = balance.available().checked_add(amount(*available)).unwrap();
                balance.apply(available, amount(*frozen));
                let twin = naive.balances.entry((user.clone(), currency)).or_default();
                *twin = (available.units(), *frozen, twin.2 + 1);
            }
        }
    }
    for (user, &id) in &naive.accounts {
        prop_assert_eq!(book.account(hash(user), user).unwrap().id.get(), id);
    }
    for ((user, currency), &twin) in &naive.balances {
        let balance = book.slot(book.find(None, hash(user), user, *currency).unwrap());
        let (available, frozen) = (balance.available().units(), balance.frozen().units());
        prop_assert_eq!((available, frozen, balance.version()), twin);
        prop_assert_eq!(book.user(balance.account()), user.as_slice());
    }
    let accounts: BTreeMap<Vec<u8>, u64> = book
        .accounts()
        .map(|a| (a.user.to_vec(), a.id.get()))
        .collect();
    prop_assert_eq!(book.accounts_len(), accounts.len() as u64);
    prop_assert_eq!(&accounts, &naive.accounts);
    prop_assert_eq!(book.balances().count(), naive.balances.len());
    prop_assert_eq!(book.len(), naive.balances.len() as u64);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_book_is_its_naive_twin(steps in steps()) {
        run(&steps, key_hash)?;
    }

    #[test]
    fn colliding_users_are_never_confused(steps in steps()) {
        run(&steps, one)?;
        run(&steps, few)?;
    }

    #[test]
    fn state_hashes_add_up_over_shards(
        rows in prop::collection::btree_map((0..500u64, 0..3usize), (0..1i128 << 90, 1..9u64), 1..300),
        shards in 1usize..5,
    ) {
        let codes: [Currency; 3] = ["A", "B", "C"].map(|code| code.parse().unwrap());
        let mut whole = Book::new();
        let mut parts: Vec<Book> = (0..shards).map(|_| Book::new()).collect();
        let add = |book: &mut Book, (n, code): (u64, usize), (units, version)| {
            let user = n.to_string().into_bytes();
            let hash = key_hash(&user);
            let handle = match book.open(hash, &user, account(n + 1)) {
                Opened::New(handle) | Opened::Known(handle) => handle,
                Opened::Mismatch { .. } => unreachable!(),
            };
            let slot = book.create(handle, hash, codes[code]);
            book.slot_mut(slot).restore(amount(units), amount(1), version);
        };
        for (&key, &row) in &rows {
            add(&mut whole, key, row);
        }
        for (&key, &row) in rows.iter().rev() {
            add(&mut parts[key.0 as usize % shards], key, row);
        }
        let sum = parts.iter().map(Book::state_hash).fold(0, u128::wrapping_add);
        prop_assert_eq!(whole.state_hash(), sum);
        // One version more is another state.
        let (slot, _) = whole.balances().next().unwrap();
        let (available, frozen) = (whole.slot(slot).available(), whole.slot(slot).frozen());
        whole.slot_mut(slot).apply(available, frozen);
        prop_assert_ne!(whole.state_hash(), sum);
    }
}

#[test]
fn records_fill_chunks_of_every_rest() {
    let mut book = Book::new();
    for n in 0..40_000u64 {
        let user = format!("{n:0width$}", width = 5 + (n % 60) as usize);
        let opened = book.open(key_hash(user.as_bytes()), user.as_bytes(), account(n + 1));
        assert!(matches!(opened, Opened::New(_)));
    }
    let mut count = 0;
    for (n, a) in book.accounts().enumerate() {
        assert_eq!(a.id.get(), n as u64 + 1);
        assert_eq!(book.account(key_hash(a.user), a.user), Some(a));
        count += 1;
    }
    assert_eq!(count, 40_000);
}

#[test]
fn an_empty_book_has_nothing() {
    let book = Book::new();
    assert!(book.is_empty() && book.accounts().next().is_none());
    assert_eq!(book.state_hash(), 0);
    assert_eq!(book.account(key_hash(b"x"), b"x"), None);
    assert_eq!(
        book.find(None, key_hash(b"x"), b"x", "A".parse().unwrap()),
        None
    );
}

#[test]
#[should_panic(expected = "an available amount is never negative")]
fn a_negative_balance_is_a_broken_invariant() {
    let mut book = Book::new();
    let Opened::New(handle) = book.open(key_hash(b"x"), b"x", account(1)) else {
        unreachable!()
    };
    let slot = book.create(handle, key_hash(b"x"), "A".parse().unwrap());
    book.slot_mut(slot).apply(amount(-1), Amount::ZERO);
}

/// Bytes a balance at every fill level, users of 8 bytes, one currency each.
#[test]
fn a_balance_takes_100_bytes() {
    let mut book = Book::new();
    let code = "USDT".parse().unwrap();
    for n in 0..300_000u64 {
        let user = n.to_le_bytes();
        let hash = key_hash(&user);
        let Opened::New(handle) = book.open(hash, &user, account(n + 1)) else {
            unreachable!()
        };
        book.create(handle, hash, code);
        if n > 200_000 && n % 1000 == 0 {
            let bytes = book.bytes() / n;
            assert!(bytes <= 100, "{bytes} bytes at {n}");
        }
    }
}
