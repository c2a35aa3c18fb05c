//! Balances read from memory over one connection.

use kilter_benches::measure::Spread;

use crate::{
    drive::{Load, Width, closed},
    number,
    place::{self, NARROW, WIDE},
    requests::{self, Signer, account},
};

const ACCOUNTS: u64 = 10_000;
const STREAMS: Width = Width {
    connections: 1,
    streams: 64,
};

pub fn run() {
    let count = number("READS", 500_000);
    let rounds = number("ROUNDS", 3);
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = place::on_directory(dir.path());
    place::open_accounts(&address, ACCOUNTS, &signer);
    let deposits = Load {
        request: &|number| signer.deposit_to(number + 1),
        is_right: &|_, message| requests::has_succeeded(message),
    };
    let ran = closed(&address, WIDE, 0, ACCOUNTS, &deposits);
    assert_eq!(ran.wrong, 0, "the deposits did not succeed");
    let reads = Load {
        request: &|number| requests::read(account(number, ACCOUNTS)),
        is_right: &|_, message| requests::balance(message) == Some((1, "memory".to_owned())),
    };
    let (mut rates, mut cpu_us) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let before = node.cpu();
        let ran = closed(&address, STREAMS, 0, count, &reads);
        assert_eq!(ran.wrong, 0, "wrong balances");
        rates.push(ran.rate());
        cpu_us.push((node.cpu() - before).as_secs_f64() * 1e6 / count as f64);
        if round == 0 {
            let one = closed(&address, NARROW, 0, 5000, &reads);
            println!("read: one at a time: {}", one.quantiles());
        }
    }
    println!(
        "read: {count} balances from memory, one connection, {} streams, closed loop: {:.0} a second \
         (goal 100000), CPU of the node a call {} us (goal 5)",
        STREAMS.streams,
        Spread::of(rates),
        Spread::of(cpu_us)
    );
}
