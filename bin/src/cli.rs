//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use kilter_engine::{LegName, wait::WaitStrategy};

use crate::{
    front::Role,
    units::{duration, size},
};

/// A balance engine: exact, durable balances from a log of commands.
///
/// Everything lives in one directory (--data): the log of commands and the store of balances.
/// A crash at any moment loses nothing and doubles nothing; start again to go on.
#[derive(Debug, Parser)]
#[command(name = "kilter", version, about, long_about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make topics and tables where they are missing, and check those that are there.
    Init(Init),
    /// Lead: apply commands from the log until stopped; or stand by for whoever does.
    Serve(Serve),
    /// Look after the balances in Redis.
    #[command(subcommand)]
    Redis(Redis),
    /// Produce commands at a steady rate, and tell how long their results took.
    Load(Load),
    /// Make up commands, apply them through the real path, and audit what came out.
    Demo(Demo),
    /// Append a file of commands to the log and apply them. The same file again changes nothing.
    Apply(Apply),
    /// Print one balance.
    Balance(Balance),
    /// Print all balances.
    Balances(Show),
    /// Print all accounts.
    Accounts(Show),
    /// Print the ledger: what each answered command did.
    Ledger(Ledger),
    /// Print the records that were refused.
    DeadLetters(Show),
    /// Check every balance, entry and offset: in a directory against its log, on servers against
    /// each other, and with --replay against the log, too.
    Audit(Audit),
    /// Print or change how long a transaction id is remembered.
    Window(Window),
    /// Decide about single records of the log.
    #[command(subcommand)]
    Log(Log),
    /// Print the legs of transfers that have not landed, or send one again that was refused.
    Legs(Legs),
    /// Print the headers that sign a request, to try one with curl or grpcurl.
    Sign(Sign),
    /// Check or print the settings of a node.
    #[command(subcommand)]
    Config(Config),
}

/// Where the data is.
#[derive(Debug, Args)]
pub struct Data {
    /// The directory with log and store.
    #[arg(
        long,
        env = "KILTER_DATA",
        default_value = "kilter-data",
        value_name = "DIR"
    )]
    pub data: PathBuf,
}

/// Where the data is: in a directory, or on the servers that a configuration names.
#[derive(Debug, Args)]
pub struct Source {
    /// The directory with log and store [env: KILTER_DATA=] [default: kilter-data]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "set"])]
    pub data: Option<PathBuf>,
    /// The servers of these settings (TOML) instead of a directory [env: KILTER_CONFIG=]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The servers of the settings with this one, such as mysql.host=db; may be given again.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// How the node is laid out; changes no outcome.
#[derive(Debug, Args)]
pub struct Layout {
    /// Threads that own users, each a hash range.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    pub shards: u16,
    /// Threads that commit epochs, each for neighbouring shards; at most as many as shards.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    pub writers: u16,
    /// Cut an epoch when it is this old, in ms.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=60_000), value_name = "MS")]
    pub flush_interval_ms: u64,
    /// Cut an epoch when it holds this many commands.
    #[arg(long, default_value_t = 32_768, value_parser = clap::value_parser!(u64).range(1..=1_000_000), value_name = "N")]
    pub flush_max_commands: u64,
    /// How threads wait: busy-spin, spin-then-yield or park.
    #[arg(long, default_value_t = WaitStrategy::Park, value_name = "STRATEGY")]
    pub wait: WaitStrategy,
    /// CPUs to pin poller, shards, publisher and writers to, in turn, such as 2,3,4.
    #[arg(long, value_delimiter = ',', value_name = "CPUS")]
    pub pin: Vec<usize>,
    /// How long a transaction id is remembered, such as 24h; for a new directory only.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub window: Option<Duration>,
    /// How much memory remembered transaction ids may take, such as 4GiB; a quarter of the
    /// machine's if not given (demo: what its commands need).
    #[arg(long, value_parser = size, value_name = "SIZE")]
    pub window_memory: Option<u64>,
}

/// `kilter demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// The directory with log and store; a temporary one if not given.
    #[arg(long, env = "KILTER_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where settings come from, to produce to the topic of a running node instead.
    #[command(flatten)]
    pub source: ConfigArgs,
    /// How many users, with an account each.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000), value_name = "N")]
    pub users: u64,
    /// How many commands, besides opening the accounts.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000), value_name = "N")]
    pub commands: u64,
    /// The same seed makes the same commands.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// How skewed the choice of users is: 0 is uniform, 0.99 is strong.
    #[arg(long, default_value_t = 0.6, value_parser = theta, value_name = "T")]
    pub zipf: f64,
    /// How the node is laid out.
    #[command(flatten)]
    pub layout: Layout,
}

