//! `auditq queue size`.

use std::io::Write as _;

use anyhow::Result;
use auditq_queue::QueueName;

use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// What `queue size` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Counted are messages that are ready, delayed or held by a worker; failed ones are not. A message holds up to \
worker.message_events statements.

Examples:
  auditq queue size
  test \"$(auditq queue size)\" -lt 1000 ||
    mail -s 'audit queue is long' ops@example.com")]
pub(crate) struct Args {
    /// The queue [default: queue.name]
    #[arg(value_name = "NAME")]
    name: Option<QueueName>,
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let queue = args.name.clone().map_or_else(|| session.queue(), Ok)?;
    let sizes = session.engines().await?.admin.sizes(&queue).await?;
    let mut out = output::stdout();
    writeln!(out, "{}", sizes.total())?;
    out.flush()?;
    if sizes.estimated {
        output::note("the number is the server's estimate: counting so many would take too long");
    }
    Ok(Exit::Ok)
}
