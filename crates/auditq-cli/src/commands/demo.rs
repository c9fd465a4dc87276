//! `auditq demo`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use crate::demo::{self, Options};
use crate::exit::Exit;
use crate::output;

/// What `demo` is told.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A web shop with signed-in users runs on this machine, over HTTP on a loopback port and a SQLite database of TPC-H's \
customers, orders and parts. Its statements are audited as yours would be, and stored by worker processes, one of \
which is killed with SIGKILL when half of the statements have run. In the end the application's own count, kept by \
its handlers and not by auditq, is held against the audit table: each execution by request, user, kind of statement, \
tables, outcome, and what became of its transaction. No secret may stand in any file that auditq wrote.

What the numbers mean:
  queries            statements that the application executed
  tracked            of them, those with a signed-in user
  collapsed          of those, executions that have no row of their own: they
                     were the same as an earlier one of their request, and are
                     counted in its repeat_count
  skipped_anonymous  statements with nobody signed in, which are not recorded
  failed_statements  tracked statements that the database refused; they are
                     stored with its message
  stored             rows in the audit table: tracked less collapsed
  lost               tracked executions, by the application's count, that the
                     table does not have
  duplicated         executions that the table has, as a row or in a
                     repeat_count, and the application has not
  caller_p50_ns      nanoseconds that recording one statement takes from the
                     request: half of them take at the most so long
  caller_p99_ns      the same for 99 of 100. Measured while serving: a second
                     recorder with a spool of its own is handed what has just
                     run, on the same thread, with two bindings, and each call
                     is timed; at most 50,000 of them. Copying and reading the
                     bindings is part of it
  stored_per_second  rows, by the time from the first being recorded to the
                     last being stored. It is the pace of this application with
                     a crash in the middle, not what a worker can do

Exit codes: 0 nothing lost, nothing doubled, and all else adds up; 1 otherwise, and stderr says what differs.

Examples:
  auditq demo
  auditq demo --queries 100000 --users 50 --workers 4
  auditq demo --json | jq .lost
  auditq demo --keep /tmp/shop
  auditq --config /tmp/shop/auditq.toml log --user alice")]
pub(crate) struct Args {
    /// Statements that the application executes
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    queries: u64,
    /// Users, all at work at the same time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    users: u32,
    /// Worker processes that store what is recorded
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    workers: u16,
    /// Work in this folder, which must be empty or not exist, and leave everything there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &Args) -> Result<Exit> {
    let options = Options {
        queries: args.queries,
        users: args.users,
        workers: usize::from(args.workers),
        keep: args.keep.clone(),
    };
    let summary = demo::run(&options).await?;
    let mut out = output::stdout();
    if args.json {
        summary.write_json(&mut out)?;
    } else {
        summary.write_text(&mut out)?;
    }
    out.flush()?;
    summary.differences().iter().for_each(|difference| output::note(difference));
    Ok(if summary.differences().is_empty() { Exit::Ok } else { Exit::Failed })
}
