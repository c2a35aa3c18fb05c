//! A node whose ledger is the topic of results against a loop that only reads and produces.

use std::time::{Duration, Instant};

use kilter_benches::measure::Spread;
use kilter_io::kafka::KafkaSettings;
use rdkafka::{Message as _, consumer::BaseConsumer};

use crate::{
    child::DEADLINE,
    clients::{self, Sender},
    commands,
    flush::node_rate,
    in_turns, number, pairs,
    servers::Servers,
    thousands,
};

/// The hot set.
const ACCOUNTS: u64 = 1000;

/// How many records a batch has, as in a node.
const BATCH: usize = 1024;

pub fn run(servers: &Servers) {
    let count = 2 * number("COMMANDS", 600_000);
    let rounds = number("ROUNDS", 3);
    let kafka = servers.topics("hot", "hot-results");
    let bare_kafka = servers.topics("hot", "hot-bare");
    commands::fill(&kafka, count, ACCOUNTS);
    let node = || {
        let database = servers.database();
        database.open_accounts(ACCOUNTS);
        let told = node_rate(&database, &kafka, count, &[("ENGINE_LEDGER", "topic")]);
        let (balances, versions, adds_up) = database.sums(&commands::sum(count));
        assert!((balances, versions, adds_up) == (ACCOUNTS, count, true));
        told
    };
    // One round ahead shows how long a result is; the page cache knows the topic then, too.
    node();
    let result = mean_value_bytes(&clients::consumer(&kafka, &kafka.results, false), count);
    let mut bare_rates = Vec::new();
    let mut node_rates = Vec::new();
    let mut told = Vec::new();
    in_turns(
        rounds,
        [
            &mut || bare_rates.push(bare(&bare_kafka, count, result)),
            &mut || {
                let (rate, epoch, cpu_us) = node();
                node_rates.push(rate);
                told.push(format!("{epoch:.0} at {cpu_us:.2} µs"));
            },
        ],
    );
    let bare = Spread::of(bare_rates.iter().copied());
    let node = Spread::of(node_rates.iter().copied());
    println!(
        "topic: {count} commands, {ACCOUNTS} accounts, results of {result} bytes, each round:"
    );
    println!("  bare records/s   {}", thousands(&bare_rates));
    println!("  node commands/s  {}", thousands(&node_rates));
    println!(
        "  node's mean epoch and its CPU a command: {}",
        told.join(", ")
    );
    println!(
        "  medians: node {:.0}/s, bare {:.0}/s, ratio of medians {:.2}, pair by pair {} (goal 0.8)",
        node.median,
        bare.median,
        node.median / bare.median,
        pairs(&node_rates, &bare_rates)
    );
}

/// The mean of the results' values; there must be one of each command.
fn mean_value_bytes(results: &BaseConsumer, count: u64) -> usize {
    let begin = Instant::now();
    let mut bytes = 0;
    for _ in 0..count {
        assert!(begin.elapsed() < DEADLINE, "a result is missing");
        let message = results.poll(Duration::from_secs(10));
        let message = message.expect("a result of each command").unwrap();
        bytes += message.payload().unwrap_or_default().len();
    }
    bytes / count as usize
}

/// Records a second through one thread: read, produce as many bytes, until all is acknowledged.
fn bare(kafka: &KafkaSettings, count: u64, value_bytes: usize) -> f64 {
    let consumer = clients::consumer(kafka, &kafka.commands, false);
    let mut sender = Sender::new(kafka, &kafka.results);
    let mut room = Vec::with_capacity(BATCH);
    let value = vec![b'x'; value_bytes];
    let mut taken = 0;
    // From the first records on, as the node's time is from its first commit on.
    let mut from = None;
    let mut begin = Instant::now();
    while taken < count {
        let got = clients::take_batch(&consumer, &mut room, |key, _| sender.send(key, &value));
        if got > 0 && from.is_none() {
            begin = Instant::now();
            from = Some(got as u64);
        }
        taken += got as u64;
        sender.poll();
        if got == 0 {
            std::thread::yield_now();
        }
    }
    sender.finish();
    (count - from.unwrap_or(0)) as f64 / begin.elapsed().as_secs_f64()
}
