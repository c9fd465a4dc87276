//! `auditq backup`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::exit::Exit;
use crate::output;
use crate::session::Session;

/// What `backup` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The copy is consistent: it shows the log as it was at one moment, while workers go on writing. An existing file is \
never overwritten.

Of a SQLite file the copy is a database like the original: point AUDITQ_STORE_URL at it to search it. Of a table in \
MySQL, MariaDB or PostgreSQL it is a file of JSON lines, one a row, read in one transaction; `auditq import --from FILE` \
puts its rows back, or into another store. Rows of an application's own table are copied as they are, secrets included.

Examples:
  auditq backup /backup/audit-2026-11-24.db
  auditq backup --laravel /var/www/shop /backup/audit-2026-11-24.jsonl
  AUDITQ_STORE_URL=sqlite:/backup/audit-2026-11-24.db auditq log")]
pub(crate) struct Args {
    /// The file to make
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let reader = session.log().await?;
    let bar = output::progress(None, "{spinner} copying {msg}")?;
    let mut partial = args.file.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let copying = reader.backup(&args.file);
    tokio::pin!(copying);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let copied = loop {
        tokio::select! {
            copied = &mut copying => break copied,
            _ = tick.tick() => bar.set_message(output::bytes(size_of(&partial))),
        }
    };
    bar.finish_and_clear();
    let rows = output::counted(copied?, "row");
    let mut out = output::stdout();
    let size = output::bytes(size_of(&args.file));
    writeln!(out, "Copied {} to {} ({rows}, {size}).", session.config.store.url, args.file.display())?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// Bytes of a file; 0 while it is not there.
fn size_of(file: &Path) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}
