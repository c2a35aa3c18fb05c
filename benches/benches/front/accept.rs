//! Changes that are answered once they are durable, against bare inserts of the same rows.

use std::time::{Duration, Instant};

use kilter_benches::measure::Spread;

use crate::{
    bare,
    child::DEADLINE,
    drive::{Load, Ran, Width, closed, open},
    number,
    place::{self, NARROW, WIDE},
    requests::{self, Signer},
    servers::Servers,
};

/// What the prototype answered, requests a second.
const PROTOTYPE: f64 = 414.0;
/// One transfer at a time, of the fastest peer, in ms.
const PEER_MS: f64 = 0.6;

const ACCOUNTS: u64 = 1000;
/// How long each rate is kept, in s.
const RATES_SECONDS: u64 = 5;
/// Rows a transaction of the bare loop: as many as the front door's batches have when it is busy.
const BATCH: usize = 1000;

pub fn run(servers: Option<&Servers>) {
    let count = number("COMMANDS", 200_000);
    let rounds = number("ROUNDS", 3);
    let signer = Signer::new();
    if is_wanted("directory") {
        directory(count, rounds, &signer);
    }
    if let Some(servers) = servers {
        on_servers(servers, count, rounds, &signer);
    }
}

/// Whether one of the places is among those named by `KILTER_BENCH_PLACES`, or none is named.
fn is_wanted(place: &str) -> bool {
    std::env::var("KILTER_BENCH_PLACES")
        .map_or(true, |wanted| wanted.split(',').any(|name| name == place))
}

/// The front door at one place, to be asked again and again.
struct Asked<'a> {
    address: &'a str,
    signer: &'a Signer,
}

