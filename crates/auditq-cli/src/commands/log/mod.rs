//! `auditq log`.

mod detail;
mod follow;
mod list;
mod row;

pub(super) use row::event_json;

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Result, bail};
use auditq_event::{EventId, Operation, Status};
use auditq_store::{Filter, LogRow, StoreReader};
use clap::Subcommand;
use jiff::Timestamp;

use crate::exit::Exit;
use crate::session::Session;
use crate::{output, time};

/// What `log` is told.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
What was stored last comes first; every condition that is given must hold. Times: a length of time ago (15m, 1h, 7d), a day (2026-11-23), \
a local time (\"2026-11-23 09:30\") or RFC 3339. What is shown is this machine's local time; --json has UTC.

Examples:
  auditq log --user alice --table orders --since 1h
  auditq log --status error --since 2026-11-23 --until 2026-11-24
  auditq log --text 'drop table' --operation ddl
  auditq log --follow --user alice
  auditq log --json --limit 1000 | jq -r '[.occurred_at, .username] | @tsv'
  auditq log show 019abc12-3456-7000-8000-000000000000"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show everything that is known of one statement
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The id of a statement is `event_id` in `auditq log --json`.

Example:
  auditq log show 019abc12-3456-7000-8000-000000000000")]
struct ShowArgs {
    /// The id of the statement
    #[arg(value_name = "EVENT_ID")]
    id: EventId,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct SearchArgs {
    /// Statements of this user: the name or the id, exactly
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Statements that name this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Statements of this kind: select, insert, update, delete, ddl, …
    #[arg(long, value_name = "KIND", value_parser = operation)]
    operation: Option<Operation>,
    /// Statements that ended so: ok, error or cancelled
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<Status>,
    /// Statements that ran at this time or later
    #[arg(long, value_name = "TIME", value_parser = time::parse_moment)]
    since: Option<Timestamp>,
    /// Statements that ran before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse_moment)]
    until: Option<Timestamp>,
    /// Statements of this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Statements with this text in their SQL, whether in capitals or not
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Statements of this shape: `fingerprint` in --json
    #[arg(long, value_name = "HEX", value_parser = fingerprint)]
    fingerprint: Option<u64>,
    /// Everything that is known of this one statement
    #[arg(long, value_name = "EVENT_ID", conflicts_with = "follow")]
    id: Option<EventId>,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = rows)]
    limit: usize,
    /// Only rows stored before the one of this number: the next page, as the last line says
    #[arg(long, value_name = "ROW", conflicts_with = "follow")]
    before: Option<i64>,
    /// Go on with what is stored from now on, until Ctrl-C
    #[arg(long, short = 'f', conflicts_with = "until")]
    follow: bool,
    /// Print a JSON object a row
    #[arg(long)]
    json: bool,
}

fn operation(text: &str) -> Result<Operation, String> {
    Operation::parse(&text.to_ascii_lowercase()).ok_or_else(|| one_of(Operation::ALL))
}

fn status(text: &str) -> Result<Status, String> {
    Status::parse(&text.to_ascii_lowercase()).ok_or_else(|| one_of(Status::ALL))
}

fn one_of(values: &[impl ToString]) -> String {
    format!("it is one of {}", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn fingerprint(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "it is up to 16 hexadecimal digits".to_owned())
}

fn rows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows @ 1..=1_000_000) => Ok(rows),
        _ => Err("it is a number from 1 to 1,000,000".to_owned()),
    }
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let reader = session.log().await?;
    let search = &args.search;
    if let Some(Command::Show(show)) = &args.command {
        return show_one(&*reader, show.id, show.json).await;
    }
    if let Some(id) = search.id {
        return show_one(&*reader, id, search.json).await;
    }
    if search.follow {
        return follow::run(search, &*reader).await;
    }
    let (rows, next) = pages(&*reader, search.filter(), search.limit).await?;
    let mut out = output::stdout();
    list::write(&mut out, &rows, search.json)?;
    out.flush()?;
    let is_for_people = !search.json && std::io::stdout().is_terminal();
    match next {
        Some(next) if is_for_people => output::note(&format!("there is more: add --before {next}")),
        _ if is_for_people && rows.is_empty() => output::note("no statement in the log answers to this"),
        _ => {}
    }
    Ok(Exit::Ok)
}

impl SearchArgs {
    fn filter(&self) -> Filter {
        Filter {
            user: self.user.clone(),
            table: self.table.clone(),
            operation: self.operation,
            status: self.status,
            request_id: self.request.clone(),
            fingerprint: self.fingerprint,
            event_id: self.id,
            text: self.text.clone(),
            since: self.since.map(Timestamp::as_microsecond),
            until: self.until.map(Timestamp::as_microsecond),
            stored_after: None,
            stored_before: self.before,
            limit: self.limit,
        }
    }
}

/// Up to `limit` rows, newest first, and where the next page begins.
async fn pages(reader: &dyn StoreReader, mut filter: Filter, limit: usize) -> Result<(Vec<LogRow>, Option<i64>)> {
    let mut rows: Vec<LogRow> = Vec::new();
    loop {
        filter.limit = limit - rows.len();
        let page = reader.search(&filter).await?;
        rows.extend(page.rows);
        if page.next.is_none() || rows.len() >= limit {
            return Ok((rows, page.next));
        }
        filter.stored_before = page.next;
    }
}

async fn show_one(reader: &dyn StoreReader, id: EventId, json: bool) -> Result<Exit> {
    let filter = Filter { event_id: Some(id), limit: 1, ..Filter::default() };
    let Some(row) = reader.search(&filter).await?.rows.into_iter().next() else {
        bail!("there is no statement {id} in the log; it may still be on its way: see `auditq monitor`");
    };
    let mut out = output::stdout();
    if json {
        output::json_line(&mut out, &row::to_json(&row)?)?;
    } else {
        detail::write(&mut out, &row)?;
    }
    out.flush()?;
    Ok(Exit::Ok)
}
