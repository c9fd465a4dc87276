//! Queue and store: reachable, migrated, and whether somebody works on what waits.

use std::path::Path;
use std::sync::Arc;

use auditq_config::{Config, EngineUrl, Scheme};
use auditq_queue::sqlite::{SqliteQueue, SqliteQueueOptions};
use auditq_queue::{QueueAdmin, QueueName, QueueSizes};
use auditq_sqlite::{Database, Options};
use auditq_store::{Filter, StoreReader};

use super::Check;
use super::disk::{is_remote, is_writable};
use super::settings::whole;
use super::spools::{OLD_SECONDS, VERY_OLD_SECONDS};
use crate::output::{counted, grouped, one_line, seconds};
use crate::session::sqlite_store;
use crate::time;

/// What is to be said of the engines.
pub(super) struct Engines {
    pub(super) checks: Vec<Check>,
    /// When the last row was stored, in microseconds.
    pub(super) newest_row_at: Option<i64>,
}

pub(super) async fn look(config: &Config) -> Engines {
    let mut checks = vec![together(config)];
    match QueueName::new(config.queue.name.as_str()) {
        Ok(name) => {
            let looked = look_at_queue(config, &name).await;
            checks.extend(looked.unwrap_or_else(|check| vec![check]));
        }
        Err(error) => {
            checks.push(Check::fail("queue", error.to_string(), "name another one in queue.name or QUEUE_NAME"));
        }
    }
    let (check, newest_row_at) = look_at_store(config).await.unwrap_or_else(|check| (check, None));
    checks.push(check);
    Engines { checks, newest_row_at }
}

async fn look_at_queue(config: &Config, name: &QueueName) -> Result<Vec<Check>, Check> {
    let url = &config.queue.url;
    let failed = |error| Check::failed("queue", &error);
    let admin: Arc<dyn QueueAdmin> = match url.scheme() {
        Scheme::Memory => {
            let advice = "name a database in queue.url or AUDITQ_QUEUE_URL";
            return Err(Check::warn("queue", "memory: what waits ends with its process", advice));
        }
        Scheme::Sqlite => {
            let connection = config.queue.connection.clone();
            let options = SqliteQueueOptions { connection, ..SqliteQueueOptions::default() };
            Arc::new(SqliteQueue::open(database("queue", url)?, options).map_err(|error| failed(error.into()))?)
        }
        _ => auditq_worker::Engines::queue_as_it_is(config).map_err(|error| failed(error.into()))?,
    };
    admin.check().await.map_err(|error| failed(error.into()))?;
    queue(&*admin, name, url).await.map_err(failed)
}

async fn look_at_store(config: &Config) -> Result<(Check, Option<i64>), Check> {
    let url = &config.store.url;
    let failed = |error| Check::failed("log", &error);
    match url.scheme() {
        Scheme::Memory => {
            let advice = "name a database in store.url or AUDITQ_STORE_URL";
            Err(Check::fail("log", "memory: the log cannot be kept there", advice))
        }
        Scheme::Sqlite => {
            let store = sqlite_store(config, database("log", url)?).map_err(failed)?;
            store.check().await.map_err(|error| failed(error.into()))?;
            let rows = store.count().await.map_err(|error| failed(error.into()))?;
            newest(&store, url, &format!("{}, ", counted(rows, "row"))).await.map_err(failed)
        }
        // A server would read the whole table to count it.
        _ => {
            let store = auditq_worker::Engines::store_as_it_is(config).map_err(|error| failed(error.into()))?;
            store.check().await.map_err(|error| failed(error.into()))?;
            newest(&*store, url, "").await.map_err(failed)
        }
    }
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

/// Opens the file of an engine to look at it.
fn database(name: &'static str, url: &EngineUrl) -> Result<Database, Check> {
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
    Database::open(&file, options).map_err(|error| Check::failed(name, &error.into()))
}

async fn queue(queue: &dyn QueueAdmin, name: &QueueName, url: &EngineUrl) -> anyhow::Result<Vec<Check>> {
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
    checks.extend(queue.warnings().await?.iter().map(|warning| durability(warning)));
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

/// From what a driver says of its server's settings, with what to do after a semicolon or a comma.
fn durability(warning: &str) -> Check {
    let (found, advice) = warning.split_once("; ").unwrap_or((warning, "see docs/operations.md, How durable"));
    Check::warn("durability", found, advice)
}

async fn newest(store: &dyn StoreReader, url: &EngineUrl, rows: &str) -> anyhow::Result<(Check, Option<i64>)> {
    let page = store.search(&Filter { limit: 1, ..Filter::default() }).await?;
    let newest = page.rows.first().map(|row| row.stored_at);
    let last = match newest {
        Some(at) => format!("{rows}the last stored {} ago", seconds(time::seconds_since(at))),
        None => "no rows yet".to_owned(),
    };
    Ok((Check::ok("log", format!("{url}; {last}")), newest))
}
