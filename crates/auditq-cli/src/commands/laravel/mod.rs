//! `auditq laravel`: what a Laravel application puts into its queue.

mod decode;

use anyhow::Result;
use clap::Subcommand;

use crate::exit::Exit;
use crate::session::Session;

/// What `laravel` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditq laravel decode payload.json")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a payload in a Laravel queue holds, and what would be stored of it
    Decode(decode::Args),
}

pub(crate) fn run(args: &Args, session: Session) -> Result<Exit> {
    match &args.command {
        Command::Decode(args) => decode::run(args, session),
    }
}
