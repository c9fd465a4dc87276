//! `failed_jobs` in MySQL or MariaDB, for a queue that is elsewhere.

use std::collections::HashSet;

use async_trait::async_trait;
use auditq_mysql::mysql_async::prelude::Queryable as _;
use auditq_mysql::mysql_async::{self, Conn};
use auditq_mysql::{Database, attempt};
use bytes::Bytes;

use super::errors::check;
use super::{CHUNK, DRIVER, failed, schema, sizes};
use crate::failed_jobs::{FailedJobs, FailedJobsOptions, GivenUp, Kept, Place};
use crate::{Error, ErrorKind, FailedFilter, FailedPage, MessageId, QueueName, Result, Selection};

/// The failed jobs of a connection in a MySQL or MariaDB database.
#[derive(Debug)]
pub struct MysqlFailedJobs {
    database: Database,
    options: FailedJobsOptions,
}

impl MysqlFailedJobs {
    /// Uses the table in `database`.
    #[must_use]
    pub fn new(database: Database, options: FailedJobsOptions) -> Self {
        Self { database, options }
    }

    fn name(&self) -> &str {
        &self.options.connection
    }
}

#[async_trait]
impl FailedJobs for MysqlFailedJobs {
    async fn migrate(&self) -> Result<()> {
        let collation = self.database.collation().await?;
        let run = self.database.locked("migrate failed_jobs", schema::LOCK);
        let mismatch = attempt!(run, connection => schema::migrate_failed(connection, collation).await)?;
        mismatch.map_or(Ok(()), |mismatch| Err(Error::new(ErrorKind::Misconfigured, DRIVER, mismatch)))
    }

    async fn check(&self) -> Result<()> {
        let run = self.database.single("check failed_jobs");
        let obstacle = attempt!(run, connection => schema::check(connection, "failed_jobs").await)?;
        obstacle.map_or(Ok(()), |obstacle| Err(Error::new(ErrorKind::Misconfigured, DRIVER, obstacle)))
    }

    async fn keep(&self, given_up: &[GivenUp], reason: &str) -> Result<()> {
        let packet = self.database.packet_bytes_max().await?.saturating_sub(1 << 16);
        given_up.iter().try_for_each(|message| check(&message.id, &message.payload, packet))?;
        let now = self.options.now();
        let run = self.database.write("keep failed messages");
        Ok(attempt!(run, connection => keep_all(connection, given_up, reason, self.name(), now).await)?)
    }

    async fn known(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
        let run = self.database.single("find failed messages");
        Ok(attempt!(run, connection => known(connection, ids, self.name()).await)?)
    }

    async fn count(&self, queue: &QueueName) -> Result<(u64, bool)> {
        let run = self.database.single("count failed messages");
        Ok(attempt!(run, connection => sizes::count_failed(connection, queue, self.name()).await)?)
    }

    async fn queues(&self) -> Result<Vec<QueueName>> {
        let run = self.database.single("list queues");
        Ok(attempt!(run, connection => failed::queues_of_failed(connection, self.name()).await)?)
    }

    async fn page(&self, filter: &FailedFilter) -> Result<FailedPage> {
        let before = u64::try_from(FailedJobsOptions::page_before(DRIVER, filter)?).unwrap_or(0);
        let run = self.database.single("list failed messages");
        let page = attempt!(run, connection => failed::page(connection, filter, before, self.name()).await)?;
        Ok(self.options.in_utc(page))
    }

    async fn payload(&self, id: &MessageId) -> Result<Option<Vec<u8>>> {
        let run = self.database.single("read a failed message");
        Ok(attempt!(run, connection => failed::payload(connection, id, self.name()).await)?)
    }

    async fn newest(&self) -> Result<i64> {
        let run = self.database.single("find failed messages");
        let newest = attempt!(run, connection => failed::newest_row(connection).await)?;
        Ok(i64::try_from(newest).unwrap_or(i64::MAX))
    }

    async fn rows(&self, which: &Selection, newest: i64, limit: usize) -> Result<Vec<i64>> {
        let newest = u64::try_from(newest).unwrap_or(0);
        let run = self.database.single("find failed messages");
        let rows = attempt!(run, connection => match which {
            Selection::Ids(ids) => failed::rows_of(connection, ids, self.name()).await,
            Selection::Matching { queue, older_than } => {
                let by = (self.options.before(*older_than), newest);
                failed::rows_matching(connection, queue.as_ref(), by, self.name(), limit.min(CHUNK)).await
            }
        })?;
        Ok(rows.into_iter().filter_map(|row| i64::try_from(row).ok()).collect())
    }

    async fn read(&self, rows: &[i64]) -> Result<Vec<Kept>> {
        let run = self.database.single("read failed messages");
        Ok(attempt!(run, connection => read(connection, rows).await)?)
    }

    async fn remove(&self, rows: &[i64]) -> Result<u64> {
        let rows: Vec<u64> = rows.iter().filter_map(|row| u64::try_from(*row).ok()).collect();
        let run = self.database.write("drop failed messages");
        Ok(attempt!(run, connection => failed::remove(connection, &rows).await)? as u64)
    }
}

async fn keep_all(
    connection: &mut Conn,
    given_up: &[GivenUp],
    reason: &str,
    name: &str,
    now: i64,
) -> mysql_async::Result<()> {
    for message in given_up {
        let (id, queue, payload) = (message.id.as_str(), message.queue.as_str(), &message.payload[..]);
        let found = "SELECT connection, payload FROM failed_jobs WHERE uuid = ? FOR UPDATE";
        let found: Option<(String, Vec<u8>)> = connection.exec_first(found, (id,)).await?;
        let id = match Place::of(found, name, payload) {
            Place::Free => id.to_owned(),
            Place::Taken(suffix) => format!("{id}-{suffix}"),
            Place::Same => {
                let sql = format!(
                    "UPDATE failed_jobs SET queue = ?, payload = ?, exception = ?, failed_at = {} WHERE uuid = ?",
                    failed::ON_THE_WALL
                );
                connection.exec_drop(sql, (queue, payload, reason, now, id)).await?;
                continue;
            }
        };
        let sql = format!(
            "INSERT INTO failed_jobs (uuid, connection, queue, payload, exception, failed_at) \
             VALUES (?, ?, ?, ?, ?, {})",
            failed::ON_THE_WALL
        );
        connection.exec_drop(sql, (id, name, queue, payload, reason, now)).await?;
    }
    Ok(())
}

async fn known(connection: &mut Conn, ids: &[MessageId], name: &str) -> mysql_async::Result<HashSet<MessageId>> {
    let sql = "SELECT 1 FROM failed_jobs WHERE uuid = ? AND connection = ?";
    let mut known = HashSet::new();
    for id in ids {
        if connection.exec_first::<i64, _, _>(sql, (id.as_str(), name)).await?.is_some() {
            known.insert(id.clone());
        }
    }
    Ok(known)
}

async fn read(connection: &mut Conn, rows: &[i64]) -> mysql_async::Result<Vec<Kept>> {
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let sql = "SELECT uuid, queue, payload FROM failed_jobs WHERE id = ?";
        let found: Option<(String, String, Vec<u8>)> = connection.exec_first(sql, (row,)).await?;
        kept.extend(found.map(|(id, queue, payload)| {
            let (id, queue) = (MessageId::new(id), QueueName::from_engine(queue));
            Kept { row: *row, message: GivenUp { id, queue, payload: Bytes::from(payload) } }
        }));
    }
    Ok(kept)
}
