//! What `kilter demo` tells in the end.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;

use super::{latency::Latency, traffic::Written};
use crate::{node::Node, outcomes::Outcomes};

/// The figures of a run.
pub struct Report {
    outcomes: Outcomes,
    written: Written,
    elapsed: Duration,
    committed: u64,
    applied: Histogram<u64>,
    durable: Histogram<u64>,
    epochs: u64,
    pauses: u64,
    balances: u64,
    book_bytes: u64,
    ids: u64,
    window_bytes: u64,
}

impl Report {
    /// Takes the figures while the node still runs.
    pub fn of(
        node: &Node,
        outcomes: &Outcomes,
        latency: &Latency,
        written: Written,
        elapsed: Duration,
    ) -> Self {
        let gauges = node.gauges();
        let durable = latency.durable();
        Self {
            committed: outcomes.total(),
            outcomes: outcomes.clone(),
            written,
            elapsed,
            applied: latency.applied(),
            durable,
            epochs: latency.epochs(),
            pauses: node.pauses(),
            balances: gauges.iter().map(|gauge| gauge.balances()).sum(),
            book_bytes: gauges.iter().map(|gauge| gauge.book_bytes()).sum(),
            ids: gauges.iter().map(|gauge| gauge.ids()).sum(),
            window_bytes: gauges.iter().map(|gauge| gauge.window_bytes()).sum(),
        }
    }

    /// Whether the node told exactly what the traffic's writer knows.
    pub fn is_as_written(&self) -> bool {
        self.mistakes().is_empty()
    }

    fn mistakes(&self) -> Vec<String> {
        let written = &self.written;
        let of = |class, code| self.outcomes.of(class, code);
        let answered = of("SUCCESS", "")
            + of("FAILED", "INSUFFICIENT_AVAILABLE")
            + of("FAILED", "INSUFFICIENT_FROZEN")
            + of("FAILED", "BALANCE_OVERFLOW");
        [
            ("answered", written.opens + written.moves, answered),
            ("DUPLICATE", written.duplicates, of("DUPLICATE", "")),
            (
                "ACCOUNT_NOT_FOUND",
                written.unknown,
                of("REFUSED", "ACCOUNT_NOT_FOUND"),
            ),
            (
                "ACCOUNT_MISMATCH",
                written.mismatched,
                of("REFUSED", "ACCOUNT_MISMATCH"),
            ),
            (
                "INVALID_AMOUNT",
                written.amounts,
                of("REFUSED", "INVALID_AMOUNT"),
            ),
            ("UNKNOWN_TYPE", written.types, of("REFUSED", "UNKNOWN_TYPE")),
            ("MALFORMED", written.malformed, of("REFUSED", "MALFORMED")),
            ("in all", written.total(), self.outcomes.total()),
        ]
        .into_iter()
        .filter(|(_, written, told)| written != told)
        .map(|(name, written, told)| format!("{name}: {written} were written, {told} were told"))
        .collect()
    }

    /// Prints everything.
    pub fn print(&self) {
        println!("{}", self.outcomes.table());
        for mistake in self.mistakes() {
            println!("WRONG {mistake}");
        }
        let rate = u128::from(self.committed) * 1000 / self.elapsed.as_millis().max(1);
        println!(
            "{} commands in {}.{:03} s: {rate} commands/s, each exact and durable",
            self.committed,
            self.elapsed.as_secs(),
            self.elapsed.subsec_millis()
        );
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
            "latency, closed loop at full load",
            "p50",
            "p99",
            "p99.9",
            "max",
        ]);
        for index in 1..=4 {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for (name, histogram) in [
            ("append to applied", &self.applied),
            ("append to durable", &self.durable),
        ] {
            let at = |quantile| millis(histogram.value_at_quantile(quantile));
            table.add_row([
                name.to_owned(),
                at(0.5),
                at(0.99),
                at(0.999),
                millis(histogram.max()),
            ]);
        }
        println!("{table}");
        println!(
            "{} epochs of {} commands on average; the poller paused {} times for full rings",
            self.epochs,
            self.committed / self.epochs.max(1),
            self.pauses
        );
        println!(
            "{} balances at {} bytes each, {} transaction ids remembered at {} bytes each; {} MiB \
             resident in all",
            self.balances,
            self.book_bytes / self.balances.max(1),
            self.ids,
            self.window_bytes / self.ids.max(1),
            resident_bytes() >> 20
        );
        println!("on {}", host());
    }
}

fn millis(us: u64) -> String {
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

/// The CPU's name and the number of CPUs.
fn host() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("an unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{name}, {cpus} CPUs")
}

/// What this process holds in memory, as the system sees it; 0 where it does not tell.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}
