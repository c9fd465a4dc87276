//! `auditq migrate`.

use std::io::Write as _;

use anyhow::Result;
use auditq_config::Partitions;
use auditq_worker::Engines;

use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// What `migrate` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Running it again changes nothing. `auditq work` does the same at its start, so that this is needed only where the \
tables are to be made beforehand, by somebody who may.

In PostgreSQL a new audit table may have a partition for each month: they are made ahead, and `auditq prune` drops a \
month whole. A table that is there already is never changed to that.

Examples:
  auditq migrate
  auditq migrate --partitions monthly
  AUDITQ_QUEUE_URL=sqlite:/srv/audit.db AUDITQ_STORE_URL=sqlite:/srv/audit.db \\
    auditq migrate")]
pub(crate) struct Args {
    /// How a new audit table in PostgreSQL is partitioned: none or monthly [default: store.partitions]
    #[arg(long, value_name = "HOW")]
    partitions: Option<How>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum How {
    None,
    Monthly,
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let mut config = session.config.clone();
    if let Some(how) = args.partitions {
        config.store.partitions = match how {
            How::None => Partitions::None,
            How::Monthly => Partitions::Monthly,
        };
        config.validate()?;
    }
    Engines::open(&config).await?;
    let (queue, store) = (&session.config.queue.url, &session.config.store.url);
    let mut out = output::stdout();
    writeln!(out, "The tables of the queue in {queue} and of the log in {store} are up to date.")?;
    out.flush()?;
    Ok(Exit::Ok)
}
