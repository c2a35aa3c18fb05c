//! `kilter serve`: leads on servers, or serves a directory.

use std::{sync::Arc, time::Duration};

use kilter_io::embedded::DataDir;

use crate::{
    Answer, cli, embedded_node, engine_setup,
    outcomes::{CountingSink, Outcomes},
    servers,
    signals::Interrupt,
};

/// How often the main thread looks around.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs `kilter serve`.
///
/// # Errors
///
/// Whatever stopped the node.
pub fn run(args: &cli::Serve) -> anyhow::Result<Answer> {
    if args.data.is_none() && (args.source.is_given() || names_servers()) {
        return servers::serve(args);
    }
    embedded(args)
}

/// Whether the environment names a server: whoever says so does not mean a directory.
fn names_servers() -> bool {
    ["MYSQL_HOST", "KAFKA_BROKERS"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// Keeps a node on a directory running until it is asked to stop.
fn embedded(args: &cli::Serve) -> anyhow::Result<Answer> {
    let settings = engine_setup::settings(&args.layout)?;
    let path = args.data.clone().unwrap_or_else(|| "kilter-data".into());
    let interrupt = Interrupt::listen()?;
    let dir = DataDir::open_exclusive(&path)?;
    let log = engine_setup::open_log(&dir, &args.layout)?;
    let outcomes = Outcomes::default();
    let sink = CountingSink::<_>::new(outcomes.clone(), None, ());
    let node = embedded_node::start(&dir, &settings, sink, Arc::new(()), &mut |line| {
        eprintln!("{line}");
    })?;
    eprintln!(
        "serving {} from offset {} on; SIGTERM stops",
        path.display(),
        log.end()
    );
    while !interrupt.is_asked() {
        if let Err(error) = node.check() {
            return Err(node.stop().err().unwrap_or(error));
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    node.stop()?;
    if outcomes.total() > 0 {
        println!("{}", outcomes.table());
    }
    Ok(Answer::Yes)
}
