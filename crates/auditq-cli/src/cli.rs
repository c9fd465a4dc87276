//! The command line: which commands there are, and which function does each.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Parser, Subcommand};

use crate::commands::{backup, demo, doctor, import, init, laravel, log, migrate, monitor, prune, queue, work};
use crate::exit::Exit;
use crate::session::Session;

/// Every SQL statement an application runs, with the person it ran for, in an audit table that can be trusted
#[derive(Debug, Parser)]
#[command(
    name = "auditq",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Laravel's spelling works too: auditq queue:work, queue:failed, queue:retry, audit:monitor, …",
    after_long_help = AFTER_HELP
)]
pub(crate) struct Cli {
    /// Configuration file [default: auditq.toml in this folder, where there is one]
    // Of clap's parsers the one of paths refuses an empty variable, which counts as unset.
    #[arg(long, global = true, value_name = "FILE", env = "AUDITQ_CONFIG", hide_env_values = true,
          value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) config: Option<PathBuf>,
    /// Serve the Laravel application in this folder: queue, log and keys are those of its .env
    #[arg(long, global = true, value_name = "DIR", env = "AUDITQ_LARAVEL", hide_env_values = true,
          value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) laravel: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
First steps:
  auditq init        writes auditq.toml and files for systemd and supervisor
  auditq work        stores what applications record; any number may run
  auditq monitor     what waits, what failed, how fast
  auditq log --user alice --since 1h

Settings come from defaults, then the configuration file, then the environment, then flags:
  AUDITQ_CONFIG, AUDITQ_LARAVEL, AUDITQ_QUEUE_URL, AUDITQ_STORE_URL,
  AUDITQ_SPOOL_DIR, AUDITQ_DURABILITY, AUDITQ_APP, AUDITQ_REDACTION_KEY,
  AUDIT_LOG_ENABLED, AUDIT_LOG_TTL, QUEUE_CONNECTION, QUEUE_NAME, APP_KEY,
  APP_PREVIOUS_KEYS;
  AUDITQ_LOG=debug shows the program's own log on stderr.

Laravel's spelling works too, so that a crontab needs only its first word changed:
  auditq queue:work database --queue=audit-logs --tries=3
  auditq queue:failed, queue:retry, queue:restart, audit:monitor, …

Exit codes:
  0   done; a worker that was asked to stop, or that reached a limit of its own
  1   failed; stderr says what, and what to do
  2   wrong usage
  3   queue monitor --fail: a queue is at or over its limit
  4   import: done, but some rows were rejected
  12  work: more memory in use than --memory";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store what applications record: read spools into the queue, and the queue into the audit table
    Work(work::Args),
    /// Show what waits, what failed, and how fast it goes
    Monitor(monitor::Args),
    /// Look at the queue and mend it: sizes, failed messages, pause, restart
    Queue(queue::Args),
    /// Search the audit log
    Log(log::Args),
    /// Make the tables, or bring them up to date
    Migrate(migrate::Args),
    /// Copy the audit log to a file while workers go on
    Backup(backup::Args),
    /// Take over the rows of an old audit table, or of a backup
    Import(import::Args),
    /// Remove old rows from the audit log
    Prune(prune::Args),
    /// Look into what a Laravel application sends
    Laravel(laravel::Args),
    /// Write auditq.toml and files for systemd and supervisor
    Init(init::Args),
    /// Check that everything is in order, and say what to do where it is not
    Doctor(doctor::Args),
    /// See it work: a web shop is audited through a crash, and every statement is accounted for
    Demo(demo::Args),
}

/// Reads the command line. Prints help, version or what is wrong with it, and ends the process, where that is due.
pub(crate) fn parse(args: &[OsString]) -> Cli {
    Cli::parse_from(args)
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(dispatch(cli))
}

async fn dispatch(cli: Cli) -> Result<Exit> {
    let session = || Session::load(cli.config.clone(), cli.laravel.clone());
    match cli.command {
        Command::Work(args) => work::run(&args, session()?).await,
        Command::Monitor(args) => monitor::run(&args, &session()?).await,
        Command::Queue(args) => queue::run(&args, &session()?).await,
        Command::Log(args) => log::run(&args, &session()?).await,
        Command::Migrate(args) => migrate::run(&args, &session()?).await,
        Command::Backup(args) => backup::run(&args, &session()?).await,
        Command::Import(args) => import::run(&args, &session()?).await,
        Command::Prune(args) => prune::run(&args, &session()?).await,
        Command::Laravel(args) => laravel::run(&args, session()?),
        Command::Init(args) => init::run(&args),
        Command::Doctor(args) => doctor::run(&args, session()).await,
        Command::Demo(args) => demo::run(&args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
