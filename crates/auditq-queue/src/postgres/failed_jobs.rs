//! `failed_jobs` in PostgreSQL, for a queue that is elsewhere.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use auditq_postgres::tokio_postgres::types::{ToSql, Type};
use auditq_postgres::{Conn, Database, Worked, attempt};
use bytes::Bytes;

use super::errors::check;
use super::waiting::text;
use super::{CHUNK, DRIVER, failed, schema, sizes};
use crate::failed_jobs::{FailedJobs, FailedJobsOptions, GivenUp, Kept, Place};
use crate::{Error, ErrorKind, FailedFilter, FailedPage, MessageId, QueueName, Result, Selection};

/// The failed jobs of a connection in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresFailedJobs {
    database: Database,
    options: FailedJobsOptions,
}

impl PostgresFailedJobs {
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
impl FailedJobs for PostgresFailedJobs {
    async fn migrate(&self) -> Result<()> {
        let run = self.database.locked("migrate failed_jobs", schema::LOCK);
        let mismatch = attempt!(run, connection => schema::migrate_failed(connection).await)?;
        mismatch.map_or(Ok(()), |mismatch| Err(Error::new(ErrorKind::Misconfigured, DRIVER, mismatch)))
    }

    async fn check(&self) -> Result<()> {
        let run = self.database.single("check failed_jobs");
        let obstacle = attempt!(run, connection => schema::check(connection, "failed_jobs").await)?;
        obstacle.map_or(Ok(()), |obstacle| Err(Error::new(ErrorKind::Misconfigured, DRIVER, obstacle)))
    }

    async fn keep(&self, given_up: &[GivenUp], reason: &str) -> Result<()> {
        given_up.iter().try_for_each(|message| check(&message.id, &message.payload))?;
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
        let before = FailedJobsOptions::page_before(DRIVER, filter)?;
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
        Ok(attempt!(run, connection => failed::newest_row(connection).await)?)
    }

    async fn rows(&self, which: &Selection, newest: i64, limit: usize) -> Result<Vec<i64>> {
        let run = self.database.single("find failed messages");
        Ok(attempt!(run, connection => match which {
            Selection::Ids(ids) => failed::rows_named(connection, ids, self.name()).await,
            Selection::Matching { queue, older_than } => {
                let by = (self.options.before(*older_than), newest);
                failed::rows_matching(connection, queue.as_ref(), by, self.name(), limit.min(CHUNK)).await
            }
        })?)
    }

    async fn read(&self, rows: &[i64]) -> Result<Vec<Kept>> {
        let run = self.database.single("read failed messages");
        Ok(attempt!(run, connection => read(connection, rows).await)?)
    }

    async fn remove(&self, rows: &[i64]) -> Result<u64> {
        let run = self.database.write("drop failed messages");
        let sql = "DELETE FROM failed_jobs WHERE id = ANY($1)";
        let removed = attempt!(run, connection => {
            connection.execute_typed(sql, &[(&rows, Type::INT8_ARRAY)]).await.map_err(Into::into)
        });
        Ok(removed?)
    }
}

async fn keep_all(connection: &Conn, given_up: &[GivenUp], reason: &str, name: &str, now: i64) -> Worked<()> {
    for message in given_up {
        let (id, queue, payload) = (message.id.as_str(), message.queue.as_str(), text(&message.payload));
        let found = "SELECT connection::text, payload::text FROM failed_jobs WHERE uuid = $1 FOR UPDATE";
        let found = connection.query_typed_opt(found, &[(&id, Type::TEXT)]).await?;
        let found = found.map(|row| (row.get(0), row.get::<_, String>(1).into_bytes()));
        let (id, sql) = match Place::of(found, name, payload.as_bytes()) {
            Place::Same => (
                id.to_owned(),
                "UPDATE failed_jobs SET queue = $3, payload = $4, exception = $5, \
                 failed_at = to_timestamp($6) AT TIME ZONE 'UTC' WHERE uuid = $1 AND connection = $2",
            ),
            Place::Free => (id.to_owned(), INSERT),
            Place::Taken(suffix) => (format!("{id}-{suffix}"), INSERT),
        };
        let values: [(&(dyn ToSql + Sync), Type); 6] = [
            (&id, Type::TEXT),
            (&name, Type::TEXT),
            (&queue, Type::TEXT),
            (&payload, Type::TEXT),
            (&reason, Type::TEXT),
            (&now, Type::INT8),
        ];
        connection.execute_typed(sql, &values).await?;
    }
    Ok(())
}

const INSERT: &str = "INSERT INTO failed_jobs (uuid, connection, queue, payload, exception, failed_at) \
                      VALUES ($1, $2, $3, $4, $5, to_timestamp($6) AT TIME ZONE 'UTC')";

async fn known(connection: &Conn, ids: &[MessageId], name: &str) -> Worked<HashSet<MessageId>> {
    let sql = "SELECT uuid::text FROM failed_jobs WHERE uuid = ANY($1) AND connection = $2";
    let ids: Vec<&str> = ids.iter().map(MessageId::as_str).collect();
    let rows = connection.query_typed(sql, &[(&ids, Type::TEXT_ARRAY), (&name, Type::TEXT)]).await?;
    Ok(rows.iter().map(|row| MessageId::new(row.get::<_, String>(0))).collect())
}

async fn read(connection: &Conn, rows: &[i64]) -> Worked<Vec<Kept>> {
    let sql = "SELECT id, uuid::text, queue::text, payload::text FROM failed_jobs WHERE id = ANY($1)";
    let found = connection.query_typed(sql, &[(&rows, Type::INT8_ARRAY)]).await?;
    let mut found: HashMap<i64, GivenUp> = found
        .iter()
        .map(|row| {
            let (id, queue) = (MessageId::new(row.get::<_, String>(1)), QueueName::from_engine(row.get(2)));
            (row.get(0), GivenUp { id, queue, payload: Bytes::from(row.get::<_, String>(3)) })
        })
        .collect();
    Ok(rows.iter().filter_map(|row| found.remove(row).map(|message| Kept { row: *row, message })).collect())
}
