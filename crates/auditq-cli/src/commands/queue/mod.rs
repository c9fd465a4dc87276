//! `auditq queue …`.

mod control;
pub(crate) mod failed;
mod mend;
mod monitor;
mod size;

use anyhow::Result;
use clap::Subcommand;

use crate::exit::Exit;
use crate::session::Session;

/// What `queue` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where no queue is named, it is the one of audit events: queue.name, or QUEUE_NAME [default: audit-logs]. \
Laravel's spelling works too: auditq queue:failed, auditq queue:retry all, …")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print how many messages are still to be done: one number and nothing else
    Size(size::Args),
    /// List failed messages, newest first, one a line
    Failed(failed::Args),
    /// Put failed messages back into their queues
    Retry(mend::RetryArgs),
    /// Drop failed messages by their ids, for good
    Forget(mend::ForgetArgs),
    /// Drop all failed messages, or all of a queue or an age, for good
    Flush(mend::FlushArgs),
    /// Drop everything that waits in a queue, for good
    Clear(mend::ClearArgs),
    /// Ask every running worker to finish what it holds and exit
    Restart(control::RestartArgs),
    /// Stop workers from taking messages of a queue
    Pause(control::PauseArgs),
    /// End a pause
    #[command(visible_alias = "continue")]
    Resume(control::ResumeArgs),
    /// Compare queues with the most that each should hold
    Monitor(monitor::Args),
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    match &args.command {
        Command::Size(args) => size::run(args, session).await,
        Command::Failed(args) => failed::run(args, session).await,
        Command::Retry(args) => mend::retry(args, session).await,
        Command::Forget(args) => mend::forget(args, session).await,
        Command::Flush(args) => mend::flush(args, session).await,
        Command::Clear(args) => mend::clear(args, session).await,
        Command::Restart(args) => control::restart(args, session).await,
        Command::Pause(args) => control::pause(args, session).await,
        Command::Resume(args) => control::resume(args, session).await,
        Command::Monitor(args) => monitor::run(args, session).await,
    }
}