/// `kilter apply`
#[derive(Debug, Args)]
pub struct Apply {
    /// A file with a command in JSON on each line; - is standard input.
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Where the data is.
    #[command(flatten)]
    pub data: Data,
    /// Where settings come from, to produce to the topic of a running node instead.
    #[command(flatten)]
    pub source: ConfigArgs,
    /// Append a line of JSON for each result to this file; - is standard output.
    #[arg(long, value_name = "FILE|-")]
    pub results: Option<PathBuf>,
    /// Append everything anew, even what is in the log already.
    #[arg(long)]
    pub again: bool,
    /// How the node is laid out.
    #[command(flatten)]
    pub layout: Layout,
}

/// `kilter balance`
#[derive(Debug, Args)]
pub struct Balance {
    /// The account's id.
    pub account: u64,
    /// The currency's code.
    pub currency: String,
    /// Where the data is, and how to print.
    #[command(flatten)]
    pub show: Show,
}

/// `kilter ledger`
#[derive(Debug, Args)]
pub struct Ledger {
    /// Only this account's entries.
    #[arg(long, value_name = "N")]
    pub account: Option<u64>,
    /// Where the data is, and how to print.
    #[command(flatten)]
    pub show: Show,
}

/// What all reading commands take.
#[derive(Debug, Args)]
pub struct Show {
    /// Where the data is.
    #[command(flatten)]
    pub source: Source,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// `kilter audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Where the data is.
    #[command(flatten)]
    pub source: Source,
    /// On servers: apply the log once more, from its first record, and compare what comes out.
    /// A directory is always audited so.
    #[arg(long)]
    pub replay: bool,
}

/// `kilter window`
#[derive(Debug, Args)]
pub struct Window {
    /// The new length, such as 12h; without it the present one is printed.
    #[arg(value_parser = duration)]
    pub length: Option<Duration>,
    /// Where the data is.
    #[command(flatten)]
    pub source: Source,
}

/// `kilter log`
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Have a record answered as refused, now and at every replay.
    Refuse(Note),
    /// Have a record's timestamp not move the log's clock, now and at every replay.
    IgnoreTime(Note),
    /// On servers: read another log from now on, as a new generation of the log.
    Adopt(Adopt),
}

/// `kilter log adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// Where to begin: earliest, latest or an offset, for all partitions; or P=OFFSET for one; may be
    /// given again. Not needed when partitions were added: the old ones go on where they are.
    #[arg(long, value_name = "OFFSET|earliest|latest|P=OFFSET")]
    pub from: Vec<String>,
    /// Why, for those who look later.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Move the offsets although the log is the one that the store knows.
    #[arg(long)]
    pub even_so: bool,
    /// Where settings come from.
    #[command(flatten)]
    pub source: ConfigArgs,
}

/// A note about one record that is not applied yet.
#[derive(Debug, Args)]
pub struct Note {
    /// The record's partition; the log in a directory has number 0 only.
    #[arg(long, default_value_t = 0, value_name = "P")]
    pub partition: u32,
    /// The record's offset.
    #[arg(long, value_name = "O")]
    pub offset: u64,
    /// Why, for those who look later.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Where the data is.
    #[command(flatten)]
    pub source: Source,
}

/// What stands below the options of `kilter sign`.
const SIGN_HELP: &str = "\
What is signed is x-timestamp, a colon and the raw body; so the body must be sent as it is here:

  kilter sign body.json > headers
  curl -H @headers -H content-type:application/json --data-binary @body.json URL

  eval grpcurl -plaintext $(kilter sign --args --grpc ChangeBalance r.json) \\
    -d @ HOST:PORT balance.BalanceService/ChangeBalance < r.json

grpcurl serialises the request itself, and several entries of metadata perhaps in another order
than was signed. Then, and where there is no grpcurl, send the very message that was signed:

  kilter sign --grpc ChangeBalance --frame f r.json > headers
  curl --http2-prior-knowledge -H @headers -H content-type:application/grpc -H te:trailers \\
    --data-binary @f http://HOST:PORT/balance.BalanceService/ChangeBalance --output answer";
/// `kilter legs`
///
/// A transfer takes its money from the debtor at once; a leg carries it to the creditor, or back.
/// A leg that was refused (a refund without room, a record that an operator had refused) stays in
/// flight: its money is nowhere else. Once the cause is mended, send it again.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Legs {
    /// What to do; without it they are printed.
    #[command(subcommand)]
    pub command: Option<LegsCommand>,
    /// Where the data is, and how to print.
    #[command(flatten)]
    pub show: Show,
}

