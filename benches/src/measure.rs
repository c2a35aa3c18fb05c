//! What is measured beside a figure, so that the figure can be judged.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use hdrhistogram::Histogram;

use crate::host::pin;

/// How long a cache line takes from one CPU to the other and back, ns: the mean of many.
///
/// The two CPUs may be siblings of one core or two cores, and in a virtual machine that changes
/// while one measures; every hand-over figure is to be read with this one.
#[must_use]
pub fn cache_line_round_trip_ns([here, there]: [CoreId; 2]) -> f64 {
    const TURNS: u64 = 100_000;
    let line = crossing::Line::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(there);
            for turn in 0..TURNS {
                line.wait_for(2 * turn + 1);
                line.set(2 * turn + 2);
            }
        });
        scope
            .spawn(|| {
                pin(here);
                line.set(1);
                line.wait_for(2);
                let started = Instant::now();
                for turn in 1..TURNS {
                    line.set(2 * turn + 1);
                    line.wait_for(2 * turn + 2);
                }
                started.elapsed().as_nanos() as f64 / (TURNS - 1) as f64
            })
            .join()
            .expect("no panic")
    })
}

mod crossing {
    use super::{AtomicU64, Ordering};

    #[derive(Default)]
    #[repr(align(128))]
    pub(super) struct Line(AtomicU64);

    impl Line {
        pub(super) fn set(&self, value: u64) {
            self.0.store(value, Ordering::Release);
        }

        pub(super) fn wait_for(&self, value: u64) {
            while self.0.load(Ordering::Acquire) < value {
                std::hint::spin_loop();
            }
        }
    }
}

/// How long a spinning thread on `cpu` is kept from running, in ns: the gaps between two looks at
/// the clock over `span`. No latency figure of the same machine can be better than this.
#[must_use]
pub fn hiccups(cpu: CoreId, span: Duration) -> Histogram<u64> {
    thread::spawn(move || {
        pin(cpu);
        let mut gaps = latencies();
        let started = Instant::now();
        let mut last = started;
        while last - started < span {
            let now = Instant::now();
            gaps.saturating_record((now - last).as_nanos() as u64);
            last = now;
        }
        gaps
    })
    .join()
    .expect("no panic")
}

/// A histogram for times from 1 ns to 10 s with three digits.
#[must_use]
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bounds are in order")
}

/// `p50 … p99 … p99.9 … max …` of times recorded in ns.
#[must_use]
pub fn percentiles(histogram: &Histogram<u64>) -> String {
    let at = |quantile| histogram.value_at_quantile(quantile);
    format!(
        "p50 {} ns  p99 {} ns  p99.9 {} ns  max {} us",
        at(0.5),
        at(0.99),
        at(0.999),
        histogram.max() / 1000
    )
}

/// The middle of some figures, and how far they go apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// # Panics
    ///
    /// If there are no figures.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let last = figures.len() - 1;
        Self {
            min: figures[0],
            median: (figures[last / 2] + figures[last.div_ceil(2)]) / 2.0,
            max: figures[last],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(
            f,
            "{:.digits$} ({:.digits$}..{:.digits$})",
            self.median, self.min, self.max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!(spread.to_string(), "2.50 (1.00..4.00)");
        assert_eq!(format!("{:.0}", Spread::of([7.0])), "7 (7..7)");
    }
}
