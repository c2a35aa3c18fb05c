//! From when a command was due to its result, beside an echo that only sends back.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use kilter_benches::measure::{self, Spread};
use kilter_io::kafka::KafkaSettings;
use rdkafka::Message;

use crate::{
    child::{DEADLINE, Node},
    clients::{self, Sender},
    commands, in_turns, number,
    servers::Servers,
};

const RATE: u64 = 10_000;
const ACCOUNTS: u64 = 10_000;
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// About how long a result is.
const RESULT_BYTES: usize = 346;

pub fn run(servers: &Servers) {
    let seconds = number("SECONDS", 12);
    let rounds = number("ROUNDS", 3);
    let node_kafka = servers.topics("latency", "latency-results");
    let bare_kafka = servers.topics("echo", "echo-results");
    let database = servers.database();
    database.open_accounts(ACCOUNTS);
    let mut nodes: Vec<[f64; 3]> = Vec::new();
    let mut echoes: Vec<[f64; 3]> = Vec::new();
    let mut turn = 0;
    let mut node_turn = || {
        turn += 1;
        let mut node = Node::start(&database, &node_kafka, &[]);
        node.wait_ready();
        nodes.push(quantiles(&answered(
            &node_kafka,
            &format!("n{turn}"),
            seconds,
        )));
    };
    let mut echo_turns = 0;
    let mut echo_turn = || {
        echo_turns += 1;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| echo(&bare_kafka, &stop));
            let latencies = answered(&bare_kafka, &format!("e{echo_turns}"), seconds);
            echoes.push(quantiles(&latencies));
            stop.store(true, Ordering::Relaxed);
        });
    };
    in_turns(rounds, [&mut echo_turn, &mut node_turn]);
    println!(
        "latency: {RATE} commands/s for {seconds} s, from when each was due to its result read, ms, \
         each round:"
    );
    let tell = |name: &str, turns: &[[f64; 3]]| {
        let turns: Vec<String> = turns
            .iter()
            .map(|[p50, p99, p999]| format!("{p50:.2}/{p99:.2}/{p999:.2}"))
            .collect();
        println!("  {name} p50/p99/p99.9  {}", turns.join("  "));
    };
    tell("echo", &echoes);
    tell("node", &nodes);
    for (index, quantile) in QUANTILES.into_iter().enumerate() {
        let node = Spread::of(nodes.iter().map(|turn| turn[index])).median;
        let echo = Spread::of(echoes.iter().map(|turn| turn[index])).median;
        println!(
            "  p{}: node {node:.2} ms, echo {echo:.2} ms, ours {:.2} ms",
            quantile * 100.0,
            node - echo
        );
    }
}

fn quantiles(latencies: &Histogram<u64>) -> [f64; 3] {
    QUANTILES.map(|quantile| latencies.value_at_quantile(quantile) as f64 / 1e6)
}

/// Sends commands at the rate and waits for the result of each; the first second does not count.
fn answered(kafka: &KafkaSettings, prefix: &str, seconds: u64) -> Histogram<u64> {
    let results = clients::consumer(kafka, &kafka.results, true);
    // The consumer has asked for records before the first one is there.
    results.poll(Duration::from_millis(300));
    let count = RATE * (seconds + 1);
    let begin = Instant::now() + Duration::from_millis(50);
    let due = |number: u64| begin + Duration::from_nanos(number * 1_000_000_000 / RATE);
    std::thread::scope(|scope| {
        scope.spawn(|| send(kafka, prefix, count, &due));
        let mut latencies = measure::latencies();
        let mut left = count;
        while left > 0 {
            assert!(
                begin.elapsed() < DEADLINE,
                "{left} of {count} results are missing"
            );
            let Some(message) = results.poll(Duration::from_millis(100)) else {
                continue;
            };
            let now = Instant::now();
            let message = message.unwrap();
            let Some(number) = number_of(message.payload().unwrap_or_default(), prefix) else {
                continue;
            };
            left -= 1;
            if number >= RATE {
                latencies.saturating_record(now.duration_since(due(number)).as_nanos() as u64);
            }
        }
        latencies
    })
}

fn send(kafka: &KafkaSettings, prefix: &str, count: u64, due: &dyn Fn(u64) -> Instant) {
    let mut sender = Sender::new(kafka, &kafka.commands);
    for number in 0..count {
        let time = due(number);
        loop {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sender.poll();
            if left > Duration::from_micros(100) {
                std::thread::sleep(left - Duration::from_micros(60));
            }
        }
        let account = commands::account(number, ACCOUNTS);
        let value = commands::json(prefix, number, account, "USDT");
        sender.send(format!("u-{account}").as_bytes(), value.as_bytes());
    }
    sender.finish();
}

/// The number in the id of a command or a result; `None` for those of another turn.
fn number_of(value: &[u8], prefix: &str) -> Option<u64> {
    let start = br#"{"transactionId":""#;
    let rest = std::str::from_utf8(value.strip_prefix(start)?).ok()?;
    let id = rest.strip_prefix(prefix)?.split_once('"')?.0;
    id.rsplit_once('-')?.1.parse().ok()
}

/// Sends each record back, made as long as a result.
fn echo(kafka: &KafkaSettings, stop: &AtomicBool) {
    let consumer = clients::consumer(kafka, &kafka.commands, true);
    let mut sender = Sender::new(kafka, &kafka.results);
    let mut value = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if let Some(message) = consumer.poll(Duration::from_millis(1)) {
            let message = message.unwrap();
            value.clear();
            value.extend_from_slice(message.payload().unwrap_or_default());
            value.resize(RESULT_BYTES, b' ');
            sender.send(message.key().unwrap_or_default(), &value);
        }
        sender.poll();
    }
    sender.finish();
}
