//! The machine a figure was taken on.

use std::fs;
use std::process::Command;

use core_affinity::CoreId;

/// One line to print above any figure: processor, CPUs, kernel, commit.
#[must_use]
pub fn line() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "host: {}, {cpus} CPUs, Linux {}, commit {}",
        processor().unwrap_or_else(|| "unknown processor".to_owned()),
        kernel.trim(),
        commit().unwrap_or_else(|| "unknown".to_owned()),
    )
}

fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The first two CPUs this process may run on, or `None` if there are fewer.
#[must_use]
pub fn two_cpus() -> Option<[CoreId; 2]> {
    match core_affinity::get_core_ids()?[..] {
        [first, second, ..] => Some([first, second]),
        _ => None,
    }
}

/// Pins this thread.
///
/// # Panics
///
/// If the operating system refuses: the figures would be of something else.
pub fn pin(cpu: CoreId) {
    assert!(
        core_affinity::set_for_current(cpu),
        "cannot pin to CPU {}",
        cpu.id
    );
}
