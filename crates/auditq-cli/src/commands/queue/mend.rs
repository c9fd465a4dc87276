//! `auditq queue retry`, `forget`, `flush` and `clear`: what becomes of failed and waiting messages.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use auditq_queue::{MessageId, QueueName, Selection};

use crate::exit::Exit;
use crate::output::{self, counted};
use crate::session::Session;

/// What `queue retry` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A message that is put back starts with no tries. Mend the cause first: the reason is in `auditq queue failed`.

Examples:
  auditq queue retry all
  auditq queue retry all --queue audit-logs
  auditq queue retry 018f3c1e-7a44-7cc2-9f10-0a1b2c3d4e5f

Exit code 1 when an id is not among the failed messages; the others are put back all the same.")]
pub(crate) struct RetryArgs {
    /// Ids of failed messages, or `all`
    #[arg(value_name = "ID", required_unless_present = "queue")]
    ids: Vec<String>,
    /// All failed messages of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
}

/// What `queue forget` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The events in a forgotten message never reach the log.

Example:
  auditq queue forget 018f3c1e-7a44-7cc2-9f10-0a1b2c3d4e5f

Exit code 1 when an id is not among the failed messages.")]
pub(crate) struct ForgetArgs {
    /// Ids of failed messages
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// What `queue flush` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The events in dropped messages never reach the log. As in Laravel, nothing is asked.

Examples:
  auditq queue flush --hours 720        those that failed over 30 days ago
  auditq queue flush --queue low")]
pub(crate) struct FlushArgs {
    /// Only those of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Only those that failed at least so many hours ago
    #[arg(long, value_name = "N", default_value_t = 0)]
    hours: u32,
}

/// What `queue clear` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Dropped is what waits to be stored, also what a worker holds at this moment, with the events in it. Failed messages \
and the log stay. On a terminal it asks; elsewhere it needs --yes.

Example:
  auditq queue clear --queue low --yes")]
pub(crate) struct ClearArgs {
    /// The queue, or several, with commas between [default: queue.name]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    queue: Vec<QueueName>,
    /// Do not ask
    #[arg(long, short = 'y', visible_alias = "force")]
    yes: bool,
}

pub(crate) async fn retry(args: &RetryArgs, session: &Session) -> Result<Exit> {
    let all = args.ids.iter().any(|id| id == "all");
    if all && args.ids.len() > 1 {
        bail!("`all` stands alone; name either ids or all");
    }
    if args.queue.is_some() && !all && !args.ids.is_empty() {
        bail!("--queue puts back all failed messages of a queue; name either ids or --queue");
    }
    let admin = session.engines().await?.admin;
    let mut out = output::stdout();
    if !args.ids.is_empty() && !all {
        let (retried, exit) = each(&args.ids, async |which| admin.retry(&which).await).await?;
        writeln!(out, "Put back {}.", counted(retried, "message"))?;
        out.flush()?;
        return Ok(exit);
    }
    let which = Selection::Matching { queue: args.queue.clone(), older_than: Duration::ZERO };
    let retried = admin.retry(&which).await?;
    writeln!(out, "Put back {}.", counted(retried, "message"))?;
    out.flush()?;
    Ok(Exit::Ok)
}

pub(crate) async fn forget(args: &ForgetArgs, session: &Session) -> Result<Exit> {
    let admin = session.engines().await?.admin;
    let (forgotten, exit) = each(&args.ids, async |which| admin.forget(&which).await).await?;
    let mut out = output::stdout();
    writeln!(out, "Forgot {}.", counted(forgotten, "message"))?;
    out.flush()?;
    Ok(exit)
}

/// Does something with one id after the other, and says of which there is no failed message.
async fn each(ids: &[String], act: impl AsyncFn(Selection) -> auditq_queue::Result<u64>) -> Result<(u64, Exit)> {
    let (mut done, mut exit) = (0, Exit::Ok);
    for id in ids {
        match act(Selection::Ids(vec![MessageId::new(id)])).await? {
            0 => {
                exit = Exit::Failed;
                output::note(&format!("there is no failed message {}", output::one_line(id)));
            }
            count => done += count,
        }
    }
    Ok((done, exit))
}

pub(crate) async fn flush(args: &FlushArgs, session: &Session) -> Result<Exit> {
    let older_than = Duration::from_secs(u64::from(args.hours) * 3_600);
    let which = Selection::Matching { queue: args.queue.clone(), older_than };
    let dropped = session.engines().await?.admin.forget(&which).await?;
    let mut out = output::stdout();
    writeln!(out, "Dropped {}.", counted(dropped, "failed message"))?;
    out.flush()?;
    Ok(Exit::Ok)
}

pub(crate) async fn clear(args: &ClearArgs, session: &Session) -> Result<Exit> {
    let admin = session.engines().await?.admin;
    let queues = if args.queue.is_empty() { vec![session.queue()?] } else { args.queue.clone() };
    let mut out = output::stdout();
    for queue in &queues {
        let waiting = admin.sizes(queue).await?.total();
        let question = format!("Drop {} of {queue}, with the events in them, for good?", counted(waiting, "message"));
        if waiting > 0 && !output::confirm(&question, args.yes)? {
            bail!("nothing of {queue} was dropped");
        }
        let dropped = admin.clear(queue).await?;
        writeln!(out, "Dropped {} of {queue}.", counted(dropped, "message"))?;
    }
    out.flush()?;
    Ok(Exit::Ok)
}
