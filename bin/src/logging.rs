//! What the node tells: lines on standard error.

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Begins to log to standard error as `log` says. The first call counts; later ones change
/// nothing.
///
/// # Panics
///
/// Never: a filter that cannot be read is refused with the configuration.
pub fn init(log: &Log) {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let filter = EnvFilter::builder()
            .parse(&log.level)
            .unwrap_or_else(|_| EnvFilter::new("info"));
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        // Fails when somebody else set a subscriber up, such as a test: theirs stays.
        let _ = match log.format {
            LogFormat::Text => lines
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .try_init(),
            LogFormat::Json => lines.json().flatten_event(true).try_init(),
        };
    });
}

/// Whether `text` says what to log.
pub fn is_filter(text: &str) -> bool {
    let is_level = |word: &str| {
        word.parse::<tracing_subscriber::filter::LevelFilter>()
            .is_ok()
    };
    // To the parser an empty word is a level, and any other lone word a module: "inof" would
    // log nothing.
    let is_meant = |part: &str| {
        part.contains(['=', '[', ':']) || (!part.trim().is_empty() && is_level(part.trim()))
    };
    text.split(',').all(is_meant) && EnvFilter::builder().parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for text in [
            "info",
            "off",
            "TRACE",
            "info,kilter=debug",
            "warn,kilter_io::log=trace",
        ] {
            assert!(is_filter(text), "{text:?}");
        }
        for text in ["", " ", "inof", "info,", "kilter=loud", "info,kilter"] {
            assert!(!is_filter(text), "{text:?}");
        }
    }

    #[test]
    fn beginning_twice_is_beginning_once() {
        let log = Log {
            format: LogFormat::Json,
            level: "warn".to_owned(),
        };
        init(&log);
        init(&log);
    }
}
