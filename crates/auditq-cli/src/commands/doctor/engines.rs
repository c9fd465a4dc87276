//! Queue and store: reachable, migrated, and whether somebody works on what waits.

use std::path::Path;

use anyhow::Result;
use auditq_config::{Config, EngineUrl, Scheme};
use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{QueueAdmin, QueueName, QueueSizes};
use auditq_sqlite::{Database, Options};
use auditq_store::sqlite::SqliteStore;
use auditq_store::{Filter, StoreReader};

use super::Check;
use super::disk::{is_remote, is_writable};
use super::settings::whole;
use super::spools::{OLD_SECONDS, VERY_OLD_SECONDS};
use crate::output::{counted, grouped, one_line, seconds};
use crate::time;

/// What is to be said of the engines.
pub(super) struct Engines {
    pub(super) checks: Vec<Check>,
    /// When the last row was stored, in microseconds.
    pub(super) newest_row_at: Option<i64>,
}

pub(super) async fn look(config: &Config) -> Engines {
    let mut checks = vec![together(config)];
    let name = match QueueName::new(config.queue.name.as_str()) {
        Ok(name) => Some(name),
        Err(error) => {
            checks.push(Check::fail("queue", error.to_string(), "name another one in queue.name or QUEUE_NAME"));
            None
        }
    };
    match (database("queue", &config.queue.url), name) {
        (Err(check), _) => checks.push(check),
        (Ok(None), _) => checks.push(Check::warn(
            "queue",
            "memory: what waits ends with its process",
            "name a database in queue.url or AUDITQ_QUEUE_URL",
        )),
        (Ok(Some(_)), None) => {}
        (Ok(Some(database)), Some(name)) => {
            let checked = queue(database, &name, &config.queue.url).await;
            checks.extend(checked.unwrap_or_else(|error| vec![Check::failed("queue", &error)]));
        }
    }
    let mut newest_row_at = None;
    match database("log", &config.store.url) {
        Err(check) => checks.push(check),
        Ok(None) => {
            let advice = "name a database in store.url or AUDITQ_STORE_URL";
            checks.push(Check::fail("log", "memory: the log cannot be kept there", advice));
        }
        Ok(Some(database)) => match store(database, &config.store.url).await {
            Ok((check, newest)) => {
                checks.push(check);
                newest_row_at = newest;
            }
            Err(error) => checks.push(Check::failed("log", &error)),
        },
    }
    Engines { checks, newest_row_at }
}

fn together(config: &Config) -> Check {
    let (queue, store) = (&config.queue.url, &config.store.url);
    let same = queue.scheme() == store.scheme() && whole(&queue.file()) == whole(&store.file());
    Check::ok(
        "settlement",
        if same {
            "queue and log are one database: row and message change in one transaction"
        } else {
            "queue and log are apart: after a crash some messages run again, and rows that are there are skipped"
        },
    )
}

/// Opens the file of an engine to look at it; `None` where there is no file to look at.
fn database(name: &'static str, url: &EngineUrl) -> Result<Option<Database>, Check> {
    if url.scheme() != Scheme::Sqlite {
        return Ok(None);
    }
    let file = whole(&url.file());
    let folder = file.parent().unwrap_or(Path::new("/"));
    let own = "let the user of the workers own folder and file, or name another file";
    if !file.exists() {
        if !is_writable(folder) {
            return Err(Check::fail(
                name,
                format!("{} is not there and cannot be made by this user", file.display()),
                own,
            ));
        }
        let advice = "run `auditq migrate`, or start a worker; if there is one, give it the same settings";
        return Err(Check::warn(name, format!("{} is not there yet", file.display()), advice));
    }
    if !is_writable(&file) || !is_writable(folder) {
        return Err(Check::fail(name, format!("this user may not write {} and its folder", file.display()), own));
    }
    if is_remote(&file) {
        return Err(Check::fail(
            name,
            format!("{} is on a network file system", file.display()),
            "move it to a local disk",
        ));
    }
    let options = Options { read_only: true, ..Options::default() };
    Database::open(&file, options).map(Some).map_err(|error| Check::failed(name, &error.into()))
}

