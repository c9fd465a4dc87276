//! `failed_jobs` in a SQLite file, for a queue that is elsewhere.

use std::collections::HashSet;

use async_trait::async_trait;
use auditq_sqlite::Database;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::waiting::{bytes_of, text};
use super::{CHUNK, DRIVER, failed, schema};
use crate::failed_jobs::{FailedJobs, FailedJobsOptions, GivenUp, Kept, Place};
use crate::message::check_text;
use crate::{Error, ErrorKind, FailedFilter, FailedPage, MessageId, QueueName, Result, Selection};

/// The failed jobs of a connection in a SQLite file.
#[derive(Debug)]
pub struct SqliteFailedJobs {
    database: Database,
    options: FailedJobsOptions,
}

impl SqliteFailedJobs {
    /// Uses the table in `database`.
    #[must_use]
    pub fn new(database: Database, options: FailedJobsOptions) -> Self {
        Self { database, options }
    }

    async fn read_with<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.options.connection.clone();
        Ok(self.database.read(operation, move |connection| work(connection, &name)).await?)
    }
}

#[async_trait]
impl FailedJobs for SqliteFailedJobs {
    async fn migrate(&self) -> Result<()> {
        let mismatch = self.database.write("migrate failed_jobs", schema::migrate_failed).await?;
        mismatch.map_or(Ok(()), |mismatch| Err(Error::new(ErrorKind::Misconfigured, DRIVER, mismatch)))
    }

    async fn check(&self) -> Result<()> {
        let obstacle = self.database.read("check failed_jobs", schema::check_failed).await?;
        obstacle.map_or(Ok(()), |obstacle| Err(Error::new(ErrorKind::Misconfigured, DRIVER, obstacle)))
    }

    async fn keep(&self, given_up: &[GivenUp], reason: &str) -> Result<()> {
        given_up.iter().try_for_each(|message| check_text(DRIVER, &message.id, &message.payload).map(drop))?;
        let (given_up, reason, now) = (given_up.to_vec(), reason.to_owned(), self.options.now());
        let name = self.options.connection.clone();
        let keep = move |connection: &Connection| {
            given_up.iter().try_for_each(|message| keep(connection, message, &reason, &name, now))
        };
        Ok(self.database.write("keep failed messages", keep).await?)
    }

    async fn known(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
        let ids = ids.to_vec();
        self.read_with("find failed messages", move |connection, name| {
            let sql = "SELECT EXISTS(SELECT 1 FROM failed_jobs WHERE uuid = ?1 AND connection = ?2)";
            let mut statement = connection.prepare_cached(sql)?;
            let mut known = HashSet::new();
            for id in ids {
                if statement.query_row([id.as_str(), name], |row| row.get(0))? {
                    known.insert(id);
                }
            }
            Ok(known)
        })
        .await
    }

    async fn count(&self, queue: &QueueName) -> Result<(u64, bool)> {
        let queue = queue.clone();
        let count = move |connection: &Connection, name: &str| failed::count(connection, &queue, name);
        Ok((self.read_with("count failed messages", count).await?, false))
    }

    async fn queues(&self) -> Result<Vec<QueueName>> {
        self.read_with("list queues", failed::queues_of_failed).await
    }

    async fn page(&self, filter: &FailedFilter) -> Result<FailedPage> {
        let (before, filter) = (FailedJobsOptions::page_before(DRIVER, filter)?, filter.clone());
        let page = move |connection: &Connection, name: &str| failed::page(connection, &filter, before, name);
        Ok(self.options.in_utc(self.read_with("list failed messages", page).await?))
    }

    async fn payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        let id = id.clone();
        let payload = move |connection: &Connection, name: &str| failed::payload(connection, &id, name);
        self.read_with("read a failed message", payload).await
    }

    async fn newest(&self) -> Result<i64> {
        self.read_with("find failed messages", |connection, _| failed::newest_row(connection)).await
    }

    async fn rows(&self, which: &Selection, newest: i64, limit: usize) -> Result<Vec<i64>> {
        let (which, limit) = (which.clone(), limit.min(CHUNK));
        let until = match &which {
            Selection::Ids(_) => i64::MAX,
            Selection::Matching { older_than, .. } => self.options.before(*older_than),
        };
        self.read_with("find failed messages", move |connection, name| match which {
            Selection::Ids(ids) => failed::rows_of(connection, &ids, name),
            Selection::Matching { queue, .. } => {
                failed::rows_matching(connection, queue.as_ref(), (until, newest), name, limit)
            }
        })
        .await
    }

    async fn read(&self, rows: &[i64]) -> Result<Vec<Kept>> {
        let rows = rows.to_vec();
        self.read_with("read failed messages", move |connection, _| read(connection, &rows)).await
    }

    async fn remove(&self, rows: &[i64]) -> Result<u64> {
        let rows = rows.to_vec();
        let remove = move |connection: &Connection| failed::remove(connection, &rows);
        Ok(self.database.write("drop failed messages", remove).await? as u64)
    }
}

fn keep(connection: &Connection, message: &GivenUp, reason: &str, name: &str, now: i64) -> rusqlite::Result<()> {
    let found = connection
        .prepare_cached("SELECT connection, payload FROM failed_jobs WHERE uuid = ?1")?
        .query_row([message.id.as_str()], |row| Ok((failed::lossy(row, 0)?, bytes_of(row, 1)?.to_vec())))
        .optional()?;
    let id = match Place::of(found, name, &message.payload) {
        Place::Free => message.id.to_string(),
        Place::Taken(suffix) => format!("{}-{suffix}", message.id),
        Place::Same => {
            let sql = "UPDATE failed_jobs SET queue = ?2, payload = ?3, exception = ?4, \
                       failed_at = datetime(?5, 'unixepoch') WHERE uuid = ?1";
            let values = params![message.id.as_str(), message.queue.as_str(), text(&message.payload), reason, now];
            return connection.prepare_cached(sql)?.execute(values).map(drop);
        }
    };
    let sql = "INSERT INTO failed_jobs (uuid, connection, queue, payload, exception, failed_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, datetime(?6, 'unixepoch'))";
    let values = params![id, name, message.queue.as_str(), text(&message.payload), reason, now];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

fn read(connection: &Connection, rows: &[i64]) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = connection.prepare_cached("SELECT uuid, queue, payload FROM failed_jobs WHERE id = ?1")?;
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let found = statement.query_row([row], |columns| {
            let (id, queue) = (failed::lossy(columns, 0)?, failed::lossy(columns, 1)?);
            let (id, queue) = (MessageId::new(id), QueueName::from_engine(queue));
            Ok(Kept { row: *row, message: GivenUp { id, queue, payload: bytes_of(columns, 2)? } })
        });
        kept.extend(found.optional()?);
    }
    Ok(kept)
}
