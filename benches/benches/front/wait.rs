//! Changes that are answered with their outcome, against the sum of what they wait for.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use kilter_benches::measure;
use kilter_io::kafka::KafkaSettings;
use rdkafka::Message;

use crate::{
    bare,
    child::DEADLINE,
    clients::{self, Sender},
    drive::{Load, Ran, open},
    number,
    place::{self, WIDE},
    requests::{self, Signer},
    servers::Servers,
};

const ACCOUNTS: u64 = 1000;

pub fn run(servers: Option<&Servers>) {
    let rate = number("RATE", 1000);
    let seconds = number("SECONDS", 12);
    let rounds = number("ROUNDS", 3);
    let signer = Signer::new();
    println!(
        "wait: {rate} deposits a second for {seconds} s, open loop, answered with their outcome"
    );
    for round in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("node");
        let (node, address) = place::on_directory(&data);
        place::open_accounts(&address, ACCOUNTS, &signer);
        let ran = ask(&address, &signer, "w", rate, seconds);
        drop(node);
        let rows = bare::log_rows(&data, "w");
        let mut log = bare::empty_log(&dir.path().join("bare"));
        let commits = bare::at_rate(&rows, rate, |rows| bare::insert_log(&mut log, rows));
        tell(&format!("directory {round}"), &ran, &[("commit", &commits)]);
    }
    let Some(servers) = servers else { return };
    for round in 0..rounds {
        let name = format!("wait-{round}");
        let kafka = servers.topics(&name, &format!("{name}-results"));
        let database = servers.database();
        database.open_accounts(ACCOUNTS);
        let (mut node, address) = place::on_servers(&database, &kafka, &[]);
        node.wait_ready();
        let ran = ask(&address, &signer, "w", rate, seconds);
        drop(node);
        let rows = bare::outbox_rows(&database, "w");
        drop(database);
        let empty = servers.database();
        let mut conn = empty.conn();
        let commits = bare::at_rate(&rows, rate, |rows| bare::insert_outbox(&mut conn, rows));
        let echo = servers.topics(&format!("echo-{round}"), &format!("{name}-results"));
        let produced = produced(&echo, &rows, rate);
        let parts = [("commit", &commits), ("produce to consume", &produced)];
        tell(&format!("servers {round}"), &ran, &parts);
    }
}

fn ask(address: &str, signer: &Signer, prefix: &str, rate: u64, seconds: u64) -> Ran {
    let load = |wait_prefix: &str, seconds| {
        let load = Load {
            request: &|number| signer.deposit(wait_prefix, number, ACCOUNTS, true),
            is_right: &|_, message| requests::has_succeeded(message),
        };
        let ran = open(address, WIDE, 0, (rate, seconds), &load);
        assert_eq!(ran.wrong, 0, "not answered with success");
        ran
    };
    // The servers too are slow at first.
    load("warm", 3);
    load(prefix, seconds)
}

/// From when a record was due to be produced to when it is read, at a steady rate.
fn produced(kafka: &KafkaSettings, rows: &[String], rate: u64) -> Histogram<u64> {
    let consumer = clients::consumer(kafka, &kafka.commands, true);
    consumer.poll(Duration::from_millis(300));
    let count = rows.len() as u64;
    let begin = Instant::now() + Duration::from_millis(50);
    let due = |number: u64| begin + Duration::from_nanos(number * 1_000_000_000 / rate);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = Sender::new(kafka, &kafka.commands);
            for (number, row) in (0..).zip(rows) {
                loop {
                    let left = due(number).saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    sender.poll();
                    std::thread::sleep(left.min(Duration::from_micros(500)));
                }
                sender.send(b"bench", row.as_bytes());
            }
            sender.finish();
        });
        let mut times = measure::latencies();
        for number in 0..count {
            let message = loop {
                assert!(begin.elapsed() < DEADLINE, "records are missing");
                if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                    break message.unwrap();
                }
            };
            assert!(message.payload().is_some());
            let took = Instant::now().saturating_duration_since(due(number));
            times.saturating_record(took.as_nanos() as u64);
        }
        times
    })
}

fn tell(what: &str, ran: &Ran, parts: &[(&str, &Histogram<u64>)]) {
    println!("  {what}: {}", ran.quantiles());
    let ms = |times: &Histogram<u64>, quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    for (quantile, name) in [(0.5, "p50"), (0.99, "p99")] {
        let sum: f64 = parts.iter().map(|(_, times)| ms(times, quantile)).sum();
        let told: Vec<String> = parts
            .iter()
            .map(|(part, times)| format!("{part} {:.2}", ms(times, quantile)))
            .collect();
        println!(
            "    {name}: {:.2} ms, parts {} (applying counts as nothing), ratio {:.2} (goal 1.3)",
            ms(&ran.latencies, quantile),
            told.join(" + "),
            ms(&ran.latencies, quantile) / sum
        );
    }
}
