//! `kilter load`: commands at a steady rate, and how long each took to be answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use kilter_io::kafka::SeenResult;
use parking_lot::Mutex;

use super::{
    client::{self, Client, Hear},
    demo::run_number,
};
use crate::{Answer, cli, config::Config, progress::Progress, signals::Interrupt};

/// The longest latency that is told apart, in µs: ten minutes.
const MAX_US: u64 = 600_000_000;

/// How many commands in all: a bound on memory.
const COMMANDS_MAX: u64 = 100_000_000;

/// Runs it: an open loop, so that a slow answer does not slow the questions.
///
/// # Errors
///
/// When a server cannot be reached or a command is not taken.
pub fn load(args: &cli::Load) -> anyhow::Result<Answer> {
    let config = Config::from_args(&args.source)?;
    let interrupt = Interrupt::listen()?;
    let commands = args.rate.saturating_mul(args.seconds);
    anyhow::ensure!(
        commands <= COMMANDS_MAX,
        "--rate {} for --seconds {} are more than {COMMANDS_MAX} commands",
        args.rate,
        args.seconds
    );
    let run = run_number();
    let times = Arc::new(Times::new(commands));
    let ears = Ears {
        times: Arc::clone(&times),
        prefix: format!("l{run}-"),
    };
    let mut client = Client::connect(&config, ears)?;
    let mut progress = Progress::new("load", Some(args.users + commands));
    for number in 1..=args.users {
        client.send(
            format!(
                r#"{{"transactionId":"open-{number}","userId":"u-{number}","accountId":{number},"type":"OPEN"}}"#
            )
            .as_bytes(),
        )?;
    }
    client.finish(&interrupt, &mut progress)?;
    let began = Instant::now();
    let mut late = Duration::ZERO;
    for number in 0..commands {
        let due = Duration::from_nanos(
            (u128::from(number) * 1_000_000_000 / u128::from(args.rate)) as u64,
        );
        wait_until(began + due, &client)?;
        late = late.max(began.elapsed().saturating_sub(due));
        if interrupt.is_asked() {
            break;
        }
        times.sent(number, began + due);
        let user = number % args.users + 1;
        client.send(
            format!(
                r#"{{"transactionId":"l{run}-{number}","userId":"u-{user}","accountId":{user},"currencyCode":"USDT","type":"DEPOSIT","amount":"0.01"}}"#
            )
            .as_bytes(),
        )?;
        if number.is_multiple_of(args.rate) {
            progress.set(args.users + number, || format!("at {}/s", args.rate));
        }
    }
    let counts = client.finish(&interrupt, &mut progress)?;
    progress.finish();
    println!("{}", client::table(&counts, client.sent()));
    let answered = times.latencies.lock();
    let us = |q: f64| Duration::from_micros(answered.value_at_quantile(q));
    println!(
        "{} of {commands} commands at {}/s answered; from when each was due to its result read: \
         p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}; the generator was at most {:?} late",
        answered.len(),
        args.rate,
        us(0.5),
        us(0.99),
        us(0.999),
        Duration::from_micros(answered.max()),
        late
    );
    Ok(if interrupt.is_asked() || answered.len() == commands {
        Answer::Yes
    } else {
        Answer::No
    })
}

/// Sleeps as long as that is exact enough, then looks at answers until it is time.
fn wait_until(time: Instant, client: &Client) -> anyhow::Result<()> {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        client.poll()?;
        if left > Duration::from_micros(200) {
            std::thread::sleep(left - Duration::from_micros(150));
        }
    }
}

/// When each command was due, and how long its result took.
struct Times {
    start: Instant,
    due_ns: Vec<AtomicU64>,
    latencies: Mutex<Histogram<u64>>,
}

impl Times {
    fn new(commands: u64) -> Self {
        let latencies = match Histogram::new_with_bounds(1, MAX_US, 3) {
            Ok(histogram) => histogram,
            Err(error) => unreachable!("sound bounds: {error}"),
        };
        Self {
            start: Instant::now(),
            due_ns: (0..commands).map(|_| AtomicU64::new(0)).collect(),
            latencies: Mutex::new(latencies),
        }
    }

    fn sent(&self, number: u64, due: Instant) {
        let ns = due.saturating_duration_since(self.start).as_nanos() as u64;
        self.due_ns[number as usize].store(ns.max(1), Ordering::Relaxed);
    }
}

/// Listens for the results of this run.
struct Ears {
    times: Arc<Times>,
    prefix: String,
}

impl Hear for Ears {
    fn result(&mut self, result: &SeenResult) {
        let number = result.transaction_id.strip_prefix(&self.prefix);
        let Some(number) = number.and_then(|text| text.parse::<usize>().ok()) else {
            return;
        };
        // Taken out, so that a result that comes again counts once.
        let due = self
            .times
            .due_ns
            .get(number)
            .map(|due| due.swap(0, Ordering::Relaxed));
        if let Some(due @ 1..) = due {
            let now = self.times.start.elapsed().as_nanos() as u64;
            let us = (now.saturating_sub(due) / 1000).clamp(1, MAX_US);
            self.times.latencies.lock().saturating_record(us);
        }
    }
}
