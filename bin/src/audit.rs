//! `kilter audit`: the store held against the log.

use kilter_io::embedded::{
    DataDir,
    audit::{AuditReport, audit},
};

use crate::{Answer, cli, progress::Progress, servers, source::Place};

/// Runs `kilter audit`.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn run(args: &cli::Audit) -> anyhow::Result<Answer> {
    let path = match args.source.place()? {
        Place::Directory(path) => path,
        Place::Servers(config) => return servers::audit::run(&config, args.replay),
    };
    let dir = DataDir::open_for_reading(&path)?;
    let report = check(&dir)?;
    Ok(print(&report))
}

/// Audits a directory, with progress.
///
/// # Errors
///
/// When it cannot be read.
pub fn check(dir: &DataDir) -> anyhow::Result<AuditReport> {
    let mut progress = Progress::new("auditing", None);
    let report = audit(dir, &mut |records| {
        progress.set(records, || "records".to_owned());
    });
    progress.finish();
    Ok(report?)
}

/// Says what an audit found.
pub fn print(report: &AuditReport) -> Answer {
    println!(
        "audited: {} records, {} ledger entries, {} duplicates, {} dead letters, {} accounts, {} \
         balances{}",
        report.records,
        report.entries,
        report.duplicates,
        report.dead_letters,
        report.accounts,
        report.balances,
        match report.waiting {
            0 => String::new(),
            waiting => format!("; {waiting} records of the log wait to be applied"),
        }
    );
    println!("legs in flight: {}", report.in_flight);
    if report.in_flight.refused > 0 {
        println!("what was refused lands no more by itself: kilter legs resend sends it again");
    }
    if report.differences == 0 {
        println!("the store is exact: every balance is what the log makes it");
        return Answer::Yes;
    }
    println!("{} differences:", report.differences);
    for difference in &report.first {
        println!("  {difference}");
    }
    if report.differences > report.first.len() as u64 {
        println!("  …");
    }
    Answer::No
}
