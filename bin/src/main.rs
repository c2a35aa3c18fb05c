//! The `kilter` program: what its commands do, and which exit code that gives.
//!
//! 0: fine. 1: the answer is no, or it failed. 2: misuse of the command line. 3: another node took
//! over. 4: a server was away for longer than its limit.

mod apply;
mod audit;
mod cli;
mod config;
mod demo;
mod embedded_node;
mod engine_setup;
mod exporter;
mod front;
mod http;
mod legs;
mod logging;
#[allow(dead_code, reason = "tests hold dashboards against every name")]
mod metrics_names;
mod node;
mod operator;
mod outcomes;
mod progress;
mod serve;
mod servers;
mod show;
mod sign;
mod signals;
mod source;
mod threads;
mod units;

use std::{io::Write, process::ExitCode};

use clap::Parser;

use cli::{Cli, Command};

/// A request is read by one thread, answered by another and sent by the first, which glibc's malloc pays
/// dearly for. Of the C libraries' memory, too.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
        Command::Init(init) => servers::init(init),
        Command::Serve(serve) => serve::run(serve),
        Command::Redis(redis) => servers::redis(redis),
        Command::Load(load) => servers::load(load),
        Command::Demo(demo) if demo.source.is_given() => servers::demo(demo),
        Command::Apply(apply) if apply.source.is_given() => servers::apply(apply),
        Command::Demo(demo) => demo::run(demo),
        Command::Apply(apply) => apply::run(apply),
        Command::Balance(balance) => show::balance(balance),
        Command::Balances(show) => show::balances(show),
        Command::Accounts(show) => show::accounts(show),
        Command::Ledger(ledger) => show::ledger(ledger),
        Command::DeadLetters(show) => show::dead_letters(show),
        Command::Audit(args) => audit::run(args),
        Command::Window(window) => operator::window(window),
        Command::Log(log) => operator::log(log),
        Command::Legs(args) => legs::run(args),
        Command::Sign(sign) => sign::run(sign),
        Command::Config(config) => config::run(config),
    };
    match answer {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit_code(&error);
            // Nothing is left to do when even this cannot be written.
            let _ = writeln!(std::io::stderr(), "kilter: {}", chain(&error));
            code
        }
    }
}

/// Another node took over.
const LEASE_LOST: u8 = 3;
/// A server was away for longer than its limit.
const OUTAGE: u8 = 4;

/// What tells whoever started the process why it ended.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let store = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<kilter_io::mysql::MysqlError>());
    match store {
        Some(error) if error.is_fenced() => LEASE_LOST.into(),
        Some(kilter_io::mysql::MysqlError::Outage { .. }) => OUTAGE.into(),
        _ => ExitCode::FAILURE,
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
