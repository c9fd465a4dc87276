//! `auditq log --follow`.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use auditq_store::{ErrorKind, Filter, LogRow, StoreReader};

use super::{SearchArgs, list, pages, row};
use crate::exit::Exit;
use crate::output;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Rows asked for at a time.
const PAGE: usize = 500;

/// Shows the last rows, oldest first, and then each row once as it is stored, until Ctrl-C.
///
/// A store that does not answer is waited for.
pub(super) async fn run(search: &SearchArgs, reader: &dyn StoreReader) -> Result<Exit> {
    let stopped = tokio::signal::ctrl_c();
    tokio::pin!(stopped);
    // Everything up to this row is the past, everything after it is still to come: no row is both or neither.
    let mut seen = newest(reader).await?;
    let filter = Filter { stored_before: Some(seen + 1), ..search.filter() };
    let (mut past, _) = pages(reader, filter, search.limit).await?;
    past.reverse();
    print(&past, search.json)?;
    let mut silent = false;
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = &mut stopped => return Ok(Exit::Ok),
        }
        match news(search, reader, &mut seen).await {
            Ok(()) if silent => {
                silent = false;
                output::note("the store answers again");
            }
            Ok(()) => {}
            Err(error) if is_unavailable(&error) => {
                if !silent {
                    output::note(&format!("{error:#}; waiting for the store"));
                }
                silent = true;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Prints what was stored since, and remembers up to where.
async fn news(search: &SearchArgs, reader: &dyn StoreReader, seen: &mut i64) -> Result<()> {
    let newest = newest(reader).await?;
    while *seen < newest {
        // The upper bound lets rows be passed over that the conditions leave out: they are not looked at again.
        let filter =
            Filter { stored_after: Some(*seen), stored_before: Some(newest + 1), limit: PAGE, ..search.filter() };
        let page = reader.search(&filter).await?;
        print(&page.rows, search.json)?;
        *seen = page.next.unwrap_or(newest);
    }
    Ok(())
}

/// The number of the row that was stored last; 0 when there is none.
async fn newest(reader: &dyn StoreReader) -> Result<i64> {
    let page = reader.search(&Filter { limit: 1, ..Filter::default() }).await?;
    Ok(page.rows.first().map_or(0, |row| row.id))
}

fn print(rows: &[LogRow], json: bool) -> Result<()> {
    let mut out = output::stdout();
    for each in rows {
        if json {
            output::json_line(&mut out, &row::to_json(each)?)?;
        } else {
            list::write_line(&mut out, each)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<auditq_store::Error>().is_some_and(|error| error.kind() == ErrorKind::Unavailable)
}
