//! The `kilter` program: what its commands do, and which exit code that gives.
//!
//! 0: fine. 1: the answer is no, or it failed. 2: misuse of the command line.

mod apply;
mod audit;
mod cli;
#[allow(dead_code, unused_imports, reason = "used by serve")]
mod config;
mod demo;
mod embedded_node;
mod engine_setup;
#[allow(dead_code, reason = "used by serve")]
mod exporter;
#[allow(dead_code, unused_imports, reason = "used by serve")]
mod http;
#[allow(dead_code, reason = "used by serve")]
mod logging;
#[allow(dead_code, reason = "used by serve")]
mod metrics_names;
mod node;
mod operator;
mod outcomes;
mod progress;
mod show;
mod signals;
mod threads;
mod units;

use std::{io::Write, process::ExitCode};

use clap::Parser;

use cli::{Cli, Command};

/// What a command found, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Fine.
    Yes,
    /// No such thing, or something is wrong with the data.
    No,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let answer = match &cli.command {
        Command::Demo(demo) => demo::run(demo),
        Command::Apply(apply) => apply::run(apply),
        Command::Balance(balance) => show::balance(balance),
        Command::Balances(show) => show::balances(show),
        Command::Accounts(show) => show::accounts(show),
        Command::Ledger(ledger) => show::ledger(ledger),
        Command::DeadLetters(show) => show::dead_letters(show),
        Command::Audit(data) => audit::run(&data.data),
        Command::Window(window) => operator::window(window),
        Command::Log(log) => operator::log(log),
        Command::Config(config) => config::run(config),
    };
    match answer {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(std::io::stderr(), "kilter: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with all its causes, each said once.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
