//! Benchmarks of auditq: what recording costs the caller, and how fast events become rows.

mod hot_path;
mod pipeline;
mod torture;
mod workload;

use clap::{Parser, Subcommand};

/// Benchmarks of auditq. Timings of a shared machine are noisy: compare figures of one run.
#[derive(Debug, Parser)]
#[command(name = "auditq-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Nanoseconds that recording one statement costs the caller, beside a Vec push and one write(2) an event
    HotPath(hot_path::Args),
    /// Rows a second from spool to audit table, beside the fastest bulk load of the same rows into the same table
    Pipeline(pipeline::Args),
    /// Fills a spool and exits: a part of `pipeline`, which runs it as a process of its own
    #[command(hide = true)]
    Produce(pipeline::ProduceArgs),
    /// Kills producers, workers, connections and the server again and again, and counts what was lost or doubled
    Torture(torture::Args),
    /// Records until it is killed: a part of `torture`
    #[command(hide = true)]
    TortureProduce(torture::ProduceArgs),
    /// Forwards and stores until it is killed: a part of `torture`
    #[command(hide = true)]
    TortureWork(torture::WorkArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::HotPath(args) => hot_path::run(&args),
        Command::Pipeline(args) => pipeline::run(&args),
        Command::Produce(args) => pipeline::produce(&args),
        Command::Torture(args) => torture::run(&args),
        Command::TortureProduce(args) => torture::produce(&args),
        Command::TortureWork(args) => torture::work(&args),
    }
}
