//! `auditq monitor`.

use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use auditq_queue::Selection;
use auditq_worker::Engines;

use super::queue::failed;
use crate::exit::Exit;
use crate::output;
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::time;

/// How often `--watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// What `monitor` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without options: how many messages are where, what waits in the spools of this host, how many rows the log has.

Examples:
  auditq monitor
  auditq monitor --stats --since 1h      rates, times, users of the last hour
  auditq monitor --failed                what was given up, and why
  auditq monitor --watch
  auditq monitor --json | jq '.queues[0].ready'")]
pub(crate) struct Args {
    /// Add times, rates, and the busiest users and statements
    #[arg(long)]
    stats: bool,
    /// What --stats looks at: statements that ran within this time
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = time::parse_duration)]
    since: Duration,
    /// List the failed messages of every queue, newest first
    #[arg(long)]
    failed: bool,
    /// Drop the failed messages of the audit queue, and the events in them, for good. What waits to be stored and
    /// what is stored stays
    #[arg(long, conflicts_with_all = ["stats", "failed", "watch", "json"])]
    clear: bool,
    /// With --clear: do not ask
    #[arg(long, short = 'y', requires = "clear")]
    yes: bool,
    /// Look again every two seconds until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print JSON: one object, or with --watch one a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let engines = session.engines().await?;
    if args.clear {
        return clear(args, session, &engines).await;
    }
    if !args.watch {
        return show(args, session, &engines, &mut output::stdout()).await.map(|()| Exit::Ok);
    }
    watch(args, session, &engines).await
}

async fn show(args: &Args, session: &Session, engines: &Engines, out: &mut impl Write) -> Result<()> {
    let snapshot = Snapshot::take(session, engines, args.stats.then_some(args.since)).await?;
    if args.json {
        let mut value = serde_json::to_value(&snapshot)?;
        if args.failed {
            value["failed"] = serde_json::to_value(failed::list(&*engines.admin, None, failed::LIMIT).await?.0)?;
        }
        output::json_line(out, &value)?;
    } else {
        snapshot.write_text(out)?;
        if args.failed {
            let (messages, more) = failed::list(&*engines.admin, None, failed::LIMIT).await?;
            writeln!(out, "\nFailed messages{}", if messages.is_empty() { ": none" } else { "" })?;
            failed::write_lines(out, &messages)?;
            if more {
                writeln!(out, "… and more: auditq queue failed --limit N")?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// Draws again and again. A store that does not answer for a while is no reason to go.
async fn watch(args: &Args, session: &Session, engines: &Engines) -> Result<Exit> {
    let redraws = std::io::stdout().is_terminal() && !args.json;
    let stopped = tokio::signal::ctrl_c();
    tokio::pin!(stopped);
    let mut tick = tokio::time::interval(WATCH_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = &mut stopped => return Ok(Exit::Ok),
        }
        let mut screen = Vec::new();
        if let Err(error) = show(args, session, engines, &mut screen).await {
            let (what, hint) = crate::exit::explain(&error);
            let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            if args.json {
                output::note(&what);
            } else {
                screen = format!("error: {what}\n{hint}").into_bytes();
            }
        }
        let mut out = output::stdout();
        if redraws {
            // Home, and clear what was below: no flicker as from clearing first.
            write!(out, "\x1b[H\x1b[2Jauditq monitor  {}  (Ctrl-C ends)\n\n", time::now_local())?;
        }
        out.write_all(&screen)?;
        out.flush()?;
    }
}

async fn clear(args: &Args, session: &Session, engines: &Engines) -> Result<Exit> {
    let queue = session.queue()?;
    let failed = engines.admin.sizes(&queue).await?.failed;
    let mut out = output::stdout();
    if failed == 0 {
        writeln!(out, "There are no failed messages of {queue}.")?;
        out.flush()?;
        return Ok(Exit::Ok);
    }
    let question = format!(
        "Drop {} of {queue}, with the events in {}, for good?",
        output::counted(failed, "failed message"),
        if failed == 1 { "it" } else { "them" }
    );
    if !output::confirm(&question, args.yes)? {
        bail!("nothing was dropped");
    }
    let which = Selection::Matching { queue: Some(queue.clone()), older_than: Duration::ZERO };
    let dropped = engines.admin.forget(&which).await?;
    writeln!(out, "Dropped {} of {queue}.", output::counted(dropped, "failed message"))?;
    out.flush()?;
    Ok(Exit::Ok)
}
