//! `auditq queue restart`, `pause` and `resume`: what is asked of the workers.

use std::io::Write as _;

use anyhow::Result;
use auditq_queue::QueueName;

use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// What `queue restart` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Workers look every three seconds; each finishes what it holds and exits with 0, and systemd or supervisor starts it \
anew: with a new program, or with new settings. Workers that start later do not take notice.

Example:
  auditq queue restart")]
pub(crate) struct RestartArgs {}

/// What `queue pause` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Messages go on coming in; what workers hold they finish. The pause lasts until `auditq queue resume`, also over \
restarts.

Examples:
  auditq queue pause
  auditq queue pause low")]
pub(crate) struct PauseArgs {
    /// The queue [default: queue.name]
    #[arg(value_name = "NAME")]
    name: Option<QueueName>,
}

/// What `queue resume` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  auditq queue resume low")]
pub(crate) struct ResumeArgs {
    /// The queue [default: queue.name]
    #[arg(value_name = "NAME")]
    name: Option<QueueName>,
}

pub(crate) async fn restart(_: &RestartArgs, session: &Session) -> Result<Exit> {
    session.engines().await?.admin.restart().await?;
    say("Asked every running worker to finish what it holds and exit.")
}

pub(crate) async fn pause(args: &PauseArgs, session: &Session) -> Result<Exit> {
    let queue = args.name.clone().map_or_else(|| session.queue(), Ok)?;
    session.engines().await?.admin.pause(&queue).await?;
    say(&format!("Paused {queue}. `auditq queue resume {queue}` ends it."))
}

pub(crate) async fn resume(args: &ResumeArgs, session: &Session) -> Result<Exit> {
    let queue = args.name.clone().map_or_else(|| session.queue(), Ok)?;
    let admin = session.engines().await?.admin;
    if !admin.control().await?.paused.contains(&queue) {
        return say(&format!("{queue} was not paused."));
    }
    admin.resume(&queue).await?;
    say(&format!("Resumed {queue}."))
}

fn say(text: &str) -> Result<Exit> {
    let mut out = output::stdout();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(Exit::Ok)
}
