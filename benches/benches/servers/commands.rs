//! The commands of every part: deposits, spread evenly over the accounts.

use std::time::Duration;

use kilter_io::kafka::{CommandProducer, KafkaSettings};

/// The account of the command with this number: uniform, by a multiplicative hash.
pub fn account(number: u64, accounts: u64) -> u64 {
    1 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % accounts
}

/// Whole units that it deposits; a quarter comes on top.
pub fn whole(number: u64) -> u64 {
    number % 1000
}

/// Its transaction id.
pub fn id(prefix: &str, number: u64) -> String {
    format!("{prefix}-7f3c9a52-{number:012}")
}

/// Its record.
pub fn json(prefix: &str, number: u64, account: u64, currency: &str) -> String {
    format!(
        r#"{{"transactionId":"{}","accountId":{account},"userId":"u-{account}","currencyCode":"{currency}","type":"DEPOSIT","amount":"{}.25","description":"a bench's own"}}"#,
        id(prefix, number),
        whole(number)
    )
}

/// What so many commands deposit together, as SQL reads it.
pub fn sum(commands: u64) -> String {
    let whole: u64 = (0..commands).map(whole).sum();
    format!("{whole} + {commands} * 0.25")
}

/// Fills the topic of commands, and waits for the brokers.
pub fn fill(kafka: &KafkaSettings, commands: u64, accounts: u64) {
    let mut producer = CommandProducer::new(kafka).unwrap();
    for number in 0..commands {
        let account = account(number, accounts);
        let key = format!("u-{account}");
        let value = json("c", number, account, "USDT");
        producer.send(key.as_bytes(), value.as_bytes()).unwrap();
    }
    producer.finish(Duration::from_secs(120)).unwrap();
}
