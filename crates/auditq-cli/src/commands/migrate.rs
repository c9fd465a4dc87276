//! `auditq migrate`.

use std::io::Write as _;

use anyhow::Result;

use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// What `migrate` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Running it again changes nothing. `auditq work` does the same at its start, so that this is needed only where the \
tables are to be made beforehand, by somebody who may.

Examples:
  auditq migrate
  AUDITQ_QUEUE_URL=sqlite:/srv/audit.db AUDITQ_STORE_URL=sqlite:/srv/audit.db \\
    auditq migrate")]
pub(crate) struct Args {}

pub(crate) async fn run(_: &Args, session: &Session) -> Result<Exit> {
    session.create_engines().await?;
    let (queue, store) = (&session.config.queue.url, &session.config.store.url);
    let mut out = output::stdout();
    writeln!(out, "The tables of the queue in {queue} and of the log in {store} are up to date.")?;
    out.flush()?;
    Ok(Exit::Ok)
}
