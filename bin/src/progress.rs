//! Progress for people: a bar on a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is printed where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A long piece of work with a known or unknown end. Prints to standard error.
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    total: Option<u64>,
    last_line: Instant,
}

impl Progress {
    /// Work of `total` steps, if that is known.
    pub fn new(what: &'static str, total: Option<u64>) -> Self {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        let template = match total {
            Some(_) => "{prefix} [{bar:32}] {pos}/{len} {msg}",
            None => "{prefix} {pos} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        Self {
            bar,
            what,
            total,
            last_line: Instant::now(),
        }
    }

    /// Tells how far it is.
    pub fn set(&mut self, position: u64, message: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_position(position);
            self.bar.set_message(message());
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            match self.total {
                Some(total) => eprintln!("{}: {position} of {total}, {}", self.what, message()),
                None => eprintln!("{}: {position} {}", self.what, message()),
            }
        }
    }

    /// Prints a line that stays.
    pub fn tell(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
