//! Collects figures and renders them for Prometheus.

use std::{thread::JoinHandle, time::Duration};

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::metrics_names::{RESIDENT_BYTES, describe_all};

#[cfg(test)]
mod exposition;
#[cfg(test)]
mod tests;

/// The content type of what [`Exporter::render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// How often samples of histograms are put into their buckets when nobody asks for them; until
/// then each takes memory of its own.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Bounds for times in ms. The promises and alerts (50 and 100 ms) are bounds, so that they are
/// told exactly.
const MS_BOUNDS: &[f64] = &[
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0,
    10_000.0, 60_000.0,
];

/// Bounds for numbers of records.
const SIZE_BOUNDS: &[f64] = &[
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
    200.0,
    500.0,
    1_000.0,
    2_000.0,
    5_000.0,
    10_000.0,
    20_000.0,
    50_000.0,
    100_000.0,
    1_000_000.0,
];

/// A recorder with our bounds.
///
/// # Errors
///
/// None: there are bounds.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_ms".to_owned()), MS_BOUNDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), SIZE_BOUNDS)
}

/// Why figures cannot be collected.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// Somebody else collects them in this process.
    #[error("figures are collected already")]
    Installed(#[from] BuildError),
    /// The system gives no thread.
    #[error("no thread to look after figures")]
    Thread(#[from] std::io::Error),
}

/// The collector of this process' figures. Dropping it ends its thread; figures stay.
pub struct Exporter {
    handle: PrometheusHandle,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Collects, from now on, what the macros of `metrics` are given. Once a process.
    ///
    /// # Errors
    ///
    /// When somebody else collects them, or the system gives no thread.
    pub fn install() -> Result<Self, ExporterError> {
        let handle = builder()?.install_recorder()?;
        describe_all();
        let (stop, stopped) = bounded::<()>(0);
        let upkeep = handle.clone();
        let body = move || {
            while stopped.recv_timeout(UPKEEP_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                upkeep.run_upkeep();
            }
        };
        let thread = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(body)?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What renders all figures as Prometheus reads them ([`CONTENT_TYPE`]); for the HTTP server.
    pub fn render(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let handle = self.handle.clone();
        move || {
            if let Some(bytes) = resident_bytes() {
                // A gauge is a float: exact up to 8 PiB.
                metrics::gauge!(RESIDENT_BYTES).set(bytes as f64);
            }
            handle.render()
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

/// Memory of this process that is in RAM; `None` where there is no `/proc`.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| {
        let rest = line.strip_prefix("VmRSS:")?;
        let kib = rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
        Some(kib << 10)
    })
}