async fn queue(database: Database, name: &QueueName, url: &EngineUrl) -> Result<Vec<Check>> {
    let queue = SqliteQueue::open(database, SqliteQueueOptions::default())?;
    queue.check().await?;
    let mut names = queue.queues().await?;
    if !names.contains(name) {
        names.insert(0, name.clone());
    }
    let paused = queue.control().await?.paused;
    let mut total = QueueSizes::default();
    let (mut backlog, mut failed) = (Vec::new(), Vec::new());
    for each in &names {
        let sizes = queue.sizes(each).await?;
        total.ready += sizes.ready;
        total.delayed += sizes.delayed;
        total.reserved += sizes.reserved;
        if !paused.contains(each) {
            backlog.extend(old(each, &sizes, each == name));
        }
        if sizes.failed > 0 {
            failed.push(format!("{} of {}", grouped(sizes.failed), one_line(each.as_str())));
        }
    }
    let QueueSizes { ready, delayed, reserved, .. } = total;
    let (ready, delayed, reserved) = (grouped(ready), grouped(delayed), grouped(reserved));
    let found = format!("{url}; messages: {ready} ready, {delayed} delayed, {reserved} held by workers");
    let mut checks = vec![Check::ok("queue", found)];
    if backlog.is_empty() {
        backlog.push(Check::ok("backlog", "nothing has been waiting for over a minute"));
    }
    checks.extend(backlog);
    checks.push(paused_queues(&paused));
    checks.push(failed_messages(&failed));
    Ok(checks)
}

/// A message that has been ready for long: nobody takes it, or not fast enough.
fn old(queue: &QueueName, sizes: &QueueSizes, ours: bool) -> Option<Check> {
    let oldest = sizes.oldest?.as_secs_f64();
    let name = one_line(queue.as_str());
    let found = format!("{} ready in {name}, the oldest for {}", counted(sizes.ready, "message"), seconds(oldest));
    let advice = if ours {
        "see that workers run, and start more where they do: auditq work".to_owned()
    } else {
        format!("start a worker that takes from it, unless it is another program's: auditq work --queue {name}")
    };
    match oldest {
        age if age >= VERY_OLD_SECONDS && ours => Some(Check::fail("backlog", found, advice)),
        age if age >= OLD_SECONDS => Some(Check::warn("backlog", found, advice)),
        _ => None,
    }
}

fn paused_queues(paused: &[QueueName]) -> Check {
    if paused.is_empty() {
        return Check::ok("paused queues", "none");
    }
    let names: Vec<_> = paused.iter().map(|name| one_line(name.as_str())).collect();
    let advice = format!("when it is time: auditq queue resume {}", names[0]);
    Check::warn("paused queues", names.join(", "), advice)
}

fn failed_messages(failed: &[String]) -> Check {
    if failed.is_empty() {
        return Check::ok("failed messages", "none");
    }
    let advice = "see why with `auditq queue failed`; mend the cause, then `auditq queue retry all`";
    Check::warn("failed messages", format!("{}: their events are not in the log", failed.join(", ")), advice)
}

async fn store(database: Database, url: &EngineUrl) -> Result<(Check, Option<i64>)> {
    let store = SqliteStore::new(database);
    store.check().await?;
    let rows = store.count().await?;
    let newest = store.search(&Filter { limit: 1, ..Filter::default() }).await?;
    let newest = newest.rows.first().map(|row| row.stored_at);
    let last = newest.map(|at| format!(", the last stored {} ago", seconds(time::seconds_since(at))));
    Ok((Check::ok("log", format!("{url}; {}{}", counted(rows, "row"), last.unwrap_or_default())), newest))
}