impl Asked<'_> {
    fn load<R>(&self, prefix: &str, ask: impl FnOnce(&Load<'_>) -> R) -> R {
        ask(&Load {
            request: &|number| self.signer.deposit(prefix, number, ACCOUNTS, false),
            is_right: &|_, message| requests::is_accepted(message),
        })
    }

    fn closed(&self, prefix: &str, width: Width, count: u64) -> Ran {
        let ran = self.load(prefix, |load| closed(self.address, width, 0, count, load));
        assert_eq!(ran.wrong, 0, "not accepted");
        ran
    }

    /// One at a time, and at rates below `most`; how many were accepted.
    fn tell(&self, what: &str, most: f64, fsync_ms: f64) -> u64 {
        let one = self.closed("one", NARROW, 1000);
        let p50 = one.latencies.value_at_quantile(0.5) as f64 / 1e6;
        println!(
            "  {what}, one request at a time: {}; p50 is {:.2} x ({PEER_MS} ms + fsync {fsync_ms:.2} ms)",
            one.quantiles(),
            p50 / (PEER_MS + fsync_ms)
        );
        let mut accepted = one.answered;
        for percent in [25, 50, 75] {
            let rate = (most * f64::from(percent) / 100.0) as u64;
            let ran = self.load(&format!("open{percent}"), |load| {
                open(self.address, WIDE, 0, (rate, RATES_SECONDS), load)
            });
            accepted += ran.answered - ran.wrong;
            println!(
                "  {what}, open loop, {rate}/s for {RATES_SECONDS} s ({percent} %): {}, {} refused",
                ran.quantiles(),
                ran.wrong
            );
        }
        accepted
    }

    /// Waits until the balances add up to what was accepted.
    fn check(&self, accepted: u64) {
        let begin = Instant::now();
        loop {
            let sum = std::cell::Cell::new(0);
            let load = Load {
                request: &|number| requests::read(number),
                is_right: &|_, message| {
                    let balance = requests::balance(message);
                    sum.set(sum.get() + balance.map_or(0, |(available, _)| available));
                    true
                },
            };
            closed(self.address, WIDE, 1, ACCOUNTS, &load);
            if sum.get() == accepted {
                return;
            }
            assert!(
                begin.elapsed() < DEADLINE && sum.get() < accepted,
                "{} of {accepted}",
                sum.get()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// One round: what the node accepted in a second, and bare loops of the same rows.
struct Round {
    node: f64,
    /// By batches of [`BATCH`].
    bare: f64,
    /// By batches as large as the node's were on average, and how large.
    alike: f64,
    batch: usize,
}

impl Round {
    /// `bare` inserts the rows by batches of a size; `batches` is how many the node made of them.
    fn of(node: f64, rows: usize, batches: usize, mut bare: impl FnMut(usize) -> f64) -> Self {
        let batch = rows.div_ceil(batches.max(1));
        Self {
            node,
            bare: bare(BATCH),
            alike: bare(batch),
            batch,
        }
    }
}

fn tell(what: &str, rounds: &[Round]) {
    let spread = |of: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    let node = spread(&|round| round.node);
    println!(
        "  {what}, closed loop, {} at once: {node:.0} accepted/s; {:.0} times the prototype (goal 30)",
        WIDE.connections * WIDE.streams,
        node.median / PROTOTYPE
    );
    println!(
        "    bare inserts {:.0} rows/s by {BATCH}: ratio {} (goal 0.8); {:.0} rows/s by {:.0}, which \
         is what the node had: ratio {}",
        spread(&|round| round.bare),
        spread(&|round| round.node / round.bare),
        spread(&|round| round.alike),
        spread(&|round| round.batch as f64),
        spread(&|round| round.node / round.alike),
    );
}

fn directory(count: u64, rounds: u64, signer: &Signer) {
    println!("accept: {count} deposits to {ACCOUNTS} accounts, {rounds} rounds");
    let mut told = Vec::new();
    for round in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        let fsync = bare::fsync(dir.path());
        let data = dir.path().join("node");
        let (node, address) = place::on_directory(&data);
        place::open_accounts(&address, ACCOUNTS, signer);
        let asked = Asked {
            address: &address,
            signer,
        };
        let ran = asked.closed("c", WIDE, count);
        let mut accepted = count;
        if round == 0 {
            let fsync_ms = fsync.value_at_quantile(0.5) as f64 / 1e6;
            accepted += asked.tell("directory", ran.rate(), fsync_ms);
        }
        asked.check(accepted);
        drop(node);
        let rows = bare::log_rows(&data, "c");
        assert_eq!(rows.len() as u64, count);
        let batches = bare::log_batches(&data, "c");
        told.push(Round::of(ran.rate(), rows.len(), batches, |batch| {
            let mut log = bare::empty_log(&dir.path().join(format!("bare-{batch}")));
            bare::rate(&rows, batch, |rows| bare::insert_log(&mut log, rows))
        }));
    }
    tell("directory", &told);
}

fn on_servers(servers: &Servers, count: u64, rounds: u64, signer: &Signer) {
    // All of a node in one process, and the front door with only its outbox.
    for (what, engine) in [("servers", "true"), ("outbox", "false")] {
        if !is_wanted(what) {
            continue;
        }
        let mut told = Vec::new();
        for round in 0..rounds {
            let name = format!("front-{engine}-{round}");
            let kafka = servers.topics(&name, &format!("{name}-results"));
            let database = servers.database();
            database.open_accounts(ACCOUNTS);
            let settings = [("START_CONSUMER", engine), ("START_RELAY", "true")];
            let (node, address) = place::on_servers(&database, &kafka, &settings);
            let asked = Asked {
                address: &address,
                signer,
            };
            // Both know the accounts from here on.
            let warm = asked.closed("warm", WIDE, 10 * ACCOUNTS);
            let ran = asked.closed("c", WIDE, count);
            let mut accepted = count + warm.answered;
            if engine == "true" {
                if round == 0 {
                    let dir = tempfile::tempdir().unwrap();
                    let fsync = bare::fsync(dir.path());
                    let fsync_ms = fsync.value_at_quantile(0.5) as f64 / 1e6;
                    accepted += asked.tell(what, ran.rate(), fsync_ms);
                }
                asked.check(accepted);
            }
            drop(node);
            let rows = bare::outbox_rows(&database, "c");
            assert_eq!(rows.len() as u64, count);
            let batches = bare::outbox_batches(&database, "c");
            drop(database);
            told.push(Round::of(ran.rate(), rows.len(), batches, |batch| {
                let empty = servers.database();
                let mut conn = empty.conn();
                bare::rate(&rows, batch, |rows| bare::insert_outbox(&mut conn, rows))
            }));
        }
        tell(what, &told);
    }
}
