//! `kilter serve`: leads on servers, or serves a directory.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use kilter_engine::clock::Clock;
use kilter_io::{
    api::Health,
    clock::SystemClock,
    embedded::{DataDir, LegMover},
};
use parking_lot::Mutex;

use crate::{
    Answer, cli, embedded_node, engine_setup,
    front::{Awaited, FrontDoor, embedded as front, keys},
    logging,
    node::Node,
    outcomes::{CountingSink, Outcomes},
    servers,
    signals::{Hangup, Interrupt},
};

/// How often the main thread looks around.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

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
    if !args.role.is_empty() {
        bail!("--role divides the work on servers; a directory is served by one process");
    }
    let settings = engine_setup::settings(&args.layout)?;
    let path = args.data.clone().unwrap_or_else(|| "kilter-data".into());
    let interrupt = Interrupt::listen()?;
    let hangup = Hangup::listen()?;
    let dir = DataDir::open_exclusive(&path)?;
    let (api, told) = front::settings(&dir)?;
    logging::init(&told);
    let keys = match api.enabled {
        true => keys(&api)?,
        false => None,
    };
    let log = engine_setup::open_log(&dir, &args.layout)?;
    let end = log.end();
    let log = Arc::new(Mutex::new(log));
    let outcomes = Outcomes::default();
    let awaited = Awaited::default();
    let sink = CountingSink::<_>::new(outcomes.clone(), None, awaited.clone());
    let node = embedded_node::start(&dir, &settings, sink, Arc::new(()), &mut |line| {
        eprintln!("{line}");
    })?;
    let health = Health::new();
    health.set(true, "OK");
    let door = match api.enabled {
        true => {
            let over = front::Over {
                dir: &dir,
                log: &log,
                node: &node,
                awaited,
                health: health.clone(),
            };
            Some(front::open(&api, keys, over)?)
        }
        false => None,
    };
    eprintln!(
        "serving {} from offset {end} on; SIGTERM stops",
        path.display()
    );
    if let (Some(_), Some(file)) = (&door, &api.secret_file) {
        tracing::info!(file = %file.display(), "requests are signed with the secret in this file");
    }
    let mut mover = LegMover::open(&dir)?;
    let clock = SystemClock::new();
    while !interrupt.is_asked() {
        if hangup.is_asked()
            && let Some(door) = &door
        {
            reload(door, &dir);
        }
        let moved = look(&node, door.as_ref())
            .and_then(|()| Ok(mover.step(&mut log.lock(), clock.wall_ms())?));
        match moved {
            Ok(0) => std::thread::park_timeout(LOOK_INTERVAL),
            Ok(_) => node.wake(),
            // What stopped the node is the cause; without one it is what stopped us.
            Err(error) => return Err(node.stop().err().unwrap_or(error)),
        }
    }
    health.set(false, "STOPPING");
    if let Some(door) = door {
        door.close();
    }
    node.stop()?;
    if outcomes.total() > 0 {
        println!("{}", outcomes.table());
    }
    Ok(Answer::Yes)
}

fn reload(door: &FrontDoor, dir: &DataDir) {
    match front::settings(dir) {
        Ok((api, _)) => door.reload(&api),
        Err(error) => tracing::error!("the keys for signatures stay as they were: {error:#}"),
    }
}

fn look(node: &Node, door: Option<&FrontDoor>) -> anyhow::Result<()> {
    node.check()?;
    door.map_or(Ok(()), FrontDoor::check)
}
