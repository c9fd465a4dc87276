//! `auditq queue monitor`.

use std::io::Write as _;
use std::str::FromStr;

use anyhow::Result;
use auditq_queue::QueueName;
use comfy_table::{Cell, Color};
use serde::Serialize;

use crate::exit::Exit;
use crate::output::{self, grouped};
use crate::session::Session;
use crate::snapshot::QueueStatus;

/// What `queue monitor` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
As in Laravel the exit code is 0 also when a queue holds too much; with --fail it is 3.

Examples:
  auditq queue monitor
  auditq queue monitor high:100,low --max 5000
  auditq queue monitor --fail >/dev/null ||
    mail -s 'audit queue is long' ops@example.com")]
pub(crate) struct Args {
    /// Queues, with commas between; NAME:MAX sets a limit of its own [default: queue.name]
    #[arg(value_name = "NAME[:MAX]", value_delimiter = ',')]
    queues: Vec<Watched>,
    /// A queue with so many messages, or more, is reported as ALERT
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max: u64,
    /// Exit with 3 when a queue is reported as ALERT
    #[arg(long)]
    fail: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// A queue and, where it has one of its own, its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watched {
    queue: QueueName,
    max: Option<u64>,
}

impl FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, max) = match text.rsplit_once(':') {
            Some((name, max)) => (name, Some(max.parse().map_err(|_| format!("{max:?} is not a number of messages"))?)),
            None => (text, None),
        };
        Ok(Self { queue: QueueName::new(name).map_err(|error| error.to_string())?, max })
    }
}

/// A line of it; the names of the keys are Laravel's.
#[derive(Debug, Serialize)]
struct Line {
    queue: String,
    size: u64,
    pending: u64,
    delayed: u64,
    reserved: u64,
    failed: u64,
    oldest_pending_seconds: Option<f64>,
    max: u64,
    status: &'static str,
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let engines = session.engines().await?;
    let watched = match args.queues.as_slice() {
        [] => vec![Watched { queue: session.queue()?, max: None }],
        queues => queues.to_vec(),
    };
    let mut lines = Vec::with_capacity(watched.len());
    for Watched { queue, max } in watched {
        let status = QueueStatus::take(&engines, &queue, false).await?;
        lines.push(Line::of(&status, max.unwrap_or(args.max)));
    }
    let mut out = output::stdout();
    if args.json {
        output::json_line(&mut out, &lines)?;
    } else {
        out.write_all(text_of(&lines).as_bytes())?;
    }
    out.flush()?;
    let over = lines.iter().any(|line| line.status == "ALERT");
    Ok(if over && args.fail { Exit::OverLimit } else { Exit::Ok })
}

impl Line {
    fn of(status: &QueueStatus, max: u64) -> Self {
        Self {
            queue: status.queue.clone(),
            size: status.size(),
            pending: status.ready,
            delayed: status.delayed,
            reserved: status.reserved,
            failed: status.failed,
            oldest_pending_seconds: status.oldest_seconds,
            max,
            status: if status.size() >= max { "ALERT" } else { "OK" },
        }
    }
}

fn text_of(lines: &[Line]) -> String {
    let columns = ["Queue", "Size", "Max", "Ready", "Delayed", "Reserved", "Oldest", "Status"];
    let mut table = output::table(&columns, &[1, 2, 3, 4, 5, 6], Some(0));
    for line in lines {
        let color = if line.status == "ALERT" { Color::Red } else { Color::Green };
        table.add_row([
            Cell::new(output::clean(&line.queue)),
            Cell::new(grouped(line.size)),
            Cell::new(grouped(line.max)),
            Cell::new(grouped(line.pending)),
            Cell::new(grouped(line.delayed)),
            Cell::new(grouped(line.reserved)),
            Cell::new(line.oldest_pending_seconds.map_or_else(|| "-".to_owned(), output::seconds)),
            Cell::new(line.status).fg(color),
        ]);
    }
    output::lines_of(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_may_have_a_limit_of_its_own() {
        let parsed = |text: &str| text.parse::<Watched>().map(|watched| (watched.queue.to_string(), watched.max));
        assert_eq!(parsed("high:100"), Ok(("high".to_owned(), Some(100))));
        assert_eq!(parsed("tenant:a:5"), Ok(("tenant:a".to_owned(), Some(5))));
        assert_eq!(parsed("low"), Ok(("low".to_owned(), None)));
        assert!(parsed("low:many").is_err() && parsed(":5").is_err());
    }
}
