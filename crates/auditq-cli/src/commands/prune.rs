//! `auditq prune`.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use auditq_store::{StatsFilter, StoreReader};

use crate::exit::Exit;
use crate::session::Session;
use crate::{output, time};

/// Rows removed at a time: a few milliseconds, between which workers write.
const CHUNK_ROWS: usize = 2_000;

/// What `prune` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows go for good, oldest first and a few at a time, so that workers go on between. Interrupted, it can be called \
again. The file does not shrink: its room is used by new rows.

Examples:
  auditq prune --older-than 90d --dry-run
  auditq prune --older-than 90d --yes          in a crontab")]
pub(crate) struct Args {
    /// Remove statements that ran longer ago than this, such as 90d or 52w
    #[arg(long, value_name = "AGE", value_parser = time::parse_duration)]
    older_than: Duration,
    /// Only say how many rows there are to remove
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let reader = session.log().await?;
    let before = time::micros_ago(args.older_than);
    let rows = reader.stats(&StatsFilter { since: i64::MIN, until: before, top: 0 }).await?.rows;
    let what = format!("{} from before {}", output::counted(rows, "row"), time::local(before));
    let mut out = output::stdout();
    if args.dry_run || rows == 0 {
        writeln!(out, "There {} {what} to remove.", if rows == 1 { "is" } else { "are" })?;
        out.flush()?;
        return Ok(Exit::Ok);
    }
    if !output::confirm(&format!("Remove {what} for good?"), args.yes)? {
        writeln!(out, "Nothing was removed.")?;
        out.flush()?;
        return Ok(Exit::Failed);
    }
    let removed = remove(&*reader, before, rows).await?;
    writeln!(out, "Removed {}.", output::counted(removed, "row"))?;
    out.flush()?;
    Ok(Exit::Ok)
}

async fn remove(reader: &dyn StoreReader, before: i64, expected: u64) -> Result<u64> {
    let bar = output::progress(Some(expected), "removing {bar:30} {human_pos}/{human_len} rows, {eta} left")?;
    let mut removed = 0;
    loop {
        let pruned = reader.prune(before, CHUNK_ROWS).await?;
        removed += pruned.rows;
        bar.inc(pruned.rows);
        if pruned.finished {
            bar.finish_and_clear();
            return Ok(removed);
        }
    }
}
