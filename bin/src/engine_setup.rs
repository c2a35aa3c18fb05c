//! From the command line's layout to a node's settings and a store's window.

use anyhow::{Context, bail};
use kilter_io::embedded::{CommandLog, DataDir, EmbeddedStore};

use crate::{cli::Layout, node::NodeSettings};

/// Slots of a command ring.
const RING_SLOTS: usize = 4096;

/// Checks what the command line says as a whole.
///
/// # Errors
///
/// When two flags contradict each other, or a CPU is not there.
pub fn settings(layout: &Layout) -> anyhow::Result<NodeSettings> {
    if layout.writers > layout.shards {
        bail!(
            "--writers {} is more than --shards {}: a writer serves at least one shard",
            layout.writers,
            layout.shards
        );
    }
    if !layout.pin.is_empty() {
        let cpus = core_affinity::get_core_ids().unwrap_or_default();
        if let Some(cpu) = layout
            .pin
            .iter()
            .find(|id| cpus.iter().all(|cpu| cpu.id != **id))
        {
            let there: Vec<String> = cpus.iter().map(|cpu| cpu.id.to_string()).collect();
            bail!(
                "--pin {cpu}: this process may use the CPUs {}",
                there.join(",")
            );
        }
    }
    Ok(NodeSettings {
        shards: layout.shards.into(),
        writers: layout.writers.into(),
        flush_interval_ms: layout.flush_interval_ms,
        flush_max_commands: layout.flush_max_commands,
        ring_slots: RING_SLOTS,
        wait: layout.wait,
        pin: layout.pin.clone(),
        window_max_bytes: layout.window_memory.unwrap_or_else(quarter_of_memory),
    })
}

/// Settles the window of a directory: as asked for a new one, as it is for an old one.
///
/// # Errors
///
/// When something else was asked for than an old directory has, or a file cannot be used.
pub fn open_log(dir: &DataDir, layout: &Layout) -> anyhow::Result<CommandLog> {
    let store = EmbeddedStore::open(dir)?;
    let mut window_ms = store.settings()?.window_ms;
    let log = CommandLog::open(dir, window_ms).context("cannot open the log")?;
    if let Some(asked) = layout.window {
        let asked_ms = asked.as_millis() as u64;
        if log.end().get() == 0 {
            store.set_window(dir, asked_ms)?;
            window_ms = asked_ms;
        } else if asked_ms != window_ms {
            bail!(
                "--window {asked_ms}ms: this directory remembers for {window_ms} ms; change that \
                 with kilter window {asked_ms}ms"
            );
        }
    }
    drop(log);
    Ok(CommandLog::open(dir, window_ms)?)
}

/// A quarter of the machine's memory; 1 GiB where that cannot be told.
pub fn quarter_of_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info.lines().find_map(|line| {
        let rest = line.strip_prefix("MemTotal:")?;
        rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kib.map_or(1 << 30, |kib| kib << 8)
}
