//! `auditq queue failed`.

use std::io::Write;

use anyhow::Result;
use auditq_queue::{FailedFilter, FailedMessage, QueueAdmin, QueueName};
use serde::Serialize;

use crate::exit::Exit;
use crate::session::Session;
use crate::{output, time};

/// How many are listed when nothing is said.
pub(crate) const LIMIT: usize = 100;
/// How many are asked for at a time.
const PAGE: usize = 500;

/// What `queue failed` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line has the id, when it failed, the queue, and the reason, with two blanks between. Nothing else goes to stdout.

Examples:
  auditq queue failed
  auditq queue failed --json | jq -r .id | xargs auditq queue retry")]
pub(crate) struct Args {
    /// Only of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// At most so many; 0 is without limit
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: usize,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// A failed message, as programs get it.
#[derive(Debug, Serialize)]
pub(crate) struct Failed {
    id: String,
    queue: String,
    failed_at: String,
    payload_bytes: u64,
    reason: String,
    #[serde(skip)]
    failed_at_micros: i64,
}

impl From<FailedMessage> for Failed {
    fn from(message: FailedMessage) -> Self {
        let failed_at_micros = message.failed_at.saturating_mul(1_000_000);
        Self {
            id: message.id.to_string(),
            queue: message.queue.to_string(),
            failed_at: time::rfc3339(failed_at_micros),
            payload_bytes: message.payload_bytes,
            reason: message.reason,
            failed_at_micros,
        }
    }
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let admin = session.engines().await?.admin;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let (messages, more) = list(&*admin, args.queue.clone(), limit).await?;
    let mut out = output::stdout();
    if args.json {
        for message in &messages {
            output::json_line(&mut out, message)?;
        }
    } else {
        write_lines(&mut out, &messages)?;
    }
    out.flush()?;
    if more {
        output::note(&format!("there are more than {limit}; --limit 0 lists all"));
    }
    Ok(Exit::Ok)
}

/// Up to `limit` failed messages, and whether there are more.
pub(crate) async fn list(
    admin: &dyn QueueAdmin,
    queue: Option<QueueName>,
    limit: usize,
) -> Result<(Vec<Failed>, bool)> {
    let mut filter = FailedFilter { queue, ..FailedFilter::default() };
    let mut messages = Vec::new();
    loop {
        filter.limit = PAGE.min(limit - messages.len());
        let page = admin.failed(&filter).await?;
        messages.extend(page.messages.into_iter().map(Failed::from));
        if page.next.is_none() || messages.len() >= limit {
            return Ok((messages, page.next.is_some()));
        }
        filter.after = page.next;
    }
}

/// Writes one line each.
pub(crate) fn write_lines(out: &mut impl Write, messages: &[Failed]) -> Result<()> {
    for message in messages {
        let (id, queue) = (output::one_line(&message.id), output::one_line(&message.queue));
        let (when, reason) = (time::local(message.failed_at_micros), output::one_line(&message.reason));
        writeln!(out, "{id}  {when}  {queue}  {reason}")?;
    }
    Ok(())
}