/// What to do with legs.
#[derive(Debug, Subcommand)]
pub enum LegsCommand {
    /// Print those that have not landed.
    List(Show),
    /// Send one again that was refused. It takes effect once, whatever comes of its other copies.
    Resend(ResendLeg),
}

/// `kilter legs resend`
#[derive(Debug, Args)]
pub struct ResendLeg {
    /// The leg's name, such as 1/0/42/0/REFUND.
    #[arg(value_name = "NAME")]
    pub name: LegName,
    /// Why, for those who look later.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// With engine.ledger=topic: the result topic has no result of this leg that succeeded or
    /// failed.
    #[arg(long)]
    pub not_landed: bool,
    /// Where the data is.
    #[command(flatten)]
    pub source: Source,
}

/// `kilter sign`
#[derive(Debug, Args)]
#[command(after_help = SIGN_HELP)]
pub struct Sign {
    /// The body as it will be sent; - is standard input. With --grpc, the request in JSON.
    #[arg(value_name = "FILE|-")]
    pub body: PathBuf,
    /// The name of the key.
    #[arg(long, default_value = "1", value_name = "ID")]
    pub key_id: String,
    /// A file with the secret and nothing else.
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// The secret itself; better by the environment, where others cannot see it.
    #[arg(
        long,
        env = "HMAC_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub secret: Option<String>,
    /// Sign the message of this gRPC method, such as ChangeBalance.
    #[arg(long, value_name = "METHOD")]
    pub grpc: Option<String>,
    /// Write the message with gRPC's five bytes before it to this file, for curl
    /// --http2-prior-knowledge --data-binary @FILE.
    #[arg(long, value_name = "FILE", requires = "grpc")]
    pub frame: Option<PathBuf>,
    /// Sign as of this time, in ms since 1970, instead of now.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    pub timestamp_ms: Option<i64>,
    /// One line of -H arguments instead of a header a line.
    #[arg(long)]
    pub args: bool,
}

/// `kilter config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Say whether the settings are sound; if not, every mistake at once.
    Check(ConfigArgs),
    /// Print the settings in force as a file, with where each comes from and without secrets.
    Print(PrintConfig),
}

/// Where settings come from: a file, then the environment, then --set; the later wins.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The file of settings (TOML); only environment and defaults if not given.
    #[arg(long, env = "KILTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, such as engine.shards=4; may be given again.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// `kilter init`
#[derive(Debug, Args)]
pub struct Init {
    /// Where settings come from.
    #[command(flatten)]
    pub source: ConfigArgs,
    /// Print the statements that make the tables, and do nothing.
    #[arg(long)]
    pub print: bool,
}

/// `kilter serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// A directory with log and store, instead of servers.
    #[arg(long, env = "KILTER_DATA", value_name = "DIR", conflicts_with_all = ["config", "set"])]
    pub data: Option<PathBuf>,
    /// What this process does, on servers: api (gRPC and REST), engine (leads or stands by), relay
    /// (brings accepted commands to the log that were left behind), cache (writes Redis). Several
    /// with commas between; all that the settings do not turn off if not given.
    #[arg(
        long,
        env = "KILTER_ROLE",
        value_delimiter = ',',
        value_enum,
        value_name = "ROLE"
    )]
    pub role: Vec<Role>,
    /// How the node is laid out, on a directory; on servers the file of settings says so.
    #[command(flatten)]
    pub layout: Layout,
    /// Where settings come from.
    #[command(flatten)]
    pub source: ConfigArgs,
}

/// `kilter redis`
#[derive(Debug, Subcommand)]
pub enum Redis {
    /// Offer every balance of the store to Redis: fills an empty one, mends a damaged one.
    Rebuild(ConfigArgs),
}

/// `kilter load`
#[derive(Debug, Args)]
pub struct Load {
    /// How many commands a second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000), value_name = "R")]
    pub rate: u64,
    /// For how many seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400), value_name = "S")]
    pub seconds: u64,
    /// How many users, with an account each.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000), value_name = "N")]
    pub users: u64,
    /// Where settings come from.
    #[command(flatten)]
    pub source: ConfigArgs,
}

impl ConfigArgs {
    /// Whether anything was given: then servers are meant, and not a directory.
    pub fn is_given(&self) -> bool {
        self.config.is_some() || !self.set.is_empty()
    }
}

/// `kilter config print`
#[derive(Debug, Args)]
pub struct PrintConfig {
    /// Where settings come from.
    #[command(flatten)]
    pub source: ConfigArgs,
    /// The defaults instead, with what each setting may be and its names in the environment.
    #[arg(long, conflicts_with = "set")]
    pub defaults: bool,
}

fn theta(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(theta) if (0.0..=5.0).contains(&theta) => Ok(theta),
        _ => Err(format!("{text:?} is not a number from 0 to 5")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
