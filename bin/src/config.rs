//! The settings of a node: one file, then the environment, then `--set`; the later wins.
//!
//! Every setting is declared once, in [`keys`]: its name, its words, what it may be, its default
//! and its names in the environment. Reading, checking, printing and the documentation follow from
//! that. Everything that is wrong is told at once, and nothing that is secret is ever printed.

use std::{collections::BTreeMap, path::Path};

mod environment;
mod keys;
mod kinds;
mod mistakes;
mod nearest;
mod print;
mod reader;
mod together;
mod types;
mod unknown;
mod value;

#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use keys::{Api, Config, Log, Mysql};
pub use mistakes::{Mistake, Mistakes};
pub use together::NO_LOOK_UPS;
pub use types::{Ledger, LogFormat, Secret, Signatures, Tls};

use crate::cli::ConfigArgs;
use reader::{File, Printed, Reader};

impl Config {
    /// The settings of `file`, `env` and `set` (each `section.key=value`), the later over the
    /// earlier.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, by themselves and together.
    pub fn load(file: Option<&Path>, env: &Environment, set: &[String]) -> Result<Self, Mistakes> {
        read(file, env, set).map(|(config, _)| config)
    }

    /// The settings that the command line names, with the environment of this process.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn from_args(args: &ConfigArgs) -> Result<Self, Mistakes> {
        let env = Environment::of_process();
        Self::load(args.config.as_deref(), &env, &args.set)
    }
}

/// The settings that the command line names, printed as a file, secrets masked.
///
/// # Errors
///
/// Everything that is wrong with them.
pub fn print_in_force(args: &ConfigArgs) -> Result<String, Mistakes> {
    let env = Environment::of_process();
    let (_, printed) = read(args.config.as_deref(), &env, &args.set)?;
    Ok(print::in_force(&printed))
}

/// The defaults, printed as a file.
///
/// # Errors
///
/// None: a test reads every default.
pub fn print_defaults() -> Result<String, Mistakes> {
    let (_, printed) = read(None, &Environment::default(), &[])?;
    Ok(print::annotated(&printed))
}

fn read(
    file: Option<&Path>,
    env: &Environment,
    set: &[String],
) -> Result<(Config, Vec<Printed>), Mistakes> {
    let mut mistakes = Vec::new();
    let mut reader = Reader {
        file: file.and_then(|path| open(path, &mut mistakes)),
        env,
        set: assignments(set, &mut mistakes),
        mistakes,
        printed: Vec::new(),
        wrong: Default::default(),
    };
    unknown::note_unknown(&mut reader, &keys::sections());
    let config = Config::read(&mut reader);
    together::note_contradictions(&config, &mut reader);
    Mistakes::none_of(reader.mistakes)?;
    Ok((config, reader.printed))
}

/// The file at `path`; without it, if it cannot be read: the other sources are checked still.
fn open(path: &Path, mistakes: &mut Vec<Mistake>) -> Option<File> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Err(error) => {
            mistakes.push(Mistake::new(name, format!("cannot be read: {error}")));
            None
        }
        Ok(text) => match value::parse(&text) {
            Ok(root) => Some(File { name, root }),
            Err(errors) => {
                let wrong = errors.iter().map(|error| {
                    let what = format!("this is no TOML: {}", error.what);
                    Mistake::new(format!("{name}:{}", error.line), what)
                });
                mistakes.extend(wrong);
                None
            }
        },
    }
}

/// Values by name; the last for a name that comes again.
fn assignments(set: &[String], mistakes: &mut Vec<Mistake>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (index, text) in set.iter().enumerate() {
        if let Some((name, value)) = text.split_once('=') {
            found.insert(name.trim().to_owned(), value.to_owned());
        } else {
            // The text is not shown: it may be a secret.
            let nth = index + 1;
            let what = "there is no = in it; it should be section.key=value";
            mistakes.push(Mistake::new(format!("--set number {nth}"), what));
        }
    }
    found
}

/// Runs `kilter config …`.
///
/// # Errors
///
/// When the settings are wrong.
pub fn run(args: &crate::cli::Config) -> anyhow::Result<crate::Answer> {
    use std::io::Write;

    let mut out = std::io::stdout().lock();
    match args {
        crate::cli::Config::Check(args) => {
            let config = Config::from_args(args)?;
            if config.api.enabled {
                crate::front::keys(&config.api)?;
            }
            writeln!(out, "ok: {}", config.summary())?;
        }
        crate::cli::Config::Print(args) if args.defaults => {
            out.write_all(print_defaults()?.as_bytes())?;
        }
        crate::cli::Config::Print(args) => {
            out.write_all(print_in_force(&args.source)?.as_bytes())?;
        }
    }
    Ok(crate::Answer::Yes)
}

impl Config {
    /// The gist on a line, without secrets.
    pub fn summary(&self) -> String {
        let redis = if self.redis.enabled {
            format!("redis {}:{}", self.redis.host, self.redis.port)
        } else {
            "no redis".to_owned()
        };
        let metrics = if self.metrics.enabled {
            let address = std::net::SocketAddr::new(self.metrics.bind, self.metrics.port);
            format!("metrics on {address}")
        } else {
            "no metrics".to_owned()
        };
        let api = if self.api.enabled {
            let grpc = std::net::SocketAddr::new(self.api.bind, self.api.grpc_port);
            format!("front door on {grpc} and {}", self.api.rest_port)
        } else {
            "no front door".to_owned()
        };
        format!(
            "kafka {} (topic {}), mysql {}:{} (database {}), {redis}, {} shards, {} writers, {api}, \
             {metrics}",
            self.kafka.brokers,
            self.kafka.commands,
            self.mysql.host,
            self.mysql.port,
            self.mysql.database,
            self.engine.shards,
            self.engine.writers
        )
    }
}
